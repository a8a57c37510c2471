"""What a network costs at each z."""

from __future__ import annotations

import json

import pytest

from frostline_trainer.contract import (
    ProfileSpec,
)
from frostline_trainer.profile.costs import profile, profile_hash
from tests.unit.trainer.conftest import FAMILIES


def spec_of(family: str) -> ProfileSpec:
    made = FAMILIES[family]
    return ProfileSpec.model_validate_json(json.dumps({k: made[k] for k in ("model", "data", "training")}))


@pytest.mark.parametrize(("family", "layers"), [("CausalLM", 5), ("Vision", 8), ("MLP", 4)])
def test_cost_grows_with_z_and_the_prefix_shrinks_to_nothing(family: str, layers: int) -> None:
    spec = spec_of(family)
    if family == "Vision":
        data = spec.data.model_copy(update={"image_size": 64})
        spec = spec.model_copy(update={"model": spec.model.model_copy(update={"name": "alexnet"}), "data": data})
    found = profile(spec)
    assert found.layers == layers and found.step_tokens == FAMILIES[family]["step"]
    assert found.parameters == sorted(found.parameters)
    assert found.suffix_flops == sorted(found.suffix_flops)
    assert found.prefix_flops == sorted(found.prefix_flops, reverse=True) and found.prefix_flops[-1] == 0
    totals = [p + s for p, s in zip(found.prefix_flops, found.suffix_flops, strict=True)]
    assert totals == sorted(totals)


def test_flops_of_an_mlp_are_those_of_its_matrices() -> None:
    found = profile(spec_of("MLP"))
    forward = [2 * 30 * 24, 2 * 24 * 24, 2 * 24 * 24, 2 * 24 * 2]
    assert found.prefix_flops == [sum(forward[:3]), sum(forward[:2]), forward[0], 0]
    # Backward: gradients of weights everywhere, of inputs everywhere but at the cut.
    assert found.suffix_flops[0] == 2 * forward[3]
    assert found.suffix_flops[1] == 2 * forward[2] + 3 * forward[3]
    assert found.parameters == [50, 650, 1250, 1994]


def test_a_profile_of_a_large_model_allocates_next_to_nothing() -> None:
    import resource

    config = {"model_type": "llama", "hidden_size": 8192, "num_hidden_layers": 2, "num_attention_heads": 64}
    text = {"model": {"family": "CausalLM", "config": config}, "data": {"kind": "Text", "builtin": "python-docs"}}
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    found = profile(ProfileSpec.model_validate_json(json.dumps(text)))
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024
    assert found.parameters[-1] > 10**9 and grown < 0.2 * 4 * found.parameters[-1]


def test_the_profiles_hash_tells_what_it_depends_on() -> None:
    one = spec_of("CausalLM")
    rate = one.model_copy(update={"training": one.training.model_copy(update={"label_smoothing": 0.1})})
    longer = one.model_copy(update={"training": one.training.model_copy(update={"sequence_length": 16})})
    assert profile_hash(one) == profile_hash(rate) != profile_hash(longer)


def test_the_foretold_gain_of_packing_is_its_cost_rule() -> None:
    found = profile(spec_of("MLP"))
    prefix, suffix = found.prefix_flops[0] * 16, found.suffix_flops[0] * 16 + 100 * 50
    assert found.packing_gain(1, 1) == 1
    assert found.packing_gain(1, 8) == pytest.approx((prefix + suffix) / (prefix / 8 + suffix))
    assert found.packing_gain(4, 8) == 1  # nothing is shared at full depth
    assert found.packing_gain(1, 8) > found.packing_gain(2, 8) > found.packing_gain(3, 8)
