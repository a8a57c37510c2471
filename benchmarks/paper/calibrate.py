"""What a step costs at each z: FLOPs by counting, seconds and peak bytes by measuring.

Seconds are those of one CPU thread as the operating system charges them (on a GPU wall-clock seconds), so other work
on the machine hardly counts; within a round all z take their turn, and medians over the rounds are kept.
"""

from __future__ import annotations

import gc
import statistics
import tempfile
import time
from dataclasses import dataclass
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.paper.cases import Case
from benchmarks.paper.grid import Leg, build, chain, run_spec
from frostline_trainer.contract import ModelProfile
from frostline_trainer.data.open import data_shape
from frostline_trainer.data.source import blank
from frostline_trainer.device.emulation import memory_limit
from frostline_trainer.device.placement import placed
from frostline_trainer.models.cut import run_prefix
from frostline_trainer.profile.costs import profile
from frostline_trainer.profile.memory import memory_profile
from frostline_trainer.training.loop import train_step
from frostline_trainer.training.objective import objective_of
from frostline_trainer.training.pack import Pack

MANY = 8
"""Trials of the packed run whose pace is compared with that of one."""
ROUNDS, STEPS = 5, 4


def model_profile(case: Case) -> ModelProfile:
    """The product's count of FLOPs; a network that no manifest describes is counted here in the same way."""
    if case.network is None:
        return profile(case.specification())
    spec = case.specification()
    shape = data_shape(spec.data, spec.training)
    parameters, prefix_flops, suffix_flops = [], [], []
    for z in range(1, case.layers + 1):
        split = case.build(shape, 0).split(z)
        suffix = split.suffixes[0].train()
        x, y = blank(shape, 2)
        with FlopCounterMode(display=False) as forward:
            features = run_prefix(split.prefix, x)
        with FlopCounterMode(display=False) as both:
            objective_of(shape).loss(suffix(features), y, 0.0).backward()  # type: ignore[no-untyped-call]
        parameters.append(sum(p.numel() for p in suffix.trainable().values()))
        prefix_flops.append(forward.get_total_flops() / 2)
        suffix_flops.append(both.get_total_flops() / 2)
    return ModelProfile(
        hash=case.name,
        layers=case.layers,
        unit="samples",
        parameters=parameters,
        prefix_flops=prefix_flops,
        suffix_flops=suffix_flops,
        step_tokens=spec.training.batch_size,
    )


def pace(case: Case) -> dict[int, tuple[float, float]]:
    """Seconds of an optimizer step at each measured z: what all trials of a run share, and what each takes."""
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        packs = {}
        for z in sorted(case.depths):
            for trials in (1, MANY):
                spec = run_spec(case, Leg(z, case.tokens), range(trials), 0, folder)
                packs[z, trials] = build(case, spec.model_copy(update={"cache_bytes": 0}))
        for pack in packs.values():
            _seconds(pack, 1)
        rounds = [{key: _seconds(pack, STEPS) for key, pack in packs.items()} for _ in range(ROUNDS)]
    found = {}
    for z in sorted(case.depths):
        one, many = (statistics.median(times[z, trials] for times in rounds) for trials in (1, MANY))
        each = min(one, max(0.0, (many - one) / (MANY - 1)))
        found[z] = (one - each, each)
    return found


def _seconds(pack: Pack, steps: int) -> float:
    cuda = pack.device.type == "cuda"
    clock = time.perf_counter if cuda else time.process_time
    if cuda:
        torch.cuda.synchronize()
    began = clock()
    for step in range(steps):
        train_step(pack, step, pack.members)
    if cuda:
        torch.cuda.synchronize()
    return (clock() - began) / steps


@dataclass(frozen=True)
class Memory:
    """Peak bytes of a run that trains at z: foretold from fakes, and counted in a real step."""

    z: int
    trials: int
    predicted: int | None
    measured: int


def memory(case: Case) -> list[Memory]:
    """Of the joint schedule's rungs with 16, 8, 4 and 2 trials in a run, and of one fully trained trial."""
    spec = case.specification()
    foretold: Any = None
    if case.network is None:
        foretold = memory_profile(spec, "cpu", data_shape(spec.data, spec.training))
    found = []
    for (z, _), trials in [*zip(chain(case, 1), (16, 8, 4, 2), strict=True), ((case.layers, 0), 1)]:
        gc.collect()
        with tempfile.TemporaryDirectory() as folder:
            pack = build(case, run_spec(case, Leg(z, case.tokens), range(trials), 0, folder))
            with memory_limit(None) as tracker:
                placed(*pack.tensors())
                for step in range(2):
                    train_step(pack, step, pack.members)
                measured = tracker.peak
        predicted = None if foretold is None else foretold.peak_allocated(z, trials=trials)
        found.append(Memory(z, trials, predicted, measured))
    return found
