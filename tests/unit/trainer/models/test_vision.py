"""Any torchvision classifier, cut between its blocks, computes what it computes whole."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import nn
from torchvision import models

from frostline_trainer.contract import ModelSpec
from frostline_trainer.data.shape import DataShape
from frostline_trainer.errors import StudyFault
from frostline_trainer.models.build import build_network
from frostline_trainer.models.cut import run_prefix
from frostline_trainer.models.vision import cut
from frostline_trainer.models.weights import estimate_statistics

BUILDERS = {
    "resnet18": 10,
    "resnet50": 18,
    "resnext50_32x4d": 18,
    "vgg11_bn": 11,
    "alexnet": 8,
    "squeezenet1_1": 10,
    "densenet121": 9,
    "mobilenet_v2": 20,
    "mobilenet_v3_small": 15,
    "shufflenet_v2_x0_5": 19,
    "mnasnet0_5": 21,
    "efficientnet_b0": 19,
    "regnet_y_400mf": 18,
    "convnext_tiny": 23,
    "googlenet": 13,
    "vit_b_16": 14,
    "swin_t": 17,
}
"""Builder and its number of units: stem, blocks, classifier."""
SIZES = {"alexnet": 64}


def build(name: str, seed: int = 0) -> Any:
    size = SIZES.get(name, 32)
    config = {"init_weights": False} if name == "googlenet" else {}
    return build_network(
        ModelSpec(family="Vision", name=name, config=config), DataShape("Images", (3, size, size), 7), seed
    )


@pytest.mark.parametrize("name", list(BUILDERS))
def test_prefix_and_suffix_together_are_the_model(name: str) -> None:
    network = build(name)
    assert network.layers == BUILDERS[name]
    x = torch.randn(2, 3, SIZES.get(name, 32), SIZES.get(name, 32), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        expected = network.module().eval()(x)
    for z in {1, 2, network.layers // 2, network.layers - 1, network.layers}:
        split = network.split(z)  # the last suffix takes the weights over, so that nothing is built anew
        suffix = split.suffixes[0].eval()
        with torch.no_grad():
            assert torch.equal(suffix(run_prefix(split.prefix, x)), expected)


def test_the_chain_of_units_is_torchvisions_own_network() -> None:
    network = build("resnet18")
    torch.manual_seed(0)
    original = models.resnet18(num_classes=7).eval()
    chain = network.module().eval()
    theirs, ours = list(original.state_dict().values()), list(chain.state_dict().values())
    assert [t.shape for t in theirs] == [t.shape for t in ours]
    chain.load_state_dict(dict(zip(chain.state_dict(), theirs, strict=True)))
    x = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        assert torch.equal(chain(x), original(x))


def test_units_of_a_resnet_are_stem_blocks_and_classifier() -> None:
    assert build("resnet18").unit_names == (
        "conv1", "layer1.0", "layer1.1", "layer2.0", "layer2.1", "layer3.0", "layer3.1", "layer4.0", "layer4.1", "fc",
    )  # fmt: skip


def test_units_of_a_transformer_end_with_norm_and_head_in_one() -> None:
    names = build("vit_b_16").unit_names
    assert names[0] == "conv_proj" and names[-2:] == ("encoder.layers.encoder_layer_11", "encoder.ln")
    head = build("vit_b_16").split(1).suffixes[0].trainable()
    assert {name.split(".")[-2] for name in head} == {"ln", "head"}


def test_frozen_batch_norm_has_estimated_statistics_that_do_not_change() -> None:
    batches = [torch.randn(16, 3, 32, 32, generator=torch.Generator().manual_seed(i)) * 3 + 1 for i in range(4)]
    network = build("resnet18")
    estimate_statistics(network.module(), batches)
    split = network.split(2)
    assert split.prefix is not None
    norms = [m for m in split.prefix.modules() if isinstance(m, nn.BatchNorm2d)]
    first = norms[0]
    raw: list[torch.Tensor] = []
    handle = first.register_forward_pre_hook(lambda _, args: raw.append(args[0]))
    run_prefix(split.prefix, torch.cat(batches))
    handle.remove()
    assert torch.allclose(first.running_mean, raw[0].mean((0, 2, 3)), atol=1e-4)  # type: ignore[arg-type]
    before = [n.running_mean.clone() for n in norms]  # type: ignore[union-attr]
    suffix = split.suffixes[0].train()
    suffix(run_prefix(split.prefix, batches[0] * 100))
    assert all(torch.equal(a, n.running_mean) for a, n in zip(before, norms, strict=True))  # type: ignore[arg-type]
    assert not any(norm.training for norm in norms)
    assert all(m.training for m in suffix.modules() if isinstance(m, nn.BatchNorm2d))


def test_statistics_of_a_unit_do_not_depend_on_z() -> None:
    batches = [torch.randn(8, 3, 32, 32, generator=torch.Generator().manual_seed(3))]
    states = []
    for z in (2, 9):
        network = build("resnet18")
        estimate_statistics(network.module(), batches)
        states.append(network.split(z).suffixes[0].state())
    shallow, deep = states
    assert any("running_var" in name for name in shallow)
    assert all(torch.equal(deep[name], tensor) for name, tensor in shallow.items())


def test_without_estimated_statistics_a_random_prefix_would_not_normalise() -> None:
    """Why the estimate is made: initial statistics let the scale of the input through to the cut."""
    x = torch.randn(32, 3, 32, 32, generator=torch.Generator().manual_seed(0)) * 20
    raw, estimated = build("resnet18"), build("resnet18")
    estimate_statistics(estimated.module(), [x])
    scale = [float(run_prefix(n.split(1).prefix, x).std()) for n in (raw, estimated)]
    assert scale[0] > 5 * scale[1]


def test_the_shared_features_are_never_overwritten_by_an_in_place_operation() -> None:
    class Block(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.act, self.linear = nn.ReLU(inplace=True), nn.Linear(4, 4)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.linear(self.act(x))

    from frostline_trainer.models.cut import ChainNetwork

    suffix = ChainNetwork([("a", nn.Linear(4, 4)), ("b", Block())]).split(1).suffixes[0]
    features = torch.tensor([[-1.0, 1.0, -2.0, 2.0]])
    suffix(features)
    assert features.tolist() == [[-1.0, 1.0, -2.0, 2.0]]


def test_an_unknown_builder_is_refused_with_a_suggestion() -> None:
    with pytest.raises(StudyFault, match=r"'resnet81'.*did you mean resnet18"):
        build("resnet81")


def test_a_model_that_cannot_be_traced_is_refused() -> None:
    class Branching(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x if x.sum() > 0 else -x

    with pytest.raises(StudyFault, match="cannot be traced"):
        cut(Branching(), "branching")


def test_a_pretrained_network_gets_a_new_head_for_other_classes_and_says_so(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    original = models.resnet18(weights=None, num_classes=1000)
    save_file(original.state_dict(), tmp_path / "resnet18.safetensors")
    spec = ModelSpec(family="Vision", name="resnet18", pretrained=str(tmp_path / "resnet18.safetensors"))
    network = build_network(spec, DataShape("Images", (3, 32, 32), 10), 0)
    x = torch.randn(2, 3, 32, 32)
    assert network.module().eval()(x).shape == (2, 10)
    assert "head-is-new" in capsys.readouterr().out
    body = nn.Sequential(*list(original.eval().children())[:-1])
    with torch.no_grad():
        assert torch.allclose(run_prefix(network.split(1).prefix, x).flatten(), body(x).flatten(), atol=1e-5)
    same = build_network(spec, DataShape("Images", (3, 32, 32), 1000), 0)
    with torch.no_grad():
        assert torch.allclose(same.module().eval()(x), original(x), atol=1e-5)
    assert "head-is-new" not in capsys.readouterr().out


def test_pretrained_weights_of_another_architecture_are_refused(tmp_path: Path) -> None:
    save_file(models.resnet34(weights=None).state_dict(), tmp_path / "other.safetensors")
    spec = ModelSpec(family="Vision", name="resnet18", pretrained=str(tmp_path / "other.safetensors"))
    with pytest.raises(StudyFault, match=r"does not fit this model beside its head: layer1.2"):
        build_network(spec, DataShape("Images", (3, 32, 32), 10), 0)
    (tmp_path / "other.safetensors").write_text("no tensors")
    with pytest.raises(StudyFault, match="is no safetensors file"):
        build_network(spec, DataShape("Images", (3, 32, 32), 10), 0)
