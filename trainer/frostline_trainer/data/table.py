"""Tables: a .csv, an .npz with `x` and `y`, or one that scikit-learn brings. Standardised with training statistics."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from frostline_trainer.contract import DataSpec
from frostline_trainer.data.arrays import labels, load_npz
from frostline_trainer.data.builtin import breast_cancer
from frostline_trainer.data.shape import DataShape
from frostline_trainer.data.source import ArraySource, held_out
from frostline_trainer.errors import StudyFault


def open_table(data: DataSpec, seed: int) -> ArraySource:
    """The table that `data` names, its columns scaled to mean 0 and variance 1 over the training rows.

    Raises:
        StudyFault: no such file, a missing column, or values that are no numbers.
    """
    valid_part = None
    if data.builtin == "breast-cancer":
        x, y = breast_cancer()
    else:
        assert data.path is not None
        path = Path(data.path)
        if not path.is_file():
            raise StudyFault(f"data.path: there is no file {path}; give a .csv or an .npz with x and y")
        if path.suffix == ".npz":
            (x, y), valid_part = load_npz(path)
        else:
            x, y = _read_csv(path, data.target_column)
    if x.ndim != 2:
        raise StudyFault(f"data.path: a table needs x of shape [rows, columns], not {list(x.shape)}")
    rows = torch.from_numpy(np.ascontiguousarray(x, dtype=np.float32))
    if valid_part is None:
        target, classes = labels(y)
        train, valid = held_out(len(rows), data.validation_fraction, seed)
        pairs = (rows[train], target[train]), (rows[valid], target[valid])
    else:
        target, classes = labels(np.concatenate([y, valid_part[1]]))
        held = torch.from_numpy(np.ascontiguousarray(valid_part[0], dtype=np.float32))
        pairs = (rows, target[: len(rows)]), (held, target[len(rows) :])
    mean, scale = _statistics(pairs[0][0])

    def standardise(part: Tensor) -> Tensor:
        return torch.nan_to_num((part - mean) / scale)  # a missing value becomes the mean

    return ArraySource(
        DataShape("Table", (rows.shape[1],), classes),
        (standardise(pairs[0][0]), pairs[0][1]),
        (standardise(pairs[1][0]), pairs[1][1]),
    )


def _statistics(rows: Tensor) -> tuple[Tensor, Tensor]:
    present = ~rows.isnan()
    count = present.sum(0).clamp(min=1)
    filled = rows.nan_to_num()
    mean = filled.sum(0) / count
    variance = ((filled - mean).square() * present).sum(0) / count
    scale = variance.sqrt()
    return mean, torch.where(scale > 0, scale, 1.0)


def _read_csv(path: Path, target: str) -> tuple[np.ndarray, np.ndarray]:
    """Numeric columns as they are (empty is missing), columns of words one-hot by their sorted values."""
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
    columns: list[np.ndarray] = []
    for place, name in enumerate(header):
        if name == target:
            continue
        values = [row[place].strip() for row in rows]
        try:
            columns.append(np.array([float(v) if v else np.nan for v in values], dtype=np.float32)[:, None])
        except ValueError:
            kinds = sorted(set(values))
            columns.append(np.array([[v == kind for kind in kinds] for v in values], dtype=np.float32))
    place = header.index(target)
    return np.concatenate(columns, axis=1), np.array([row[place].strip() for row in rows])
