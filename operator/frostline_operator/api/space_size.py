"""How many configurations a search space can hold at most."""

from __future__ import annotations

import math
from collections.abc import Sequence

from frostline_operator.api.parameters import Parameter
from frostline_operator.api.search import SearchSpec


def size_bound(parameters: Sequence[Parameter], search: SearchSpec) -> int | None:
    """No more configurations than this exist; None where a range is continuous, so that there is no bound.

    Exact without conditions. A conditional hyperparameter is counted as if its condition did not exclude anything, so
    the bound may be too high, never too low.
    """
    total = 1
    for parameter in parameters:
        count = _count(parameter, search)
        if count is None:
            return None
        total *= count + (0 if parameter.when is None else 1)
    return total


def _count(parameter: Parameter, search: SearchSpec) -> int | None:
    if parameter.type == "Constant":
        return 1
    if parameter.values is not None:
        return len(parameter.values)
    assert parameter.min is not None and parameter.max is not None
    if parameter.step is not None:
        return math.floor((parameter.max - parameter.min) / parameter.step * (1 + 1e-12)) + 1
    whole = int(parameter.max - parameter.min) + 1 if parameter.type == "Int" else None
    if search.sampler == "Grid":
        return search.grid_points if whole is None else min(search.grid_points, whole)
    return whole
