"""Peak memory: foretold against measured, and what it costs to foretell it.

    python benchmarks/memory.py accuracy                 # on a CPU: allocator events of torch's profiler
    python benchmarks/memory.py accuracy --device cuda   # on a GPU: max_memory_allocated, _reserved and capped runs
    python benchmarks/memory.py profiles                 # time and host memory per model, largest z per card

Results go to benchmarks/results/. On a CPU like is compared with like: the simulation is told to follow the CPU's
kernels (`device="cpu"`); what it says about CUDA can only be checked on a GPU.
"""

from __future__ import annotations

import argparse
import gc
import json
import resource
import statistics
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent / "results"
GIB = 2**30
CARDS = (8, 16, 24, 40, 80)


@dataclass(frozen=True)
class Case:
    """One configuration: a model on data of one shape, and how it is trained."""

    name: str
    model: dict[str, Any]
    shape: tuple[Any, ...]
    batch: int
    training: dict[str, Any] = field(default_factory=dict)
    trials: int = 1
    layers: tuple[float, ...] = (0.0, 0.5, 1.0)
    profiled: bool = False
    """Whether the compact profile is made as well, and held against the measurement."""


def lm(kind: str, **config: Any) -> dict[str, Any]:
    return {"family": "CausalLM", "config": {"model_type": kind, **config}}


GPT2 = lm("gpt2", n_layer=6, n_embd=256, n_head=8)
NEOX = lm("gpt_neox", num_hidden_layers=6, hidden_size=256, num_attention_heads=8, intermediate_size=1024)
LLAMA = lm(
    "llama", num_hidden_layers=6, hidden_size=256, num_attention_heads=8, num_key_value_heads=4, intermediate_size=688
)
MLP = {"family": "MLP", "hidden": [1024] * 6}
RESNET = {"family": "Vision", "name": "resnet18"}
VIT = {"family": "Vision", "name": "vit_b_16"}
TEXT = ("Text", (256,), 4096)
IMAGES = ("Images", (3, 64, 64), 100)
TABLE = ("Table", (200,), 10)


def fused(name: str, **fields: Any) -> dict[str, Any]:
    return {"optimizer": {"name": name, **fields}}


CASES = [
    Case("gpt2 adamw fused", GPT2, TEXT, 8, layers=(0.0, 0.25, 0.5, 0.75, 1.0), profiled=True),
    Case("gpt2 adamw foreach", GPT2, TEXT, 2, fused("AdamW", fused=False)),
    Case("gpt2 sgd momentum", GPT2, TEXT, 4, fused("SGD")),
    Case("gpt2 adafactor", GPT2, TEXT, 2, fused("Adafactor")),
    Case("gpt2 bf16", GPT2, TEXT, 4, {"precision": "bf16"}),
    Case("gpt2 checkpointing", GPT2, TEXT, 8, {"activationCheckpointing": True}),
    Case("gpt2 accumulation 4", GPT2, TEXT, 2, {"accumulation": 4}),
    Case("gpt2 clipping", GPT2, TEXT, 2, {"gradientClipping": 1.0}),
    Case("gpt2 K=4", GPT2, TEXT, 4, trials=4, profiled=True),
    Case("gpt2 K=3 accumulation 2", GPT2, TEXT, 2, {"accumulation": 2}, trials=3, layers=(0.0, 0.5)),
    Case("gpt2 bf16 prefix", GPT2, TEXT, 4, {"prefixPrecision": "bf16"}, layers=(0.0, 0.5)),
    Case("gpt_neox adamw", NEOX, TEXT, 8),
    Case("llama adamw", LLAMA, TEXT, 8, profiled=True),
    Case("llama K=2", LLAMA, TEXT, 4, trials=2, layers=(0.25, 0.5)),
    Case("mlp adamw", MLP, TABLE, 2048, profiled=True),
    Case("mlp sgd K=8", MLP, TABLE, 256, fused("SGD"), trials=8),
    Case("resnet18 sgd", RESNET, IMAGES, 32, fused("SGD"), profiled=True),
    Case("resnet18 adamw K=2", RESNET, IMAGES, 64, trials=2, layers=(0.0, 0.5)),
    Case("vit_b_16 adamw", VIT, IMAGES, 16, layers=(0.0, 0.3, 1.0), profiled=True),
]


def specification(case: Case) -> Any:
    from frostline_trainer.contract import ProfileSpec
    from frostline_trainer.data.shape import DataShape

    builtin = {"Text": "python-docs", "Images": "digits", "Table": "breast-cancer"}[case.shape[0]]
    training = {"batchSize": case.batch, **case.training}
    if case.shape[0] == "Text":
        training["sequenceLength"] = case.shape[1][0]
    document = {"model": case.model, "data": {"kind": case.shape[0], "builtin": builtin}, "training": training}
    return ProfileSpec.model_validate_json(json.dumps(document)), DataShape(*case.shape)


def chosen(case: Case, layers: int) -> list[int]:
    return sorted({max(1, round(share * layers)) for share in case.layers})


def run_for_real(spec: Any, shape: Any, z: int, case: Case, device: str) -> Any:
    """The trainer's own pack on real tensors, and the work that the simulation does: two steps and an evaluation."""
    import torch

    from frostline_trainer.checkpoints.store import Store
    from frostline_trainer.models.build import build_network
    from frostline_trainer.profile.simulate import ShapeSource, run_spec
    from frostline_trainer.training.loop import evaluate, train_step
    from frostline_trainer.training.pack import assemble

    run = run_spec(spec, z, case.batch, case.trials)
    network = build_network(spec.model, shape, 0)
    pack = assemble(run, torch.device(device), Store(""), ShapeSource(shape, case.batch), network)
    del network
    gc.collect()

    def work() -> None:
        for step in range(2):
            train_step(pack, step, pack.members)
            if step == 0:
                evaluate(pack, pack.members, lambda: False)

    return pack, work


def measured_on_cpu(spec: Any, shape: Any, z: int, case: Case) -> int:
    """Peak of what the CPU's allocator handed out, by the profiler's allocation events."""
    from torch._C._profiler import _EventType
    from torch.profiler import ProfilerActivity, profile

    pack, work = run_for_real(spec, shape, z, case, "cpu")
    held = {t.untyped_storage()._cdata: t.untyped_storage().nbytes() for t in pack.tensors()}
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        work()
    events = []
    stack = list(profiler.profiler.kineto_results.experimental_event_tree())
    while stack:
        event = stack.pop()
        if event.tag == _EventType.Allocation:
            events.append((event.start_time_ns, event.extra_fields.alloc_size))
        stack.extend(event.children)
    live = peak = sum(held.values())
    for _, size in sorted(events, key=lambda event: event[0]):
        live += size
        peak = max(peak, live)
    return peak


def measured_on_cuda(spec: Any, shape: Any, z: int, case: Case, cap: int | None = None) -> tuple[int, int] | None:
    """Peaks of allocated and reserved bytes; None where the run did not fit `cap` bytes."""
    import torch

    gc.collect()
    torch.cuda.empty_cache()
    total = torch.cuda.get_device_properties(0).total_memory
    torch.cuda.set_per_process_memory_fraction(1.0 if cap is None else min(1.0, cap / total))
    torch.cuda.reset_peak_memory_stats()
    try:
        pack, work = run_for_real(spec, shape, z, case, "cuda")
        try:
            work()
            torch.cuda.synchronize()
        finally:
            pack.batches.close()  # its thread reads ahead, into pinned memory
    except torch.OutOfMemoryError:
        return None
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
    return torch.cuda.max_memory_allocated(), torch.cuda.max_memory_reserved()


def accuracy(device: str, only: str | None) -> None:
    from frostline_trainer.profile.allocator import replay
    from frostline_trainer.profile.memory import memory_profile
    from frostline_trainer.profile.simulate import layers_of, simulate

    path = RESULTS / f"memory-accuracy-{device}.json"
    rows: list[dict[str, Any]] = json.loads(path.read_text())["rows"] if only and path.exists() else []
    for case in CASES:
        if only and only not in case.name:
            continue
        rows = [row for row in rows if row["case"] != case.name]
        spec, shape = specification(case)
        layers, _ = layers_of(spec, shape)
        profile = memory_profile(spec, device, shape) if case.profiled or device == "cuda" else None  # type: ignore[arg-type]
        for z in chosen(case, layers):
            granule = 1 if device == "cpu" else 512
            simulation = simulate(
                spec,
                shape,
                z=z,
                batch=case.batch,
                trials=case.trials,
                device=device,
                granule=granule,  # type: ignore[arg-type]
            )
            row: dict[str, Any] = {
                "case": case.name,
                "z": z,
                "layers": layers,
                "batch": case.batch,
                "trials": case.trials,
            }
            if device == "cpu":
                row["simulated"], row["measured"] = simulation.trace.peak(1), measured_on_cpu(spec, shape, z, case)
            else:
                assert profile is not None
                replayed = replay(simulation.trace)
                workspace = round(profile.workspace * 2**20)
                peaks = measured_on_cuda(spec, shape, z, case)
                assert peaks is not None
                row["simulated"], row["measured"] = replayed.allocated + workspace, peaks[0]
                row["simulated_reserved"], row["measured_reserved"] = replayed.reserved + workspace, peaks[1]
                need = profile.required(z, trials=case.trials)
                row["required"] = need
                row["fits_when_said_to"] = measured_on_cuda(spec, shape, z, case, cap=need) is not None
                short = profile.required(max(1, z - 1), trials=case.trials)
                if z > 1 and short < need:
                    row["runs_out_when_said_to"] = measured_on_cuda(spec, shape, z, case, cap=short) is None
            row["error"] = row["simulated"] / row["measured"] - 1
            text = ""
            if profile is not None:
                row["profile"] = profile.peak_allocated(z, trials=case.trials)
                row["profile_error"] = row["profile"] / row["measured"] - 1
                text = f" profile {row['profile_error']:+7.2%}"
            before = [other["simulated"] for other in rows if other["case"] == case.name]
            row["rises"] = not before or row["simulated"] >= before[-1]
            rows.append(row)
            print(
                f"{case.name:26} z={z:2}/{layers:<2} b={case.batch:<4} K={case.trials} "
                f"measured {row['measured'] / 2**20:8.1f} MiB "
                f"simulated {row['error']:+7.2%}{text}",
                flush=True,
            )
        summarise(device, rows)


def summarise(device: str, rows: list[dict[str, Any]]) -> None:
    monotone = all(row["rises"] for row in rows)
    summary: dict[str, Any] = {"device": device, "configurations": len(rows), "monotone_in_z": monotone}
    for name in ("error", "profile_error"):
        errors = [abs(row[name]) for row in rows if name in row] or [0.0]
        summary[f"mean_{name}"], summary[f"max_{name}"] = statistics.mean(errors), max(errors)
    if device == "cuda":
        summary["said_to_fit_and_fits"] = all(row["fits_when_said_to"] for row in rows)
        out = [row["runs_out_when_said_to"] for row in rows if "runs_out_when_said_to" in row]
        summary["one_layer_less_memory_runs_out"] = sum(out) / max(1, len(out))
    store(f"memory-accuracy-{device}", {"summary": summary, "rows": rows})


IMAGENET = ("Images", (3, 224, 224), 1000)
PYTHIA = lm(
    "gpt_neox",
    hidden_size=2048,
    num_hidden_layers=24,
    num_attention_heads=16,
    intermediate_size=8192,
    max_position_embeddings=2048,
)
MODELS = {
    "GPT-2 124M": Case("", lm("gpt2"), ("Text", (1024,), 50257), 8),
    "Pythia-1.4B": Case("", PYTHIA, ("Text", (2048,), 50304), 1),
    "Pythia-1.4B, bf16": Case(
        "", PYTHIA, ("Text", (2048,), 50304), 1, {"prefixPrecision": "bf16", "precision": "bf16"}
    ),
    "Llama 8B": Case(
        "",
        lm(
            "llama",
            hidden_size=4096,
            num_hidden_layers=32,
            num_attention_heads=32,
            num_key_value_heads=8,
            intermediate_size=14336,
            max_position_embeddings=8192,
        ),
        ("Text", (2048,), 128256),
        1,
        {"prefixPrecision": "bf16", "precision": "bf16"},
    ),
    "ResNet-50": Case("", {"family": "Vision", "name": "resnet50"}, IMAGENET, 32),
    "ViT-L/16": Case("", {"family": "Vision", "name": "vit_l_16"}, IMAGENET, 32),
}


def one_profile(name: str) -> dict[str, Any]:
    """In a process of its own: time and host memory, imports apart."""
    from frostline_trainer.profile.memory import memory_hash, memory_profile
    from frostline_trainer.profile.table import usable_bytes

    spec, shape = specification(MODELS[name])
    memory_hash(spec, "cuda", shape)  # imports all packages
    import torchvision  # noqa: F401
    import transformers

    transformers.AutoModelForCausalLM  # noqa: B018 - lazily imported
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    began, computed = time.perf_counter(), time.process_time()
    profile = memory_profile(spec, shape=shape)
    seconds, computed = time.perf_counter() - began, time.process_time() - computed
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    document = profile.model_dump_json(by_alias=True)
    usable = {card: usable_bytes(card * GIB) for card in CARDS}
    middle = (profile.layers + 1) // 2
    return {
        "model": name,
        "layers": profile.layers,
        "batch": profile.batch,
        "seconds": round(seconds, 1),
        "cpu_seconds": round(computed, 1),
        "host_mib": round(peak / 1024),
        "host_mib_imports": round(before / 1024),
        "bytes": len(document),
        "allocated_mib": {z: round(profile.peak_allocated(z) / 2**20) for z in (1, middle, profile.layers)},
        "required_mib": {z: round(profile.required(z) / 2**20) for z in (1, middle, profile.layers)},
        "largest_z": {card: profile.largest_layers(usable[card]) for card in CARDS},
        "largest_k_at_1": {card: profile.largest_trials(usable[card], 1) for card in CARDS},
        "profile": json.loads(document),
    }


def profiles(only: str | None) -> None:
    path = RESULTS / "memory-profiles.json"
    rows = {row["model"]: row for row in json.loads(path.read_text())["rows"]} if only and path.exists() else {}
    for name in [only] if only else MODELS:
        done = subprocess.run([sys.executable, __file__, "one", name], capture_output=True, text=True, check=True)
        rows[name] = json.loads(done.stdout.splitlines()[-1])
        print({key: value for key, value in rows[name].items() if key != "profile"}, flush=True)
    store("memory-profiles", {"cards_gib": CARDS, "rows": [rows[name] for name in MODELS if name in rows]})


def store(name: str, document: dict[str, Any]) -> None:
    import torch

    document = {"torch": torch.__version__, **document}
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / f"{name}.json").write_text(json.dumps(document, indent=1) + "\n")
    if "summary" in document:
        print(json.dumps(document["summary"]), flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("accuracy", "profiles", "one"))
    parser.add_argument("model", nargs="?", choices=tuple(MODELS))
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--case", help="only the cases with this in their name; the results of the others are kept")
    parsed = parser.parse_args()
    if parsed.what == "accuracy":
        accuracy(parsed.device, parsed.case)
    elif parsed.what == "profiles":
        profiles(parsed.model)
    else:
        print(json.dumps(one_profile(parsed.model)))


if __name__ == "__main__":
    main()
