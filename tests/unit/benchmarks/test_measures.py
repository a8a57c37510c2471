"""The statistics that docs/does-it-work.md quotes, on cases that can be checked by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
from benchmarks import measures
from scipy.stats import spearmanr


def test_rank_agreement_is_one_for_the_same_order_and_minus_one_for_the_reverse() -> None:
    assert measures.spearman([1.0, 2.0, 3.0, 9.0], [10.0, 11.0, 12.0, 13.0]) == pytest.approx(1.0)
    assert measures.spearman([1.0, 2.0, 3.0, 9.0], [4.0, 3.0, 2.0, 1.0]) == pytest.approx(-1.0)


def test_rank_agreement_is_that_of_scipy_with_ties() -> None:
    generator = np.random.default_rng(0)
    one, other = generator.integers(0, 6, 30).tolist(), generator.integers(0, 6, 30).tolist()
    assert measures.spearman(one, other) == pytest.approx(spearmanr(one, other).statistic)


def test_what_diverged_ranks_last_and_is_tied() -> None:
    assert measures.spearman([1.0, 2.0, None, None], [1.0, 2.0, 7.0, 7.0]) == pytest.approx(1.0)
    assert measures.spearman([None, 1.0, 2.0], [3.0, 1.0, 2.0]) == pytest.approx(1.0)


def test_rank_agreement_is_unknown_where_one_side_does_not_vary() -> None:
    assert math.isnan(measures.spearman([1.0, 1.0, 1.0], [1.0, 2.0, 3.0]))
    assert math.isnan(measures.spearman([None, None, None], [1.0, 2.0, 3.0]))


def test_the_bootstrap_interval_of_a_mean_is_that_of_the_normal_approximation() -> None:
    sample = np.random.default_rng(3).normal(5.0, 2.0, 400)
    found = measures.bootstrap(400, lambda at: float(sample[at].mean()), draws=2000)
    error = float(sample.std() / 20)
    assert found.value == pytest.approx(sample.mean())
    assert found.low == pytest.approx(sample.mean() - 1.96 * error, abs=0.15 * error)
    assert found.high == pytest.approx(sample.mean() + 1.96 * error, abs=0.15 * error)


def test_the_bootstrap_is_repeatable_and_leaves_out_resamples_without_a_value() -> None:
    def shaky(at: np.ndarray) -> float:
        return float("nan") if at[0] == 4 else float(at.mean())

    assert measures.bootstrap(5, shaky, seed=1) == measures.bootstrap(5, shaky, seed=1)
    assert not math.isnan(measures.bootstrap(5, shaky, seed=1).high)


def test_the_better_half_holds_the_lowest_values() -> None:
    assert measures.better_half([3.0, None, 1.0, 2.0]) == [2, 3]
    assert measures.better_half([3.0, None, 1.0]) == [0, 2]


def test_regret_is_relative_and_infinite_for_what_diverged() -> None:
    assert measures.regret(2.02, 2.0) == pytest.approx(0.01)
    assert measures.regret(None, 2.0) == float("inf")


def test_halving_keeps_the_best_of_each_rung_and_breaks_ties_by_draw() -> None:
    low = [4.0, 1.0, 2.0, 3.0, 0.0]
    top = [0.1, 0.9, 0.5, 0.5, 0.0]
    assert measures.halving([low, top], [4, 2], [0, 1, 2, 3]) == [[0, 1, 2, 3], [1, 2], [2]]
    assert measures.halving([[1.0, 1.0], top], [2, 1], [1, 0]) == [[1, 0], [1], [1]]
    assert measures.halving([[None, 1.0], top], [2, 1], [0, 1])[-1] == [1]


def test_an_anytime_curve_steps_at_each_new_incumbent() -> None:
    curve = measures.anytime([(2.0, 0.5), (5.0, 0.1)], [1.0, 2.0, 4.0, 5.0, 9.0])
    assert math.isnan(curve[0])
    assert curve[1:].tolist() == [0.5, 0.5, 0.1, 0.1]


def test_a_target_is_reached_only_where_it_is_kept() -> None:
    assert measures.cost_to_reach([(1.0, 0.5), (3.0, 0.01)], 0.01) == 3.0
    assert measures.cost_to_reach([(1.0, 0.0), (3.0, 0.2), (8.0, 0.0)], 0.01) == 8.0
    assert measures.cost_to_reach([(1.0, 0.0), (3.0, 0.2)], 0.01) == float("inf")


def test_the_median_curve_has_no_value_while_most_searches_have_no_incumbent() -> None:
    traces = [[(1.0, 0.3)], [(2.0, 0.2)], [(3.0, 0.1)]]
    middle, low, high = measures.median_curve(traces, [1.0, 2.0, 3.0])
    assert math.isnan(middle[0])
    assert middle[1:].tolist() == [0.3, 0.2]
    assert (low[2], high[2]) == (0.1, 0.2)


def test_the_monotone_share_counts_rises() -> None:
    assert measures.monotone_share([0.1, 0.2, 0.15, 0.3]) == pytest.approx(2 / 3)
    assert measures.monotone_share([0.1, 0.2, 0.15, 0.3], slack=0.1) == 1.0
