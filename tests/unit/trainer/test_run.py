"""A run's document, from the environment."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from frostline_trainer.errors import StudyFault
from frostline_trainer.run import read_spec
from tests.unit.trainer.conftest import run_spec, trial


def document(tmp_path: Path) -> dict[str, Any]:
    spec = run_spec("MLP", [trial("MLP", "a"), trial("MLP", "b")], 2, 4, tmp_path)
    return json.loads(spec.model_dump_json(by_alias=True, exclude_defaults=True))  # type: ignore[no-any-return]


def test_the_run_is_read_from_the_environment_or_a_file(tmp_path: Path) -> None:
    text = json.dumps(document(tmp_path))
    (tmp_path / "run.json").write_text(text)
    assert read_spec({"FROSTLINE_RUN": text}) == read_spec({"FROSTLINE_RUN": f"@{tmp_path}/run.json"})


def test_layers_may_be_bound_late(tmp_path: Path) -> None:
    text = json.dumps(document(tmp_path))
    assert read_spec({"FROSTLINE_RUN": text, "FROSTLINE_LAYERS": "1"}).layers == 1
    assert read_spec({"FROSTLINE_RUN": text, "FROSTLINE_LAYERS": ""}).layers == 2
    for wrong in ("0", "many"):
        with pytest.raises(StudyFault):
            read_spec({"FROSTLINE_RUN": text, "FROSTLINE_LAYERS": wrong})


def test_all_errors_of_a_document_are_named_at_once(tmp_path: Path) -> None:
    wrong = document(tmp_path)
    wrong["tokens"], wrong["colour"] = 0, "red"
    wrong["trials"][0]["training"]["optimizer"] = {"lr": "fast"}
    with pytest.raises(StudyFault) as caught:
        read_spec({"FROSTLINE_RUN": json.dumps(wrong)})
    assert all(name in str(caught.value) for name in ("tokens", "colour", "trials.0.training.optimizer.lr"))


@pytest.mark.parametrize("text", ["", "@/not/there", "{", "[]"])
def test_no_document_is_the_studys_fault(text: str) -> None:
    with pytest.raises(StudyFault, match="FROSTLINE_RUN"):
        read_spec({"FROSTLINE_RUN": text})
