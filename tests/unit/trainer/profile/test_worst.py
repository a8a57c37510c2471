"""Memory is foretold for the corner of the search space that needs most, and compared at one z at a time."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from frostline_trainer.contract import DataSpec, ModelSpec, ProfileSpec, TrainingSpec, Variant
from frostline_trainer.profile.command import compare, main
from frostline_trainer.profile.costs import profile
from frostline_trainer.profile.memory import memory_profile
from frostline_trainer.profile.worst import worst_case

MODEL = ModelSpec(family="MLP", hidden=[128, 128])
BASE = TrainingSpec(batch_size=64)


def spec(*variants: Variant) -> ProfileSpec:
    data = DataSpec(kind="Table", builtin="breast-cancer")
    return ProfileSpec(model=MODEL, data=data, training=BASE, variants=list(variants))


def batch(size: int) -> Variant:
    return Variant(training=BASE.model_copy(update={"batch_size": size}), label=f"batchSize = {size}")


def test_the_largest_corner_is_found_and_the_base_stands_where_it_is_the_largest() -> None:
    worst, factor, label = worst_case(spec(batch(32), batch(4096), batch(128)), "cpu")
    assert (worst.training.batch_size, factor, label) == (4096, 1.0, "batchSize = 4096")
    worst, factor, label = worst_case(spec(batch(32)), "cpu")
    assert (worst.training.batch_size, label) == (64, "")


def test_where_another_corner_needs_more_with_one_layer_the_margin_covers_it() -> None:
    wide = Variant(model=MODEL.model_copy(update={"hidden": [4096, 128]}), label="wide below")
    thick = Variant(training=BASE.model_copy(update={"batch_size": 3000}), label="large batch")
    specs = spec(wide, thick)
    worst, factor, _ = worst_case(specs, "cpu")
    found = memory_profile(worst, "cpu")
    for variant in specs.variants:
        need = memory_profile(specs.vary(variant), "cpu").peak_allocated(1)
        assert need <= found.peak_allocated(1) * factor * 1.001


def test_the_profile_says_which_corner_it_is_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("FROSTLINE_CACHE", str(tmp_path))
    assert main(spec(batch(512)).model_dump_json(by_alias=True, exclude_none=True), "json", "cpu") == 0
    found = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert found["memory"]["batch"] == 512
    assert found["notes"] == ["memory is that of batchSize = 512, which needs the most of 1 corners of the space"]


def test_variants_are_compared_at_one_z(capsys: pytest.CaptureFixture[str]) -> None:
    document = spec(batch(64), batch(4096)).model_dump_json(by_alias=True, exclude_none=True)
    assert compare(document, 2, "cpu") == 0
    base, same, large = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert base == same < large


def test_a_tokenizer_that_is_not_here_is_no_reason_not_to_plan() -> None:
    config = {"model_type": "gpt2", "n_layer": 1, "n_embd": 32, "n_head": 2, "vocab_size": 777}
    model = ModelSpec(family="CausalLM", config=config)
    data = DataSpec(kind="Text", path="/data/corpus.txt", tokenizer="/nowhere/tokenizer")
    found = profile(ProfileSpec(model=model, data=data, training=TrainingSpec(batch_size=1, sequence_length=16)))
    assert "777" in found.notes[0] and "/nowhere/tokenizer" in found.notes[0]
    assert found.parameters[0] >= 777 * 32
