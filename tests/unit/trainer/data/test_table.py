"""Tables: which column is numeric, what becomes of missing values and words, and numbers as targets."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from frostline_trainer.contract import DataSpec
from frostline_trainer.data.columns import MOST_CATEGORIES, read_csv
from frostline_trainer.data.source import ArraySource
from frostline_trainer.data.table import open_table
from frostline_trainer.errors import StudyFault


def written(folder: Path, *lines: str) -> Path:
    file = folder / "table.csv"
    file.write_text("\n".join(lines) + "\n")
    return file


def opened(file: Path, **fields: Any) -> ArraySource:
    return open_table(DataSpec(kind="Table", path=str(file), **fields), 0)


def rows(count: int, line: str) -> list[str]:
    """Lines with the row's number put in."""
    return [line.format(i=i, parity=i % 2) for i in range(count)]


def test_missing_numbers_stay_missing_and_words_become_an_input_each(tmp_path: Path) -> None:
    columns = read_csv(written(tmp_path, "size,colour,target", "1.5,red,a", "NA,,b", "?,blue,a"), "target")
    assert columns.names == ("size", "colour=blue", "colour=red")
    expected = [[1.5, 0, 1], [np.nan, 0, 0], [np.nan, 1, 0]]
    assert np.array_equal(columns.inputs, np.array(expected), equal_nan=True)
    assert columns.target == ["a", "b", "a"]


def test_a_missing_number_becomes_its_columns_mean(tmp_path: Path) -> None:
    lines = [f"{'' if i == 7 else i},{i % 2}" for i in range(40)]
    source = opened(written(tmp_path, "x,target", *lines))
    everything = torch.arange(source.train_samples)
    values = source.training(everything, 0)[0]
    assert values.isfinite().all() and float(values.mean()) == pytest.approx(0.0, abs=1e-6)


def test_a_number_is_standardised_with_the_training_rows_alone(tmp_path: Path) -> None:
    source = opened(written(tmp_path, "x,target", *rows(50, "{i},1{i}.5")), task="Regression")
    target = source.shape.target
    assert target is not None and source.shape.classes == 1
    wanted = source.training(torch.arange(source.train_samples), 0)[1]
    assert wanted.dtype == torch.float32 and wanted.ndim == 1
    assert float(wanted.mean()) == pytest.approx(0, abs=1e-6) and float(wanted.std(correction=0)) == pytest.approx(1)
    held = source.validation(0, source.valid_samples)[1] * target.scale + target.mean
    assert all(float(value) % 1 == pytest.approx(0.5, abs=1e-3) for value in held)


@pytest.mark.parametrize(
    ("lines", "fields", "message"),
    [
        (["x,target", "1,a", "oops,b", "3,a"], {}, r"column 'x' holds numbers, but 'oops' in row 2; leave the field"),
        (["x,target", *rows(MOST_CATEGORIES + 1, "w{i},{parity}")], {}, r"'x' has 257 different words; at most 256"),
        (["target", "1", "2"], {}, r"only the column to predict"),
        (["x,target", *rows(200, "{i},{i}.25")], {}, r"200 different numbers.*set data.task: Regression"),
        (["x,target", *rows(20, "{i},{i}"), "3,many"], {"task": "Regression"}, r"row 21 has 'many'; remove such rows"),
        (["x,target", *rows(20, "{i},{i}"), "3,"], {"task": "Regression"}, r"row 21 has ''"),
        (["x,target", *rows(20, "{i},4")], {"task": "Regression"}, r"training row has the same number to predict, 4"),
    ],
)  # fmt: skip
def test_what_cannot_be_learnt_from_is_refused_by_name(
    lines: list[str], fields: dict[str, Any], message: str, tmp_path: Path
) -> None:
    with pytest.raises(StudyFault, match=message):
        opened(written(tmp_path, *lines), **fields)
