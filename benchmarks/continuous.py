"""The look-up tables without cells: a proposal has a value of its own, interpolated between the table's configurations.

On a table a proposal stands for its nearest neighbour, so that proposals close to each other are one and the same, and
a sampler that looks closely at a good place is told nothing new there. Here log losses are interpolated by radial
functions (scipy's RBFInterpolator, linear kernel), which pass through the table's values and do not overshoot between
them. What diverged counts as the worst loss of its fidelity.
"""

from __future__ import annotations

import copy
import functools
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.interpolate import RBFInterpolator

from benchmarks.lookup import Family
from benchmarks.measures import Value

_REFERENCE = 20_000


@dataclass(frozen=True)
class Continuous(Family):
    """A family whose table grows by every configuration that is proposed."""

    @classmethod
    def of(cls, family: Family) -> Continuous:
        return cls(f"{family.name}, interpolated", copy.deepcopy(family.document))

    def nearest(self, assignment: Mapping[str, Any]) -> int:
        """The number of the configuration, which is added to the table."""
        key = json.dumps(assignment, sort_keys=True)
        if key not in self._numbers:
            point = self._point(assignment)[None]
            for z, interpolated in self._interpolated.items():
                self.document["values"][z].append(np.exp(interpolated(point)[0]).tolist())
            self._numbers[key] = len(self.document["values"][str(self.layers)]) - 1
        return self._numbers[key]

    @property
    def full(self) -> list[Value]:  # type: ignore[override]
        return self.measured(self.layers, self.fractions)

    @functools.cached_property
    def best(self) -> float:  # type: ignore[override]
        """The median, over many such draws, of the least loss of 64 random configurations, fully trained."""
        return float(np.quantile(self._reference, 1 - 0.5 ** (1 / 64)))

    @functools.cached_property
    def least(self) -> float:
        """The least loss of very many."""
        return float(self._reference.min())

    @functools.cached_property
    def _numbers(self) -> dict[str, int]:
        return {}

    @functools.cached_property
    def _reference(self) -> NDArray[np.float64]:
        interpolated = self._interpolated[str(self.layers)]
        generator = np.random.default_rng(7)
        ranges = sum(p["type"] != "Categorical" for p in self.parameters)
        choices = [len(p["values"]) for p in self.parameters if p["type"] == "Categorical"]
        chosen = [np.eye(count)[generator.integers(0, count, _REFERENCE)] for count in choices]
        columns = [generator.random((_REFERENCE, ranges)), *chosen]
        return np.asarray(np.exp(interpolated(np.hstack(columns))[:, -1]))

    def _point(self, assignment: Mapping[str, Any]) -> NDArray[np.float64]:
        """Positions in the ranges, then one coordinate for each choice."""
        place = dict(zip((p["name"] for p in self.parameters), self._position(assignment), strict=True))
        ranges = [place[p["name"]] for p in self.parameters if p["type"] != "Categorical"]
        choices = [
            float(str(choice) == place[p["name"]])
            for p in self.parameters
            if p["type"] == "Categorical"
            for choice in p["values"]
        ]
        return np.array([*ranges, *choices], dtype=np.float64)

    @functools.cached_property
    def _interpolated(self) -> dict[str, RBFInterpolator]:
        points = np.array([self._point(c) for c in self.configurations])
        result = {}
        for z, series in self.document["values"].items():
            losses = np.array([[np.nan if v is None else v for v in row] for row in series], dtype=np.float64)
            losses = np.where(np.isnan(losses), np.nanmax(losses, axis=0), losses)
            # Two columns of a choice add up to 1: the constant that the kernel adds would be there twice.
            result[z] = RBFInterpolator(points, np.log(losses), kernel="linear", degree=-1)
        return result
