"""The record of a study on a cluster."""

from __future__ import annotations

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
    snapshot = read_study(api, where, now)
    return collect(snapshot.study, snapshot.observation, snapshot.samples, snapshot.ended_at)
