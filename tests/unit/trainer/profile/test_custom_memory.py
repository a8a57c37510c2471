"""Custom entrypoints have a memory profile: simulated where their code can be traced, else measured in a short run."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from torch import nn

from frostline_trainer import Trial
from frostline_trainer.contract import DataSpec, ExitCode, ModelSpec, ProfileSpec, RunResult, RunSpec, TrainingSpec
from frostline_trainer.device.memory import DeviceMemory
from frostline_trainer.profile.custom_costs import custom_costs
from frostline_trainer.profile.memory import memory_profile
from frostline_trainer.reporting.metrics import RunMetrics
from frostline_trainer.run import StopFlag, evaluate_run

WIDTH = 256


def train(trial: Trial) -> None:
    """A plain entrypoint that takes the study's batch size."""
    torch.manual_seed(trial.seed)
    x, y = torch.randn(4096, WIDTH), torch.randint(0, 10, (4096,))
    blocks = [nn.Sequential(nn.Linear(WIDTH, WIDTH), nn.Tanh()) for _ in range(5)]
    prefix, suffix = trial.freeze([*blocks, nn.Linear(WIDTH, 10)])
    optimizer = trial.resume(torch.optim.AdamW(suffix.parameters(), lr=1e-3, fused=True))
    seen, batch = trial.start_tokens, trial.training.batch_size
    while seen < trial.tokens and not trial.should_stop:
        rows = torch.arange(seen, seen + batch) % len(x)
        loss = nn.functional.cross_entropy(suffix(prefix(x[rows].to(trial.device))), y[rows].to(trial.device))
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        seen += batch
        trial.report(tokens=seen)
    trial.report(tokens=seen, loss=loss.item())


def choosy(trial: Trial) -> None:
    """Looks at values: which samples are kept depends on them, so there is nothing to trace."""
    keep = trial.training.batch_size
    x = torch.linspace(-1, 1, 64 * WIDTH).view(64, WIDTH)
    x = x[x.sum(1).abs().topk(keep).indices][torch.ones(keep, dtype=torch.bool)]
    prefix, suffix = trial.freeze([nn.Linear(WIDTH, WIDTH), nn.Linear(WIDTH, WIDTH), nn.Linear(WIDTH, 10)])
    optimizer = trial.resume(torch.optim.SGD(suffix.parameters(), lr=0.1))
    seen = 0
    while seen < trial.tokens:
        loss = suffix(prefix(x)).square().mean()
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        seen += keep
        trial.report(tokens=seen)
    trial.report(tokens=seen, loss=loss.item())


def endless(trial: Trial) -> None:
    trial.freeze([nn.Linear(2, 2)])
    raise RuntimeError("the disk is full")


def spec(function: str, batch: int = 64) -> ProfileSpec:
    model = ModelSpec(family="Custom", entrypoint=f"{__name__}:{function}")
    return ProfileSpec(model=model, data=DataSpec(kind="None"), training=TrainingSpec(batch_size=batch))


def run(function: str, limit: int | None, folder: Path, *, z: int, trials: int = 1, batch: int = 64) -> RunResult:
    document = {
        "study": "s", "studyUid": "u", "run": "r", "rung": 0, "layers": z, "tokens": 3 * batch, "horizon": 3 * batch,
        "trials": [{"name": f"t{i}", "training": {"batchSize": batch}} for i in range(trials)], "metric": "loss",
        "model": {"family": "Custom", "entrypoint": f"{__name__}:{function}"}, "data": {"kind": "None"},
        "checkpoint": str(folder), "memoryLimit": limit,
    }  # fmt: skip
    parsed = RunSpec.model_validate_json(json.dumps(document))
    device = torch.device("cpu")
    return evaluate_run(parsed, device, RunMetrics(parsed, z), StopFlag(), DeviceMemory(device, limit), 0.0)


def test_what_is_foretold_for_a_cpu_is_what_a_run_of_the_entrypoint_counts(tmp_path: Path) -> None:
    found = memory_profile(spec("train"), "cpu")
    assert (found.method, found.layers) == ("Simulated", 6)
    for z, trials, batch in ((1, 1, 64), (4, 1, 64), (6, 1, 64), (3, 3, 64), (3, 1, 200)):
        counted = run("train", 1 << 40, tmp_path / f"{z}-{trials}-{batch}", z=z, trials=trials, batch=batch).peak_bytes
        foretold = found.peak_allocated(z, batch, trials)
        assert counted <= found.required(z, batch, trials) or batch != 64
        assert foretold == pytest.approx(counted, rel=0.02 if trials == 1 else 0.25)  # of a pack, an upper bound


def test_the_declared_limit_holds_for_an_entrypoint(tmp_path: Path) -> None:
    need = memory_profile(spec("train"), "cpu").required(6)
    assert run("train", need, tmp_path / "fits", z=6).exit_code == ExitCode.DONE
    out = run("train", int(0.9 * need), tmp_path / "does-not", z=6)
    assert out.exit_code == ExitCode.OUT_OF_MEMORY and out.trials[0].reason == "OutOfMemory"
    packed = run("train", int(1.5 * need), tmp_path / "packed", z=5, trials=4)  # its threads are counted too
    assert packed.exit_code == ExitCode.OUT_OF_MEMORY


def test_a_simulated_gpu_holds_what_is_moved_to_it_and_needs_more_with_each_layer() -> None:
    found = memory_profile(spec("train"), "cuda")
    assert found.method == "Simulated"
    needs = [found.required(z) for z in range(1, 7)]
    assert needs == sorted(needs)
    data = 4096 * WIDTH * 4  # stays in host memory: only batches are moved
    assert found.peak_allocated(1) - found.workspace * 2**20 < data


def test_an_entrypoint_that_cannot_be_traced_is_measured_and_the_profile_says_so(tmp_path: Path) -> None:
    found = memory_profile(spec("choosy", batch=32), "cpu")
    assert (found.method, found.layers) == ("Probed", 3)
    for z in (1, 2, 3):
        counted = run("choosy", 1 << 40, tmp_path / str(z), z=z, batch=32).peak_bytes
        assert found.peak_allocated(z) == pytest.approx(counted, rel=0.02)
    costs = custom_costs(spec("choosy", batch=32))
    assert costs.layers == 3 and costs.step_tokens == 32
    assert costs.prefix_flops[0] == 2 * 2 * WIDTH * WIDTH


def test_an_entrypoint_that_fails_for_real_says_what_it_said() -> None:
    from frostline_trainer.errors import StudyFault

    with pytest.raises(StudyFault, match="the disk is full"):
        memory_profile(spec("endless"), "cpu")
