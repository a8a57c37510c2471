"""Where a study's values come from, how long they are waited for, and what is said where they do not come."""

from __future__ import annotations

import math
from typing import Any

import pytest

from frostline_operator.engine.reconcile import Decision, Patience, Sample
from frostline_operator.engine.state import RunState
from frostline_operator.engine.transition import book
from frostline_operator.kubernetes.acceptance import without_prometheus
from frostline_operator.kubernetes.settings import OperatorSettings
from frostline_operator.scores.asking import Asker
from frostline_operator.scores.prometheus import PrometheusClient
from frostline_operator.scores.queries import Reading, TargetLabels
from frostline_operator.scores.scores import DISCOVERY_SECONDS, ScoredStudy, Scores, ScoreSettings
from frostline_operator.scores.scrape import Exposition, Scraper
from tests.unit.engine.world import Trouble, World, study

NONE: dict[str, Any] = {}
ONE: dict[str, Any] = {"url": "http://127.0.0.1:9", "intervalSeconds": 20.0}


def settings(prometheus: dict[str, Any]) -> OperatorSettings:
    return OperatorSettings.model_validate({"prometheus": prometheus, "lingerSeconds": 7.0})


class _Asker(Asker):
    """A real one that has been asked already, so that nothing is waited for on its account."""

    def asked(self, uid: str) -> bool:
        return True


def scores(prometheus: dict[str, Any], metrics: dict[str, Any], asked: bool = True) -> Scores:
    made = settings(prometheus)
    kind = _Asker if asked else Asker
    asker = kind(PrometheusClient(made.prometheus), 300.0, lambda _: None) if prometheus else None
    score_settings = ScoreSettings(
        made.prometheus.interval_seconds, made.linger_seconds, made.tick_seconds, TargetLabels()
    )
    found = Scores(ScoredStudy("s", "n", "uid-1"), Scraper(lambda _: None), asker, score_settings)
    world = World(study(metrics=metrics))
    world.tick()
    found.collect(world.spec, world.state, world.now)
    return found


@pytest.mark.parametrize(
    ("prometheus", "source", "expected"),
    [
        (NONE, None, False), (NONE, "Scrape", False), (NONE, "Prometheus", False),
        (ONE, None, True), (ONE, "Scrape", False), (ONE, "Prometheus", True),
    ],
)  # fmt: skip
def test_the_source_is_the_studys_or_else_what_the_operator_has(
    prometheus: dict[str, Any], source: str | None, expected: bool
) -> None:
    assert scores(prometheus, {"source": source} if source else {}).from_prometheus is expected


def test_a_study_that_asks_for_a_prometheus_that_nobody_knows_is_not_accepted() -> None:
    for metrics in ({"source": "Prometheus"}, {"query": {"objective": "x"}}, {"whenMissing": "Wait"}):
        said = without_prometheus(study(metrics=metrics), settings(NONE))
        assert said is not None and "prometheus.url" in said and "source: Scrape" in said
        assert without_prometheus(study(metrics=metrics), settings(ONE)) is None
    assert without_prometheus(study(), settings(NONE)) is None


def test_trainers_stay_up_for_two_scrapes_and_the_time_prometheus_takes_to_find_them() -> None:
    assert scores(ONE, {}).linger_seconds() == 40 + DISCOVERY_SECONDS
    assert scores(ONE, {"interval": "1m"}).linger_seconds() == 120 + DISCOVERY_SECONDS
    assert scores(NONE, {"interval": "1m"}).linger_seconds() == 7.0


def test_values_have_two_scrapes_to_come_unless_the_study_says_otherwise() -> None:
    assert scores(NONE, {}).patience() is None
    assert scores(ONE, {"source": "Scrape"}).patience() is None
    assert scores(ONE, {}).patience() == Patience(40.0)
    assert scores(ONE, {"interval": "3s"}).patience() == Patience(6.0)
    assert scores(ONE, {"patience": "5m"}).patience() == Patience(300.0)
    assert scores(ONE, {"whenMissing": "Wait"}).patience() == Patience(40.0, record_counts=False)
    own = {"query": {"objective": "x"}}
    assert scores(ONE, own).patience() == Patience(60.0), "one scrape more, in which its value settles"
    assert scores(ONE, own).linger_seconds() == 60 + DISCOVERY_SECONDS
    assert scores(ONE, {**own, "whenMissing": "Wait"}).patience() == Patience(60.0, False, comparable=False)


def test_nothing_is_given_up_before_prometheus_was_asked_at_all() -> None:
    assert scores(ONE, {}, asked=False).patience() == Patience(math.inf)


def test_what_is_said_follows_where_the_last_values_came_from() -> None:
    world = World(study(), trouble=Trouble(unseen=1.0))
    found = scores(ONE, {})

    def end_one_by(source: Any) -> None:
        world.tick()
        found.collect(world.spec, world.state, world.now)
        world.end_one()
        [run] = world.state.awaiting_runs
        assert run.awaited is not None
        book(world.state, run.name, [Decision(r.trial, r.value, source) for r in run.awaited.records])
        assert world.state.runs[run.name].state is RunState.SUCCEEDED

    assert found.availability(world.state) is None
    end_one_by("Record")
    said = found.availability(world.state)
    assert said is not None and (said.status, said.reason) == (False, "NoSamples")
    assert "every 20 s" in said.message
    end_one_by("Prometheus")
    said = found.availability(world.state)
    assert said is not None and (said.status, said.reason) == (True, "Prometheus")


def test_a_reading_is_shown_once_to_a_run_that_runs_and_all_of_them_to_one_that_has_ended() -> None:
    world = World(study())
    found = scores(ONE, {})
    world.tick()
    found.collect(world.spec, world.state, world.now)
    run = world.state.active_runs[0]
    trials = [world.state.trials[index].name for index in run.trials]
    first = Reading(run.name, Sample(trials[0], run.rung, 10, 2.0))
    last = Reading(run.name, Sample(trials[0], run.rung, run.tokens, 1.0))
    found._receive([first, Reading("of-another-study", Sample("x", 0, 10, 0.0)), last])
    found.collect(world.spec, world.state, world.now)
    shown = found.of(run, trials, "127.0.0.1:9")
    assert shown.samples == (first.sample, last.sample) and shown.finished == {trials[0]}
    assert found.of(run, trials, "127.0.0.1:9").samples == ()
    found.forget(run.name)
    assert found.late(run) == (first.sample, last.sample)
    found.collect(study(metrics={"source": "Scrape"}), world.state, world.now)
    assert found.late(run) == (), "what another source said counts no more"


def test_a_reading_that_names_no_run_is_of_the_run_that_trains_its_trial_at_its_rung() -> None:
    world = World(study())
    found = scores(ONE, {"query": {"objective": "x"}})
    world.tick()
    spec = study(metrics={"query": {"objective": "x"}})
    found.collect(spec, world.state, world.now)
    run = world.state.active_runs[0]
    trial = world.state.trials[run.trials[0]].name
    found._receive(
        [Reading(None, Sample(trial, run.rung, 10, 2.0)), Reading(None, Sample(trial, run.rung + 1, 10, 9.0))]
    )
    found.collect(spec, world.state, world.now)
    assert [sample.objective for sample in found.late(run)] == [2.0]


def test_what_is_saved_on_the_way_is_read_directly_and_told_once() -> None:
    world = World(study())
    found = scores(ONE, {})
    world.tick()
    found.collect(world.spec, world.state, world.now)
    run = world.state.active_runs[0]
    trials = [world.state.trials[index].name for index in run.trials]
    found.of(run, trials, "127.0.0.1:9")
    sample = Sample(trials[0], run.rung, 10, 5.0)
    found._scraped(run, trials, Exposition((sample,), frozenset(trials), {trials[0]: 100}))
    shown = found.of(run, trials, "127.0.0.1:9")
    assert shown.saved == {trials[0]: 100} and shown.samples == (), "values come through Prometheus only"
    assert found.last_saved(run) == {}
