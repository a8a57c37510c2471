"""Computing in half precision."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from frostline_trainer.checkpoints.checkpoint import load_checkpoint
from frostline_trainer.checkpoints.store import Store
from tests.unit.trainer.conftest import evaluate, run_spec, trial


def test_bf16_compute_keeps_weights_in_fp32_and_comes_close(tmp_path: Path) -> None:
    half = evaluate(run_spec("MLP", [trial("MLP", "a", precision="bf16")], 2, 3, tmp_path / "half"))["a"]
    exact = evaluate(run_spec("MLP", [trial("MLP", "a")], 2, 3, tmp_path / "full"))["a"]
    weights = load_checkpoint(Store(str(tmp_path / "half")), str(half.checkpoint)).weights
    assert {t.dtype for t in weights.values()} == {torch.float32}
    assert half.objective != exact.objective and half.objective == pytest.approx(exact.objective, rel=0.05)
