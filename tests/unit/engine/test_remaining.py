"""How long a study will still take."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from frostline_operator.engine.cost import run_flops, steps
from frostline_operator.engine.remaining import Progress, layers_of, seconds_left, work_left
from frostline_operator.engine.state import MemoryClass
from frostline_operator.engine.summary import summarize

from .recorded.recording import moments
from .world import World, study

RECORDED = Path(__file__).parent / "recorded"


def left(world: World) -> float | None:
    seen = world.observe()
    return seconds_left(seen, summarize(seen))


def test_nothing_is_foretold_before_a_run_has_ended_and_nothing_is_left_at_the_end() -> None:
    world = World(study())
    world.tick()
    assert left(world) is None
    world.play()
    assert left(world) == 0


def test_it_shrinks_as_the_study_goes_on_and_with_more_devices() -> None:
    search = {"algorithm": "SuccessiveHalving", "trials": 8, "parallelism": 2, "maxTrialsPerRun": 1}
    slow, fast = (World(study(search=search), 5, classes=(MemoryClass("cpu", None, slots),)) for slots in (1, 2))
    for world in (slow, fast):
        while not any(run.state == "Succeeded" for run in world.state.runs.values()):
            world.tick()
            world.end_one()
        world.tick()
    early = left(fast)
    assert early is not None
    while fast.state.finished is None and sum(t.outcome is None for t in fast.state.trials.values()) > 2:
        fast.end_one()
        fast.tick()
    late = left(fast)
    assert late is not None and late < early
    alone = left(slow)
    wide = World(slow.spec, 5)
    wide.state, wide.now = slow.state, slow.now
    both = left(wide)
    assert alone is not None and both is not None and alone / 2 * 0.999 <= both < alone


@pytest.mark.parametrize("promotion", ["RestartOnThaw", "Continue", "Restart"])
def test_before_anything_is_known_of_the_rungs_it_is_the_whole_schedules_work(promotion: str) -> None:
    """Of every bracket: those that begin higher up train all of their first rung."""
    fidelity = {"layers": {"min": "Half"}, "tokens": {"max": 800}}
    search = {"algorithm": "Hyperband", "trials": 24, "parallelism": 1}
    world = World(study(fidelity=fidelity, search=search, promotion=promotion))
    seen = world.observe()
    plan = seen.plan
    asked = sum(
        run_flops(seen.profile, rung.layers, tokens, size)
        for bracket in plan.brackets
        for rung, size, tokens in steps(seen.profile, plan.climbed(bracket), bracket.sizes, seen.spec.promotion)
    )
    assert len(plan.brackets) > 1
    left_over = work_left(seen, summarize(seen))
    assert sum(run_flops(seen.profile, layers_of(w.row), w.tokens, w.trials) for w in left_over) == pytest.approx(asked)


def test_a_budget_in_time_bounds_it_and_is_all_there_is_in_a_search_without_an_end() -> None:
    world = World(study(budget={"wallClock": "100s"}), 5)
    started = world.now
    world.tick()
    world.end_one()
    world.tick()
    bounded = left(world)
    assert bounded is not None and bounded <= 100 - (world.now - started)
    search = {"algorithm": "ASHA", "parallelism": 2}
    endless = World(study(search=search, budget={"gpuSeconds": 1000}))
    endless.tick()
    seen = left(endless)
    assert seen is not None and seen <= 500, "two devices spend it twice as fast"


def test_it_shrinks_within_a_run_by_what_the_run_has_done() -> None:
    world = World(study(search={"algorithm": "ASHA", "trials": 8, "parallelism": 1}), 5)
    while not any(run.state == "Succeeded" for run in world.state.runs.values()):
        world.tick()
        world.end_one()
    world.tick()
    observed = world.observe()
    summary = summarize(observed)
    [run] = observed.state.active_runs
    left_at = [seconds_left(observed, summary, {run.name: Progress(share)}) for share in (0.0, 0.25, 0.5, 1.0)]
    assert None not in left_at and left_at == sorted(left_at, reverse=True) and len(set(left_at)) == 4  # type: ignore[type-var]
    assert left_at[0] == seconds_left(observed, summary), "where nobody knows of progress, none is counted"


def test_start_up_is_paid_by_each_run_that_a_rung_takes() -> None:
    """Eight runs of a second each, nine seconds of start-up before each: not one start-up for the rung."""
    search = {"algorithm": "SuccessiveHalving", "trials": 8, "parallelism": 1, "maxTrialsPerRun": 1}
    world = World(study(search=search, fidelity={"rungs": [{"layers": "All", "tokens": 100}]}), 5)
    while not any(run.state == "Succeeded" for run in world.state.runs.values()):
        world.tick()
        world.end_one()
    world.tick()
    for name, run in world.state.runs.items():
        if run.state == "Succeeded":
            charged = replace(run.charged, gpu_seconds=10.0)
            world.state.runs[name] = replace(run, seconds=10.0, train_seconds=1.0, charged=charged)
    assert left(world) == pytest.approx(70.0)


def test_a_trial_alone_at_the_top_gains_nothing_from_a_second_device() -> None:
    search = {"algorithm": "SuccessiveHalving", "trials": 2, "parallelism": 2}
    one, two = (World(study(search=search), 5, classes=(MemoryClass("cpu", None, slots),)) for slots in (1, 2))
    for world in (one, two):
        while not any(run.state == "Succeeded" and run.rung == 0 for run in world.state.runs.values()):
            world.tick()
            world.end_one()
        while any(trial.waiting and trial.rung == 0 for trial in world.state.trials.values()):
            world.tick()
            world.end_one()
        world.tick()
    two.state, two.now = one.state, one.now
    assert left(one) == left(two) is not None


@pytest.mark.parametrize("path", sorted(RECORDED.glob("*.json")), ids=lambda path: path.stem)
def test_in_the_middle_of_a_recorded_study_it_is_within_a_factor_of_one_and_a_half(path: Path) -> None:
    recorded = list(moments(path))
    begun, over = recorded[0].observation.state.started_at, recorded[-1].observation.now
    assert begun is not None and recorded[-1].observation.state.finished is not None
    middle = [m for m in recorded if 0.4 <= (m.observation.now - begun) / (over - begun) <= 0.8]
    off = []
    for moment in middle:
        foretold = seconds_left(moment.observation, summarize(moment.observation), moment.progress)
        assert foretold is not None
        off.append(foretold / (over - moment.observation.now))
    assert len(off) >= 20
    assert min(off) >= 1 / 1.5 and max(off) <= 1.5, [round(ratio, 2) for ratio in off]
