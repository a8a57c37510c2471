"""Small studies of each family, and a way to train a run in this process."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from frostline_trainer.checkpoints.interval import Interval
from frostline_trainer.checkpoints.store import Store
from frostline_trainer.contract import RunSpec, TrialResult
from frostline_trainer.reporting.metrics import RunMetrics
from frostline_trainer.training.loop import train
from frostline_trainer.training.pack import build_pack

FAMILIES: dict[str, dict[str, Any]] = {
    "CausalLM": {
        "model": {
            "family": "CausalLM",
            "config": {"model_type": "gpt2", "n_layer": 3, "n_embd": 32, "n_head": 2, "n_positions": 32},
        },
        "data": {"kind": "Text", "builtin": "python-docs", "validationLimit": 640},
        "training": {"batchSize": 4, "sequenceLength": 32},
        "step": 128,
        "layers": 5,
    },
    "Vision": {
        "model": {"family": "Vision", "name": "shufflenet_v2_x0_5"},
        "data": {"kind": "Images", "builtin": "digits", "validationLimit": 64},
        "training": {"batchSize": 8},
        "step": 8,
        "layers": 19,
    },
    "MLP": {
        "model": {"family": "MLP", "hidden": [24, 24, 24], "activation": "gelu"},
        "data": {"kind": "Table", "builtin": "breast-cancer"},
        "training": {"batchSize": 16, "dropout": 0.2},
        "step": 16,
        "layers": 4,
    },
}


@pytest.fixture(autouse=True, scope="session")
def one_thread() -> None:
    torch.set_num_threads(1)


def trial(
    family: str, name: str, parent: TrialResult | None = None, layers: int = 0, **training: Any
) -> dict[str, Any]:
    """A trial's part of a run document; `layers` is the z of the parent's checkpoint."""
    document: dict[str, Any] = {"name": name, "training": {**FAMILIES[family]["training"], **training}}
    if parent is not None:
        document["parent"] = {"path": parent.checkpoint, "layers": layers, "tokens": parent.tokens}
    return document


def run_spec(family: str, trials: list[dict[str, Any]], z: int, steps: int, folder: Path, **more: Any) -> RunSpec:
    """A run of so many optimizer steps."""
    made = FAMILIES[family]
    document = {
        "study": "study",
        "studyUid": "uid",
        "run": "run",
        "rung": more.pop("rung", 0),
        "layers": z,
        "tokens": made["step"] * steps,
        "horizon": made["step"] * 12,
        "trials": trials,
        "model": made["model"],
        "data": more.pop("data", made["data"]),
        "evaluations": 2,
        "checkpoint": str(folder),
        "seed": 7,
        **more,
    }
    return RunSpec.model_validate_json(json.dumps(document))


def evaluate(spec: RunSpec, stopped: Callable[[], bool] = lambda: False) -> dict[str, TrialResult]:
    """Train a run here and give its results by trial."""
    store = Store(spec.checkpoint)
    pack = build_pack(spec, torch.device("cpu"), store)
    try:
        return {result.name: result for result in train(pack, store, RunMetrics(spec, spec.layers), stopped)}
    finally:
        pack.batches.close()


class Killed(BaseException):
    """What a process that is killed does not get to see."""


@pytest.fixture
def saving_each_step(monkeypatch: pytest.MonkeyPatch) -> dict[str, float]:
    """What makes a run write checkpoints after each step, whatever share of its time that takes."""
    monkeypatch.setattr(Interval, "due", property(lambda interval: interval.seconds < math.inf))
    return {"checkpointSeconds": 1e-9}


def saved(folder: Path, result: TrialResult) -> dict[str, bytes]:
    """A checkpoint's tensor files by kind."""
    assert result.checkpoint is not None
    return {p.name.split("-")[0]: p.read_bytes() for p in (folder / result.checkpoint).glob("*.safetensors")}
