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


def labels(values: np.ndarray[Any, Any]) -> tuple[Tensor, int]:
    """Class indices 0 to classes - 1 in sorted order of the labels, and the number of classes."""
    kinds, indices = np.unique(values, return_inverse=True)
    if len(kinds) < 2:
        raise StudyFault(f"data: every row has the same label {kinds[0]!r}; a classifier needs two classes or more")
    return torch.from_numpy(indices.astype(np.int64)), len(kinds)
