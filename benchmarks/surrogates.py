"""Learning curves of real networks that nobody here trained: YAHPO Gym's surrogate of LCBench, 34 data sets.

Pfisterer, Schneider, Moosbauer, Binder and Bischl (AutoML 2022), fitted to Zimmer, Lindauer and Hutter's LCBench (TPAMI
2021): multi-layer perceptrons with seven hyperparameters, 52 epochs. The surrogate is data beside the project (its ONNX
file comes from the repository slds-lmu/yahpo_data, Apache-2.0) and needs onnxruntime, so both are optional.

A task offers what `lookup.Family` offers, so that the same searches and sessions run on it: a configuration has the
number under which `nearest` first met it.
"""

from __future__ import annotations

import functools
import importlib.util
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from benchmarks.lookup import Scalar
from frostline_trainer.contract import ModelProfile

EPOCHS = 52
_COLUMNS = (
    "epoch", "batch_size", "learning_rate", "momentum", "weight_decay", "num_layers", "max_units", "max_dropout",
)  # fmt: skip
"""In the order in which the surrogate takes them."""
_CROSS_ENTROPY = 2
"""Column of its answer: validation cross-entropy. The others are time, accuracies, and the test set's values."""
_REFERENCE = 20_000
"""Random configurations: the best of them stands for the best there is."""


def missing(folder: Path) -> str | None:
    """Why there can be no measurement on the surrogates; None where there can."""
    for name in ("model.onnx", "encoding.json", "config_space.json"):
        if not (folder / name).is_file():
            return f"no {name} in {folder}"
    return None if importlib.util.find_spec("onnxruntime") else "onnxruntime is not installed"


class Surrogate:
    """The network that answers for all tasks.

    Args:
        folder: with model.onnx, encoding.json and config_space.json.
    """

    def __init__(self, folder: Path) -> None:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        self._model = onnxruntime.InferenceSession(str(folder / "model.onnx"), options)
        self._codes: dict[str, int] = json.loads((folder / "encoding.json").read_text())["OpenML_task_id"]
        space = json.loads((folder / "config_space.json").read_text())["hyperparameters"]
        self.tasks: list[str] = next(h["choices"] for h in space if h["name"] == "OpenML_task_id")
        self.parameters = [_parameter(h) for h in space if h["name"] in _COLUMNS[1:]]

    def losses(self, task: str, rows: NDArray[np.float32]) -> NDArray[np.float64]:
        """Validation cross-entropy of rows with the columns `_COLUMNS`, shape (n,)."""
        codes = np.full((len(rows), 1), self._codes[task], dtype=np.int32)
        answer = self._model.run(None, {"x_cat": codes, "x_cont": rows})[0]
        return np.asarray(answer[:, _CROSS_ENTROPY], dtype=np.float64)


class Task:
    """One data set: what `lookup.Family` offers, and the two values that searches are held against."""

    unit = "samples"
    layers = 2
    """All of them are trained at every rung: the surrogate knows of no others."""
    tokens = EPOCHS
    """Of full fidelity: a sample stands for an epoch."""
    sections: ClassVar[dict[str, Any]] = {
        "model": {"family": "Custom", "entrypoint": "lcbench:train"},
        "data": {"kind": "None"},
        "training": {"optimizer": {"name": "SGD"}},
    }
    """Sections of a study, as in a manifest."""

    def __init__(self, surrogate: Surrogate, name: str) -> None:
        self._surrogate, self.name = surrogate, name
        self.parameters: list[dict[str, Any]] = surrogate.parameters
        self.configurations: list[Mapping[str, Any]] = []
        self._numbers: dict[str, int] = {}
        self.document = {"profile": _PROFILE.model_dump(by_alias=True)}

    def nearest(self, assignment: Mapping[str, Any]) -> int:
        """The number of a configuration."""
        key = json.dumps(assignment, sort_keys=True)
        if key not in self._numbers:
            self._numbers[key] = len(self.configurations)
            self.configurations.append(dict(assignment))
        return self._numbers[key]

    def value(self, configuration: int, z: int, tokens: float) -> float:
        """A configuration's loss after so many epochs."""
        return self._at(configuration, tokens)

    @functools.cache  # noqa: B019 - a task lives as long as the command
    def _at(self, configuration: int, tokens: float) -> float:
        return float(self._surrogate.losses(self.name, _rows([self.configurations[configuration]], tokens))[0])

    @property
    def full(self) -> _Full:
        """By number, the loss after full training."""
        return _Full(self)

    def seconds(self, z: int, tokens: float, trials: int = 1) -> float:
        """Cost in full trainings: the share of the epochs, for each trial."""
        return trials * tokens / EPOCHS

    flops = seconds

    def measured(self, z: int, fraction: int) -> list[float]:
        """Losses of 64 random configurations after so many eighths of the epochs."""
        return list(self._random(64, seed=1, tokens=EPOCHS * fraction / 8))

    @functools.cached_property
    def best(self) -> float:
        """The median, over many such draws, of the least loss of 64 random configurations, fully trained."""
        return float(np.quantile(self._reference, 1 - 0.5 ** (1 / 64)))

    @functools.cached_property
    def least(self) -> float:
        """The least loss of very many."""
        return float(self._reference.min())

    @functools.cached_property
    def _reference(self) -> NDArray[np.float64]:
        return self._random(_REFERENCE, seed=7)

    def _random(self, count: int, seed: int, tokens: float = EPOCHS) -> NDArray[np.float64]:
        units = np.random.default_rng(seed).random((count, len(self.parameters)))
        drawn = [
            {p["name"]: _at_unit(p, u) for p, u in zip(self.parameters, row, strict=True)} for row in units.tolist()
        ]
        return self._surrogate.losses(self.name, _rows(drawn, tokens))


class _Full:
    def __init__(self, task: Task) -> None:
        self._task = task

    def __getitem__(self, configuration: int) -> float:
        return self._task.value(configuration, Task.layers, EPOCHS)


_PROFILE = ModelProfile(
    hash="lcbench",
    layers=Task.layers,
    unit="samples",
    parameters=[1, 1],
    prefix_flops=[1.0, 0.0],
    suffix_flops=[1.0, 2.0],
    step_tokens=1,
)


def _parameter(hyperparameter: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "name": hyperparameter["name"],
        "type": "Int" if hyperparameter["type"] == "uniform_int" else "Float",
        "min": hyperparameter["lower"],
        "max": hyperparameter["upper"],
        "scale": "Log" if hyperparameter["log"] else "Linear",
    }


def _at_unit(parameter: Mapping[str, Any], u: float) -> Scalar:
    low, high = parameter["min"], parameter["max"]
    value = low * (high / low) ** u if parameter["scale"] == "Log" else low + u * (high - low)
    return round(value) if parameter["type"] == "Int" else float(value)


def _rows(configurations: Sequence[Mapping[str, Any]] | Iterable[Mapping[str, Any]], tokens: float) -> NDArray[Any]:
    rows = [[tokens, *(c[name] for name in _COLUMNS[1:])] for c in configurations]
    return np.array(rows, dtype=np.float32)
