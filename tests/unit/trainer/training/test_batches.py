"""Batches and their prefix's output: the cache changes no result."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from frostline_trainer.contract import TrialResult
from tests.unit.trainer.conftest import FAMILIES, evaluate, run_spec, saved, trial

FAMILY = pytest.mark.parametrize("family", list(FAMILIES))
A: dict[str, Any] = {"optimizer": {"lr": 0.003, "weight_decay": 0.1}, "gradientClipping": 1.0}
B: dict[str, Any] = {"optimizer": {"name": "SGD", "lr": 0.05}, "labelSmoothing": 0.1, "dropout": 0.3}


def assert_same(one: tuple[Path, TrialResult], other: tuple[Path, TrialResult]) -> None:
    assert one[1].objective == other[1].objective
    assert one[1].reason == other[1].reason
    assert saved(*one) == saved(*other)


@FAMILY
@pytest.mark.parametrize("where", [{"cacheBytes": 10**9}, {"cacheDiskBytes": 10**9}, {"cacheBytes": 40_000}])
def test_the_cache_never_changes_a_result(family: str, where: dict[str, int], tmp_path: Path) -> None:
    data = {**FAMILIES[family]["data"], "validationLimit": 64}
    if family == "CausalLM":  # a short text, so that epochs repeat within a few steps
        (tmp_path / "text").write_text("the quick brown fox jumps over the lazy dog. " * 30)
        data = {"kind": "Text", "path": str(tmp_path / "text")}
    if family == "Vision":
        generator = np.random.default_rng(0)
        np.savez(tmp_path / "x.npz", x=generator.random((50, 8, 8)), y=np.arange(50) % 3)
        data = {"kind": "Images", "path": str(tmp_path / "x.npz")}
    steps = 90 if family == "MLP" else 20
    pair = [trial(family, "a", **A), trial(family, "b", **B)]
    plain = evaluate(run_spec(family, pair, 2, steps, tmp_path / "plain", data=data))
    cached = evaluate(run_spec(family, pair, 2, steps, tmp_path / "cached", data=data, **where))
    for name in ("a", "b"):
        assert_same((tmp_path / "plain", plain[name]), (tmp_path / "cached", cached[name]))
