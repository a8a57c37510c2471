"""Arrays from .npz files, and class labels as indices."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from frostline_trainer.errors import StudyFault

Arrays = tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]


def load_npz(path: Path) -> tuple[Arrays, Arrays | None]:
    """`x` and `y` of the training part, and `x_valid` and `y_valid` where the file has them. Nothing is unpickled.

    Raises:
        StudyFault: not an .npz, or without x and y of one length.
    """
    try:
        with np.load(path, allow_pickle=False) as file:
            held = {name: file[name] for name in file.files}
    except (ValueError, OSError) as error:
        raise StudyFault(f"data.path: {path} is no .npz of plain arrays: {error}") from error
    pairs: list[Arrays] = []
    for suffix in ("", "_valid"):
        x, y = held.get(f"x{suffix}"), held.get(f"y{suffix}")
        if x is None or y is None:
            if suffix:
                return pairs[0], None
            raise StudyFault(f"data.path: {path.name} needs arrays x and y, it has {', '.join(held) or 'none'}")
        if len(x) != len(y) or y.ndim != 1 or len(y) < (1 if suffix else 2):
            raise StudyFault(
                f"data.path: {path.name}: x{suffix} {list(x.shape)} and y{suffix} {list(y.shape)} do not match; "
                "y needs one label per row of x"
            )
        pairs.append((x, y))
    return pairs[0], pairs[1]


MOST_CLASSES = 1000
"""Beyond it, labels of which most are met once are taken for numbers or names."""


def labels(values: np.ndarray[Any, Any]) -> tuple[Tensor, list[str]]:
    """Class indices 0 to classes - 1 in sorted order of the labels, and what the classes are called."""
    kinds, indices = np.unique(values, return_inverse=True)
    if values.dtype.kind in "US" and "" in kinds:
        raise StudyFault("data.targetColumn: a row has no label; fill it in, or remove the row")
    if len(kinds) > MOST_CLASSES and 2 * len(kinds) > len(values):
        raise StudyFault(
            f"data.task: {len(kinds):,} different labels in {len(values):,} rows are no classes; give another "
            "targetColumn, or set data.task: Regression to predict a number"
        )
    if len(kinds) < 2:
        raise StudyFault(f"data: every row has the same label {kinds[0]!r}; a classifier needs two classes or more")
    return torch.from_numpy(indices.astype(np.int64)), [str(kind) for kind in kinds]
