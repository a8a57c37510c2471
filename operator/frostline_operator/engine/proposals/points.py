"""Configurations as points of the unit cube, and back."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from frostline_operator.api.parameters import Parameter
from frostline_operator.engine import space
from frostline_operator.engine.space import Assignment
from frostline_trainer.contract import Scalar

Array = NDArray[np.float64]
ABSENT = -1.0
"""Coordinate of a nominal hyperparameter that a condition switches off: a category of its own."""
_MIDDLE = 0.5
"""Coordinate of an ordered one that is switched off: no configuration without it differs from another by it."""


class Points:
    """The unit cube of a search space; constants have no coordinate.

    Floats, integers and choices among three or more numbers are ordered: their coordinate is the position in the range,
    on the parameter's scale, or among the sorted choices. All other choices are nominal: coordinates are alike or not.
    """

    def __init__(self, parameters: list[Parameter]) -> None:
        self._all = parameters
        self._free = [p for p in parameters if p.type != "Constant"]
        self._choices = [_sorted(space.choices_of(p, None)) for p in self._free]
        self._places = [
            None
            if choices is None
            else {space.identity({"": c}): (i + 0.5) / len(choices) for i, c in enumerate(choices)}
            for choices in self._choices
        ]
        self.nominal = np.array(
            [p.type == "Categorical" and not _ordered(c) for p, c in zip(self._free, self._choices, strict=True)],
            dtype=bool,
        )
        """Per coordinate, whether it is nominal."""

    @property
    def dimensions(self) -> int:
        """Coordinates of a point."""
        return len(self._free)

    def encode(self, configurations: Sequence[Assignment]) -> Array:
        """Points of configurations, shape (count, dimensions)."""
        rows = [[self._place(j, c.get(p.name)) for j, p in enumerate(self._free)] for c in configurations]
        return np.array(rows, dtype=np.float64).reshape(len(rows), self.dimensions)

    def decode(self, points: Array) -> list[Assignment]:
        """The configurations at points of the unit cube, without what their conditions switch off."""
        constants: Assignment = {p.name: p.value for p in self._all if p.value is not None}
        configurations = []
        for row in points.tolist():
            free = {
                p.name: space.value_at(p, choices, u)
                for p, choices, u in zip(self._free, self._choices, row, strict=True)
            }
            configurations.append(space.active(self._all, {**constants, **free}))
        return configurations

    def _place(self, j: int, value: Scalar | None) -> float:
        if value is None:
            return ABSENT if self.nominal[j] else _MIDDLE
        parameter, places = self._free[j], self._places[j]
        if places is not None:
            known = places.get(space.identity({"": value}))
            return _nearest(places, self._choices[j] or [], value) if known is None else known
        assert parameter.min is not None and parameter.max is not None
        low, high, x = parameter.min, parameter.max, float(value)
        if parameter.scale == "Log":
            low, high, x = math.log(low), math.log(high), math.log(x)
        return min(max((x - low) / (high - low), 0.0), 1.0)


def _ordered(choices: Sequence[Scalar] | None) -> bool:
    """Whether choices are three or more numbers."""
    if choices is None or len(choices) < 3:
        return False
    return all(isinstance(c, int | float) and not isinstance(c, bool) for c in choices)


def _sorted(choices: Sequence[Scalar] | None) -> list[Scalar] | None:
    if choices is None:
        return None
    return sorted(choices, key=float) if _ordered(choices) else list(choices)


def _nearest(places: dict[str, float], choices: list[Scalar], value: Scalar) -> float:
    """A given value of `search.initial` may be written otherwise than the choice it is, such as 1 for 1.0."""
    numbers = [(abs(float(c) - float(value)), i) for i, c in enumerate(choices) if _is_number(c) and _is_number(value)]
    return (min(numbers)[1] + 0.5) / len(choices) if numbers else ABSENT


def _is_number(value: Scalar) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
