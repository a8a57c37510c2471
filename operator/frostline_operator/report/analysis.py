"""What a study's results say: ranks, agreement between rungs, and which hyperparameters mattered."""

from __future__ import annotations

import itertools
import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata, spearmanr

from frostline_operator.api.parameters import Parameter
from frostline_operator.report.record import StudyRecord, TrialRecord, TrialRung
from frostline_trainer.contract import Scalar

MIN_TRIALS = 8
"""Below this many trials, importance is not computed: chance would explain nearly everything."""
_SHUFFLES = 300


def result_at(trial: TrialRecord, rung: int) -> TrialRung | None:
    """The trial's finite result at a rung, None where it has none."""
    return next((r for r in trial.results if r.rung == rung and r.value is not None), None)


def value_at(trial: TrialRecord, rung: int) -> float | None:
    """The trial's finite value at a rung."""
    result = result_at(trial, rung)
    return None if result is None else result.value


def ranks(record: StudyRecord, rung: int, bracket: int) -> dict[str, int]:
    """Place of each trial of a bracket at a rung, 1 for the best; those without a finite value share the last."""
    here = [t for t in record.trials if t.bracket == bracket and any(r.rung == rung for r in t.results)]
    ended = [t for t in here if any(r.rung == rung and r.state not in ("Pending", "Running") for r in t.results)]
    sign = -1.0 if record.maximize else 1.0
    ordered = sorted(ended, key=lambda t: (sign * v if (v := value_at(t, rung)) is not None else math.inf, t.index))
    usable = sum(1 for t in ended if value_at(t, rung) is not None)
    return {t.name: min(place, usable + 1) for place, t in enumerate(ordered, start=1)}


@dataclass(frozen=True)
class Agreement:
    """How two neighbouring rungs rank the trials that reached both."""

    low: int
    high: int
    points: tuple[tuple[str, float, float], ...]
    """Trial, its value at the lower rung, and at the higher one."""
    rho: float | None
    """Spearman's rank correlation; None for fewer than three trials, or where one rung has all the same value."""


def agreements(record: StudyRecord) -> list[Agreement]:
    """For each pair of neighbouring rungs that some trial has reached both of."""
    pairs = []
    rungs = sorted({row.rung for row in record.rungs} | {r.rung for t in record.trials for r in t.results})
    for low, high in itertools.pairwise(rungs):
        points = tuple(
            (t.name, a, b)
            for t in record.trials
            if (a := value_at(t, low)) is not None and (b := value_at(t, high)) is not None
        )
        if points:
            pairs.append(Agreement(low, high, points, spearman([p[1] for p in points], [p[2] for p in points])))
    return pairs


def spearman(a: Sequence[float], b: Sequence[float]) -> float | None:
    """Rank correlation, None where it is not defined."""
    if len(a) < 3 or len(set(a)) < 2 or len(set(b)) < 2:
        return None
    return float(spearmanr(a, b).statistic)


@dataclass(frozen=True)
class Importance:
    """How much of the spread in rank one hyperparameter explains by itself."""

    name: str
    share: float | None
    """Of the variance in rank, between 0 and 1, corrected for the number of trials; None for too few trials."""
    chance: float
    """What shuffled results reach in one case of twenty: a share below this may be nothing."""
    rho: float | None
    """Spearman's correlation with the objective, for numbers: its sign tells the direction."""
    trials: int


def fullest_rung(record: StudyRecord) -> int:
    """The rung with most different results, the higher one of equals: it tells most about hyperparameters."""
    values: dict[int, set[float]] = defaultdict(set)
    for r in (r for t in record.trials for r in t.results):
        if r.value is not None:
            values[r.rung].add(r.value)
    return max(values, key=lambda rung: (len(values[rung]), rung), default=0)


def tuned(record: StudyRecord) -> list[Parameter]:
    """The hyperparameters that vary."""
    return [p for p in record.study.spec.parameters if p.type != "Constant"]


def importances(record: StudyRecord, rung: int) -> list[Importance]:
    """Of every tuned hyperparameter at a rung, most important first.

    Numbers: adjusted R² of a parabola through (rank of the setting, rank of the result), so that an optimum in the
    middle counts as much as a slope. Choices: adjusted correlation ratio (eta²) of the result's rank. One at a time, so
    interactions are not seen.
    """
    explained = []
    for parameter in tuned(record):
        pairs = [
            (t.assignment[parameter.name], v)
            for t in record.trials
            if parameter.name in t.assignment and (v := value_at(t, rung)) is not None
        ]
        explained.append(_importance(parameter, [p[0] for p in pairs], [p[1] for p in pairs]))
    return sorted(explained, key=lambda one: (-(one.share if one.share is not None else -1.0), one.name))


def _importance(parameter: Parameter, settings: list[Scalar], values: list[float]) -> Importance:
    numeric = parameter.type in ("Float", "Int")
    count = len(values)
    rho = spearman([float(s) for s in settings], values) if numeric else None
    if count < MIN_TRIALS or len({repr(s) for s in settings}) < 2 or len(set(values)) < 2:
        return Importance(parameter.name, None, 0.0, rho, count)
    groups = _parabola(settings) if numeric else _indicators(settings)
    y = np.asarray(rankdata(values), dtype=float)
    shuffled = np.random.default_rng(0)
    chance = float(np.quantile([_share(groups, shuffled.permutation(y)) for _ in range(_SHUFFLES)], 0.95))
    return Importance(parameter.name, _share(groups, y), chance, rho, count)


def _parabola(settings: list[Scalar]) -> NDArray[np.float64]:
    x = np.asarray(rankdata([float(s) for s in settings]), dtype=float)
    x = (x - x.mean()) / (np.ptp(x) or 1.0)
    columns = [np.ones_like(x), x, x * x] if len(set(x.tolist())) > 2 else [np.ones_like(x), x]
    return np.linalg.qr(np.stack(columns, axis=1))[0]


def _indicators(settings: list[Scalar]) -> NDArray[np.float64]:
    members: dict[str, list[int]] = defaultdict(list)
    for position, setting in enumerate(settings):
        members[repr(setting)].append(position)
    basis = np.zeros((len(settings), len(members)))
    for column, rows in enumerate(members.values()):
        basis[rows, column] = 1 / math.sqrt(len(rows))
    return basis


def _share(basis: NDArray[np.float64], y: NDArray[np.float64]) -> float:
    """Adjusted R² of y on an orthonormal basis that contains the constant."""
    count, width = basis.shape
    total = float(((y - y.mean()) ** 2).sum())
    if total == 0 or count <= width:
        return 0.0
    explained = float(((basis.T @ y) ** 2).sum()) - count * float(y.mean()) ** 2
    return min(1.0, max(0.0, float(1 - (1 - explained / total) * (count - 1) / (count - width))))
