"""Ranking and selection: ties, NaN, infinities, failures, and groups of unequal depth."""

from __future__ import annotations

import math
import random

from hypothesis import given
from hypothesis import strategies as st

from frostline_operator.engine.promotion import Score, rank_correlation, ranked, select

VALUES = st.one_of(st.none(), st.floats(allow_nan=True, allow_infinity=True), st.sampled_from([0.0, 1.0, 2.0]))


def score_list(values: list[float | None], layers: int = 1) -> list[Score]:
    return [Score(i, value, layers) for i, value in enumerate(values)]


def test_best_is_first_in_both_directions() -> None:
    scores = score_list([3.0, 1.0, 2.0])
    assert [s.trial for s in ranked(scores, maximize=False)] == [1, 2, 0]
    assert [s.trial for s in ranked(scores, maximize=True)] == [0, 2, 1]


def test_ties_go_to_the_trial_that_was_drawn_first() -> None:
    assert select(score_list([1.0, 1.0, 1.0]), 2, maximize=False) == [0, 1]


def test_nan_infinities_and_failures_rank_last_whatever_the_direction() -> None:
    scores = score_list([math.nan, -math.inf, 5.0, math.inf, None])
    for maximize in (False, True):
        assert ranked(scores, maximize)[0].trial == 2
        assert select(scores, 5, maximize) == [2]


def test_a_rung_of_failures_promotes_nobody() -> None:
    assert select(score_list([None, math.nan]), 1, maximize=False) == []


def test_groups_of_unequal_depth_each_send_their_share() -> None:
    deep = [Score(i, 10.0 + i, 4) for i in range(6)]
    shallow = [Score(10 + i, float(i), 2) for i in range(2)]
    assert sorted(select([*deep, *shallow], 4, maximize=False)) == [0, 1, 2, 10]


def test_a_remainder_goes_to_the_deeper_group() -> None:
    assert select([Score(0, 1.0, 2), Score(1, 9.0, 4)], 1, maximize=False) == [1]


@given(values=st.lists(VALUES, max_size=40), quota=st.integers(0, 50), maximize=st.booleans(), seed=st.integers())
def test_selection_does_not_depend_on_the_order_of_arrival(
    values: list[float | None], quota: int, maximize: bool, seed: int
) -> None:
    scores = [Score(i, v, 1 + i % 3) for i, v in enumerate(values)]
    shuffled = scores[:]
    random.Random(seed).shuffle(shuffled)
    chosen = select(scores, quota, maximize)
    assert select(shuffled, quota, maximize) == chosen
    assert len(chosen) <= quota and len(set(chosen)) == len(chosen)
    by_trial = {s.trial: s for s in scores}
    assert all(by_trial[t].usable for t in chosen)


@given(values=st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=40), quota=st.integers(1, 40))
def test_nobody_left_behind_is_better_than_somebody_chosen(values: list[float], quota: int) -> None:
    chosen = set(select(score_list(list(values)), quota, maximize=False))
    assert len(chosen) == min(quota, len(values))
    left = [v for i, v in enumerate(values) if i not in chosen]
    assert not left or max(values[i] for i in chosen) <= min(left)


def test_rank_correlation_counts_only_trials_at_both_rungs() -> None:
    lower = {0: 1.0, 1: 2.0, 2: 3.0, 3: math.nan, 9: 0.0}
    upper = {0: 5.0, 1: 6.0, 2: 7.0, 3: 1.0}
    rho = rank_correlation(lower, upper)
    assert rho is not None and math.isclose(rho, 1.0)
    assert rank_correlation(lower, {0: 7.0, 1: 6.0, 2: 5.0}) == -1.0


def test_rank_correlation_says_nothing_on_too_little_or_constant_data() -> None:
    assert rank_correlation({0: 1.0, 1: 2.0}, {0: 1.0, 1: 2.0}) is None
    assert rank_correlation({0: 1.0, 1: 1.0, 2: 1.0}, {0: 1.0, 1: 2.0, 2: 3.0}) is None
