"""What results come to: comparable over rungs, whatever their order, failures included."""

from __future__ import annotations

import math
import random

import numpy as np
import pytest

from frostline_operator.engine.proposals.observations import Observations, observe
from frostline_operator.engine.state import ResultState, RungResult, Trial


def trial(index: int, *values: float | None) -> Trial:
    def result(rung: int, value: float | None) -> RungResult:
        state: ResultState = "Completed" if value is not None else "Diverged"
        return RungResult(rung, state, value, 1, 10, "run")

    return Trial(
        index, f"t{index}", 0, {"x": 0.1 * index}, len(values) - 1, tuple(map(result, range(len(values)), values))
    )


def at(observations: Observations, index: int, rung: int) -> float:
    [value] = observations.values[(observations.trials == index) & (observations.rungs == rung)]
    return float(value)


def test_rungs_are_aligned_by_what_training_on_brought_the_same_trials() -> None:
    seen = observe([trial(0, 4.0, 2.0), trial(1, 6.0, 3.0), trial(2, 8.0)], maximize=False)
    assert at(seen, 0, 0) == pytest.approx(at(seen, 0, 1))
    assert at(seen, 2, 0) - at(seen, 1, 0) == pytest.approx(math.log(8 / 6))


def test_a_failure_is_as_bad_as_the_worst_that_was_seen_at_its_rung() -> None:
    seen = observe([trial(0, 1.0), trial(1, 1.5), trial(2, None), trial(3, 1.2)], maximize=False)
    assert at(seen, 2, 0) == at(seen, 1, 0) > at(seen, 3, 0)


def test_nothing_but_failures_is_no_observation() -> None:
    assert len(observe([trial(0, None), trial(1, None)], maximize=False).values) == 0


@pytest.mark.parametrize("values", [[0.9, 0.5, 0.7, 0.0], [-3.0, 5.0, -1.0, 2.0], [2.0, 2.0, 2.0, 2.0]])
@pytest.mark.parametrize("maximize", [True, False])
def test_every_objective_ranks_as_it_is_meant(values: list[float], maximize: bool) -> None:
    seen = observe([trial(i, v) for i, v in enumerate(values)], maximize)
    best = (np.argmax if maximize else np.argmin)(values)
    assert np.isfinite(seen.values).all()
    assert seen.values[best] == seen.values.min()
    order = np.argsort([-v if maximize else v for v in values], kind="stable")
    assert (np.diff(seen.values[order]) >= 0).all()


def test_one_absurd_value_does_not_drown_the_others() -> None:
    seen = observe([trial(i, 1.0 + 0.1 * i) for i in range(8)] + [trial(8, 1e30)], maximize=False)
    assert seen.values.max() - seen.values.min() < 5 * (np.median(seen.values) - seen.values.min())


def test_the_order_of_trials_does_not_matter() -> None:
    trials = [trial(i, *[1 + random.Random(i).random() / (r + 1) for r in range(1 + i % 4)]) for i in range(200)]
    shuffled = random.Random(1).sample(trials, len(trials))
    one, other = observe(trials, False), observe(shuffled, False)
    assert (one.trials == other.trials).all() and (one.values == other.values).all()


@pytest.mark.parametrize("most", [1, 7, 50, 200])
def test_of_many_results_those_of_the_trials_that_came_furthest_are_kept(most: int) -> None:
    trials = [trial(i, *[1 + 0.01 * i - 0.1 * r for r in range(4 if i < 5 else 1)]) for i in range(400)]
    seen = observe(trials, maximize=False, most=most)
    assert len(seen.values) <= most
    if most >= 50:
        assert {0, 1, 2, 3, 4} <= set(seen.trials.tolist())
        assert seen.trials.max() > 350, "bad ones too"
