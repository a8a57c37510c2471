"""The learning rate follows from the tokens seen, not from where a rung ends."""

from __future__ import annotations

from pathlib import Path

import pytest

from frostline_trainer.contract import ScheduleSpec
from frostline_trainer.training.schedule import learning_rate_share
from tests.unit.trainer.conftest import evaluate, run_spec, saved, trial


def test_the_learning_rate_rises_falls_and_ends_where_it_should() -> None:
    cosine = ScheduleSpec(name="Cosine", warmup=0.1, final=0.2)
    assert learning_rate_share(cosine, 50, 1000) == pytest.approx(0.5)
    assert learning_rate_share(cosine, 100, 1000) == pytest.approx(1.0)
    assert learning_rate_share(cosine, 550, 1000) == pytest.approx(0.6)
    assert learning_rate_share(cosine, 1000, 1000) == pytest.approx(0.2)
    assert learning_rate_share(cosine, 5000, 1000) == pytest.approx(0.2)
    linear = ScheduleSpec(name="Linear", final=0.0)
    assert learning_rate_share(linear, 250, 1000) == pytest.approx(0.75)
    assert learning_rate_share(ScheduleSpec(name="Constant"), 999, 1000) == 1.0


def test_the_schedule_does_not_depend_on_where_a_rung_ends(tmp_path: Path) -> None:
    """Two rungs of 3 steps at one z are one rung of 6 steps, bit for bit."""
    one = evaluate(run_spec("MLP", [trial("MLP", "a")], 2, 6, tmp_path / "one"))["a"]
    first = evaluate(run_spec("MLP", [trial("MLP", "a")], 2, 3, tmp_path / "two"))["a"]
    second = evaluate(run_spec("MLP", [trial("MLP", "a", first, 2)], 2, 6, tmp_path / "two", rung=1))["a"]
    assert saved(tmp_path / "one", one) == saved(tmp_path / "two", second)
