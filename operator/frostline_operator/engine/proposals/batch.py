"""The next configurations of a study with `search.sampler: Model`."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from frostline_operator.api.study import HPOStudySpec
from frostline_operator.engine import space
from frostline_operator.engine.proposals.acquisition import choose
from frostline_operator.engine.proposals.observations import Observations, observe
from frostline_operator.engine.proposals.points import Points
from frostline_operator.engine.proposals.process import Process, Values
from frostline_operator.engine.space import Assignment
from frostline_operator.engine.state import StudyState

Array = NDArray[np.float64]

START = 8
"""Configurations drawn at random before the model proposes any."""
BATCH = 4
"""Configurations proposed at a time at least: one fit serves them all."""
_RANDOM_EVERY = 4
"""Of the later ones, one in so many is still drawn at random: no mistake of the model lasts."""
_CANDIDATES = 400
"""Drawn at random for the model to judge."""
_STRONGEST = 8
"""Trials around which more candidates are looked for."""
_NEIGHBOURS = 12
"""Perturbations of each of them."""
_PENDING = 64
"""Trials without a result that proposals keep away from, the newest ones."""


def propose(spec: HPOStudySpec, state: StudyState, top: int, count: int) -> list[Assignment]:
    """The configurations that come after those in the state, fewer only where the space holds no more.

    The first START of a study, and one in four after that, are the first of the sequence that Random draws which the
    study does not have yet. The others are chosen by expected improvement at rung `top`.
    """
    taken = {space.identity(trial.assignment) for trial in state.trials.values()}
    first = len(state.trials)
    by_model = [at >= START and at % _RANDOM_EVERY != 0 for at in range(first, first + count)]
    proposed = _by_model(spec, state, top, taken, sum(by_model))
    taken |= {space.identity(assignment) for assignment in proposed}
    drawn = space.fresh(spec.parameters, spec.search, taken, count - len(proposed))
    configurations: list[Assignment] = []
    for wanted in by_model:
        source = proposed if (wanted and proposed) or not drawn else drawn
        if source:
            configurations.append(source.pop(0))
    return configurations


def _by_model(spec: HPOStudySpec, state: StudyState, top: int, taken: set[str], count: int) -> list[Assignment]:
    if count == 0:
        return []
    observations = observe(state.trials.values(), spec.objective.direction == "Maximize")
    points = Points(spec.parameters)
    if len(np.unique(observations.trials)) < 2 or points.dimensions == 0:
        return []
    trials = [state.trials[i] for i in observations.trials.tolist()]
    values = Values(
        points.encode([t.assignment for t in trials]), observations.trials, observations.rungs, observations.values
    )
    process = Process(values, points.nominal, top)
    observed, expected = process.own_at_top()
    strongest = [state.trials[int(i)].assignment for i in observed[np.argsort(expected, kind="stable")[:_STRONGEST]]]
    generator = np.random.default_rng([spec.search.seed, len(state.trials)])
    candidates = _candidates(points, strongest, taken, generator)
    with_results = {t.index for t in state.trials.values() if t.results}
    pending = [t.assignment for t in state.trials.values() if t.index not in with_results][-_PENDING:]
    mean, covariance = process.at_top(points.encode([*candidates, *pending]))
    best = _best(observations, top, expected)
    chosen = choose(mean, covariance, best, count, len(pending), process.own_variance)
    return [candidates[position] for position in chosen]


def _best(observations: Observations, top: int, expected: Array) -> float:
    """The value to improve upon: the best at the highest rung, or what is expected there of the best trial so far."""
    at_top = observations.values[observations.rungs == top]
    return float(at_top.min() if len(at_top) else expected.min())


def _candidates(
    points: Points, strongest: list[Assignment], taken: set[str], generator: np.random.Generator
) -> list[Assignment]:
    """Random configurations and perturbations of the strongest ones, none twice and none of those taken."""
    around = np.repeat(points.encode(strongest), _NEIGHBOURS, axis=0)
    moved = generator.random(around.shape) < max(0.4, 1.0 / points.dimensions)
    steps = generator.normal(size=around.shape) * generator.choice([0.02, 0.1, 0.25], size=(len(around), 1))
    anew = generator.random(around.shape)
    shifted = np.where(points.nominal | (around < 0), anew, _reflected(around + steps))
    rows = np.vstack(
        [generator.random((_CANDIDATES, points.dimensions)), np.where(moved | (around < 0), shifted, around)]
    )
    free: dict[str, Assignment] = {}
    for assignment in points.decode(rows):
        key = space.identity(assignment)
        if key not in taken:
            free.setdefault(key, assignment)
    return list(free.values())


def _reflected(points: Array) -> Array:
    """Coordinates that left the unit interval, folded back into it."""
    folded = np.abs(points) % 2.0
    return np.where(folded > 1.0, 2.0 - folded, folded)
