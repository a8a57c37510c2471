"""What is exported is loaded by the library that it comes from, and has the objective that the trial had."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from frostline_trainer.checkpoints.store import Store
from frostline_trainer.contract import CheckpointRef, ExitCode, RunSpec, TrialSpec
from frostline_trainer.data.open import open_data
from frostline_trainer.device.memory import DeviceMemory
from frostline_trainer.export import export, main
from frostline_trainer.reporting.metrics import RunMetrics
from frostline_trainer.run import StopFlag, evaluate_run
from frostline_trainer.training.objective import objective_of

TEXT = {"kind": "Text", "builtin": "python-docs", "validationLimit": 2048}
GPT2 = {"family": "CausalLM", "config": {"model_type": "gpt2", "n_layer": 2, "n_embd": 32, "n_head": 2}}
RESNET = {"family": "Vision", "name": "resnet18"}
MLP = {"family": "MLP", "hidden": [8, 8], "activation": "tanh"}
DIGITS = {"kind": "Images", "builtin": "digits", "imageSize": 16}
TABLE = {"kind": "Table", "builtin": "breast-cancer"}


def trained(tmp_path: Path, model: dict[str, Any], data: dict[str, Any], layers: int) -> tuple[RunSpec, float]:
    """A run of one trial, to its end: the document that it would go on with, and its objective."""
    text = data["kind"] == "Text"
    document: dict[str, Any] = {
        "study": "s", "studyUid": "u", "run": "r", "rung": 0, "layers": layers, "tokens": 512 if text else 128,
        "horizon": 512, "model": model, "data": data, "metric": "loss", "seed": 5, "checkpoint": str(tmp_path / "kept"),
        "trials": [{"name": "t", "training": {"batchSize": 8, "sequenceLength": 16}}],
    }  # fmt: skip
    spec = RunSpec.model_validate_json(json.dumps(document))
    device = torch.device("cpu")
    result = evaluate_run(spec, device, RunMetrics(spec, layers), StopFlag(), DeviceMemory(device, None), 0.0)
    assert result.exit_code == ExitCode.DONE, result.message
    [trial] = result.trials
    assert trial.checkpoint is not None and trial.objective is not None
    parent = CheckpointRef(path=trial.checkpoint, layers=layers, tokens=trial.tokens)
    [one] = spec.trials
    going_on = TrialSpec(name=one.name, training=one.training, parent=parent)
    return spec.model_copy(update={"trials": [going_on], "tokens": trial.tokens}), trial.objective


def loss(network: nn.Module, spec: RunSpec) -> float:
    """Over the held-out part, as the trainer measures it."""
    source = open_data(spec.data, spec.trials[0].training, spec.seed)
    count = source.valid_samples
    if spec.data.validation_limit is not None:
        count = min(count, spec.data.validation_limit // source.shape.tokens_per_sample)
    x, y = source.validation(0, count)
    with torch.no_grad():
        answer: Any = network.eval()(x)
        logits: Tensor = getattr(answer, "logits", answer)
        return float(objective_of(source.shape).loss(logits, y, 0.0))


@pytest.mark.parametrize(("layers", "tied"), [(1, False), (2, False), (4, True)])
def test_a_language_model_is_loaded_by_transformers(layers: int, tied: bool, tmp_path: Path) -> None:
    from transformers import AutoModelForCausalLM

    spec, objective = trained(tmp_path, GPT2, TEXT, layers)
    assert {"config.json", "model.safetensors"} <= set(export(spec, tmp_path / "out"))
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "out")
    assert loss(model, spec) == pytest.approx(objective, rel=1e-5)
    assert (model.get_output_embeddings().weight is model.get_input_embeddings().weight) is tied
    assert model.config.use_cache


@pytest.mark.parametrize("layers", [1, 4])
def test_a_classifier_is_loaded_by_torchvision(layers: int, tmp_path: Path) -> None:
    from torchvision.models import get_model

    spec, objective = trained(tmp_path, RESNET, DIGITS, layers)
    export(spec, tmp_path / "out")
    config = json.loads((tmp_path / "out/config.json").read_text())
    model = get_model(config["name"], weights=None, **config["arguments"])
    model.load_state_dict(load_file(tmp_path / "out/model.safetensors"))
    assert loss(model, spec) == pytest.approx(objective, rel=1e-4)
    assert config["classes"] == [str(i) for i in range(10)]
    assert config["size"] == [16, 16] and len(config["mean"]) == len(config["std"]) == 1


@pytest.mark.parametrize(("data", "layers"), [(TABLE, 1), (TABLE, 3), (DIGITS, 2)])
def test_an_mlp_is_a_plain_sequential(data: dict[str, Any], layers: int, tmp_path: Path) -> None:
    spec, objective = trained(tmp_path, MLP, data, layers)
    export(spec, tmp_path / "out")
    config = json.loads((tmp_path / "out/config.json").read_text())
    model = nn.Sequential(*(getattr(nn, kind)(*sizes) for kind, *sizes in config["layers"]))
    model.load_state_dict(load_file(tmp_path / "out/model.safetensors"))
    assert loss(model, spec) == pytest.approx(objective, rel=1e-5)


def test_a_table_is_exported_with_its_scaling_its_columns_and_its_classes(tmp_path: Path) -> None:
    rows = "".join(f"{i},{'red' if i % 3 else 'blue'},{'yes' if i % 2 else 'no'}\n" for i in range(40))
    (tmp_path / "t.csv").write_text("size,colour,bought\n" + rows)
    data = {"kind": "Table", "path": str(tmp_path / "t.csv"), "targetColumn": "bought"}
    spec, _ = trained(tmp_path, MLP, data, 2)
    export(spec, tmp_path / "out")
    config = json.loads((tmp_path / "out/config.json").read_text())
    assert config["classes"] == ["no", "yes"]
    assert config["columns"] == ["size", "colour=blue", "colour=red"]
    raw = torch.tensor([[7.0, 0.0, 1.0]])
    scaled = (raw - torch.tensor(config["mean"])) / torch.tensor(config["scale"])
    assert scaled.abs().max() < 3


MINE = """\
import torch
from torch import nn

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem = nn.Linear(4, 8)
        self.body = nn.Linear(8, 8)
        self.head = nn.Linear(8, 1)

    def forward(self, x):
        return self.head(torch.relu(self.body(torch.relu(self.stem(x)))))

def train(trial):
    torch.manual_seed(trial.seed)
    model = MODEL
    prefix, suffix = trial.freeze(model)
    optimizer = trial.resume(torch.optim.SGD(suffix.parameters(), lr=0.1))
    x = torch.linspace(0, 1, 32).reshape(8, 4)
    for step in range(trial.start_tokens, trial.tokens):
        loss = (suffix(prefix(x)) - 1).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        trial.report(tokens=step + 1)
    trial.report(tokens=trial.tokens, loss=float((suffix(prefix(x)) - 1).square().mean()))
"""


@pytest.mark.parametrize(
    ("model", "names"),
    [
        ("Net()", {"stem.weight", "body.weight", "head.weight", "stem.bias", "body.bias", "head.bias"}),
        ("nn.Sequential(nn.Linear(4, 8), nn.Linear(8, 1))", {"0.weight", "0.bias", "1.weight", "1.bias"}),
        ("[nn.Linear(4, 8), nn.Linear(8, 1)]", {"0.weight", "0.bias", "1.weight", "1.bias"}),
    ],
)
def test_a_custom_model_is_a_state_dict_in_its_own_names(
    model: str, names: set[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = f"mine_{abs(hash(model))}"
    (tmp_path / f"{module}.py").write_text(MINE.replace("MODEL", model))
    monkeypatch.syspath_prepend(tmp_path)
    custom = {"family": "Custom", "entrypoint": f"{module}:train"}
    spec, objective = trained(tmp_path, custom, {"kind": "None"}, 1)
    assert export(spec, tmp_path / "out") == ["model.safetensors"]
    state = load_file(tmp_path / "out/model.safetensors")
    assert set(state) == names
    namespace: dict[str, Any] = {}
    exec((tmp_path / f"{module}.py").read_text(), namespace)
    built = eval(model, namespace)
    network = nn.Sequential(*built) if isinstance(built, list) else built
    network.load_state_dict(state)
    with torch.no_grad():
        x = torch.linspace(0, 1, 32).reshape(8, 4)
        assert float((network(x) - 1).square().mean()) == pytest.approx(objective, rel=1e-5)


def test_a_checkpoint_that_is_gone_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    spec, _ = trained(tmp_path, MLP, TABLE, 1)
    parent = spec.trials[0].parent
    assert parent is not None
    Store(spec.checkpoint).remove_folder(parent.path)
    assert main(spec.model_dump_json(by_alias=True, exclude_none=True), str(tmp_path / "out")) == 43
    assert parent.path in capsys.readouterr().out
