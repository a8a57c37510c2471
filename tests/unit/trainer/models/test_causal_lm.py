"""Any Hugging Face causal language model, cut at any z, computes exactly what it computes whole."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from frostline_trainer.checkpoints.store import Store
from frostline_trainer.contract import ModelSpec, ProfileSpec
from frostline_trainer.data.shape import DataShape
from frostline_trainer.errors import StudyFault
from frostline_trainer.models.build import build_network
from frostline_trainer.models.causal_lm import CausalLMNetwork
from frostline_trainer.models.cut import run_prefix
from frostline_trainer.profile.simulate import ShapeSource, run_spec, simulate
from frostline_trainer.training.loop import train_step
from frostline_trainer.training.pack import assemble

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
    "olmo": GATED,  # its norms have no weights
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


def test_an_encoder_is_refused_with_the_remedy_and_its_decoder_is_taken() -> None:
    bert = {"model_type": "bert", **SMALL, "intermediate_size": 32}
    with pytest.raises(StudyFault, match=r"bert is an encoder.*is_decoder: true"):
        build_network(ModelSpec(family="CausalLM", config=bert), SHAPE, 0)
    with pytest.raises(StudyFault, match="bert is an encoder"):  # before anything is on a GPU, too
        build_network(ModelSpec(family="CausalLM", config=bert), SHAPE, 0, weights=False)
    assert build_network(ModelSpec(family="CausalLM", config={**bert, "is_decoder": True}), SHAPE, 0).layers == 4


def test_a_network_whose_positions_see_what_follows_is_refused_by_what_it_computes() -> None:
    network = build("llama").module()
    forward = network.forward

    def both_ways(input_ids: torch.Tensor, **kwargs: Any) -> Any:
        answer = forward(input_ids=input_ids, **kwargs)
        answer.logits = answer.logits + answer.logits.mean(1, keepdim=True)
        return answer

    network.forward = both_ways
    with pytest.raises(StudyFault, match="see the tokens that follow"):
        CausalLMNetwork(network, verified=True)


HYBRID = {
    "model_type": "zamba2", **SMALL, "num_hidden_layers": 4, "num_key_value_heads": 2, "intermediate_size": 32,
    "layers_block_type": ["mamba", "hybrid", "mamba", "hybrid"], "hybrid_layer_ids": [1, 3], "mamba_ngroups": 1,
    "n_mamba_heads": 2, "mamba_d_state": 4, "num_mem_blocks": 1,
}  # fmt: skip
"""Blocks share weights, and look back at the embeddings."""


@pytest.mark.parametrize(("z", "reason"), [(2, "share their weights"), (4, "needs more than the hidden state")])
def test_a_cut_that_is_not_the_model_is_refused_and_those_that_are_are_named(z: int, reason: str) -> None:
    with pytest.raises(StudyFault, match=rf"zamba2 cannot be cut at {z} .*{reason}.* set fidelity.layers to 1, 6"):
        build_network(ModelSpec(family="CausalLM", config=HYBRID), SHAPE, 0).split(z)


def test_a_cut_that_was_held_against_the_model_is_the_model() -> None:
    network = build_network(ModelSpec(family="CausalLM", config=HYBRID), SHAPE, 0)
    with torch.no_grad():
        expected = network.module()(input_ids=IDS, use_cache=False).logits
        split = network.split(1)
        assert torch.equal(split.suffixes[0].eval()(run_prefix(split.prefix, IDS)), expected)


@pytest.mark.parametrize("kind", ["gpt2", "gpt_neox", "llama", "qwen2", "opt", "mistral", "phi", "bloom"])
def test_a_folder_saved_by_transformers_is_profiled_and_trained(kind: str, tmp_path: Path) -> None:
    folder = tmp_path / "model"
    original = build(kind).module()
    original.save_pretrained(folder)
    model = {"family": "CausalLM", "pretrained": str(folder), "config": {"use_cache": True}}
    data = {"kind": "Text", "builtin": "python-docs", "validationLimit": 16}
    training = {"batchSize": 2, "sequenceLength": 8}
    document = {"model": model, "data": data, "training": training}
    spec = ProfileSpec.model_validate_json(json.dumps(document))
    costs = [z for z in range(1, 5) if simulate(spec, SHAPE, z=z, batch=2, device="cpu").trace.peak() > 0]
    assert costs == [1, 2, 3, 4]
    network = build_network(spec.model, SHAPE, 1)
    with torch.no_grad():
        assert torch.equal(
            network.module()(input_ids=IDS, use_cache=False).logits, original(input_ids=IDS, use_cache=False).logits
        )
    pack = assemble(run_spec(spec, 2, 2, 1), torch.device("cpu"), Store(""), ShapeSource(SHAPE, 2), network)
    before = [p.detach().clone() for p in pack.members[0].suffix.trainable().values()]
    train_step(pack, 0, pack.members)
    pack.batches.close()
    after = pack.members[0].suffix.trainable().values()
    assert any(not torch.equal(one, two) for one, two in zip(before, after, strict=True))


def test_fields_of_the_manifest_are_held_against_the_folders_config(tmp_path: Path) -> None:
    build("gpt2").module().save_pretrained(tmp_path)

    def built(**config: Any) -> Any:
        return build_network(ModelSpec(family="CausalLM", pretrained=str(tmp_path), config=config), SHAPE, 0)

    assert built(resid_pdrop=0.5, model_type="gpt2").module().config.resid_pdrop == 0.5
    for wrong, words in (
        ({"n_layers": 2}, "n_layers unknown to gpt2"),
        ({"model_type": "llama"}, "is a gpt2, not a llama"),
        ({"to_dict": 1}, "to_dict unknown"),
        ({"subfolder": "x"}, "subfolder unknown"),
    ):
        with pytest.raises(StudyFault, match=words):
            built(**wrong)


def test_code_that_comes_with_a_model_is_never_run(tmp_path: Path) -> None:
    (tmp_path / "evil.py").write_text("raise SystemExit('it ran')\n")
    description = {
        "model_type": "evil",
        "auto_map": {"AutoConfig": "evil.Config", "AutoModelForCausalLM": "evil.Model"},
    }
    (tmp_path / "config.json").write_text(json.dumps(description))
    with pytest.raises(StudyFault, match="no usable config"):
        build_network(ModelSpec(family="CausalLM", pretrained=str(tmp_path)), SHAPE, 0)
