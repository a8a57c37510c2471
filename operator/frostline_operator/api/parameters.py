"""The search space: which hyperparameters there are, what they may be, and how many configurations they make up."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated, Literal

from pydantic import Field

from frostline_operator.api.problems import shown
from frostline_operator.api.search import SearchSpec
from frostline_trainer.contract import FieldPath, Scalar, Section

MOST_STEPS = 100_000
"""Values of a range with a step."""
ParameterName = Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_.-]*$", max_length=63)]


class Condition(Section):
    """Makes a hyperparameter exist only where another one has one of the given values."""

    parameter: ParameterName
    """The parent, declared earlier in the list."""
    values: Annotated[list[Scalar], Field(min_length=1, max_length=100)]
    """The parent's values for which this hyperparameter exists."""


class Parameter(Section):
    """One hyperparameter, or a constant."""

    name: ParameterName
    """As it is called in results; see `bind` for the field that it sets."""
    type: Literal["Float", "Int", "Categorical", "Constant"]
    """Float and Int are ranges, Categorical a list of choices, Constant one value for all trials."""
    min: float | None = None
    """Float and Int: smallest value, included."""
    max: float | None = None
    """Float and Int: largest value, included."""
    scale: Literal["Linear", "Log"] = "Linear"
    """Float and Int: sampled evenly on this scale. Log suits learning rates and weight decay."""
    step: Annotated[float, Field(gt=0)] | None = None
    """Float and Int: values are min, min + step, and so on. Linear scale only."""
    values: Annotated[list[Scalar], Field(min_length=1, max_length=1000)] | None = None
    """Categorical: the choices."""
    value: Scalar | None = None
    """Constant: its value."""
    bind: Annotated[str, Field(pattern=r"^(model|training|data)\.[A-Za-z0-9_.]+$", max_length=253)] | None = None
    """The field that takes the value, such as `training.optimizer.lr` or `model.config.n_embd`. Without it, a name that
    is a field's own name in `training.optimizer`, `training.schedule` or `training` (such as `lr`) is bound to that
    field; any other name reaches custom entrypoints only, as `trial.hyperparameters[name]`."""
    when: Condition | None = None
    """Exists only under this condition on an earlier parameter; elsewhere the bound field keeps its own value."""

    @property
    def steps(self) -> int:
        """How many values a range with a step has."""
        assert self.min is not None and self.max is not None and self.step is not None
        return math.floor((self.max - self.min) / self.step * (1 + 1e-12)) + 1

    def problems(self) -> Iterator[tuple[FieldPath, str]]:
        """Fields that the type needs and does not have, or has and does not know; ranges that are none."""
        if self.type in ("Float", "Int"):
            yield from self._range_problems()
        else:
            for field in ("min", "max", "step"):
                if getattr(self, field) is not None:
                    yield (field,), f"{field} is for type Float or Int, not for {self.type}; remove it"
            if self.scale != "Linear":
                yield ("scale",), f"scale is for type Float or Int, not for {self.type}; remove it"
        for field, kind in (("values", "Categorical"), ("value", "Constant")):
            if self.type == kind and getattr(self, field) is None:
                yield (), f"type {kind} needs {field}; add it"
            if self.type != kind and getattr(self, field) is not None:
                yield (field,), f"{field} is for type {kind}, not for {self.type}; remove it or set type: {kind}"
        yield from self._choice_problems()

    def _choice_problems(self) -> Iterator[tuple[FieldPath, str]]:
        values_so_far: set[tuple[bool, Scalar]] = set()
        for index, choice in enumerate(self.values or []):
            if isinstance(choice, float) and not math.isfinite(choice):
                yield ("values", index), "must be finite; remove it"
            key = (isinstance(choice, bool), choice)
            if key in values_so_far:
                yield ("values", index), "is the same choice as one before it; remove one"
            values_so_far.add(key)
        if isinstance(self.value, float) and not math.isfinite(self.value):
            yield ("value",), "must be finite; give a number"

    def _range_problems(self) -> Iterator[tuple[FieldPath, str]]:
        missing = [field for field in ("min", "max") if getattr(self, field) is None]
        if missing:
            yield (), f"type {self.type} needs {' and '.join(missing)}; add {'it' if len(missing) == 1 else 'them'}"
        for field in ("min", "max", "step"):
            number = getattr(self, field)
            if number is None:
                continue
            if not math.isfinite(number):
                yield (field,), "must be finite; give a number"
            elif self.type == "Int" and number != int(number):
                yield (field,), f"must be a whole number for type Int, got {shown(number)}; round it or set type: Float"
        if self.min is not None and self.max is not None:
            width = self.max - self.min
            if width <= 0:
                text = f"must be above min ({shown(self.min)}), got {shown(self.max)}; for one value use type: Constant"
                yield ("max",), text
            elif self.step is not None and self.step > width and self.scale == "Linear":
                text = f"must be at most max - min, which is {shown(width)}, got {shown(self.step)}; lower it"
                yield ("step",), text
            elif self.step is not None and width / self.step > MOST_STEPS and self.scale == "Linear":
                text = (
                    f"makes more than {MOST_STEPS:,} values, which is as good as a range without steps; remove it, "
                    f"or raise it to {shown(float(f'{width / MOST_STEPS:.2g}') * 1.1)}"
                )
                yield ("step",), text
        if self.scale == "Log" and self.min is not None and self.min <= 0:
            yield ("min",), f"must be above 0 for scale Log, got {shown(self.min)}; raise it or set scale: Linear"
        if self.scale == "Log" and self.step is not None:
            yield ("step",), "step goes with scale Linear only; remove one of the two"


class HyperparameterValue(Section):
    """One hyperparameter and its value."""

    name: ParameterName
    value: Scalar


Assignment = Annotated[list[HyperparameterValue], Field(max_length=100)]
"""A configuration, in the order in which the study declares its parameters."""


def assignment_list(values: Mapping[str, Scalar]) -> list[HyperparameterValue]:
    """The configuration as the API writes it: a list, because CRDs know no mapping with values of mixed type."""
    return [HyperparameterValue(name=name, value=value) for name, value in values.items()]


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
        return parameter.steps
    whole = int(parameter.max - parameter.min) + 1 if parameter.type == "Int" else None
    if search.sampler == "Grid":
        return search.grid_points if whole is None else min(search.grid_points, whole)
    return whole
