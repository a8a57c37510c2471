"""The engine as a whole: whatever happens, every study ends well and every rule holds at every moment."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from frostline_operator.engine.actions import CreateTrial, Promote, StartRun, StopRun, Wait
from frostline_operator.engine.plan import make_plan
from frostline_operator.engine.state import MemoryClass, RunState
from frostline_operator.engine.transition import RunEnded, apply, note_saved, settle
from frostline_trainer.contract import ExitCode, RunResult, TrialResult

from .world import PROFILE, Trouble, World, study

ALGORITHMS = ["SuccessiveHalving", "Hyperband", "ASHA"]

searches = st.fixed_dictionaries(
    {
        "algorithm": st.sampled_from(ALGORITHMS),
        "trials": st.integers(1, 20),
        "parallelism": st.integers(1, 5),
        "eta": st.integers(2, 4),
        "maxTrialsPerRun": st.sampled_from([1, 4, 16]),
        "sampler": st.sampled_from(["Random", "Sobol"]),
    }
)
troubles = st.builds(
    Trouble,
    lost=st.sampled_from([0.0, 0.1, 0.3]),
    stopped=st.sampled_from([0.0, 0.2]),
    slow=st.sampled_from([0.0, 0.3]),
    interrupted=st.sampled_from([0.0, 0.1]),
    diverging=st.frozensets(st.integers(0, 10), max_size=3),
    faulty=st.frozensets(st.integers(0, 10), max_size=2),
    unseen=st.sampled_from([None, 0.0, 0.5]),
)
budgets = st.fixed_dictionaries(
    {},
    optional={
        "trials": st.integers(1, 30),
        "tokens": st.integers(10, 20_000),
        "gpuSeconds": st.integers(1, 5000),
        "wallClock": st.sampled_from(["1s", "5m", "1h"]),
        "cost": st.floats(0.01, 10.0),
        "onExhausted": st.sampled_from(["Finish", "Stop"]),
    },
).map(lambda b: {**b, "prices": [{"memoryClass": "cpu", "perHour": 3.0}]} if "cost" in b else b)


@given(
    search=searches,
    trouble=troubles,
    budget=budgets,
    promotion=st.sampled_from(["RestartOnThaw", "Continue", "Restart"]),
    seed=st.integers(0, 10**6),
)
@settings(max_examples=150, deadline=None)
def test_every_study_ends_with_every_trial_decided_once_and_no_budget_passed(
    search: dict[str, Any], trouble: Trouble, budget: dict[str, Any], promotion: str, seed: int
) -> None:
    World(study(search=search, budget=budget, promotion=promotion), seed, trouble).play()


def test_with_few_tokens_left_what_needs_least_of_them_comes_first() -> None:
    """Found by the test above: a trial that a lost run had brought to 30 of 100 tokens was seen at the second look."""
    search = {"algorithm": "SuccessiveHalving", "trials": 10, "parallelism": 2, "eta": 2, "maxTrialsPerRun": 4}
    World(study(search=search, budget={"tokens": 780}), 794, Trouble(lost=0.1)).play()


@given(
    search=searches,
    seed=st.integers(0, 10**6),
    packing=st.sampled_from([1, 16]),
    unseen=st.sampled_from([None, 0.0, 0.5, 1.0]),
)
@settings(max_examples=60, deadline=None)
def test_the_winner_of_a_synchronous_search_does_not_depend_on_arrival_order_packing_or_source(
    search: dict[str, Any], seed: int, packing: int, unseen: float | None
) -> None:
    search["algorithm"] = "SuccessiveHalving" if search["algorithm"] == "ASHA" else search["algorithm"]
    calm = World(study(search={**search, "parallelism": 1}), 0).play()
    trouble = Trouble(lost=0.2, stopped=0.2, unseen=unseen)
    rough = World(study(search={**search, "maxTrialsPerRun": packing}), seed, trouble).play()
    assert calm.finished is not None and rough.finished is not None
    assert rough.finished.best == calm.finished.best
    assert {i: t.rung for i, t in rough.trials.items()} == {i: t.rung for i, t in calm.trials.items()}


@given(trials=st.integers(1, 60), eta=st.integers(2, 4), parallelism=st.integers(1, 6), seed=st.integers(0, 10**6))
@settings(max_examples=60, deadline=None)
def test_each_rung_lets_in_the_planned_number(trials: int, eta: int, parallelism: int, seed: int) -> None:
    search = {"algorithm": "SuccessiveHalving", "trials": trials, "eta": eta, "parallelism": parallelism}
    world = World(study(search=search), seed)
    state = world.play()
    plan = make_plan(world.spec, PROFILE)
    reached = [sum(1 for t in state.trials.values() if t.rung >= rung.index) for rung in plan.rungs]
    assert tuple(reached) == plan.brackets[0].sizes
    best = min(state.trials, key=lambda i: world.value(i, 10, 800))
    assert state.finished is not None and state.finished.best == best


@given(trials=st.integers(1, 40), parallelism=st.integers(1, 6), seed=st.integers(0, 10**6))
@settings(max_examples=60, deadline=None)
def test_asha_never_sends_up_more_than_its_share_and_somebody_reaches_the_top(
    trials: int, parallelism: int, seed: int
) -> None:
    world = World(study(search={"algorithm": "ASHA", "trials": trials, "parallelism": parallelism}), seed)
    state = world.play()
    plan = make_plan(world.spec, PROFILE)
    assert len(state.trials) == trials
    for rung in range(plan.top):
        here = sum(1 for t in state.trials.values() if t.rung >= rung)
        above = sum(1 for t in state.trials.values() if t.rung > rung)
        assert 1 <= above <= max(1, here // 2) + _overtaken(world, rung)
    assert state.finished is not None and state.finished.best is not None


def _overtaken(world: World, rung: int) -> int:
    """ASHA promotes on what it knows: a trial promoted early may later fall out of the best 1/eta. Each such trial
    lets one more through."""
    result = {i: r.value for i, t in world.state.trials.items() if (r := t.result_at(rung)) and r.value is not None}
    quota = max(1, len(result) // 2)
    best = set(sorted(result, key=lambda i: (result[i], i))[:quota])
    promoted = {a.trial for a in world.log if isinstance(a, Promote) and a.from_rung == rung}
    return len(promoted - best)


def test_a_goal_ends_the_study_at_once() -> None:
    world = World(study(objective={"goal": 5.0}))
    state = world.play()
    assert state.finished is not None and state.finished.reason == "GoalReached"
    assert sum(1 for t in state.trials.values() if t.outcome == "Completed") == 1


def test_an_open_ended_asha_search_spends_its_time_and_keeps_the_best() -> None:
    search = {"algorithm": "ASHA", "parallelism": 2}
    state = World(study(search=search, budget={"gpuSeconds": 3000})).play()
    assert state.finished is not None and state.finished.reason == "BudgetExhausted"
    assert state.finished.best is not None
    assert len(state.trials) > 10


def test_the_number_of_trials_follows_from_a_budget_in_tokens() -> None:
    world = World(study(search={"algorithm": "SuccessiveHalving"}, budget={"tokens": 10_000}))
    plan = make_plan(world.spec, PROFILE)
    state = world.play()
    assert state.finished is not None and state.finished.reason == "Completed"
    assert sum(run.charged.tokens for run in state.runs.values()) <= 10_000
    bigger = study(search={"algorithm": "SuccessiveHalving", "trials": plan.trials + 1}, budget={"tokens": 10_000})
    assert World(bigger).play().finished.reason == "BudgetExhausted"  # type: ignore[union-attr]


def test_trials_at_fault_are_found_out_alone_and_do_not_take_others_down() -> None:
    state = World(study(), trouble=Trouble(faulty=frozenset({3}))).play()
    outcomes = {i: t.outcome for i, t in state.trials.items()}
    assert outcomes[3] == "Failed"
    assert "Completed" in outcomes.values()
    assert all(state.trials[i].result_at(0) is not None for i in outcomes)


def test_a_study_that_is_at_fault_itself_fails_early() -> None:
    world = World(study(search={"trials": 100, "algorithm": "ASHA"}), trouble=Trouble(faulty=frozenset(range(100))))
    state = world.play()
    assert state.finished is not None and state.finished.reason == "Failed"
    assert len(state.runs) < 25


def test_runs_that_are_lost_again_and_again_end_their_trials() -> None:
    state = World(study(search={"trials": 2}), trouble=Trouble(lost=1.0)).play()
    assert all(t.outcome == "Failed" for t in state.trials.values())
    assert "attempts came to nothing" in state.trials[0].results[0].message


def test_suspending_stops_the_runs_and_resuming_continues_from_their_checkpoints() -> None:
    world = World(study(search={"trials": 4, "parallelism": 2, "algorithm": "SuccessiveHalving"}))
    world.tick()
    world.spec = study(search={"trials": 4, "parallelism": 2, "algorithm": "SuccessiveHalving"}, suspend=True)
    actions = world.tick()
    assert sum(isinstance(a, StopRun) for a in actions) == 2
    while world.state.active_runs:
        world.end_one()
    assert [type(a) for a in world.tick()] == [Wait]
    world.spec = study(search={"trials": 4, "parallelism": 2, "algorithm": "SuccessiveHalving"})
    resumed = [a for a in world.tick() if isinstance(a, StartRun)]
    assert resumed and all(a.rung == 0 for a in resumed)
    assert any(a.start_tokens > 0 for a in resumed)
    assert world.play().finished.reason == "Completed"  # type: ignore[union-attr]


def test_runs_go_to_the_smallest_class_that_fits_and_a_failure_there_moves_them_up() -> None:
    classes = (MemoryClass("small", 8, 2), MemoryClass("large", 80, 1))
    trouble = Trouble(capacity={"small": (2, 4), "large": (10, 16)})
    search = {"algorithm": "SuccessiveHalving", "trials": 8, "parallelism": 1}
    state = World(study(search=search), trouble=trouble, classes=classes).play()
    assert state.finished is not None and state.finished.reason == "Completed"
    succeeded = [run for run in state.runs.values() if run.state is RunState.SUCCEEDED]
    assert {run.memory_class for run in succeeded if run.rung == 3} == {"large"}
    assert {run.memory_class for run in succeeded if run.rung == 0} == {"small"}
    failures = [run for run in state.runs.values() if run.state is RunState.OUT_OF_MEMORY]
    assert len({(run.memory_class, run.layers, len(run.trials)) for run in failures}) == len(failures)


def test_where_no_class_fits_the_top_rung_it_runs_with_the_most_layers_that_fit() -> None:
    classes = (MemoryClass("small", 8, 2),)
    trouble = Trouble(capacity={"small": (6, 16)})
    state = World(study(), trouble=trouble, classes=classes).play()
    assert state.finished is not None and state.finished.best is not None
    top = state.trials[state.finished.best].result_at(3)
    assert top is not None and top.layers == 6


def test_memory_for_not_even_one_layer_fails_with_a_remedy() -> None:
    trouble = Trouble(capacity={"cpu": (0, 0)})
    state = World(study(search={"trials": 2}), trouble=trouble).play()
    assert state.finished is not None and state.finished.reason == "Failed"
    assert "batchSize" in state.finished.message


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_packing_fills_all_devices_before_it_fills_runs(algorithm: str) -> None:
    search = {"algorithm": algorithm, "trials": 8, "parallelism": 4}
    world = World(study(search=search))
    started = [a for a in world.tick() if isinstance(a, StartRun)]
    assert len(started) == 4
    if algorithm != "Hyperband":  # its widest bracket has trials for all devices, in shares of its own size
        assert [len(a.trials) for a in started] == [2, 2, 2, 2]


def test_trials_that_differ_in_batch_size_never_share_a_run() -> None:
    parameters = [
        {"name": "lr", "type": "Float", "min": 1e-4, "max": 1e-1, "scale": "Log"},
        {"name": "batchSize", "type": "Categorical", "values": [5, 6]},
    ]
    world = World(study(parameters=parameters, search={"trials": 16, "algorithm": "SuccessiveHalving"}))
    state = world.play()
    assert any(run.packed for run in state.runs.values())
    for run in state.runs.values():
        assert len({state.trials[t].assignment["batchSize"] for t in run.trials}) == 1


def test_untrusted_low_rungs_are_skipped_by_new_trials_if_asked() -> None:
    class Contrary(World):
        def value(self, trial: int, layers: int, tokens: int) -> float:
            good = super().value(trial, 10, 800)
            return -good if layers == 1 else good

    trust = {"onUntrusted": "RaiseLowestRung", "threshold": 0.0}
    world = Contrary(study(search={"algorithm": "ASHA", "trials": 80, "parallelism": 1}, trust=trust))
    world.play()
    entered = [a.rung for a in world.log if isinstance(a, CreateTrial)]
    assert entered[0] == 0 and entered[-1] == 1


def test_applying_the_same_start_twice_is_harmless() -> None:
    world = World(study())
    actions = world.tick()
    before = dict(world.state.runs)
    for action in actions:
        apply(world.state, action)
    assert world.state.runs == before


@pytest.mark.parametrize("promotion", ["RestartOnThaw", "Continue"])
def test_a_run_goes_on_from_what_its_layers_have_learnt_and_else_starts_over(promotion: str) -> None:
    """Even where a small card trains fewer layers than the rung asks for, and the next run has more again."""
    classes = (MemoryClass("small", 8, 1), MemoryClass("large", 80, 1))
    trouble = Trouble(capacity={"small": (3, 16), "large": (10, 16)}, stopped=0.3)
    search = {"algorithm": "SuccessiveHalving", "trials": 8, "parallelism": 2}
    rungs = [{"layers": 5, "tokens": 100}, {"layers": 5, "tokens": 200}, {"layers": 10, "tokens": 400}]
    seen, degraded = set(), False
    for seed in range(20):
        spec = study(search=search, placement={"degrade": True}, promotion=promotion, fidelity={"rungs": rungs})
        world = World(spec, seed, trouble, classes)
        while world.state.finished is None:
            before = {trial.index: trial.checkpoint for trial in world.state.trials.values()}
            for action in world.tick():
                if isinstance(action, StartRun) and action.start_tokens:
                    layers = {checkpoint.layers for t in action.trials if (checkpoint := before[t])}
                    assert len(layers) == 1
                    seen.add((min(layers), action.layers))
            if world.state.active_runs:
                world.end_one()
        degraded = degraded or any(run.layers == 3 and run.rung < 2 for run in world.state.runs.values())
    assert degraded
    assert (3, 3) in seen, "on the small card again"
    if promotion == "RestartOnThaw":
        assert (5, 5) in seen and all(before == now for before, now in seen)
    else:
        assert any(before < now for before, now in seen) and all(before <= now for before, now in seen)


def test_where_the_cluster_trains_no_more_layers_a_promoted_trial_goes_on() -> None:
    rungs = [{"layers": 5, "tokens": 200}, {"layers": "All", "tokens": 400}]
    trouble, classes = Trouble(capacity={"cpu": (5, 16)}), (MemoryClass("cpu", 8, 1),)
    world = World(study(fidelity={"rungs": rungs}), trouble=trouble, classes=classes)
    world.play()
    last = [run for run in world.state.runs.values() if run.rung == 1 and run.state is RunState.SUCCEEDED]
    assert last and {(run.layers, run.start_tokens) for run in last} == {(5, 200)}


def test_a_run_whose_values_are_awaited_holds_no_device_and_its_trials_are_not_run_again() -> None:
    search = {"algorithm": "ASHA", "trials": 4, "parallelism": 1, "maxTrialsPerRun": 1}
    world = World(study(search=search), trouble=Trouble(unseen=1.0), classes=(MemoryClass("cpu", None, 1),))
    world.tick()
    [first] = world.state.active_runs
    world.end_one()
    assert world.state.runs[first.name].state is RunState.AWAITING
    assert not world.state.trials[first.trials[0]].results
    world.tick()
    [second] = world.state.active_runs
    assert set(second.trials).isdisjoint(first.trials)


def test_a_study_does_not_end_while_values_are_awaited() -> None:
    world = World(study(search={"trials": 1, "parallelism": 1}), trouble=Trouble(unseen=1.0))
    while not world.state.awaiting_runs:
        world.tick()
        world.end_one()
    assert world.tick() == []
    assert world.state.finished is None


@pytest.mark.parametrize("algorithm", ["SuccessiveHalving", "ASHA"])
def test_a_study_waits_while_there_is_no_device_at_all(algorithm: str) -> None:
    world = World(study(search={"algorithm": algorithm, "trials": 8, "parallelism": 2}), 1, classes=())
    world.tick()
    world.tick()
    assert world.state.finished is None and not any(trial.results for trial in world.state.trials.values())
    world.classes = (MemoryClass("cpu", None, 2),)
    assert world.play().finished is not None
    assert {trial.outcome for trial in world.state.trials.values()} == {"Completed", "Dropped"}


@pytest.mark.parametrize("promotion", ["RestartOnThaw", "Continue", "Restart"])
@pytest.mark.parametrize("seed", range(10))
def test_what_is_trained_is_charged_once_however_many_runs_are_lost(promotion: str, seed: int) -> None:
    world = World(
        study(promotion=promotion, search={"trials": 16, "parallelism": 3}), seed, Trouble(lost=0.5, stopped=0.2)
    )
    state = world.play()
    for name, run in state.runs.items():
        assert run.charged.tokens == world.trained[name]
    again = [run for run in state.runs.values() if run.state is RunState.SUCCEEDED and run.start_tokens % 100]
    assert again, "some went on from what a lost run had saved"


def test_a_trial_that_comes_further_with_each_attempt_is_never_given_up() -> None:
    fidelity = {"rungs": [{"layers": 5, "tokens": 1000}]}
    world = World(study(search={"trials": 1, "parallelism": 1}, fidelity=fidelity))
    for attempt in range(12):
        world.tick()
        [run] = world.state.active_runs
        assert run.start_tokens == 50 * attempt
        note_saved(world.state, run.name, {"s-0000": 50 * (attempt + 1)})
        settle(world.state, RunEnded(run.name, None, 10.0))
    # Nor are those losses counted once its checkpoint turns out to be unreadable, and it begins again
    world.tick()
    [run] = world.state.active_runs
    unreadable = RunResult(
        run=run.name, layers=5, exit_code=ExitCode.STUDY_FAULT, trials=[TrialResult(name="s-0000", reason="Fault")]
    )
    settle(world.state, RunEnded(run.name, unreadable, 1.0))
    for _ in range(7):
        world.tick()
        [run] = world.state.active_runs
        assert run.start_tokens in (0, 20)
        note_saved(world.state, run.name, {"s-0000": 20})
        settle(world.state, RunEnded(run.name, None, 10.0, message="Killed"))
    world.tick()
    assert world.state.finished is not None and world.state.finished.reason == "Failed"
    [result] = world.state.trials[0].results
    assert result.message.startswith("8 attempts came to nothing")


def test_on_a_small_card_a_rung_of_no_more_tokens_is_trained_anew() -> None:
    """Else its result would be that of the rung below, and a custom entrypoint would find nothing to do."""
    classes = (MemoryClass("small", 8, 1), MemoryClass("large", 80, 1))
    trouble = Trouble(capacity={"small": (3, 16), "large": (10, 16)})
    fidelity = {"rungs": [{"layers": 3, "tokens": 400}, {"layers": 10, "tokens": 400}]}
    search = {"algorithm": "SuccessiveHalving", "trials": 40, "parallelism": 2, "maxTrialsPerRun": 1}
    again = 0
    for seed in range(3):
        world = World(study(search=search, placement={"degrade": True}, fidelity=fidelity), seed, trouble, classes)
        state = world.play()
        again += sum(run.layers == 3 and run.rung == 1 for run in state.runs.values())
        assert all(run.start_tokens < run.tokens for run in state.runs.values())
    assert again


@pytest.mark.parametrize("limit", [{"tokens": 800}, {"gpuSeconds": 100}])
def test_runs_are_not_stopped_for_what_they_have_reserved_themselves(limit: dict[str, Any]) -> None:
    search = {"algorithm": "SuccessiveHalving", "trials": 8, "parallelism": 4}
    world = World(study(search=search, budget={**limit, "onExhausted": "Stop"}))
    actions = world.tick()
    assert any(isinstance(action, StartRun) for action in actions)
    assert not any(isinstance(action, StopRun) for action in actions)


def test_no_run_is_started_in_the_tick_that_finds_the_study_at_fault() -> None:
    world = World(
        study(search={"algorithm": "SuccessiveHalving", "trials": 12, "parallelism": 2, "maxTrialsPerRun": 1})
    )
    world.trouble.faulty = frozenset(range(12))
    while world.state.finished is None:
        actions = world.tick()
        if world.state.active_runs:
            world.end_one()
    assert not any(isinstance(action, StartRun) for action in actions)
