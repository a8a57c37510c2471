"""Losses and metrics against their definitions."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn import metrics as reference
from torch import nn

from frostline_trainer.errors import StudyFault
from frostline_trainer.training.objective import Classification, Regression
from tests.unit.trainer.conftest import evaluate, run_spec, trial


def test_metrics_of_classes_agree_with_their_definitions() -> None:
    logits = torch.tensor([[2.0, 0.0], [0.0, 1.0], [3.0, 0.0]])
    targets = torch.tensor([0, 1, 1])
    tally = Classification().tally(torch.device("cpu"))
    for i in range(3):
        tally.add(logits[i : i + 1], targets[i : i + 1])
    metrics = tally.metrics()
    loss = float(nn.functional.cross_entropy(logits, targets))
    assert metrics["loss"] == pytest.approx(loss) and metrics["perplexity"] == pytest.approx(math.exp(loss))
    assert metrics["accuracy"] == pytest.approx(2 / 3) and metrics["error"] == pytest.approx(1 / 3)
    assert set(metrics) == set(Classification.metrics)


def test_metrics_of_numbers_are_those_of_scikit_learn_in_the_targets_own_unit() -> None:
    draw = np.random.default_rng(0)
    wanted = draw.normal(40.0, 5.0, 100)
    answers = wanted + draw.normal(1.0, 2.0, 100)
    objective = Regression(mean=38.0, scale=4.0)
    tally = objective.tally(torch.device("cpu"))
    scaled = [torch.from_numpy((values - 38.0) / 4.0) for values in (answers, wanted)]
    for part in (slice(0, 30), slice(30, 100)):
        tally.add(scaled[0][part, None], scaled[1][part])
    metrics = tally.metrics()
    assert metrics["mse"] == pytest.approx(reference.mean_squared_error(wanted, answers))
    assert metrics["rmse"] == pytest.approx(reference.root_mean_squared_error(wanted, answers))
    assert metrics["mae"] == pytest.approx(reference.mean_absolute_error(wanted, answers))
    assert metrics["r2"] == pytest.approx(reference.r2_score(wanted, answers))
    assert metrics["loss"] == pytest.approx(float(objective.loss(scaled[0][:, None], scaled[1], 0.0)))
    assert set(metrics) == set(Regression.metrics)


def test_a_network_learns_to_predict_a_number(tmp_path: Path) -> None:
    draw = np.random.default_rng(1)
    x = draw.normal(size=(600, 4)).astype(np.float32)
    y = 1000.0 + 50.0 * np.sin(x[:, 0]) - 30.0 * x[:, 1]
    np.savez(tmp_path / "table.npz", x=x, y=y)
    data = {"kind": "Table", "path": str(tmp_path / "table.npz"), "task": "Regression"}
    settings = {"optimizer": {"lr": 0.01}, "schedule": {"name": "Constant"}}
    spec = run_spec("MLP", [trial("MLP", "a", **settings)], 2, 400, tmp_path / "out", data=data, metric="r2")
    result = evaluate(spec)["a"]
    assert result.objective is not None and 0.8 < result.objective <= 1.0


def test_a_metric_of_classes_is_refused_for_numbers(tmp_path: Path) -> None:
    np.savez(tmp_path / "table.npz", x=np.ones((90, 2)), y=np.arange(90.0))
    data = {"kind": "Table", "path": str(tmp_path / "table.npz"), "task": "Regression"}
    spec = run_spec("MLP", [trial("MLP", "a")], 2, 1, tmp_path, data=data, metric="accuracy")
    with pytest.raises(StudyFault, match=r"accuracy' is not measured .* use one of loss, mse, rmse, mae, r2"):
        evaluate(spec)
