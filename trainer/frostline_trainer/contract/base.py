"""What every part of the contract is built on: strict, immutable sections and errors that name a field."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Self

from pydantic import BaseModel, ConfigDict, model_validator
from pydantic.alias_generators import to_camel

Scalar = bool | int | float | str
"""What a hyperparameter's value may be."""
FieldPath = tuple[str | int, ...]
"""Where something is below a section: field names as written in YAML, and list indices."""


class SectionError(ValueError):
    """What is wrong between the fields of one section: everything at once, each with the field to change."""

    def __init__(self, problems: Iterable[tuple[FieldPath, str]]) -> None:
        self.problems = tuple(problems)
        super().__init__("; ".join(f"{'.'.join(map(str, path))}: {text}" for path, text in self.problems))


class Section(BaseModel):
    """Base of everything a person may write: strict types, unknown keys are errors, immutable once read."""

    model_config = ConfigDict(
        alias_generator=to_camel,
        populate_by_name=True,
        extra="forbid",
        frozen=True,
        strict=True,
        use_attribute_docstrings=True,
    )

    def problems(self) -> Iterator[tuple[FieldPath, str]]:
        """What is wrong between fields that are right by themselves: where, and what to do about it.

        Overridden by sections that have such rules; checked whenever a section is made.
        """
        yield from ()

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        problems = tuple(self.problems())
        if problems:
            raise SectionError(problems)
        return self
