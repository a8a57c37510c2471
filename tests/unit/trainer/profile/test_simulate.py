"""The simulated run is the trainer's own, with CUDA's memory behaviour or the CPU's."""

from __future__ import annotations

import functools
import json
from typing import Any

import pytest
import torch
from torch import nn

from frostline_trainer.checkpoints.store import Store
from frostline_trainer.contract import ProfileSpec
from frostline_trainer.data.shape import DataShape
from frostline_trainer.data.source import ArraySource, Source
from frostline_trainer.device.emulation import counting, memory_limit
from frostline_trainer.device.placement import host_memory, placed
from frostline_trainer.device.tracker import MemoryTracker
from frostline_trainer.errors import StudyFault
from frostline_trainer.models.build import build_network
from frostline_trainer.profile.allocator import smallest_cap
from frostline_trainer.profile.fit import Simulation
from frostline_trainer.profile.memory import memory_hash, memory_profile
from frostline_trainer.profile.semantics import cuda_semantics
from frostline_trainer.profile.simulate import ShapeSource, layers_of, run_spec, simulate
from frostline_trainer.training.loop import evaluate, train_step
from frostline_trainer.training.pack import assemble

TEXT = DataShape("Text", (32,), 256)
TABLE = DataShape("Table", (30,), 2)
IMAGES = DataShape("Images", (3, 32, 32), 10)
GPT2 = {"family": "CausalLM", "config": {"model_type": "gpt2", "n_layer": 3, "n_embd": 64, "n_head": 4}}
MLP = {"family": "MLP", "hidden": [256, 256, 256]}


def spec_of(model: dict[str, Any], kind: str, **training: Any) -> ProfileSpec:
    builtin = {"Text": "python-docs", "Images": "digits", "Table": "breast-cancer"}[kind]
    document = {"model": model, "data": {"kind": kind, "builtin": builtin}, "training": training}
    return ProfileSpec.model_validate_json(json.dumps(document))


def really(spec: ProfileSpec, shape: DataShape, z: int, batch: int, trials: int) -> int:
    """Peak of the same run on real tensors, counted as a limit on a CPU counts."""
    run = run_spec(spec, z, batch, trials)
    pack = assemble(run, torch.device("cpu"), Store(""), ShapeSource(shape, batch), build_network(spec.model, shape, 0))
    with memory_limit(None) as tracker:
        placed(*pack.tensors())
        for step in range(2):
            train_step(pack, step, pack.members)
            if step == 0:
                evaluate(pack, pack.members, lambda: False)
    return tracker.peak


@pytest.mark.parametrize(
    ("model", "shape", "training"),
    [
        (GPT2, TEXT, {}),
        (GPT2, TEXT, {"optimizer": {"name": "AdamW", "fused": False}, "gradientClipping": 1.0}),
        (GPT2, TEXT, {"optimizer": {"name": "Adafactor"}}),
        (GPT2, TEXT, {"activationCheckpointing": True, "accumulation": 3}),
        (GPT2, TEXT, {"prefixPrecision": "bf16"}),
        (MLP, TABLE, {"optimizer": {"name": "SGD"}}),
        pytest.param({"family": "Vision", "name": "resnet18"}, IMAGES, {}, marks=pytest.mark.slow),
    ],
)
def test_what_is_foretold_for_a_cpu_is_what_a_run_on_it_counts(
    model: dict[str, Any], shape: DataShape, training: dict[str, Any]
) -> None:
    spec = spec_of(model, shape.kind, **training)
    for z, trials in ((1, 1), (3, 2)):
        foretold = simulate(spec, shape, z=z, batch=4, trials=trials, device="cpu").trace.peak()
        assert foretold == pytest.approx(really(spec, shape, z, 4, trials), rel=0.01)


@functools.cache
def peak(z: int, *, trials: int = 1, **training: Any) -> int:
    return simulate(spec_of(GPT2, "Text", **dict(training)), TEXT, z=z, batch=8, trials=trials).trace.peak()


def test_memory_rises_with_z() -> None:
    sizes = [peak(z) for z in (1, 2, 3, 4)]
    assert sizes == sorted(sizes)
    assert sizes[0] < 0.6 * sizes[-1]


def test_each_further_trial_costs_its_weights_and_states_and_no_activations() -> None:
    one, two, three = (peak(2, trials=k) for k in (1, 2, 3))
    held = simulate(spec_of(GPT2, "Text"), TEXT, z=2, batch=8).trial_bytes
    assert three - two == pytest.approx(held, rel=0.05)
    assert two - one == pytest.approx(held, rel=0.05)


def test_levers_that_save_memory_do() -> None:
    assert peak(4, activationCheckpointing=True) < 0.7 * peak(4)
    assert peak(1, prefixPrecision="bf16") < peak(1)
    assert peak(4, precision="bf16") < peak(4)


def test_the_fused_optimizer_saves_a_temporary_as_large_as_the_trainable_part() -> None:
    spec, slow = (spec_of(MLP, "Table", optimizer={"name": "AdamW", "fused": fused}) for fused in (True, False))
    parameters = 30 * 256 + 2 * 256 * 256 + 2 * 256 + 4 * 256
    saved = simulate(slow, TABLE, z=4, batch=4).trace.peak() - simulate(spec, TABLE, z=4, batch=4).trace.peak()
    assert saved == pytest.approx(parameters * 4, rel=0.1)


def test_the_8_bit_optimizer_holds_a_quarter_of_the_states() -> None:
    def held(name: str) -> int:
        return simulate(spec_of(MLP, "Table", optimizer={"name": name}), TABLE, z=4, batch=4).trial_bytes

    weights = 4 * (30 * 256 + 2 * 256 * 256 + 2 * 256 + 4 * 256)
    assert held("AdamW") == pytest.approx(3 * weights, rel=0.05)
    assert held("AdamW8bit") == pytest.approx(1.5 * weights, rel=0.05)


def test_a_model_too_large_for_this_machine_is_simulated_all_the_same() -> None:
    model = {"family": "MLP", "hidden": [65_536] * 8}  # 120 GB of weights
    trace = simulate(spec_of(model, "Table"), TABLE, z=1, batch=4).trace
    assert trace.peak() > 120e9


def test_the_simulation_leaves_nothing_behind() -> None:
    state = torch.get_rng_state()
    simulate(spec_of(GPT2, "Text"), TEXT, z=1, batch=2)
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.zeros(2).tolist() == [0.0, 0.0]
    with torch.autocast("cpu", torch.bfloat16):
        assert nn.functional.layer_norm(torch.ones(2, 4, dtype=torch.bfloat16), (4,)).dtype is torch.bfloat16


def test_under_cuda_semantics_dropout_keeps_one_byte_per_element() -> None:
    tracker = MemoryTracker(granule=1)
    x = torch.randn(1000, requires_grad=True)
    with cuda_semantics(), tracker:
        y = nn.functional.dropout(x, 0.5, True)
        assert tracker.live == 4000 + 1000
        del y


def test_under_cuda_semantics_autocast_leaves_norms_in_full_precision() -> None:
    with cuda_semantics(), torch.autocast("cpu", torch.bfloat16):
        assert nn.functional.layer_norm(torch.ones(2, 4, dtype=torch.bfloat16), (4,)).dtype is torch.float32


def test_attention_never_keeps_a_square_of_the_length_on_cuda() -> None:
    def kept(length: int) -> int:
        from torch._subclasses.fake_tensor import FakeTensorMode

        tracker = MemoryTracker()
        with FakeTensorMode(), cuda_semantics(), tracker:
            q, k, v = (torch.empty(1, 2, length, 16, requires_grad=True) for _ in range(3))
            before = tracker.live
            out = nn.functional.scaled_dot_product_attention(q, k, v, is_causal=True, dropout_p=0.1)
            size = tracker.live - before
            del out, q, k, v
        return size

    assert kept(4096) < 5 * kept(1024)


def test_a_z_that_the_model_does_not_have_is_the_studys_fault() -> None:
    with pytest.raises(StudyFault, match="layers"):
        simulate(spec_of(MLP, "Table"), TABLE, z=9, batch=4)


@functools.cache
def mlp_profile(device: Any = "cuda") -> Any:
    return memory_profile(spec_of(MLP, "Table", batchSize=4096), device, TABLE)


def test_the_profile_is_small_monotone_and_near_the_simulation_at_every_batch_and_pack() -> None:
    spec = spec_of(MLP, "Table", batchSize=4096)
    profile = mlp_profile()
    assert len(profile.model_dump_json(by_alias=True).encode()) <= 4096
    sizes = [profile.required(z) for z in range(1, profile.layers + 1)]
    assert sizes == sorted(sizes)
    workspace = round(profile.workspace * 2**20)
    for z, batch, trials in ((1, 4096, 1), (3, 1000, 1), (4, 20_000, 1), (2, 4096, 3), (4, 4096, 5)):
        simulated = simulate(spec, TABLE, z=z, batch=batch, trials=trials).trace.peak()
        assert profile.peak_allocated(z, batch, trials) - workspace == pytest.approx(simulated, rel=0.03)


def exact_largest_layers(spec: ProfileSpec, limit: int, shape: DataShape) -> int:
    """Largest z whose replay fits `limit` bytes, by simulations at every z tried, where the profile uses its knots.

    As the allocator's gaps are not quite monotone in z, the neighbours of the answer are tried too.
    """
    layers, _ = layers_of(spec, shape)
    needs: dict[int, int] = {}

    def need(z: int) -> int:
        if z not in needs:
            trace = simulate(spec, shape, z=z, batch=spec.training.batch_size).trace
            needs[z] = smallest_cap(trace)
        return needs[z]

    low, high = 0, layers
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if need(middle) <= limit else (low, middle - 1)
    while low > 0 and need(low) > limit:
        low -= 1
    while low < layers and need(low + 1) <= limit:
        low += 1
    return low


def test_apart_from_margin_and_workspaces_the_profiles_answer_is_that_of_the_exact_search() -> None:
    spec = spec_of(MLP, "Table", batchSize=4096)
    profile = mlp_profile()
    for limit in (int(profile.required(z) * 1.005) for z in (1, 2, 3)):
        bare = int(limit / profile.margin - profile.workspace * 2**20)
        assert profile.largest_layers(limit) == exact_largest_layers(spec, bare, TABLE)


def test_largest_answers_are_where_the_need_crosses_the_limit() -> None:
    profile = mlp_profile()
    limit = profile.required(2, trials=4)
    trials = profile.largest_trials(limit, 2)
    assert trials >= 4
    assert profile.required(2, trials=trials) <= limit
    assert trials == 16 or profile.required(2, trials=trials + 1) > limit
    batch = profile.largest_batch(limit, 2)
    assert profile.required(2, batch) <= limit < profile.required(2, batch + 1)
    assert profile.largest_layers(1) == 0


def test_a_cpus_profile_has_no_allocator_and_no_workspace() -> None:
    profile = mlp_profile("cpu")
    assert profile.peak_allocated(1) == profile.peak_reserved(1)
    assert profile.required(1) == pytest.approx(1.01 * profile.peak_allocated(1), rel=1e-6)


def test_the_hash_is_of_what_memory_depends_on_and_of_nothing_else() -> None:
    base = spec_of(MLP, "Table")
    same = spec_of(MLP, "Table", optimizer={"lr": 0.5, "weightDecay": 0.1})
    other = spec_of(MLP, "Table", optimizer={"fused": False})
    assert memory_hash(base, "cuda", TABLE) == memory_hash(same, "cuda", TABLE)
    assert memory_hash(base, "cuda", TABLE) != memory_hash(other, "cuda", TABLE)
    assert memory_hash(base, "cuda", TABLE) != memory_hash(base, "cpu", TABLE)


def test_simulations_are_reproducible() -> None:
    def once() -> Simulation:
        return simulate(spec_of(GPT2, "Text"), TEXT, z=2, batch=4, trials=2)

    assert once().trace.events == once().trace.events


@pytest.mark.parametrize("batch", [1, 8, 32])
def test_the_statistics_of_batch_norms_take_in_a_simulation_what_they_take_in_a_run(batch: int) -> None:
    spec = spec_of({"family": "Vision", "name": "resnet18"}, "Images", batchSize=batch)
    many = (torch.zeros(600, *IMAGES.input), torch.zeros(600, dtype=torch.long))

    def peak(source: Source) -> int:
        tracker = MemoryTracker()
        with counting(tracker):
            with host_memory():
                network = build_network(spec.model, IMAGES, 0)
            assemble(run_spec(spec, 1, batch, 1), torch.device("cpu"), Store(""), source, network).batches.close()
        return tracker.trace.peak()

    real = peak(ArraySource(IMAGES, many, many))
    assert peak(ShapeSource(IMAGES, batch)) == pytest.approx(real, rel=0.01)
