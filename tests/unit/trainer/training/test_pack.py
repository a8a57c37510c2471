"""What the trials of a run share, and what they must agree on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from frostline_trainer.checkpoints.store import Store
from frostline_trainer.contract import DataSpec, TrainingSpec
from frostline_trainer.data.open import open_data
from frostline_trainer.errors import StudyFault
from frostline_trainer.training.pack import affordable_evaluations, build_pack, statistics_batches
from tests.unit.trainer.conftest import evaluate, run_spec, trial


@pytest.mark.parametrize(
    ("field", "value"), [("batchSize", 8), ("accumulation", 2), ("sequenceLength", 16), ("precision", "bf16")]
)
def test_trials_that_cannot_share_batches_are_refused(field: str, value: object, tmp_path: Path) -> None:
    pair = [trial("CausalLM", "a"), trial("CausalLM", "b", **{field: value})]
    with pytest.raises(StudyFault, match=r"must agree on .*different runs"):
        evaluate(run_spec("CausalLM", pair, 2, 2, tmp_path))


def test_a_short_run_does_not_spend_more_on_its_learning_curve_than_on_learning() -> None:
    assert affordable_evaluations(trained=8000, validated=1000) == 4
    assert affordable_evaluations(trained=2500, validated=1000) == 2
    assert affordable_evaluations(trained=10, validated=1000) == 1


@pytest.mark.parametrize(("family", "per_sample"), [("MLP", 1), ("CausalLM", 32)])
def test_a_run_that_asks_for_no_number_validates_as_often_as_it_can_afford(
    family: str, per_sample: int, tmp_path: Path
) -> None:
    found = set()
    for steps in (1, 1000):
        spec = run_spec(family, [trial(family, "a")], 1, steps, tmp_path, evaluations=None)
        pack = build_pack(spec, torch.device("cpu"), Store(str(tmp_path)))
        validated = pack.batches.held_out[-1][1] * per_sample
        assert pack.evaluations == affordable_evaluations(steps * pack.step_tokens, validated)
        found.add(pack.evaluations)
        pack.batches.close()
    assert found == {1, 4}


def test_a_bf16_prefix_is_stored_in_bf16_and_comes_close(tmp_path: Path) -> None:
    settings: dict[str, Any] = {"prefixPrecision": "bf16"}
    spec = run_spec("CausalLM", [trial("CausalLM", "a", **settings)], 2, 3, tmp_path / "half")
    pack = build_pack(spec, torch.device("cpu"), Store(spec.checkpoint))
    assert pack.prefix is not None and {p.dtype for p in pack.prefix.parameters()} == {torch.bfloat16}
    assert {p.dtype for p in pack.members[0].suffix.trainable().values()} == {torch.float32}
    half = evaluate(spec)["a"].objective
    exact = evaluate(run_spec("CausalLM", [trial("CausalLM", "a")], 2, 3, tmp_path / "full"))["a"].objective
    assert half != exact and half == pytest.approx(exact, rel=1e-2)


@pytest.mark.parametrize("size", [1, 2, 7, 64, 300])
def test_statistics_of_batch_norms_take_one_batch_of_the_studys_size_at_a_time(size: int, tmp_path: Path) -> None:
    source = open_data(DataSpec(kind="Images", builtin="digits"), TrainingSpec(), 0)
    batches = statistics_batches(source, size, 0, torch.device("cpu"))
    sizes = [len(batch) for batch in batches]
    assert set(sizes) == {max(2, size)}
    assert len(sizes) >= 2 and sum(sizes) > 512 - max(2, size)
    assert not isinstance(batches, list | tuple)
