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
from collections.abc import Collection, Iterator, Sequence
from typing import overload

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
_LEAST_DRAWN = 64
_REMEMBERED = 128
"""Searches whose configurations are kept; those of any other are drawn anew when they are asked for."""


def assignments(parameters: list[Parameter], search: SearchSpec, count: int, first: int = 0) -> list[Assignment]:
    """The configurations from index `first` to `count`, fewer only where the space holds no more."""
    if count <= first:
        return []
    drawn = _drawn(_key(parameters, search), max(_LEAST_DRAWN, 1 << (count - 1).bit_length()))
    return [dict(one) for one in drawn[first:count]]


def cardinality(parameters: list[Parameter], search: SearchSpec) -> int | None:
    """Number of distinct configurations, None where there are infinitely many (or more than can be listed)."""
    return _space(_key(parameters, search)).size


def fresh(parameters: list[Parameter], search: SearchSpec, taken: Collection[str], count: int) -> list[Assignment]:
    """The first `count` configurations of the sequence whose identities are not in `taken`."""
    free: list[Assignment] = []
    # Each one that is taken stands for one of the sequence at most.
    for assignment in assignments(parameters, search, len(taken) + count):
        if len(free) < count and identity(assignment) not in taken:
            free.append(assignment)
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


@functools.lru_cache(maxsize=_REMEMBERED)
def _space(key: str) -> _Space:
    document = json.loads(key)
    parameters = [Parameter.model_validate(p) for p in document["parameters"]]
    return _Space(parameters, document["sampler"], document["gridPoints"], document["seed"], document["initial"])


@functools.lru_cache(maxsize=2 * _REMEMBERED)
def _drawn(key: str, count: int) -> tuple[Assignment, ...]:
    """The first `count` configurations, a power of two: drawn from the start, which comes to twice the work at most.

    Nothing is shared that changes, so that any number of threads may ask at the same time.
    """
    return tuple(itertools.islice(_space(key).draw(), count))


class _Space:
    """A search space and the order in which it is drawn; nothing in it changes.

    Args:
        parameters: of the study.
        sampler: of the search.
        grid_points: of the search.
        seed: of the search.
        initial: configurations that come first.
    """

    def __init__(
        self, parameters: list[Parameter], sampler: str, grid_points: int, seed: int, initial: list[Assignment]
    ) -> None:
        self._parameters = parameters
        self._sampler = sampler
        self._seed = seed
        self._initial = initial
        self._choices = [choices_of(p, grid_points if sampler == "Grid" else None) for p in parameters]
        self.size = self._listable_size()

    def draw(self) -> Iterator[Assignment]:
        """All configurations in their order, each once."""
        identities: set[str] = set()
        rows = _unit_rows(self._sampler, len(self._parameters), self._seed)
        for given in self._initial:
            yield from self._fresh({**self._from_unit(next(rows)), **given}, identities)
        if self._sampler == "Grid":
            for one in self._enumerate():
                yield from self._fresh(one, identities)
        elif self.size is not None:
            everything = list(self._enumerate())
            for position in np.random.default_rng(self._seed).permutation(len(everything)):
                yield from self._fresh(everything[int(position)], identities)
        else:
            repeats = 0
            while repeats < _PATIENCE:
                new = list(self._fresh(self._from_unit(next(rows)), identities))
                repeats = 0 if new else repeats + 1
                yield from new

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
        """All combinations, the last parameter's values changing fastest; none is kept."""
        names = [p.name for p in self._parameters]
        listed = [choices for choices in self._choices if choices is not None]
        for values in _product(listed):
            yield active(self._parameters, dict(zip(names, values, strict=True)))

    def _fresh(self, assignment: Assignment, identities: set[str]) -> Iterator[Assignment]:
        """The configuration, unless it was there before."""
        configuration = active(self._parameters, assignment)
        key = identity(configuration)
        if key not in identities:
            identities.add(key)
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


class _Steps(Sequence[Scalar]):
    """The values of a range with a step, reckoned when they are asked for: there may be 100,000."""

    def __init__(self, parameter: Parameter) -> None:
        assert parameter.min is not None
        self._parameter = parameter
        self._count = parameter.steps

    def __len__(self) -> int:
        return self._count

    @overload
    def __getitem__(self, index: int) -> Scalar: ...
    @overload
    def __getitem__(self, index: slice) -> list[Scalar]: ...
    def __getitem__(self, index: int | slice) -> Scalar | list[Scalar]:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(self._count))]
        if not 0 <= index < self._count:
            raise IndexError(index)
        low, step = self._parameter.min, self._parameter.step
        assert low is not None and step is not None
        return _number(self._parameter, low + index * step)


def _product(pools: Sequence[Sequence[Scalar]]) -> Iterator[tuple[Scalar, ...]]:
    """As `itertools.product`, which would list every pool first."""
    if not pools:
        yield ()
        return
    for head in _product(pools[:-1]):
        for value in pools[-1]:
            yield (*head, value)


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


def choices_of(parameter: Parameter, grid_points: int | None) -> Sequence[Scalar] | None:
    """All values of a finite parameter, or the grid's points of a range; None where there are infinitely many."""
    if parameter.type == "Constant":
        assert parameter.value is not None
        return [parameter.value]
    if parameter.values is not None:
        return list(parameter.values)
    assert parameter.min is not None and parameter.max is not None
    if parameter.step is not None:
        return _Steps(parameter)
    if grid_points is not None:
        points = [value_at(parameter, None, i / (grid_points - 1)) for i in range(grid_points)]
        return list(dict.fromkeys(points))
    if parameter.type == "Int" and parameter.max - parameter.min < _ENUMERABLE and parameter.scale == "Linear":
        return list(range(int(parameter.min), int(parameter.max) + 1))
    return None


def value_at(parameter: Parameter, choices: Sequence[Scalar] | None, u: float) -> Scalar:
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
