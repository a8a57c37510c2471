"""The Gaussian process: it learns what is there to be learnt, and knows what it does not know."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.optimize import approx_fprime

from frostline_operator.engine.proposals import process as module
from frostline_operator.engine.proposals.process import Array, Process, Values


def observed(count: int, rungs: int, seed: int = 0) -> tuple[Values, Array]:
    """A smooth function of one of three coordinates, better by category 0.2, with a rung's own slope."""
    generator = np.random.default_rng(seed)
    points = generator.random((count, 3))
    points[:, 2] = generator.choice([0.2, 0.6], count)
    trials = np.repeat(np.arange(count), rungs)
    at = np.tile(np.arange(rungs), count)
    values = function(points)[trials] + 0.05 * at * points[trials, 0]
    return Values(points[trials], trials, at, values), points


def function(points: Array) -> Array:
    return np.asarray(np.sin(5 * points[:, 0]) + (points[:, 2] > 0.4))


NOMINAL = np.array([False, False, True])


def test_it_predicts_a_smooth_function_at_the_highest_rung_from_values_at_all() -> None:
    values, _ = observed(40, 3)
    process = Process(values, NOMINAL, top=2)
    _, fresh = observed(50, 1, seed=1)
    mean, covariance = process.at_top(fresh)
    truth = function(fresh) + 0.1 * fresh[:, 0]
    assert np.abs(mean - truth).mean() < 0.1
    z = (mean - truth) / np.sqrt(np.diag(covariance) + process.own_variance)
    assert np.abs(z).max() < 6


def test_the_variance_is_small_near_what_was_observed_and_never_negative() -> None:
    values, points = observed(30, 2)
    process = Process(values, NOMINAL, top=1)
    apart = np.array([[5.0, 5.0, 0.9]])
    _, near = process.at_top(points)
    _, far = process.at_top(apart)
    assert np.diag(near).max() < far[0, 0]
    assert np.linalg.eigvalsh(near).min() > -1e-6


def test_values_observed_at_the_highest_rung_are_what_it_expects_of_their_trials() -> None:
    values, _ = observed(20, 3)
    trials, expected = Process(values, NOMINAL, top=2).own_at_top()
    assert trials.tolist() == list(range(20))
    assert expected == pytest.approx(values.values[values.rungs == 2], abs=1e-3)


def test_the_gradient_of_the_fit_is_that_of_its_value(monkeypatch: pytest.MonkeyPatch) -> None:
    losses = []

    class Found:
        def __init__(self, x: Array) -> None:
            self.x = x

    def only_look(loss: object, start: Array, **_: object) -> Found:
        losses.append(loss)
        return Found(start)

    monkeypatch.setattr(module, "minimize", only_look)
    process = Process(observed(12, 3)[0], NOMINAL, top=2)
    [loss] = losses
    at = process._parameters + np.linspace(-0.3, 0.3, len(process._parameters))
    numeric = approx_fprime(at, lambda p: loss(p)[0], 1e-6)  # type: ignore[operator]
    assert loss(at)[1] == pytest.approx(numeric, rel=1e-3, abs=1e-3)  # type: ignore[operator]


def test_values_that_are_all_the_same_are_no_obstacle() -> None:
    values, points = observed(6, 1)
    mean, _ = Process(Values(values.points, values.trials, values.rungs, np.full(6, 2.5)), NOMINAL, 0).at_top(points)
    assert mean == pytest.approx(np.full(6, 2.5))
