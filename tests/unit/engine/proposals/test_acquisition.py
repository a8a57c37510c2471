"""Expected improvement, and choosing several by it."""

from __future__ import annotations

import numpy as np
import pytest

from frostline_operator.engine.proposals.acquisition import choose, log_expected_improvement


@pytest.mark.parametrize(("mean", "deviation"), [(0.0, 1.0), (0.5, 0.3), (-0.4, 0.2), (1.0, 0.5)])
def test_it_is_the_mean_of_the_improvement(mean: float, deviation: float) -> None:
    draws = np.random.default_rng(0).normal(mean, deviation, 2_000_000)
    measured = np.maximum(0.0, 0.1 - draws).mean()
    found = np.exp(log_expected_improvement(np.array([mean]), np.array([deviation]), 0.1))[0]
    assert found == pytest.approx(measured, rel=0.02)


def test_far_from_the_best_it_still_tells_candidates_apart() -> None:
    gains = log_expected_improvement(np.linspace(4.9, 60, 200), np.full(200, 1.0), 0.0)
    assert np.isfinite(gains).all() and (np.diff(gains) < 0).all()


def test_a_batch_does_not_choose_one_place_twice() -> None:
    mean = np.array([0.0, 0.001, 0.2, 0.9])
    covariance = np.array([[1.0, 0.999, 0.0, 0], [0.999, 1.0, 0.0, 0], [0.0, 0.0, 1.0, 0], [0, 0, 0, 1.0]])
    assert choose(mean, covariance, best=0.0, count=2, pending=0, own=0.0) == [0, 2]


def test_it_keeps_away_from_what_is_under_way() -> None:
    mean = np.array([0.0, 0.2, 0.001])
    covariance = np.array([[1.0, 0.0, 0.999], [0.0, 1.0, 0.0], [0.999, 0.0, 1.0]])
    assert choose(mean, covariance, best=0.0, count=1, pending=1, own=0.0) == [1]
    assert choose(mean[:2], covariance[:2, :2], best=0.0, count=1, pending=0, own=0.0) == [0]


def test_no_more_than_there_are() -> None:
    assert choose(np.zeros(2), np.eye(2), 0.0, count=5, pending=0, own=0.1) == [0, 1]
