"""Reading a trainer's /metrics over HTTP: the same exposition that Prometheus reads in a cluster."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import httpx
from prometheus_client.parser import text_string_to_metric_families

from frostline_operator.engine.reconcile import Sample
from frostline_trainer.contract import MetricName


@dataclass(frozen=True)
class Exposition:
    """What one trainer showed at one moment."""

    samples: tuple[Sample, ...] = ()
    finished: frozenset[str] = frozenset()
    """Trials that have their last value: nothing more will come of them in this run."""
    saved: Mapping[str, int] = field(default_factory=dict)
    """Tokens of each trial's last checkpoint on the way."""


def read(text: str, study_uid: str) -> Exposition:
    """The values of one study's trials in an exposition; series of other studies are left out.

    Raises:
        ValueError: if the text is not a Prometheus exposition.
    """
    found: dict[tuple[str, int], _Values] = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            labels = sample.labels
            if labels.get("study_uid") == study_uid and "trial" in labels and labels.get("rung", "").isdecimal():
                values = found.setdefault((labels["trial"], int(labels["rung"])), _Values())
                values.by_name[sample.name] = sample.value
    samples = tuple(
        Sample(
            trial,
            rung,
            int(values.by_name.get(MetricName.TOKENS, 0)),
            values.by_name[MetricName.OBJECTIVE],
            values.by_name.get(MetricName.LOSS),
        )
        for (trial, rung), values in found.items()
        if MetricName.OBJECTIVE in values.by_name
    )
    finished = frozenset(trial for (trial, _), values in found.items() if values.by_name.get(MetricName.FINISHED) == 1)
    saved = {
        trial: int(values.by_name[MetricName.CHECKPOINT])
        for (trial, _), values in found.items()
        if MetricName.CHECKPOINT in values.by_name
    }
    return Exposition(samples, finished, saved)


def scrape(client: httpx.Client, address: str, study_uid: str) -> Exposition | None:
    """The values that a trainer shows now; None where it does not answer, which says nothing about it."""
    try:
        answer = client.get(f"http://{address}/metrics")
        answer.raise_for_status()
        return read(answer.text, study_uid)
    except (httpx.HTTPError, ValueError):
        return None


def release(client: httpx.Client, address: str) -> None:
    """Tell a trainer that its last values were read."""
    try:
        client.post(f"http://{address}/release")
    except httpx.HTTPError:
        return  # it has gone already, or will once it has lingered


@dataclass
class _Values:
    by_name: dict[str, float] = field(default_factory=dict)
