"""The studies people start from are right, and say what they are meant to say."""

from __future__ import annotations

from pathlib import Path

import pytest

from frostline_operator.api.bindings import bind
from frostline_operator.api.loader import load_study, parse_study
from frostline_operator.api.yaml import study_to_yaml
from frostline_operator.engine.schedule import rungs
from frostline_operator.engine.space import assignments

EXAMPLES = Path(__file__).parents[3] / "examples"
FILES = sorted(EXAMPLES.glob("*.yaml"))


def test_there_are_examples() -> None:
    assert len(FILES) >= 5


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_an_example_loads_and_every_configuration_of_it_binds(path: Path) -> None:
    study = load_study(path)
    assert study.metadata.name == path.stem
    assert parse_study(study_to_yaml(study)) == study
    drawn = assignments(study.spec.parameters, study.spec.search, study.spec.search.trials or 16)
    for assignment in drawn:
        bind(study.spec.parameters, study.spec.base, assignment)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_an_example_explains_itself(path: Path) -> None:
    assert path.read_text().startswith("# ")


def test_the_demo_climbs_as_the_paper_does_from_two_layers_on() -> None:
    study = load_study(EXAMPLES / "gpt2-python-docs.yaml").spec
    steps = rungs(study.fidelity, study.search.eta, 10)
    assert [rung.layers for rung in steps] == [2, 2, 5, 10]
    assert [rung.tokens * 8 // steps[-1].tokens for rung in steps] == [1, 2, 4, 8]
    assert (study.search.trials or 0) >= 16


def test_the_baseline_differs_in_layers_only() -> None:
    joint = load_study(EXAMPLES / "gpt2-python-docs.yaml").spec
    tokens = load_study(EXAMPLES / "tokens-only.yaml").spec
    assert tokens.model_copy(update={"fidelity": joint.fidelity}) == joint
    assert tokens.fidelity.tokens == joint.fidelity.tokens
    assert tokens.fidelity.layers.min == "All"
