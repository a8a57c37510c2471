"""A Gaussian process over configurations and rungs.

The value of configuration i at rung r is a sum of independent terms,

    f_0(i) = h(x_i) + u_i,    f_r(i) = f_{r-1}(i) + d_r(x_i) + w_{i,r},

where h and every d_r are Gaussian processes over the space with one correlation function k, and u and w are each
configuration's own, which no other one tells anything of. With m = min(r, s) the covariance of two values is

    cov(f_r(i), f_s(j)) = k(x_i, x_j) (v_h + m v_d) + [i = j] (v_u + m v_w).

It is the auto-regressive model of Kennedy and O'Hagan (Biometrika 2000) with slope 1. k is Matérn with nu = 5/2
(Rasmussen and Williams 2006, equation 4.17) over ordered coordinates, one length scale for each, times
exp(-theta_c) for each nominal coordinate c in which two configurations differ. Variances and scales are at the maximum
of the posterior, with log-normal priors.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import cho_solve, cholesky, solve_triangular
from scipy.optimize import minimize

Array = NDArray[np.float64]
Integers = NDArray[np.int64]

_JITTER = 1e-6
_ITERATIONS = 25
_BOUNDS = (-7.0, 5.0)
"""Of the logarithm of every parameter: wide enough that the priors decide."""
_VARIANCES = ((0.0, 1.0), (-3.0, 1.5), (-2.0, 1.5), (-3.5, 1.5))
"""Prior mean and deviation of the logarithms of v_h, v_u, v_d and v_w, for values of unit variance."""


@dataclass(frozen=True)
class Values:
    """Observed values: points of shape (n, dimensions), and trial, rung and value of shape (n,)."""

    points: Array
    trials: Integers
    rungs: Integers
    values: Array


class Process:
    """The process given observed values.

    Args:
        seen: what was observed; at least one value.
        nominal: per coordinate, whether it is nominal.
        top: the highest rung, at which predictions are made.
    """

    def __init__(self, seen: Values, nominal: NDArray[np.bool_], top: int) -> None:
        self._seen, self._nominal, self._top = seen, nominal, top
        self._mean = float(seen.values.mean())
        self._scale = float(seen.values.std()) or 1.0
        self._y = (seen.values - self._mean) / self._scale
        self._parameters = self._fit()
        factor = cholesky(self._covariance(self._parameters), lower=True)
        self._factor: Array = factor
        self._weights: Array = cho_solve((factor, True), self._y)

    def at_top(self, points: Array) -> tuple[Array, Array]:
        """Mean (n,) and covariance (n, n) of new configurations' values at the highest rung, without their u and w."""
        cross = self._correlation(points, self._seen.points) * self._smooth(self._seen.rungs)
        half = solve_triangular(self._factor, cross.T, lower=True)
        prior = self._correlation(points, points) * self._smooth(np.array(self._top))
        mean = self._mean + self._scale * (cross @ self._weights)
        return mean, (prior - half.T @ half) * self._scale**2

    def own_at_top(self) -> tuple[Integers, Array]:
        """Trials observed, ascending, and the mean of each one's own value at the highest rung."""
        trials, first = np.unique(self._seen.trials, return_index=True)
        points = self._seen.points[first]
        cross = self._correlation(points, self._seen.points) * self._smooth(self._seen.rungs)
        same = trials[:, None] == self._seen.trials[None, :]
        cross = cross + same * self._own(self._seen.rungs)
        return trials, self._mean + self._scale * (cross @ self._weights)

    @property
    def own_variance(self) -> float:
        """Variance of a configuration's value at the highest rung that its place in the space does not explain."""
        return float(self._own(np.array(self._top)) * self._scale**2)

    # --- the covariance ---

    def _smooth(self, shared: Integers) -> Array:
        v_h, _, v_d, _ = np.exp(self._parameters[-4:])
        return np.asarray(v_h + shared * v_d)

    def _own(self, shared: Integers) -> Array:
        _, v_u, _, v_w = np.exp(self._parameters[-4:])
        return np.asarray(v_u + shared * v_w)

    def _correlation(self, one: Array, other: Array) -> Array:
        scales = np.exp(self._parameters[:-4])
        squared = np.zeros((len(one), len(other)))
        differing = np.zeros((len(one), len(other)))
        for j, nominal in enumerate(self._nominal):
            a, b = one[:, j, None], other[None, :, j]
            if nominal:
                differing += scales[j] * (a != b)
            else:
                squared += ((a - b) / scales[j]) ** 2
        distance = np.sqrt(5 * squared)
        return np.asarray((1 + distance + distance**2 / 3) * np.exp(-distance - differing))

    def _covariance(self, parameters: Array) -> Array:
        self._parameters = parameters
        shared = np.minimum.outer(self._seen.rungs, self._seen.rungs)
        same = self._seen.trials[:, None] == self._seen.trials[None, :]
        smooth = self._correlation(self._seen.points, self._seen.points) * self._smooth(shared)
        return np.asarray(smooth + same * self._own(shared) + _JITTER * np.eye(len(self._y)))

    # --- the fit ---

    def _fit(self) -> Array:
        """Logarithms of scales (per coordinate) and variances (v_h, v_u, v_d, v_w) at the posterior's maximum."""
        seen, n = self._seen, len(self._y)
        apart = np.stack([np.subtract.outer(x, x) for x in seen.points.T]) if seen.points.size else np.zeros((0, n, n))
        apart = np.where(self._nominal[:, None, None], apart != 0, apart**2).astype(np.float64)
        shared = np.minimum.outer(seen.rungs, seen.rungs).astype(np.float64)
        same = (seen.trials[:, None] == seen.trials[None, :]).astype(np.float64)
        ordered = max(1, int((~self._nominal).sum()))
        means = np.concatenate(
            [
                np.where(self._nominal, math.log(0.5), math.log(0.4 * math.sqrt(ordered))),
                [mean for mean, _ in _VARIANCES],
            ]
        )
        deviations = np.concatenate([np.ones(len(self._nominal)), [deviation for _, deviation in _VARIANCES]])
        dimensions = len(self._nominal)
        y = self._y

        def loss(parameters: Array) -> tuple[float, Array]:
            """The negative logarithm of the posterior but for a constant, and its gradient."""
            scales = np.exp(parameters[:dimensions])
            v_h, v_u, v_d, v_w = np.exp(parameters[dimensions:])
            weights = np.where(self._nominal, 0.0, 5.0 / scales**2)
            distance = np.sqrt(np.tensordot(weights, apart, 1))
            decay = np.exp(-distance - np.tensordot(np.where(self._nominal, scales, 0.0), apart, 1))
            correlation = (1 + distance + distance**2 / 3) * decay
            smooth = v_h + shared * v_d
            covariance = correlation * smooth + same * (v_u + shared * v_w)
            covariance[np.diag_indices(n)] += _JITTER
            factor = cholesky(covariance, lower=True, check_finite=False)
            inverse = cho_solve((factor, True), np.eye(n), check_finite=False)
            alpha = inverse @ y
            off = (parameters - means) / deviations
            value = 0.5 * y @ alpha + np.log(np.diag(factor)).sum() + 0.5 * off @ off
            slope = 0.5 * (inverse - np.outer(alpha, alpha))
            gradient = off / deviations
            # d k / d log l_j = (1 + distance) exp(-distance) * 5/3 * apart_j / l_j^2; d k / d log theta = -theta k.
            by_scale = slope * smooth * (1 + distance) * decay / 3
            by_theta = -slope * smooth * correlation
            flat = apart.reshape(dimensions, -1)
            gradient[:dimensions] += np.where(
                self._nominal, scales * (flat @ by_theta.ravel()), weights * (flat @ by_scale.ravel())
            )
            gradient[dimensions:] += [
                v_h * (slope * correlation).sum(),
                v_u * (slope * same).sum(),
                v_d * (slope * correlation * shared).sum(),
                v_w * (slope * same * shared).sum(),
            ]
            return float(value), gradient

        optimum = minimize(
            loss, means, jac=True, method="L-BFGS-B", bounds=[_BOUNDS] * len(means), options={"maxiter": _ITERATIONS}
        )
        return np.asarray(optimum.x, dtype=np.float64)
