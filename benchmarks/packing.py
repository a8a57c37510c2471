"""What one frozen prefix for many trials saves: python benchmarks/packing.py [--quick] [--models NAME ...]

Per trial and optimizer step: full training, freezing alone (a run per trial), packed (one prefix for K trials), and
packed with the prefix's output read from the cache. All ways take turns within each round, so whatever else the machine
does hits them alike; ratios are taken within a round, and medians over the rounds are shown. Memory is the peak of live
tensors of one step (on CUDA: torch.cuda.max_memory_allocated). Writes benchmarks/results/packing.json.
"""

from __future__ import annotations

import argparse
import copy
import dataclasses
import json
import os
import platform
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

from frostline_trainer.checkpoints.store import Store
from frostline_trainer.contract import ProfileSpec, RunSpec
from frostline_trainer.device.emulation import memory_limit
from frostline_trainer.device.placement import placed
from frostline_trainer.profile.costs import profile
from frostline_trainer.training.loop import train_step
from frostline_trainer.training.pack import Pack, build_pack
from frostline_trainer.training.prefix_cache import PrefixCache

COUNTS = (1, 2, 4, 8, 16)
ROUNDS = 5
TEXT = {"kind": "Text", "builtin": "python-docs"}


def models(folder: Path) -> dict[str, dict[str, Any]]:
    """The networks that are measured, with their data."""
    generator = np.random.default_rng(0)
    np.savez(folder / "images.npz", x=generator.random((512, 32, 32, 3), dtype=np.float32), y=np.arange(512) % 100)
    np.savez(folder / "table.npz", x=generator.random((4096, 64), dtype=np.float32), y=np.arange(4096) % 10)

    def gpt2(blocks: int, width: int, vocabulary: int) -> dict[str, Any]:
        sizes = {
            "n_layer": blocks,
            "n_embd": width,
            "n_head": width // 64,
            "n_positions": 128,
            "vocab_size": vocabulary,
        }
        return {"family": "CausalLM", "config": {"model_type": "gpt2", **sizes}}

    return {
        "gpt2-bytes-12x256": {"model": gpt2(12, 256, 256), "data": TEXT, "batchSize": 4, "sequenceLength": 128},
        "gpt2-50k-4x128": {"model": gpt2(4, 128, 50257), "data": TEXT, "batchSize": 2, "sequenceLength": 128},
        "resnet18": {
            "model": {"family": "Vision", "name": "resnet18"},
            "data": {"kind": "Images", "path": str(folder / "images.npz")},
            "batchSize": 16,
        },
        "mlp-8x512": {
            "model": {"family": "MLP", "hidden": [512] * 8},
            "data": {"kind": "Table", "path": str(folder / "table.npz")},
            "batchSize": 128,
        },
    }


def make_pack(case: dict[str, Any], z: int, trials: int, folder: Path, device: torch.device) -> Pack:
    """A run of so many trials, its cache able to hold every batch."""
    training = {name: case[name] for name in ("batchSize", "sequenceLength") if name in case}
    document = {
        "study": "bench",
        "studyUid": "bench",
        "run": "bench",
        "rung": 0,
        "layers": z,
        "tokens": 10**9,  # many passes over the data, so that every batch comes again
        "horizon": 10**9,
        "trials": [
            {"name": f"t{i}", "training": {**training, "optimizer": {"lr": 1e-4 * (i + 1)}}} for i in range(trials)
        ],
        "model": case["model"],
        "data": case["data"],
        "checkpoint": str(folder),
        "cacheBytes": 1 << 30,
    }
    return build_pack(RunSpec.model_validate_json(json.dumps(document)), device, Store(str(folder)))


def without_cache(pack: Pack) -> Pack:
    """The same run, computing the prefix each time."""
    batches = copy.copy(pack.batches)
    batches._cache = PrefixCache(0)
    return dataclasses.replace(pack, batches=batches)


def seconds(pack: Pack, count: int, steps: int) -> float:
    """Wall-clock seconds of one optimizer step for each of the first `count` trials."""
    members = pack.members[:count]
    if pack.device.type == "cuda":
        torch.cuda.synchronize()
    began = time.perf_counter()
    for step in range(steps):
        train_step(pack, step, members)
    if pack.device.type == "cuda":
        torch.cuda.synchronize()
    return (time.perf_counter() - began) / steps


def peak_bytes(pack: Pack, count: int) -> int:
    """Peak of live bytes in a step of the first `count` trials, counting only what such a run would hold."""
    part = dataclasses.replace(pack, members=pack.members[:count])
    if pack.device.type == "cuda":
        others = sum(t.numel() * t.element_size() for m in pack.members[count:] for t in held(m))
        torch.cuda.reset_peak_memory_stats()
        seconds(part, count, 1)
        return torch.cuda.max_memory_allocated() - others
    with memory_limit(None) as tracker:
        placed(*part.tensors())
        train_step(part, 0, part.members)
        return tracker.peak


def held(member: Any) -> list[torch.Tensor]:
    """What one trial keeps on the device."""
    return [*member.suffix.trainable().values(), *member.held()]


def measure(
    name: str, case: dict[str, Any], arguments: argparse.Namespace, folder: Path, device: torch.device
) -> list[Any]:
    """One row per (z, K)."""
    training = {key: case[key] for key in ("batchSize", "sequenceLength") if key in case}
    spec = {"model": case["model"], "data": case["data"], "training": training}
    costs = profile(ProfileSpec.model_validate_json(json.dumps(spec)))
    layers = costs.layers
    counts = (1, 8) if arguments.quick else COUNTS
    shares = (1 / 4,) if arguments.quick else (1 / 8, 1 / 4, 1 / 2)
    depths = sorted({1, *(max(1, round(layers * share)) for share in shares)})
    full = make_pack(case, layers, 1, folder, device)
    seconds(full, 1, 1)
    full_peak = peak_bytes(full, 1)
    rows = []
    for z in depths:
        cached = make_pack(case, z, max(counts), folder, device)
        plain = without_cache(cached)
        for pack in (plain, cached):
            seconds(pack, max(counts), arguments.steps)  # warm up: optimizer state, cache, allocator
        times: dict[str, list[float]] = {}
        for _ in range(arguments.rounds):
            times.setdefault("full", []).append(seconds(full, 1, arguments.steps))
            for count in counts:
                times.setdefault(f"packed-{count}", []).append(seconds(plain, count, arguments.steps) / count)
                times.setdefault(f"cached-{count}", []).append(seconds(cached, count, arguments.steps) / count)
        for count in counts:
            prefix, suffix = costs.prefix_flops[z - 1], costs.suffix_flops[z - 1]
            packed, read = times[f"packed-{count}"], times[f"cached-{count}"]
            row = {
                "model": name,
                "layers": layers,
                "z": z,
                "trials": count,
                "full_ms": 1e3 * statistics.median(times["full"]),
                "alone_ms": 1e3 * statistics.median(times["packed-1"]),
                "packed_ms": 1e3 * statistics.median(packed),
                "cached_ms": 1e3 * statistics.median(read),
                "full_over_alone": ratio(times["full"], times["packed-1"]),
                "full_over_packed": ratio(times["full"], packed),
                "alone_over_packed": ratio(times["packed-1"], packed),
                "full_over_cached": ratio(times["full"], read),
                "predicted_alone_over_packed": (prefix + suffix) / (prefix / count + suffix),
                "full_peak_bytes": full_peak,
                "packed_peak_bytes": peak_bytes(plain, count),
            }
            rows.append(row)
            show(row)
        cached.batches.close()
    return rows


def ratio(above: list[float], below: list[float]) -> float:
    """Median of the ratios taken within each round."""
    return statistics.median(a / b for a, b in zip(above, below, strict=True))


COLUMNS = (
    ("model", "model", "<18"),
    ("z", "z", ">3"),
    ("K", "trials", ">3"),
    ("full ms", "full_ms", ">9.1f"),
    ("alone ms", "alone_ms", ">9.1f"),
    ("packed ms", "packed_ms", ">9.2f"),
    ("cached ms", "cached_ms", ">9.2f"),
    ("full/alone", "full_over_alone", ">10.2f"),
    ("full/packed", "full_over_packed", ">11.2f"),
    ("alone/packed", "alone_over_packed", ">12.2f"),
    ("(by FLOPs)", "predicted_alone_over_packed", ">10.2f"),
    ("full/cached", "full_over_cached", ">11.2f"),
    ("full B", "full_peak_bytes", ">13,"),
    ("run B", "packed_peak_bytes", ">13,"),
)
"""Title, field and format; milliseconds are per trial and step, bytes per run."""


def header() -> str:
    """The table's first line."""
    return " ".join(f"{title:{form.split('.')[0].rstrip(',')}}" for title, _, form in COLUMNS)


def show(row: dict[str, Any]) -> None:
    """One line of the table."""
    print(" ".join(f"{row[field]:{form}}" for _, field, form in COLUMNS), flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="K in {1, 8}, z in {1, L/4}: about two minutes")
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--steps", type=int, default=1, help="optimizer steps per measurement")
    parser.add_argument("--models", nargs="*", help="only these")
    parser.add_argument("--threads", type=int, help="of torch; by default all cores")
    parser.add_argument("--output", type=Path, default=Path(__file__).parent / "results" / "packing.json")
    arguments = parser.parse_args()
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    rows: list[Any] = []
    began = time.monotonic()
    load = os.getloadavg()[0]
    with tempfile.TemporaryDirectory() as folder:
        cases = models(Path(folder))
        print(header())
        for name in arguments.models or cases:
            rows += measure(name, cases[name], arguments, Path(folder), device)
    document = {
        "device": torch.cuda.get_device_name() if device.type == "cuda" else platform.processor() or platform.machine(),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "rounds": arguments.rounds,
        "steps": arguments.steps,
        "load_before": load,
        "seconds": round(time.monotonic() - began, 1),
        "rows": rows,
    }
    arguments.output.parent.mkdir(parents=True, exist_ok=True)
    arguments.output.write_text(json.dumps(document, indent=1) + "\n")
    print(f"{document['seconds']} s, written to {arguments.output}")


if __name__ == "__main__":
    main()
