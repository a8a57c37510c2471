"""Drawing configurations: seeded, in a fixed order that no result influences, and without repeats.

Configuration i is a pure function of the parameters and the search settings. Which results have arrived, how many runs
are parallel, or whether the operator was restarted in between changes nothing. The sampler Model starts with this
sequence too; what it proposes from results is in `proposals`.
"""

from __future__ import annotations

import functools
import itertools
import json
import math
from collections.abc import Collection, Iterator

import numpy as np
from scipy.stats import qmc

from frostline_operator.api.parameters import Parameter
from frostline_operator.api.search import SearchSpec
from frostline_trainer.contract import Scalar

Assignment = dict[str, Scalar]

_ENUMERABLE = 20_000
"""Finite spaces up to this size are listed and shuffled, which is exact; larger ones are sampled with rejection."""
_PATIENCE = 1_000
"""So many repeats in a row, and a large finite space is taken to be exhausted."""


def assignments(parameters: list[Parameter], search: SearchSpec, count: int) -> list[Assignment]:
    """The first `count` configurations, fewer only where the space holds no more."""
    return [dict(found) for found in _stream(_key(parameters, search)).take(count)]


def cardinality(parameters: list[Parameter], search: SearchSpec) -> int | None:
    """Number of distinct configurations, None where there are infinitely many (or more than can be listed)."""
    return _stream(_key(parameters, search)).size


def fresh(parameters: list[Parameter], search: SearchSpec, taken: Collection[str], count: int) -> list[Assignment]:
    """The first `count` configurations of the sequence whose identities are not in `taken`."""
    free: list[Assignment] = []
    # Each one that is taken stands for one of the sequence at most.
    for assignment in _stream(_key(parameters, search)).take(len(taken) + count):
        if len(free) < count and identity(assignment) not in taken:
            free.append(dict(assignment))
    return free


def _key(parameters: list[Parameter], search: SearchSpec) -> str:
    document = {
        "parameters": [p.model_dump(mode="json", by_alias=True) for p in parameters],
        "sampler": search.sampler,
        "gridPoints": search.grid_points,
        "seed": search.seed,
        "initial": search.initial,
    }
    return json.dumps(document)


@functools.lru_cache(maxsize=256)
def _stream(key: str) -> _Stream:
    document = json.loads(key)
    parameters = [Parameter.model_validate(p) for p in document["parameters"]]
    return _Stream(parameters, document["sampler"], document["gridPoints"], document["seed"], document["initial"])


class _Stream:
    """A memo of the configurations drawn so far; the sequence itself never depends on who asks or when."""

    def __init__(
        self, parameters: list[Parameter], sampler: str, grid_points: int, seed: int, initial: list[Assignment]
    ) -> None:
        self._parameters = parameters
        self._choices = [choices_of(p, grid_points if sampler == "Grid" else None) for p in parameters]
        self.size = self._listable_size()
        self._drawn: list[Assignment] = []
        self._seen: set[str] = set()
        self._source = self._generate(sampler, seed, initial)

    def take(self, count: int) -> list[Assignment]:
        missing = max(0, count - len(self._drawn))
        self._drawn.extend(itertools.islice(self._source, missing))
        return self._drawn[:count]

    def _listable_size(self) -> int | None:
        total = 1
        for choices in self._choices:
            if choices is None:
                return None
            total *= len(choices)
            if total > _ENUMERABLE:
                return None
        return len({identity(a) for a in self._enumerate()})

    def _enumerate(self) -> Iterator[Assignment]:
        listed = [choices for choices in self._choices if choices is not None]
        for values in itertools.product(*listed):
            yield active(self._parameters, dict(zip((p.name for p in self._parameters), values, strict=True)))

    def _generate(self, sampler: str, seed: int, initial: list[Assignment]) -> Iterator[Assignment]:
        rows = _unit_rows(sampler, len(self._parameters), seed)
        for given in initial:
            yield from self._fresh({**self._from_unit(next(rows)), **given})
        if sampler == "Grid" or self.size is not None:
            everything = list(self._enumerate())
            shuffled = np.random.default_rng(seed).permutation(len(everything))
            order = range(len(everything)) if sampler == "Grid" else shuffled
            for position in order:
                yield from self._fresh(everything[int(position)])
            return
        repeats = 0
        while repeats < _PATIENCE:
            new = list(self._fresh(self._from_unit(next(rows))))
            repeats = 0 if new else repeats + 1
            yield from new

    def _fresh(self, assignment: Assignment) -> Iterator[Assignment]:
        configuration = active(self._parameters, assignment)
        key = identity(configuration)
        if key not in self._seen:
            self._seen.add(key)
            yield configuration

    def _from_unit(self, row: list[float]) -> Assignment:
        return {
            p.name: value_at(p, choices, u) for p, choices, u in zip(self._parameters, self._choices, row, strict=True)
        }


def active(parameters: list[Parameter], assignment: Assignment) -> Assignment:
    """The configuration without the hyperparameters whose conditions do not hold."""
    kept: Assignment = {}
    for parameter in parameters:
        if parameter.when is not None and kept.get(parameter.when.parameter) not in parameter.when.values:
            continue
        kept[parameter.name] = assignment[parameter.name]
    return kept


def identity(assignment: Assignment) -> str:
    """Text that two configurations share only where they are the same."""
    return json.dumps(assignment, sort_keys=True)


def _unit_rows(sampler: str, dimensions: int, seed: int) -> Iterator[list[float]]:
    """Endless points of the unit cube, one row of length `dimensions` per configuration."""
    if sampler == "Sobol":
        sobol = qmc.Sobol(dimensions, scramble=True, rng=seed)
        while True:  # blocks of a power of two keep the sequence balanced
            yield from sobol.random(64).tolist()
    generator = np.random.default_rng(seed)
    while True:
        yield generator.random(dimensions).tolist()


def choices_of(parameter: Parameter, grid_points: int | None) -> list[Scalar] | None:
    """All values of a finite parameter, or the grid's points of a range; None where there are infinitely many."""
    if parameter.type == "Constant":
        assert parameter.value is not None
        return [parameter.value]
    if parameter.values is not None:
        return list(parameter.values)
    assert parameter.min is not None and parameter.max is not None
    if parameter.step is not None:
        count = math.floor((parameter.max - parameter.min) / parameter.step * (1 + 1e-12)) + 1
        return [_number(parameter, parameter.min + i * parameter.step) for i in range(count)]
    if grid_points is not None:
        points = [value_at(parameter, None, i / (grid_points - 1)) for i in range(grid_points)]
        return list(dict.fromkeys(points))
    if parameter.type == "Int" and parameter.max - parameter.min < _ENUMERABLE and parameter.scale == "Linear":
        return list(range(int(parameter.min), int(parameter.max) + 1))
    return None


def value_at(parameter: Parameter, choices: list[Scalar] | None, u: float) -> Scalar:
    """The value at position u in [0, 1] of the parameter's range."""
    if choices is not None:
        return choices[min(int(u * len(choices)), len(choices) - 1)]
    assert parameter.min is not None and parameter.max is not None
    low, high = parameter.min, parameter.max
    if parameter.scale == "Log":
        return _number(parameter, math.exp(math.log(low) + u * (math.log(high) - math.log(low))))
    return _number(parameter, low + u * (high - low))


def _number(parameter: Parameter, value: float) -> Scalar:
    """Six significant digits are plenty to tell configurations apart, and short enough to read and to copy."""
    assert parameter.min is not None and parameter.max is not None
    bounded = min(max(float(f"{value:.6g}"), parameter.min), parameter.max)
    return round(bounded) if parameter.type == "Int" else float(bounded)
