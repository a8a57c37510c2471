"""Any Hugging Face causal language model, cut at any z, computes exactly what it computes whole."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from frostline_trainer.contract import ModelSpec
from frostline_trainer.data.shape import DataShape
from frostline_trainer.errors import StudyFault
from frostline_trainer.models.build import build_network
from frostline_trainer.models.cut import run_prefix

SMALL = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2}
GATED = {**SMALL, "intermediate_size": 32, "num_key_value_heads": 1}
ARCHITECTURES: dict[str, dict[str, Any]] = {
    "gpt2": SMALL,
    "gpt_neo": {"hidden_size": 16, "num_heads": 2, "num_layers": 2, "attention_types": [[["global", "local"], 1]]},
    "gpt_neox": {**SMALL, "intermediate_size": 32},
    "gptj": {**SMALL, "rotary_dim": 4},
    "llama": GATED,
    "mistral": GATED,
    "mixtral": {**GATED, "num_local_experts": 2},
    "qwen2": GATED,
    "qwen3": {**GATED, "head_dim": 8},
    "gemma2": {**GATED, "head_dim": 8},
    "granite": {**GATED, "logits_scaling": 3.0, "residual_multiplier": 0.5},
    "olmo2": GATED,
    "phi": {**SMALL, "intermediate_size": 32},
    "opt": {**SMALL, "ffn_dim": 32, "word_embed_proj_dim": 8},
    "bloom": SMALL,
    "falcon": SMALL,
    "mpt": {"d_model": 16, "n_layers": 2, "n_heads": 2, "max_seq_len": 8},
    "mamba": {"hidden_size": 16, "num_hidden_layers": 2, "state_size": 4},
}
SHAPE = DataShape("Text", (8,), 40)
IDS = torch.randint(0, 40, (2, 8), generator=torch.Generator().manual_seed(0))


def build(kind: str, **fields: Any) -> Any:
    return build_network(
        ModelSpec(family="CausalLM", config={"model_type": kind, **ARCHITECTURES[kind], **fields}), SHAPE, 0
    )


@pytest.mark.parametrize("kind", list(ARCHITECTURES))
def test_prefix_and_suffix_together_are_the_model(kind: str) -> None:
    whole = build(kind)
    layers = whole.layers
    assert layers == 4  # embeddings, two blocks, head
    with torch.no_grad():
        expected = whole.module()(input_ids=IDS, use_cache=False).logits
    for z in range(1, layers + 1):
        split = build(kind).split(z, 2)
        features = run_prefix(split.prefix, IDS)
        for suffix in split.suffixes:
            assert torch.equal(suffix.eval()(features), expected)
            suffix.train()(features).sum().backward()
            assert all(p.grad is not None for p in suffix.trainable().values())
        if split.prefix is not None:
            assert not any(p.requires_grad or p.grad is not None for p in split.prefix.parameters())


def test_suffixes_share_no_weights_and_start_equal() -> None:
    one, two = (s.trainable() for s in build("gpt2").split(3, 2).suffixes)
    assert one.keys() == two.keys()
    for name in one:
        assert torch.equal(one[name], two[name])
        assert one[name].data_ptr() != two[name].data_ptr()


@pytest.mark.parametrize("copies", [1, 3])
def test_initial_weights_of_a_unit_depend_on_the_seed_only(copies: int) -> None:
    deep = {n: p.detach() for n, p in build("gpt2").split(3, copies).suffixes[0].trainable().items()}
    shallow = build("gpt2").split(1).suffixes[0].trainable()
    assert shallow and all(torch.equal(deep[name], tensor) for name, tensor in shallow.items())


def test_tied_embeddings_are_untied_below_full_depth_and_tied_at_it() -> None:
    network = build("gpt2")
    embedding = network.module().get_input_embeddings().weight
    assert network.module().lm_head.weight is embedding
    split = build("gpt2").split(1)
    head = split.suffixes[0].trainable()["lm_head.weight"]
    shared = {p.data_ptr() for p in split.prefix.parameters()}
    assert head.data_ptr() not in shared
    full = build("gpt2").split(4).suffixes[0]
    assert "lm_head.weight" not in full.trainable() and full.model.lm_head.weight is full.model.transformer.wte.weight
    apart = build("gpt2").split(4, untied=[True]).suffixes[0]
    assert "lm_head.weight" in apart.trainable()


def test_the_backward_pass_of_a_tied_model_never_reaches_the_prefix() -> None:
    split = build("gpt2").split(1)
    before = [p.detach().clone() for p in split.prefix.parameters()]
    optimizer = torch.optim.SGD(split.suffixes[0].trainable().values(), lr=1.0)
    split.suffixes[0](run_prefix(split.prefix, IDS)).square().mean().backward()
    optimizer.step()
    assert all(torch.equal(a, b) for a, b in zip(before, split.prefix.parameters(), strict=True))


def test_the_prefix_keeps_nothing_for_a_backward_pass() -> None:
    split = build("llama").split(2)
    kept: list[torch.Tensor] = []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: kept.append(t) or t, lambda t: t):
        features = run_prefix(split.prefix, IDS)
        assert kept == [] and features.grad_fn is None
        split.suffixes[0](features)
    assert kept != []


def test_dropout_is_off_in_the_prefix_and_on_in_the_suffix() -> None:
    split = build("gpt2", resid_pdrop=0.5, embd_pdrop=0.5, attn_pdrop=0.5).split(2)
    suffix = split.suffixes[0].train()
    first, second = run_prefix(split.prefix, IDS), run_prefix(split.prefix, IDS)
    assert torch.equal(first, second)
    assert not torch.equal(suffix(first), suffix(first))
    assert torch.equal(suffix.eval()(first), suffix(first))


def test_activation_checkpointing_changes_memory_and_no_gradient() -> None:
    gradients, kept = [], []
    for recompute in (False, True):
        split = build("llama").split(3)
        suffix = split.suffixes[0].train()
        if recompute:
            suffix.checkpoint_activations()
        saved: list[int] = []
        with torch.autograd.graph.saved_tensors_hooks(lambda t, s=saved: s.append(t.numel()) or t, lambda t: t):
            logits = suffix(run_prefix(split.prefix, IDS))
        logits.square().mean().backward()
        gradients.append([p.grad for p in suffix.trainable().values()])
        kept.append(sum(saved))
    assert kept[1] < kept[0] / 2
    assert all(torch.equal(a, b) for a, b in zip(*gradients, strict=True))


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"model_type": "gpt3"}, "model_type.*'gpt3'"),
        ({"model_type": "gpt2", "n_layers": 2}, "n_layers unknown to gpt2"),
        ({"model_type": "gpt2", "vocab_size": 10}, "vocab_size.*set it to 40"),
        ({"model_type": "gpt2", "n_positions": 4}, "sequenceLength.*exceeds"),
        ({"model_type": "gpt2", "n_embd": 15, "n_head": 2}, "cannot be built"),
    ],
)
def test_a_bad_config_is_the_studys_fault_and_says_where(config: dict[str, Any], message: str) -> None:
    with pytest.raises(StudyFault, match=message):
        build_network(ModelSpec(family="CausalLM", config=config), SHAPE, 0)


def test_more_layers_than_the_model_has_are_refused() -> None:
    with pytest.raises(StudyFault, match="9 trainable layers asked for, but this model has 4"):
        build("gpt2").split(9)


def test_pretrained_weights_come_from_a_local_folder(tmp_path: Any) -> None:
    original = build("gpt2").module()
    with torch.no_grad():
        original.lm_head.weight.add_(1.0)
    original.save_pretrained(tmp_path)
    loaded = build_network(ModelSpec(family="CausalLM", pretrained=str(tmp_path)), SHAPE, 5)
    with torch.no_grad():
        assert torch.equal(loaded.module()(input_ids=IDS).logits, original(input_ids=IDS).logits)
    with pytest.raises(StudyFault, match="no folder /nowhere"):
        build_network(ModelSpec(family="CausalLM", pretrained="/nowhere"), SHAPE, 0)
