"""The report of a study on a cluster, and what is taken from it to train on."""

from __future__ import annotations

from typing import Any

from frostline_operator.api.dump import to_yaml
from frostline_operator.kubernetes.client.api import Api
from frostline_operator.kubernetes.snapshot import read_study
from frostline_operator.report.collect import collect
from frostline_operator.report.record import StudyRecord


def read_cluster_record(api: Api, where: str, now: float) -> StudyRecord:
    """The record of a study, `namespace/name`. Of its learning curves the operator keeps a few points of each run.

    Raises:
        NotReadableError: there is no such study, or it has not begun.
        ApiError: the cluster does not answer, or refuses.
    """
    found = read_study(api, where, now)
    return collect(found.study, found.seen, found.samples, found.ended_at)


def best_to_yaml(record: StudyRecord) -> str:
    """The best configuration and how it came about, to be read by people and by the next pipeline."""
    best = record.best
    document: dict[str, Any] = {
        "study": record.study.metadata.name,
        "outcome": record.outcome,
        "metric": record.study.spec.objective.metric,
        "direction": record.study.spec.objective.direction,
        "trials": len(record.trials),
    }
    if best is not None:
        document["best"] = {
            "trial": best.trial,
            "value": best.value,
            "rung": best.rung,
            "layers": best.layers,
            record.unit: best.tokens,
            "assignment": dict(best.assignment),
        }
    return to_yaml(document)
