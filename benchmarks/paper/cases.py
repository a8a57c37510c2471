"""What is measured: three families of networks on real data, and the configurations of each.

Two scales of the same thing: `small` fits two CPU cores, `paper` is that of arXiv 2504.10735 and wants a GPU and the
data that `--data` names (CIFAR-100 as torchvision keeps it, and text files for the language model).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from frostline_operator.api.bindings import bind
from frostline_operator.api.study import HPOStudySpec
from frostline_operator.engine import space
from frostline_trainer.contract import ProfileSpec, Scalar, TrainingSpec
from frostline_trainer.data.shape import DataShape
from frostline_trainer.models.build import build_network
from frostline_trainer.models.cut import Network

ROOT = Path(__file__).parents[2]
WORK = ROOT / ".bench"
"""Raw results, one line per trained configuration, so that nothing is lost when a measurement is stopped."""
FRACTIONS = 8
"""Every run is evaluated after each eighth of its tokens."""
PACK = 16
"""Configurations that share a run's frozen prefix."""

Assignment = dict[str, Scalar]

PARAMETERS: list[dict[str, Any]] = [
    {"name": "lr", "type": "Float", "min": 1e-4, "max": 1e-1, "scale": "Log"},
    {"name": "weightDecay", "type": "Float", "min": 1e-4, "max": 1.0, "scale": "Log"},
    {"name": "optimizer", "type": "Categorical", "values": ["AdamW", "SGD"], "bind": "training.optimizer.name"},
    {"name": "warmup", "type": "Float", "min": 0.0, "max": 0.1},
    {"name": "labelSmoothing", "type": "Float", "min": 0.0, "max": 0.2},
    {"name": "clipping", "type": "Float", "min": 0.1, "max": 10.0, "scale": "Log", "bind": "training.gradientClipping"},
]
"""The space of every family. The schedule is constant after the warm-up, which ends before the first evaluation, so
a run's value on the way is that of a shorter run: one run gives every token fraction."""
SOBOL_SEED = 1


@dataclass(frozen=True)
class Case:
    """One family: network, data, and how long and how many configurations are trained."""

    name: str
    title: str
    model: dict[str, Any]
    data: dict[str, Any]
    training: dict[str, Any]
    tokens: int
    """Full fidelity."""
    layers: int
    """L."""
    depths: tuple[int, ...]
    """The z at which every configuration is trained."""
    configurations: int
    network: Callable[[DataShape, int], Network] | None = None
    """Builds a network that no `ModelSpec` describes; by default the one of `model`."""
    starts: tuple[int, ...] = (5,)
    """Lowest z of the schedules that are also run with promotion Continue."""
    warm: tuple[int, ...] = (1, 2)
    """The z that are also tried on a prefix that was trained a little."""

    @property
    def unit(self) -> str:
        return "tokens" if self.model["family"] == "CausalLM" else "samples"

    def study(self, **changes: Any) -> HPOStudySpec:
        """The study that searches this space; keyword arguments replace sections."""
        document: dict[str, Any] = {
            "parameters": PARAMETERS,
            "search": {"sampler": "Sobol", "seed": SOBOL_SEED, "trials": self.configurations},
            "fidelity": {self.unit: {"max": self.tokens}},
            "model": self.model,
            "data": self.data,
            "training": self.training,
        }
        return HPOStudySpec.model_validate(document | changes)

    def assignments(self) -> list[Assignment]:
        """The configurations, drawn by the product's own sampler."""
        study = self.study()
        return space.assignments(study.parameters, study.search, self.configurations)

    def bound(self, assignment: Assignment) -> TrainingSpec:
        spec = self.study()
        return bind(spec.parameters, spec.base, assignment).training

    def specification(self) -> ProfileSpec:
        study = self.study()
        return ProfileSpec(model=study.model, data=study.data, training=study.training)

    def build(self, shape: DataShape, seed: int) -> Network:
        if self.network is not None:
            return self.network(shape, seed)
        return build_network(self.study().model, shape, seed)


def narrow_resnet(shape: DataShape, seed: int) -> Network:
    """A ResNet-18 at a quarter of its width with the stem for small images: stem, eight residual blocks, classifier."""
    import torch
    from torch import nn
    from torchvision.models.resnet import BasicBlock

    from frostline_trainer.models.cut import ChainNetwork
    from frostline_trainer.seeds import derive

    torch.manual_seed(derive(seed, "weights"))
    width = 16
    stem = nn.Sequential(nn.Conv2d(3, width, 3, 1, 1, bias=False), nn.BatchNorm2d(width), nn.ReLU())
    units: list[tuple[str, nn.Module]] = [("stem", stem)]
    for group, planes in enumerate((16, 32, 64, 128), start=1):
        for number in range(2):
            stride = 2 if group > 1 and number == 0 else 1
            down = None
            if stride != 1 or width != planes:
                down = nn.Sequential(nn.Conv2d(width, planes, 1, stride, bias=False), nn.BatchNorm2d(planes))
            units.append((f"layer{group}.{number}", BasicBlock(width, planes, stride, down)))
            width = planes
    head = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(width, shape.classes))
    return ChainNetwork([*units, ("head", head)])


def gpt2(blocks: int, width: int, heads: int) -> dict[str, Any]:
    sizes = {"n_layer": blocks, "n_embd": width, "n_head": heads}
    dropout = {"resid_pdrop": 0.0, "embd_pdrop": 0.0, "attn_pdrop": 0.0}  # one pass over the data needs none
    return {"family": "CausalLM", "config": {"model_type": "gpt2", **sizes, **dropout}}


CONSTANT = {"schedule": {"name": "Constant"}}


def small() -> dict[str, Case]:
    """What two CPU cores train in about an hour."""
    return {
        "gpt2": Case(
            "gpt2",
            "GPT-2, 10 blocks of width 64, bytes of Python's documentation",
            gpt2(10, 64, 2),
            {"kind": "Text", "builtin": "python-docs", "validationLimit": 2048},
            {"batchSize": 4, "sequenceLength": 64, **CONSTANT},
            tokens=40_960,
            layers=12,
            depths=(12, 1, 3, 6, 2, 4, 8, 10),
            configurations=48,
            starts=(6,),
        ),
        "resnet": Case(
            "resnet",
            "ResNet of 10 units, handwritten digits",
            {"family": "Vision", "name": "resnet18"},  # stands for the narrow one; see `narrow_resnet`
            {"kind": "Images", "builtin": "digits", "imageSize": 8, "validationFraction": 0.2},
            {"batchSize": 32, **CONSTANT},
            tokens=5_120,
            layers=10,
            depths=(10, 1, 2, 5, 3, 4, 7, 6, 8),
            configurations=48,
            network=narrow_resnet,
        ),
        "mlp": Case(
            "mlp",
            "MLP of 8 layers, the cut of 53,940 diamonds",
            {"family": "MLP", "hidden": [64] * 7},
            {
                "kind": "Table",
                "path": str(WORK / "data" / "diamonds.csv"),
                "targetColumn": "cut",
                "validationLimit": 2048,
            },
            {"batchSize": 64, **CONSTANT},
            tokens=40_960,
            layers=8,
            depths=(8, 1, 2, 4, 3, 5, 6, 7),
            configurations=64,
            starts=(4, 1, 2),
        ),
    }


def paper(data: Path) -> dict[str, Case]:
    """The paper's scale: a 14 M GPT-2 at 20 tokens per parameter, a ResNet-18 on CIFAR-100 for 20 epochs."""
    text = {"kind": "Text", "path": str(data / "text"), "validationLimit": 262_144}
    cifar = {"kind": "Images", "path": str(data), "torchvision": "CIFAR100", "augment": True}
    table = {"kind": "Table", "path": str(data / "table.csv")}
    return {
        "gpt2": Case(
            "gpt2", "GPT-2, 14 M parameters", gpt2(10, 336, 6), text,
            {"batchSize": 32, "sequenceLength": 512, "precision": "bf16", **CONSTANT},
            tokens=280_002_560, layers=12, depths=(12, 1, 3, 6, 2, 4, 8, 5, 10, 7, 9, 11), configurations=48,
        ),
        "resnet": Case(
            "resnet", "ResNet-18, CIFAR-100", {"family": "Vision", "name": "resnet18"}, cifar,
            {"batchSize": 128, **CONSTANT},
            tokens=1_000_448, layers=10, depths=(10, 1, 2, 5, 3, 4, 7, 6, 8, 9), configurations=48,
        ),
        "mlp": Case(
            "mlp", "MLP of 8 layers", {"family": "MLP", "hidden": [512] * 7}, table, {"batchSize": 256, **CONSTANT},
            tokens=2_000_896, layers=8, depths=(8, 1, 2, 4, 3, 5, 6, 7), configurations=96,
        ),
    }  # fmt: skip


def cases(scale: str = "small", data: Path | None = None) -> dict[str, Case]:
    """The cases of a scale, by name.

    Raises:
        SystemExit: the paper's scale without data.
    """
    if scale == "small":
        return small()
    if data is None:
        raise SystemExit("--scale paper needs --data, a folder with text/, cifar-100-python/ and table.csv")
    return paper(data)
