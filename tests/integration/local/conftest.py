"""Studies that run on this machine, in real processes."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from frostline_operator.api.yaml import to_yaml

Study = dict[str, Any]


@pytest.fixture
def study() -> Study:
    """A small study on real tabular data: three rungs, a few seconds each."""
    return {
        "apiVersion": "hpo.frostline.dev/v1alpha1",
        "kind": "HPOStudy",
        "metadata": {"name": "small"},
        "spec": {
            "parameters": [
                {"name": "lr", "type": "Float", "min": 1e-4, "max": 1.0, "scale": "Log"},
                {"name": "labelSmoothing", "type": "Float", "min": 0.0, "max": 0.2},
            ],
            "search": {"algorithm": "SuccessiveHalving", "trials": 8, "seed": 3},
            "fidelity": {"samples": {"max": 8192, "min": 2048}},
            "model": {"family": "MLP", "hidden": [64, 64, 64]},
            "data": {"kind": "Table", "builtin": "breast-cancer"},
            "training": {"batchSize": 32},
        },
    }


@pytest.fixture
def write(tmp_path: Path) -> Callable[[Study], Path]:
    """Writes a study's manifest."""

    def written(document: Study) -> Path:
        path = tmp_path / "study.yaml"
        path.write_text(to_yaml(document), encoding="utf-8")
        return path

    return written


def command(*arguments: object) -> list[str]:
    """The command line of this checkout."""
    return [sys.executable, "-c", "from frostline_operator.cli import main; main()", *map(str, arguments)]


def environment() -> dict[str, str]:
    """One thread per trainer: small networks gain nothing from more, and results depend on the number."""
    return {**os.environ, "OMP_NUM_THREADS": "1", "COLUMNS": "200", "NO_COLOR": "1"}


def frostline(*arguments: object, timeout: float = 300) -> subprocess.CompletedProcess[str]:
    """Run the command line to its end."""
    return subprocess.run(
        command(*arguments), capture_output=True, text=True, timeout=timeout, env=environment(), check=False
    )
