"""A .csv as columns of numbers: which column is numeric, which is one of words, and what a missing value is."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from frostline_trainer.errors import StudyFault

Array = np.ndarray[Any, Any]

MISSING = frozenset(("", "na", "n/a", "nan", "null", "none", "?"))
"""How a missing value is written, in any case."""
MOST_CATEGORIES = 256
"""Different words in one column: each becomes an input of the network."""


@dataclass(frozen=True)
class Columns:
    """A table's inputs and its target."""

    inputs: Array
    """`[rows, inputs]`; not a number where a numeric value is missing."""
    target: list[str]
    """As written."""
    names: tuple[str, ...]
    """Of the inputs; a column of words has one for each word, written `column=word`."""


def read_csv(path: Path, target: str) -> Columns:
    """The columns of a .csv with a header line.

    A column is numeric where each value is a number or missing; a missing number stays missing. Any other column is one
    of words, each of which becomes an input that is 1 where the row has it and 0 elsewhere; a missing word gives zeros.

    Raises:
        StudyFault: not a .csv in UTF-8, no such target column, rows of different length, a column of too many words,
            or words among numbers.
    """
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.reader(file)
            header = next(reader, [])
            rows = [row for row in reader if row]
    except (UnicodeDecodeError, csv.Error) as error:
        raise StudyFault(
            f"data.path: {path.name} is no CSV in UTF-8 ({error}); save it as UTF-8, for instance with iconv -f latin1 "
            "-t utf8"
        ) from error
    if not header:
        raise StudyFault(f"data.path: {path.name} is empty; give a .csv with a header line")
    if target not in header:
        raise StudyFault(f"data.targetColumn: {path.name} has no column {target!r}; there are {', '.join(header)}")
    ragged = next((i for i, row in enumerate(rows, start=2) if len(row) != len(header)), None)
    if ragged is not None or len(rows) < 2:
        what = f"line {ragged} has not {len(header)} fields" if ragged else "fewer than two rows"
        raise StudyFault(f"data.path: {path.name}: {what}")
    inputs: list[Array] = []
    names: list[str] = []
    for place, name in enumerate(header):
        if name != target:
            column, words = _column(path, name, [row[place].strip() for row in rows])
            inputs.append(column)
            names += [f"{name}={word}" for word in words] or [name]
    if not inputs:
        raise StudyFault(f"data.path: {path.name} has only the column to predict; there is nothing to predict it from")
    place = header.index(target)
    return Columns(np.concatenate(inputs, axis=1), [row[place].strip() for row in rows], tuple(names))


def number(text: str) -> float | None:
    """The number that a field holds: not a number where it is missing, None where it is a word."""
    if text.casefold() in MISSING:
        return float("nan")
    try:
        return float(text)
    except ValueError:
        return None


def _column(path: Path, name: str, values: Sequence[str]) -> tuple[Array, list[str]]:
    """One column `[rows, inputs]`, and its words where it is one of words."""
    numbers = [number(value) for value in values]
    first_word = next((i for i, parsed in enumerate(numbers) if parsed is None), None)
    if first_word is None:
        return np.array(numbers, dtype=np.float32)[:, None], []
    words = sorted({value for value in values if value.casefold() not in MISSING})
    real = sum(1 for parsed in numbers if parsed is not None and parsed == parsed)
    if real > len(values) / 2:
        raise StudyFault(
            f"data.path: {path.name}: column {name!r} holds numbers, but {values[first_word]!r} in row "
            f"{first_word + 1}; leave the field empty where a value is missing"
        )
    if len(words) > MOST_CATEGORIES:
        raise StudyFault(
            f"data.path: {path.name}: column {name!r} has {len(words)} different words; at most {MOST_CATEGORIES} "
            "become inputs: remove it, or encode it as numbers"
        )
    return np.array([[value == word for word in words] for value in values], dtype=np.float32), words
