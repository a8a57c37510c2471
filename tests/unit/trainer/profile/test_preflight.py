"""What a study is refused for before a device is taken: its data, and the network of every choice."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from frostline_trainer.contract import DataSpec, ModelSpec, ProfileSpec, TrainingSpec, Variant
from frostline_trainer.profile.preflight import Problem, Where, preflight

TEXT = "hello world " * 200
GPT2 = {"model_type": "gpt2", "n_layer": 2, "n_embd": 32, "n_head": 4}


def spec(data: dict[str, Any], model: dict[str, Any] | None = None, variants: list[Variant] | None = None) -> Any:
    model = model or {"family": "CausalLM", "config": GPT2}
    training = TrainingSpec(batch_size=2, sequence_length=16)
    return ProfileSpec(
        model=ModelSpec.model_validate(model),
        data=DataSpec.model_validate(data),
        training=training,
        variants=variants or [],
    )


def said(problems: list[Problem]) -> str:
    return " | ".join(f"{p.field}: {p.message} [{p.choice}]" for p in problems)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (None, "data.path: there is no"),
        (b"", "is empty; give text"),
        (TEXT.encode("utf-16"), "is UTF-16 text"),
        (TEXT.encode("utf-16-le"), "is UTF-16 text"),
        (b"\x00\x01\x02\x03" * 100 + b"abcd" * 500, "is binary"),
        (b"caf\xe9 " * 100, "is not text in UTF-8 (byte 3)"),
        (b"too short", "training.sequenceLength: "),
    ],
)
def test_text_that_cannot_be_read_is_refused(content: bytes | None, words: str, tmp_path: Path) -> None:
    path = tmp_path / "corpus.txt"
    if content is not None:
        path.write_bytes(content)
    [problem] = preflight(spec({"kind": "Text", "path": str(path)}), "cpu")
    assert words in said([problem])


def test_text_is_looked_into_without_reading_all_of_it(tmp_path: Path) -> None:
    """A character that the look cuts in two is no fault, and what lies behind it is not read."""
    path = tmp_path / "large.txt"
    path.write_bytes(b"x" + "é".encode() * 40_000 + b"\xff\xff")
    assert preflight(spec({"kind": "Text", "path": str(path)}), "cpu") == []


@pytest.mark.parametrize(
    ("table", "words"),
    [
        ("a,target\n" + "".join(f"{i},{i / 7}\n" for i in range(300)), "set data.task: Regression"),
        ("a,target\n" + "".join(f"{i},{i}\n" for i in range(3000)), "3,000 different labels in 3,000 rows"),
        ("a,target\n1,x\n2,\n3,y\n", "a row has no label"),
        ("a,target\n1,x\n2,x\n", "every row has the same label"),
        ("a,b\n1,x\n2,y\n", "data.targetColumn: "),
        ("", "is empty"),
    ],
)
def test_a_table_whose_labels_are_no_classes_is_refused(table: str, words: str, tmp_path: Path) -> None:
    path = tmp_path / "table.csv"
    path.write_text(table, encoding="utf-8")
    mlp = {"family": "MLP", "hidden": [8]}
    assert words in said(preflight(spec({"kind": "Table", "path": str(path)}, mlp), "cpu"))


@pytest.mark.parametrize(("where", "refused"), [("cpu", True), ("gpu", True), ("elsewhere", False)])
def test_data_that_only_the_cluster_has_is_no_fault_where_runs_will_be_elsewhere(where: Where, refused: bool) -> None:
    problems = preflight(spec({"kind": "Text", "path": "/nosuch/corpus.txt"}), where)
    assert bool(problems) is refused


def variant(heads: int, width: int, label: str, optimizer: str = "AdamW") -> Variant:
    model = ModelSpec.model_validate({"family": "CausalLM", "config": {**GPT2, "n_head": heads, "n_embd": width}})
    training = TrainingSpec.model_validate({"batchSize": 2, "sequenceLength": 16, "optimizer": {"name": optimizer}})
    return Variant(model=model, training=training, label=label)


def test_a_choice_is_refused_where_no_company_suits_it_and_no_other_is() -> None:
    data = {"kind": "Text", "builtin": "python-docs"}
    suited = [variant(3, 32, "n_head = 3"), variant(3, 48, "n_head = 3"), variant(4, 32, "n_head = 4")]
    assert preflight(spec(data, variants=suited), "cpu") == []
    unsuited = [variant(3, 32, "n_head = 3"), variant(3, 64, "n_head = 3"), variant(4, 32, "n_head = 4")]
    [problem] = preflight(spec(data, variants=unsuited), "cpu")
    assert problem.choice == "n_head = 3" and problem.field == "model.config"


def test_what_is_wrong_with_every_choice_is_wrong_with_none_in_particular() -> None:
    data = {"kind": "Text", "builtin": "python-docs"}
    [problem] = preflight(spec(data, variants=[variant(3, 32, "lr = 1"), variant(3, 32, "lr = 2")]), "cpu")
    assert problem.choice == ""


@pytest.mark.parametrize(("where", "refused"), [("cpu", True), ("elsewhere", False)])
def test_an_optimizer_that_this_machine_cannot_run_is_refused_here_only(where: Where, refused: bool) -> None:
    data = {"kind": "Text", "builtin": "python-docs"}
    offered = [variant(4, 32, "opt = AdamW"), variant(4, 32, "opt = AdamW8bit", "AdamW8bit")]
    problems = preflight(spec(data, variants=offered), where)
    assert [(p.field, p.choice) for p in problems] == (
        [("training.optimizer.name", "opt = AdamW8bit")] if refused else []
    )
