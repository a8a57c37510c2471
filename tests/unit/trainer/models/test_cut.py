"""What holds of prefixes and suffixes of every family."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from frostline_trainer.contract import ModelSpec
from frostline_trainer.data.shape import DataShape
from frostline_trainer.models.build import build_network
from frostline_trainer.models.cut import in_bf16, run_prefix


def test_half_precision_is_for_parameters_and_not_for_buffers() -> None:
    net = nn.Sequential(nn.Linear(3, 3), nn.BatchNorm1d(3))
    net[0].register_buffer("scale", torch.ones(3))
    assert in_bf16(net) is net and in_bf16(None) is None
    assert net[0].weight.dtype is torch.bfloat16 and net[0].scale.dtype is torch.float32
    assert {t.dtype for t in net[1].state_dict().values()} == {torch.float32, torch.int64}
    assert net(torch.ones(2, 3, dtype=torch.bfloat16)).isfinite().all()


def test_positions_far_into_a_sequence_keep_their_phase_in_a_bf16_prefix() -> None:
    # Llama 3 8B's theta and head size: in bf16, its frequencies are off by 3.7 rad at position 2047
    config = {
        "model_type": "llama", "hidden_size": 256, "num_hidden_layers": 2, "num_attention_heads": 2,
        "num_key_value_heads": 1, "intermediate_size": 64, "head_dim": 128, "max_position_embeddings": 2048,
        "rope_parameters": {"rope_type": "default", "rope_theta": 500_000.0},
    }  # fmt: skip
    network = build_network(ModelSpec(family="CausalLM", config=config), DataShape("Text", (2048,), 40), 0)
    exact = network.module().base_model.rotary_emb(torch.zeros(1, 1, 1), torch.tensor([[2047]]))
    prefix = in_bf16(network.split(1).prefix)
    assert prefix is not None and {p.dtype for p in prefix.parameters()} == {torch.bfloat16}
    half = prefix.base.rotary_emb(torch.zeros(1, 1, 1), torch.tensor([[2047]]))  # type: ignore[union-attr, operator]
    for one, two in zip(exact, half, strict=True):
        assert torch.equal(one, two)
    assert run_prefix(prefix, torch.zeros(1, 4, dtype=torch.long)).dtype is torch.bfloat16


@pytest.mark.parametrize("family", ["gpt2", "resnet18"])
def test_a_bf16_prefix_runs(family: str) -> None:
    if family == "gpt2":
        model = ModelSpec(family="CausalLM", config={"model_type": "gpt2", "n_layer": 2, "n_embd": 16, "n_head": 2})
        shape, x = DataShape("Text", (8,), 40), torch.zeros(2, 8, dtype=torch.long)
    else:
        model = ModelSpec(family="Vision", name=family)
        shape, x = DataShape("Images", (3, 32, 32), 10), torch.zeros(2, 3, 32, 32)
    prefix = in_bf16(build_network(model, shape, 0).split(1).prefix)
    if family == "resnet18":
        x = x.bfloat16()
    assert run_prefix(prefix, x).isfinite().all()
