"""The search space: which hyperparameters there are, and what they may be."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Annotated, Literal

from pydantic import Field

from frostline_operator.api.problems import shown
from frostline_trainer.contract import FieldPath, Scalar, Section

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
        seen: set[tuple[bool, Scalar]] = set()
        for index, choice in enumerate(self.values or []):
            if isinstance(choice, float) and not math.isfinite(choice):
                yield ("values", index), "must be finite; remove it"
            key = (isinstance(choice, bool), choice)
            if key in seen:
                yield ("values", index), "is the same choice as one before it; remove one"
            seen.add(key)
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
        if self.scale == "Log" and self.min is not None and self.min <= 0:
            yield ("min",), f"must be above 0 for scale Log, got {shown(self.min)}; raise it or set scale: Linear"
        if self.scale == "Log" and self.step is not None:
            yield ("step",), "step goes with scale Linear only; remove one of the two"
