"""The search space: which hyperparameters there are, and what they may be."""

from __future__ import annotations

import math
from typing import Annotated, Literal

from pydantic import Field, model_validator

from frostline_trainer.contract import Scalar, Section

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
    type: Literal["Float", "Int", "Categorical", "Constant"]
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

    @model_validator(mode="after")
    def _fields_match_type(self) -> Parameter:
        numeric = self.type in ("Float", "Int")
        if numeric:
            self._check_range()
        elif self.min is not None or self.max is not None or self.step is not None or self.scale == "Log":
            raise ValueError(f"min, max, step and scale are for type Float or Int, not for {self.type}; remove them")
        if (self.type == "Categorical") != (self.values is not None):
            raise ValueError("give values for type Categorical, and only for it")
        if (self.type == "Constant") != (self.value is not None):
            raise ValueError("give value for type Constant, and only for it")
        if self.values is not None and len({(type(v), v) for v in self.values}) != len(self.values):
            raise ValueError("values holds the same choice twice; remove one")
        return self

    def _check_range(self) -> None:
        if self.min is None or self.max is None:
            raise ValueError(f"type {self.type} needs min and max")
        if not (math.isfinite(self.min) and math.isfinite(self.max)):
            raise ValueError("min and max must be finite")
        if self.min >= self.max:
            raise ValueError(
                f"min ({self.min:g}) must be below max ({self.max:g}); for a single value use type: Constant"
            )
        if self.scale == "Log" and self.min <= 0:
            raise ValueError(f"scale Log needs min above 0, but min is {self.min:g}")
        if self.scale == "Log" and self.step is not None:
            raise ValueError("step goes with scale Linear only; remove one of the two")
        if self.type == "Int" and any(v is not None and v != int(v) for v in (self.min, self.max, self.step)):
            raise ValueError("type Int needs whole numbers for min, max and step")
