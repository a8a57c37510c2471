"""Expected improvement, and how to choose several candidates at once by it."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr

Array = NDArray[np.float64]

_FAR = -5.0
"""Below so many deviations the closed form cancels, and its leading term is used."""


def log_expected_improvement(mean: Array, deviation: Array, best: float) -> Array:
    """log E[max(0, best - f)] of normal values f, for values to be minimized (Jones, Schonlau and Welch 1998).

    E = s (z Phi(z) + phi(z)) with z = (best - mean) / s; for z far below 0 it tends to s phi(z) / z^2.
    """
    s = np.maximum(deviation, 1e-12)
    z = (best - mean) / s
    log_density = -0.5 * z**2 - 0.5 * np.log(2 * np.pi)
    near = np.maximum(z, _FAR)
    by_form = np.log(np.maximum(near * ndtr(near) + np.exp(-0.5 * near**2) / np.sqrt(2 * np.pi), 1e-300))
    by_limit = log_density - 2 * np.log(-np.minimum(z, _FAR))
    return np.asarray(np.log(s) + np.where(z < _FAR, by_limit, by_form))


def choose(mean: Array, covariance: Array, best: float, count: int, pending: int, own: float) -> list[int]:
    """Up to `count` candidates, each the best one given that those before it will turn out as expected.

    Where values turn out as expected the mean stays, and the covariance shrinks to C - c c^T / (c_p + own), c being the
    column of the point p (the "kriging believer" of Ginsbourger, Le Riche and Carraro 2010).

    Args:
        mean: of candidates, followed by the `pending` points whose results are still to come.
        covariance: of the same.
        best: what is to be improved upon.
        count: of candidates to choose.
        pending: number of pending points at the end of the arrays.
        own: variance of a single value that the process does not explain. It is no reason to try a place: with it in
            the deviation, searches on learning curves of real networks took longer.
    """
    candidates = len(mean) - pending
    covariance = covariance.copy()
    for position in range(candidates, len(mean)):
        _believe(covariance, position, own)
    chosen: list[int] = []
    open_ = np.ones(candidates, dtype=bool)
    while len(chosen) < min(count, candidates):
        deviation = np.sqrt(np.maximum(np.diag(covariance)[:candidates], 0.0))
        gain = np.where(open_, log_expected_improvement(mean[:candidates], deviation, best), -np.inf)
        position = int(np.argmax(gain))
        chosen.append(position)
        open_[position] = False
        _believe(covariance, position, own)
    return chosen


def _believe(covariance: Array, position: int, own: float) -> None:
    column = covariance[:, position].copy()
    covariance -= np.outer(column, column) / max(column[position] + own, 1e-12)
