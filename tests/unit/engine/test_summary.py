"""What every view shows of a study."""

from __future__ import annotations

import pytest

from frostline_operator.engine.cost import run_flops
from frostline_operator.engine.forecast import forecast
from frostline_operator.engine.state import MemoryClass, Observation, RungResult, RunState, StudyState
from frostline_operator.engine.summary import summarize

from .world import PROFILE, Trouble, World, study


def test_the_rung_table_tells_who_went_where() -> None:
    world = World(study(), trouble=Trouble(diverging=frozenset({2})))
    world.play()
    rows = summarize(world.observe()).rungs
    assert [(r.layers, r.tokens, r.entered, r.finished, r.failed, r.promoted) for r in rows] == [
        (1, 100, 8, 7, 1, 4),
        (2, 200, 4, 4, 0, 2),
        (5, 400, 2, 2, 0, 1),
        (10, 800, 1, 1, 0, 0),
    ]
    assert rows[0].spearman == pytest.approx(1.0)


def test_the_best_is_that_of_the_highest_rung_even_if_a_lower_one_shows_a_better_value() -> None:
    class Misleading(World):
        def value(self, trial: int, layers: int, tokens: int) -> float:
            return super().value(trial, layers, tokens) + (100 if layers > 1 else 0)

    world = Misleading(study())
    world.play()
    summary = summarize(world.observe())
    assert summary.best_rung == 3 and summary.best is not None and summary.best.value is not None
    assert summary.best.value > 100


def test_an_undisturbed_study_costs_what_was_forecast() -> None:
    world = World(study(), classes=(MemoryClass("cpu", None, 1),))
    expected = forecast(world.observe())
    world.play()
    saved = summarize(world.observe()).savings
    assert saved.flops == pytest.approx(expected.flops)
    assert saved.full == pytest.approx(expected.full) == pytest.approx(8 * run_flops(PROFILE, 10, 800, 1))
    assert saved.tokens_only == pytest.approx(expected.tokens_only)
    assert saved.flops < saved.tokens_only < saved.full


def test_savings_compare_the_trials_that_ran_as_far_as_they_would_have_come() -> None:
    world = World(study(), trouble=Trouble(diverging=frozenset({2})))
    state = world.play()
    before = summarize(world.observe()).savings
    [diverged] = state.trials[2].results
    assert before.full == pytest.approx(7 * run_flops(PROFILE, 10, 800, 1) + run_flops(PROFILE, 10, diverged.tokens, 1))
    for index in (3, 4):
        never = RungResult(0, "Failed", None, 1, 0, "", "no device would take it")
        state.update_trial(index, results=(never,), outcome="Failed")
    after = summarize(world.observe()).savings
    assert after.full == pytest.approx(before.full - 2 * run_flops(PROFILE, 10, 800, 1))
    assert after.tokens_only < before.tokens_only


def test_rungs_that_come_to_the_same_layers_here_are_forecast_as_one_training() -> None:
    world = World(study(), trouble=Trouble(capacity={"cpu": (5, 16)}), classes=(MemoryClass("cpu", 8, 1),))
    state = world.play()
    learnt = StudyState(runs={n: run for n, run in state.runs.items() if run.state is RunState.OUT_OF_MEMORY})
    expected = forecast(Observation("s", world.spec, PROFILE, world.classes, learnt, 0.0))
    [fifth, top] = expected.rungs[2:]
    assert (fifth.layers, top.layers, top.asked_layers) == (5, 5, 10)
    assert top.flops == run_flops(PROFILE, 5, 400, 1), "it goes on from 400 tokens"
    started = [run for run in state.runs.values() if run.state is RunState.SUCCEEDED and run.rung == 3]
    assert [(run.layers, run.start_tokens) for run in started] == [(5, 400)]


def test_rungs_that_contradict_each_other_are_reported_as_untrusted() -> None:
    class Contrary(World):
        def value(self, trial: int, layers: int, tokens: int) -> float:
            good = super().value(trial, 10, 800)
            return -good if layers == 1 else good

    world = Contrary(study(search={"trials": 32, "algorithm": "SuccessiveHalving"}))
    world.play()
    [condition] = summarize(world.observe()).conditions
    assert condition.type == "FidelityUntrusted"
    assert "rung 0" in condition.message and "raise" in condition.message


def test_a_rung_that_no_class_fits_is_reported_with_what_it_gets() -> None:
    world = World(study(), trouble=Trouble(capacity={"cpu": (6, 16)}), classes=(MemoryClass("cpu", 8, 1),))
    world.play()
    summary = summarize(world.observe())
    assert [c.type for c in summary.conditions] == ["FidelityReduced"]
    assert (summary.rungs[3].asked_layers, summary.rungs[3].layers) == (10, 6)
