"""Tables: a .csv, an .npz with `x` and `y`, or one that scikit-learn brings. Standardised with training statistics."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from frostline_trainer.contract import DataSpec
from frostline_trainer.data.arrays import labels, load_npz
from frostline_trainer.data.builtin import breast_cancer
from frostline_trainer.data.columns import number, read_csv
from frostline_trainer.data.shape import DataShape, Target
from frostline_trainer.data.source import ArraySource, held_out
from frostline_trainer.errors import StudyFault

Array = np.ndarray[Any, Any]

MOST_NUMERIC_CLASSES = 100
"""Different numbers with a fraction in a target that is to be classes: beyond, a number is to be predicted."""


def open_table(data: DataSpec, seed: int) -> ArraySource:
    """The table that `data` names, its columns scaled to mean 0 and variance 1 over the training rows.

    A missing number becomes its column's mean.

    Raises:
        StudyFault: no such file, a missing column, or values that are no numbers.
    """
    x, y, valid_part, columns = _read(data)
    if x.ndim != 2:
        raise StudyFault(f"data.path: a table needs x of shape [rows, columns], not {list(x.shape)}")
    rows = torch.from_numpy(np.ascontiguousarray(x, dtype=np.float32))
    targets = y if valid_part is None else np.concatenate([y, valid_part[1]])
    wanted, names = (_numbers(targets), ()) if data.task == "Regression" else _classes(targets)
    if valid_part is None:
        train, valid = held_out(len(rows), data.validation_fraction, seed)
        training, validation = (rows[train], wanted[train]), (rows[valid], wanted[valid])
    else:
        held = torch.from_numpy(np.ascontiguousarray(valid_part[0], dtype=np.float32))
        training, validation = (rows, wanted[: len(rows)]), (held, wanted[len(rows) :])
    mean, scale = _statistics(training[0])

    def standardise(part: Tensor) -> Tensor:
        return torch.nan_to_num((part - mean) / scale)

    reading: dict[str, Any] = {"columns": columns, "mean": mean.tolist(), "scale": scale.tolist()}
    target = None
    if data.task == "Regression":
        target = _target(training[1], validation[1])
        reading["target"] = {"mean": target.mean, "scale": target.scale}
        training, validation = (
            (inputs, ((numbers - target.mean) / target.scale).float()) for inputs, numbers in (training, validation)
        )
    else:
        reading["classes"] = names
    return ArraySource(
        DataShape("Table", (rows.shape[1],), len(names) or 1, target),
        (standardise(training[0]), training[1]),
        (standardise(validation[0]), validation[1]),
        reading=reading,
    )


def _read(data: DataSpec) -> tuple[Array, Array, tuple[Array, Array] | None, Sequence[str]]:
    """Inputs, targets, both of the held-out part where the file has one, and the inputs' names where it has them."""
    if data.builtin == "breast-cancer":
        return *breast_cancer(), None, ()
    assert data.path is not None
    path = Path(data.path)
    if not path.is_file():
        raise StudyFault(f"data.path: there is no file {path}; give a .csv or an .npz with x and y")
    if path.suffix == ".npz":
        (x, y), valid_part = load_npz(path)
        return x, y, valid_part, ()
    columns = read_csv(path, data.target_column)
    return columns.inputs, np.array(columns.target), None, columns.names


def _classes(targets: Array) -> tuple[Tensor, Sequence[str]]:
    """Class indices, and what the classes are called.

    Raises:
        StudyFault: one class only, or so many fractional numbers that they are no classes.
    """
    kinds = np.unique(targets)
    if len(kinds) > MOST_NUMERIC_CLASSES and any((n := number(str(k))) is not None and n % 1 for k in kinds):
        raise StudyFault(
            f"data.task: the column to predict has {len(kinds)} different numbers, such as {kinds[0]}; set data.task: "
            "Regression to predict a number"
        )
    return labels(targets)


def _numbers(targets: Array) -> Tensor:
    """The targets as numbers.

    Raises:
        StudyFault: one of them is missing or no number; its row is named.
    """
    parsed = [number(str(value)) for value in targets]
    wrong = next((i for i, value in enumerate(parsed) if value is None or not np.isfinite(value)), None)
    if wrong is not None:
        raise StudyFault(
            f"data.task: Regression predicts a number, and row {wrong + 1} has {str(targets[wrong])!r}; remove such "
            "rows, or set data.task: Classification"
        )
    return torch.tensor(parsed, dtype=torch.float64)


def _target(training: Tensor, validation: Tensor) -> Target:
    """What the targets are standardised with.

    Raises:
        StudyFault: all targets of a part are equal, so that nothing can be learnt or measured.
    """
    for part, name in ((training, "training"), (validation, "held-out")):
        if bool((part == part[0]).all()):
            raise StudyFault(
                f"data: every {name} row has the same number to predict, {float(part[0]):g}; Regression needs "
                "different ones in both parts (more rows, or a larger data.validationFraction)"
            )
    return Target(float(training.mean()), float(training.std(correction=0)))


def _statistics(rows: Tensor) -> tuple[Tensor, Tensor]:
    present = ~rows.isnan()
    count = present.sum(0).clamp(min=1)
    filled = rows.nan_to_num()
    mean = filled.sum(0) / count
    variance = ((filled - mean).square() * present).sum(0) / count
    scale = variance.sqrt()
    return mean, torch.where(scale > 0, scale, 1.0)
