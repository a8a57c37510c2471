"""/metrics: what it says of studies, devices and the operator, and how little of it there is."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Any

import pytest
from kubernetes import client
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from frostline_operator.engine.state import MemoryClass, RunState
from frostline_operator.engine.summary import summarize
from frostline_operator.kubernetes.client.api import Api
from frostline_operator.kubernetes.fleet import ClassUse
from frostline_operator.kubernetes.health import Health
from frostline_operator.kubernetes.objects.jobs import StudyRef
from frostline_operator.kubernetes.status.conditions import Conditions
from frostline_operator.kubernetes.status.figures import StudyFigures, figures, progress
from frostline_operator.kubernetes.status.metrics import FleetCollector, StudyCollector
from frostline_operator.kubernetes.status.study import budget_lines
from frostline_operator.scores.asking import Asker
from frostline_operator.scores.prometheus import PrometheusClient
from frostline_operator.scores.settings import PrometheusSettings
from tests.unit.engine.world import Trouble, World, study

CLASSES = (MemoryClass("8Gi", 7 * 2**30, 4), MemoryClass("24Gi", 21 * 2**30, 2))
Series = dict[tuple[str, frozenset[tuple[str, str]]], float]


def shown(world: World, name: str = "s", phase: str = "Running") -> StudyFigures:
    conditions = Conditions([], 1)
    conditions.set("Progressing", True, "Running", "words", 0)
    conditions.set("FidelityUntrusted", False, "Resolved", "words", 0)
    seen = world.observe()
    lines = [line.model_dump(mode="json") for line in budget_lines(world.spec.budget, world.state, world.now)]
    made = progress(seen, summarize(seen), lines)
    return figures(StudyRef("team", name, f"uid-{name}", {}), world.spec, phase, conditions.listed(), made)


def scraped(*studies: StudyFigures) -> Series:
    registry = CollectorRegistry()
    registry.register(StudyCollector(lambda: studies))
    return series(generate_latest(registry).decode())


def series(text: str) -> Series:
    return {
        (
            sample.name,
            frozenset((k, v) for k, v in sample.labels.items() if k not in ("namespace", "study")),
        ): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def value(found: Series, name: str, **labels: str) -> float:
    return found[(f"frostline_study_{name}", frozenset(labels.items()))]


def sum_of(found: Series, name: str, **labels: str) -> float:
    return sum(
        v for (n, at), v in found.items() if n == f"frostline_study_{name}" and labels.items() <= dict(at).items()
    )


def test_a_study_under_way_is_said_as_its_status_says_it() -> None:
    world = World(study(budget={"tokens": 100_000}), 5, Trouble(diverging=frozenset({1})), CLASSES)
    world.tick()
    for _ in range(6):
        world.end_one()
        world.tick()
    found, summary = scraped(shown(world)), summarize(world.observe())
    assert sum_of(found, "trials") == len(world.state.trials) == 8
    assert sum_of(found, "runs") == len(world.state.runs)
    for row in summary.rungs:
        rung = str(row.rung)
        assert sum_of(found, "rung_trials", rung=rung) == row.entered
        assert value(found, "rung_trials", rung=rung, state="Completed") == row.finished
        assert value(found, "rung_trials", rung=rung, state="Failed") == row.failed
        if row is not summary.rungs[-1]:
            assert value(found, "promotions_total", rung=rung) == row.promoted
        assert (value(found, "rung_layers", rung=rung), value(found, "rung_tokens", rung=rung)) == (
            row.layers,
            row.tokens,
        )
    assert summary.best is not None
    assert value(found, "best_objective") == summary.best.value
    assert value(found, "budget_limit", unit="tokens") == 100_000
    spent = value(found, "budget_used", unit="tokens") + value(found, "budget_reserved", unit="tokens")
    assert spent == summary.spent.tokens > 0
    assert value(found, "flops_total") == summary.savings.flops < value(found, "full_fidelity_flops")
    assert sum_of(found, "gpu_seconds_total") == pytest.approx(
        sum(run.charged.gpu_seconds for run in world.state.runs.values() if not run.state.active)
    )
    assert value(found, "remaining_seconds") > 0
    assert value(found, "phase", phase="Running") == 1 == sum_of(found, "phase")
    assert value(found, "condition", type="Progressing", reason="Running") == 1
    assert value(found, "condition", type="FidelityUntrusted", reason="Resolved") == 0
    assert value(found, "source_disagreements_total") == 0


def test_what_is_not_known_has_no_series() -> None:
    fresh = World(study())
    fresh.tick()
    found = {name for name, _ in scraped(shown(fresh))}
    for absent in ("best_objective", "remaining_seconds", "rank_correlation", "memory_ratio", "budget_limit"):
        assert f"frostline_study_{absent}" not in found
    conditions = Conditions([], 1)
    conditions.set("Accepted", False, "Invalid", "words", 0)
    refused = figures(StudyRef("team", "s", "u", {}), None, "Pending", conditions.listed(), None)
    assert {name for name, _ in scraped(refused)} == {f"frostline_study_{n}" for n in ("info", "phase", "condition")}


def test_the_number_of_series_does_not_grow_with_the_study() -> None:
    def names(trials: int, ended: bool) -> set[tuple[str, frozenset[tuple[str, str]]]]:
        spec = study(search={"algorithm": "SuccessiveHalving", "trials": trials, "parallelism": 8})
        world = World(spec, 5, classes=CLASSES)
        world.tick()
        if ended:
            world.play()
        return set(scraped(shown(world)))

    few, many = names(32, True), names(128, True)
    assert few == many
    assert len(many) < 150
    assert names(128, False) < many


def test_no_label_tells_a_trial_or_a_hyperparameter() -> None:
    world = World(study(), 5)
    world.play()
    labels = {name for _, at in scraped(shown(world)) for name, _ in at}
    allowed = {"study_uid", "algorithm", "metric", "direction", "phase", "type", "reason", "state", "rung", "unit"}
    assert labels <= allowed | {"memory_class"}
    values = {text for _, at in scraped(shown(world)) for _, text in at}
    assert not any(trial.name in values for trial in world.state.trials.values())


def test_runs_that_ran_out_of_memory_and_runs_that_wait_are_told_by_class() -> None:
    world = World(study(), 5, Trouble(capacity={"8Gi": (2, 1)}), CLASSES)
    world.tick()
    while not any(run.state == "OutOfMemory" for run in world.state.runs.values()):
        world.end_one()
        world.tick()
    found = scraped(shown(world))
    assert value(found, "out_of_memory_total", memory_class="8Gi") >= 1
    assert value(found, "out_of_memory_total", memory_class="24Gi") == 0
    pending = Counter(run.memory_class for run in world.state.runs.values() if run.state == "Pending")
    waiting = {dict(at)["memory_class"]: v for (n, at), v in found.items() if n == "frostline_runs_waiting"}
    assert sum(waiting.values()) >= pending.total() > 0
    assert all(waiting[name] >= count for name, count in pending.items())


def test_a_trial_without_a_free_device_waits_for_the_class_that_it_belongs_on() -> None:
    full = (MemoryClass("8Gi", 7 * 2**30, 1),)
    search = {"algorithm": "SuccessiveHalving", "trials": 8, "parallelism": 3, "maxTrialsPerRun": 1}
    world = World(study(search=search), 5, classes=full)
    world.tick()
    [run] = world.state.active_runs
    world.state.update_run(run.name, state=RunState.RUNNING)
    waits = ("frostline_runs_waiting", frozenset({("memory_class", "8Gi")}))
    assert scraped(shown(world))[waits] == 2, "parallelism allows two runs more"
    world.spec = study(search=search, suspend=True)
    assert scraped(shown(world))[waits] == 0, "a suspended study wants nothing"


def test_predicted_and_measured_memory_are_the_largest_of_each_class_and_compared_run_by_run() -> None:
    world = World(study(), 5, classes=CLASSES)
    world.play()
    first, second, *_ = world.state.runs
    for name, predicted, peak in ((first, 1000, 900), (second, 100, 110)):
        world.state.update_run(name, memory_class="8Gi", predicted_bytes=predicted, peak_bytes=peak)
    found = scraped(shown(world))
    assert value(found, "memory_predicted_bytes", memory_class="8Gi") == 1000
    assert value(found, "memory_measured_bytes", memory_class="8Gi") == 900
    assert value(found, "memory_ratio", memory_class="8Gi") == pytest.approx(1.1)
    assert ("frostline_study_memory_ratio", frozenset({("memory_class", "24Gi")})) not in found


def test_a_deleted_study_has_no_series_and_a_new_one_of_its_name_replaces_it() -> None:
    world = World(study(), 5)
    world.play()
    done = shown(world, phase="Complete")
    assert scraped() == {}
    again = figures(StudyRef("team", "s", "uid-new", {}), world.spec, "Profiling", [], None)
    found = scraped(done, again)
    assert value(found, "phase", phase="Profiling") == 1 == sum_of(found, "phase")
    assert sum_of(found, "info", study_uid="uid-new") == 1 == sum_of(found, "info")


def whole(studies: Iterable[StudyFigures]) -> str:
    """All that an operator shows."""
    health, api = Health(), Api(client.ApiClient())
    api.requests.labels("get", "pods", "200").inc()
    health.ticked(0.1, 0.05)
    health.registry.register(StudyCollector(lambda: studies))
    uses = [ClassUse("8Gi", 2**33, 4, 2, 3), ClassUse("cpu", None, 2, 0, 0)]
    health.registry.register(FleetCollector(lambda: uses))
    asker = Asker(PrometheusClient(PrometheusSettings(url="http://127.0.0.1:9")), 300.0, lambda uid: None)
    asker.queries.labels("Success").inc()
    health.registry.register(asker.queries)
    health.registry.register(api.requests)
    return generate_latest(health.registry).decode()


def test_devices_and_requests_are_counted() -> None:
    found = {(name, tuple(sorted(at))): v for (name, at), v in series(whole([])).items()}
    of_class: Any = (("memory_class", "8Gi"),)
    assert found[("frostline_memory_class_devices", of_class)] == 4
    assert found[("frostline_memory_class_devices_held", of_class)] == 2
    assert found[("frostline_memory_class_devices_busy", of_class)] == 4, "never more than there are"
    assert ("frostline_memory_class_usable_bytes", (("memory_class", "cpu"),)) not in found
    request = (("code", "200"), ("resource", "pods"), ("verb", "get"))
    assert found[("frostline_operator_api_requests_total", request)] == 1
    assert found[("frostline_operator_prometheus_queries_total", (("outcome", "Success"),))] == 1
    assert found[("frostline_operator_last_tick_timestamp_seconds", ())] > 1e9
    assert not any(name.endswith("_created") for name, _ in found)
