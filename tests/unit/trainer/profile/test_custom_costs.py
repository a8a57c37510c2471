"""The profile of a custom entrypoint, by trying it out for a step."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from frostline_trainer.contract import DataSpec, ModelSpec, ProfileSpec
from frostline_trainer.errors import StudyFault
from frostline_trainer.profile.custom_costs import custom_costs

EXAMPLES = Path(__file__).parents[4] / "examples"

BROKEN = """
def no_freeze(trial):
    trial.report(tokens=1)

def no_step(trial):
    import torch
    trial.freeze([torch.nn.Linear(2, 2)])

def raises(trial):
    trial.hyperparameters["momentum"]
"""


def spec(entrypoint: str) -> ProfileSpec:
    model = ModelSpec(family="Custom", entrypoint=entrypoint)
    return ProfileSpec(model=model, data=DataSpec(kind="None"), hyperparameters={"lr": 0.01})


def test_layers_parameters_and_flops_of_the_example_are_those_of_its_network(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(EXAMPLES))
    costs = custom_costs(spec("custom_entrypoint:train"))
    assert costs.layers == 7
    head, block = 64 * 10 + 10, 64 * 64 + 64 + 2 * 64
    assert costs.parameters == [head + i * block for i in range(7)]
    forward = 2 * 64 * 64
    assert costs.prefix_flops == [forward * (6 - i) for i in range(7)]
    # forward, and backward for weights (and for inputs, but not into the frozen part)
    assert costs.suffix_flops[0] == 2 * (2 * 64 * 10)
    assert costs.suffix_flops[1] == 3 * (2 * 64 * 10) + 2 * forward


@pytest.mark.parametrize(("name", "words"), [("no_freeze", "freeze"), ("no_step", "report"), ("raises", "momentum")])
def test_an_entrypoint_that_cannot_be_profiled_is_the_studys_fault(
    name: str, words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "broken_entrypoint.py").write_text(BROKEN, encoding="utf-8")
    monkeypatch.syspath_prepend(str(tmp_path))
    sys.modules.pop("broken_entrypoint", None)
    with pytest.raises(StudyFault, match=words):
        custom_costs(spec(f"broken_entrypoint:{name}"))
