"""The small data sets that come with scikit-learn, read from its files.

Its loaders are not called, since importing scikit-learn takes longer than anything else that a trainer of such a study
does before it trains, and every run of the study would do it; a test holds the arrays against the loaders'.
"""

from __future__ import annotations

from importlib.metadata import distribution
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray


def breast_cancer() -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Features of 569 tumours [569, 30], and whether each is malignant (0) or benign (1)."""
    return _table("breast-cancer", header=1)


def digits() -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """1,797 handwritten digits as images [1797, 8, 8] from 0 to 16, and which digit each is."""
    pixels, labels = _table("digits", header=0)
    return pixels.reshape(-1, 8, 8), labels


def table_path(name: Literal["breast-cancer", "digits"]) -> Path:
    """The file that a built-in table is read from."""
    file = {"breast-cancer": "breast_cancer.csv", "digits": "digits.csv.gz"}[name]
    return Path(str(distribution("scikit-learn").locate_file(f"sklearn/datasets/data/{file}")))


def _table(name: Literal["breast-cancer", "digits"], header: int) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    rows = np.loadtxt(str(table_path(name)), delimiter=",", skiprows=header)
    return rows[:, :-1], rows[:, -1].astype(np.int64)
