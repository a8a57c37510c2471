"""/metrics of studies and devices: collectors that write down their figures as Prometheus reads them.

Labels are namespace and study, and at most one or two whose values are few: a state, a rung, a memory class, a budget's
unit. Never a trial, never a hyperparameter: the number of series does not grow with a study. Those of one trial are the
trainer's (`frostline_trial_*`), which go with its pod. What a study has not got (a best value, a prediction) has no
series, since any number would be wrong.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import get_args

from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from frostline_operator.api.status import HPOStudyStatus
from frostline_operator.kubernetes.fleet import ClassUse
from frostline_operator.kubernetes.status.figures import ClassFigures, Progress, RungFigures, StudyFigures

STUDY = ("namespace", "study")
_INFO = ("algorithm", "metric", "direction")
_PHASES = get_args(HPOStudyStatus.model_fields["phase"].annotation)

Family = GaugeMetricFamily | CounterMetricFamily
Row = tuple[tuple[str, ...], float]
"""Values of the labels after namespace and study, and the value."""


class StudyCollector(Collector):
    """The figures of all studies.

    Args:
        read: the latest figures of each study that is looked after; called at each scrape, so it must be cheap.
    """

    def __init__(self, read: Callable[[], Iterable[StudyFigures]]) -> None:
        self._read = read

    def collect(self) -> Iterator[Metric]:
        """All series. Two studies never have the same labels: the newer one of a name counts."""
        studies = list({(amount.namespace, amount.study): amount for amount in self._read()}.values())
        for family, rows in _FAMILIES:
            metric = family()
            for study in studies:
                for labels, value in rows(study):
                    metric.add_metric([study.namespace, study.study, *labels], value)
            yield metric
        yield _waiting(studies)


def _gauge(name: str, text: str, *labels: str) -> Callable[[], Family]:
    return lambda: GaugeMetricFamily(f"frostline_study_{name}", text, labels=(*STUDY, *labels))


def _counter(name: str, text: str, *labels: str) -> Callable[[], Family]:
    return lambda: CounterMetricFamily(f"frostline_study_{name}", text, labels=(*STUDY, *labels))


def _of_progress(rows: Callable[[Progress], Iterable[Row]]) -> Callable[[StudyFigures], Iterable[Row]]:
    """Nothing before the model is profiled."""
    return lambda study: () if study.progress is None else rows(study.progress)


def _one(value: Callable[[Progress], float | None]) -> Callable[[StudyFigures], Iterable[Row]]:
    """One series, or none where there is no value."""

    def rows(progress: Progress) -> Iterable[Row]:
        amount = value(progress)
        return [] if amount is None else [((), float(amount))]

    return _of_progress(rows)


def _by_rung(value: Callable[[RungFigures], float | None]) -> Callable[[StudyFigures], Iterable[Row]]:
    return _of_progress(
        lambda progress: [((str(r.rung),), float(v)) for r in progress.rungs if (v := value(r)) is not None]
    )


def _by_class(value: Callable[[ClassFigures], float | None]) -> Callable[[StudyFigures], Iterable[Row]]:
    return _of_progress(
        lambda progress: [((c.name,), float(v)) for c in progress.classes if (v := value(c)) is not None]
    )


def _info(study: StudyFigures) -> Iterable[Row]:
    return [((study.uid, *(study.info.get(name, "") for name in _INFO)), 1.0)]


def _phase(study: StudyFigures) -> Iterable[Row]:
    return [((phase,), float(phase == study.phase)) for phase in _PHASES]


def _conditions(study: StudyFigures) -> Iterable[Row]:
    return [((said.type, said.reason), float(said.holds)) for said in study.statements]


def _rung_trials(progress: Progress) -> Iterable[Row]:
    return [((str(r.rung), state), float(count)) for r in progress.rungs for state, count in r.states.items()]


_FAMILIES: tuple[tuple[Callable[[], Family], Callable[[StudyFigures], Iterable[Row]]], ...] = (
    (_gauge("info", "What the study is: always 1", "study_uid", *_INFO), _info),
    (_gauge("phase", "1 for the phase that the study is in, else 0", "phase"), _phase),
    (_gauge("condition", "1 where a condition of the study is True, else 0", "type", "reason"), _conditions),
    (
        _gauge("trials", "Trials by state", "state"),
        _of_progress(lambda p: [((s,), float(n)) for s, n in p.trials.items()]),
    ),
    (
        _gauge("runs", "Runs by state, ended ones included", "state"),
        _of_progress(lambda p: [((s,), float(n)) for s, n in p.runs.items()]),
    ),
    (_gauge("layers", "Layers of the whole network (L)"), _one(lambda p: p.layers)),
    (_gauge("rung_layers", "Layers trained at a rung, from the output (z)", "rung"), _by_rung(lambda r: r.layers)),
    (_gauge("rung_tokens", "Tokens or samples seen at a rung's end", "rung"), _by_rung(lambda r: r.tokens)),
    (_gauge("rung_planned_trials", "Trials that the schedule lets into a rung", "rung"), _by_rung(lambda r: r.planned)),
    (
        _gauge("rung_trials", "Trials that have entered a rung, by how they stand there", "rung", "state"),
        _of_progress(_rung_trials),
    ),
    (_gauge("rung_best_objective", "Best value at a rung", "rung"), _by_rung(lambda r: r.best)),
    (_counter("promotions", "Trials promoted from a rung to the next one", "rung"), _by_rung(lambda r: r.promoted)),
    (
        _gauge("rank_correlation", "Spearman's rank correlation of a rung with the next one", "rung"),
        _by_rung(lambda r: r.spearman),
    ),
    (_gauge("best_objective", "Best value so far, at the highest rung that has one"), _one(lambda p: p.best)),
    (
        _gauge("budget_used", "Spent by runs that have ended, in the budget's unit", "unit"),
        _of_progress(lambda p: [((b.unit,), b.used) for b in p.budget]),
    ),
    (
        _gauge("budget_reserved", "Set aside for runs under way, in the budget's unit", "unit"),
        _of_progress(lambda p: [((b.unit,), b.reserved) for b in p.budget]),
    ),
    (
        _gauge("budget_limit", "Limit of the budget, where there is one", "unit"),
        _of_progress(lambda p: [((b.unit,), b.limit) for b in p.budget if b.limit is not None]),
    ),
    (_gauge("remaining_seconds", "Expected seconds until the study ends"), _one(lambda p: p.seconds_left)),
    (
        _gauge("memory_predicted_bytes", "Largest predicted peak of a run", "memory_class"),
        _by_class(lambda c: c.predicted_bytes),
    ),
    (
        _gauge("memory_measured_bytes", "Largest peak that a run measured", "memory_class"),
        _by_class(lambda c: c.measured_bytes),
    ),
    (
        _gauge("memory_ratio", "Largest ratio of measured to predicted peak of a run", "memory_class"),
        _by_class(lambda c: c.ratio),
    ),
    (
        _counter("gpu_seconds", "Seconds that ended runs held a device", "memory_class"),
        _by_class(lambda c: c.gpu_seconds),
    ),
    (_counter("out_of_memory", "Runs that ran out of memory", "memory_class"), _by_class(lambda c: c.out_of_memory)),
    (_counter("flops", "Floating-point operations of ended runs"), _one(lambda p: p.flops)),
    (
        _gauge("full_fidelity_flops", "Floating-point operations of the trials that ran at full fidelity"),
        _one(lambda p: p.full_flops),
    ),
    (
        _gauge(
            "tokens_only_flops", "Floating-point operations of the trials that ran to the same tokens with all layers"
        ),
        _one(lambda p: p.tokens_only_flops),
    ),
    (
        _gauge("full_fidelity_gpu_seconds", "Expected device-seconds of the trials that ran at full fidelity"),
        _one(lambda p: p.full_gpu_seconds),
    ),
    (
        _counter("source_disagreements", "Values that Prometheus showed otherwise than the run's own record"),
        _one(lambda p: p.disagreements),
    ),
)


def _waiting(studies: Iterable[StudyFigures]) -> Metric:
    totals: dict[str, int] = {}
    for study in studies:
        for amount in study.progress.classes if study.progress is not None else ():
            totals[amount.name] = totals.get(amount.name, 0) + amount.waiting
    family = GaugeMetricFamily(
        "frostline_runs_waiting", "Runs of all studies that wait for a device of a class", labels=("memory_class",)
    )
    for name, count in sorted(totals.items()):
        family.add_metric([name], float(count))
    return family


class FleetCollector(Collector):
    """Devices by memory class.

    Args:
        read: every class and who holds its devices; from caches, since it is asked at each scrape.
    """

    def __init__(self, read: Callable[[], Iterable[ClassUse]]) -> None:
        self._read = read

    def collect(self) -> Iterator[Metric]:
        """All series."""
        label = ("memory_class",)
        devices = GaugeMetricFamily("frostline_memory_class_devices", "Devices of a memory class", labels=label)
        busy = GaugeMetricFamily("frostline_memory_class_devices_busy", "Devices that some pod holds", labels=label)
        ours = GaugeMetricFamily("frostline_memory_class_devices_held", "Devices that studies hold", labels=label)
        usable = GaugeMetricFamily(
            "frostline_memory_class_usable_bytes", "Bytes of one device that a run may use", labels=label
        )
        for amount in self._read():
            devices.add_metric([amount.name], float(amount.devices))
            busy.add_metric([amount.name], float(min(amount.devices, amount.held + amount.foreign)))
            ours.add_metric([amount.name], float(amount.held))
            if amount.usable_bytes is not None:
                usable.add_metric([amount.name], float(amount.usable_bytes))
        yield from (devices, busy, ours, usable)
