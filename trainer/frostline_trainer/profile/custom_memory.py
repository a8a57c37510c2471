"""The memory profile of a custom entrypoint: simulated where its code puts up with that, else measured.

Both are the same short run (`custom_trial.attempt`): two optimizer steps and the evaluation after them, counted by the
same tracker and fitted by the same `fit`. Simulated, it runs on hollow tensors with CUDA's semantics. Measured, it runs
for real: on a GPU where the profile is made beside one, and what the kernels take for themselves is added from the
card's own peak; else on the CPU, whose kernels keep more for the backward pass than a GPU's, so that the need comes out
too high rather than too low.
"""

from __future__ import annotations

import contextlib
import gc
from collections.abc import Callable, Iterator
from typing import Any, Literal

import torch
from torch import Tensor

from frostline_trainer.contract import MemoryProfile, ProfileSpec
from frostline_trainer.device.emulation import counting
from frostline_trainer.device.placement import placed
from frostline_trainer.device.tracker import MemoryTracker
from frostline_trainer.logs import log
from frostline_trainer.profile.custom_trial import MOST_OPERATORS, ProbeTrial, attempt
from frostline_trainer.profile.fit import Simulate, Simulation, fit
from frostline_trainer.profile.pretend import content_free
from frostline_trainer.profile.replaced import replaced
from frostline_trainer.profile.semantics import cuda_semantics, kernel_temporaries

Device = Literal["cuda", "cpu"]

STEPS = 2
"""Optimizer steps of a try: the first creates the optimizer's state, the second runs with it."""
MEASURED_TOLERANCE = 0.02
"""By how much z in between may be off the straight line where each point is a real run: fewer of them are needed."""

Step = Callable[..., tuple[ProbeTrial, MemoryTracker]]
"""One try: `attempt` with its keywords, and what counted it."""


def custom_memory_profile(spec: ProfileSpec, device: Device, identity: str) -> MemoryProfile:
    """Peak memory of a custom entrypoint as a function of z, batch and K.

    Args:
        spec: with one configuration of the study in `hyperparameters`.
        device: whose memory to foretell.
        identity: hash of what the profile depends on.

    Raises:
        StudyFault: the entrypoint fails for real as well.
    """
    try:
        return _fitted(spec, device, identity, _simulated(device))
    except Exception as error:  # noqa: BLE001 - whatever it is, the same for real tells whether it is the study's fault
        log("not-traceable", message=f"the entrypoint's memory is measured in a short run: {error}")
    memory = _fitted(spec, device, identity, _measured(device), real=True)
    return memory.model_copy(update={"method": "Probed"})


def custom_need(spec: ProfileSpec, device: Device) -> tuple[int, int]:
    """Peak bytes at z = 1 and at z = L, to compare configurations; (0, 0) where the entrypoint cannot be traced."""
    step = _simulated(device)
    try:
        first, _ = step(spec, 1)
        tokens = STEPS * first.step_tokens
        one, whole = (step(spec, z, tokens=tokens)[1].trace.peak() for z in (1, first.depth))
    except Exception as error:  # noqa: BLE001 - then the study's own configuration stands for all
        log("not-traceable", message=f"corners of the search space are not compared: {error}")
        return 0, 0
    return one, whole


def _fitted(spec: ProfileSpec, device: Device, identity: str, step: Step, *, real: bool = False) -> MemoryProfile:
    """The profile from tries.

    Real ones cost time and may fail at a batch size that nobody asked for, so they keep to the study's: then the
    profile says the same at every batch size.
    """
    first, _ = step(spec, 1)
    steps: dict[int, int] = {}

    def tokens(batch: int) -> int:
        """So many that two steps see them, at this batch size."""
        if batch not in steps:
            steps[batch] = step(spec, 1, batch=batch)[0].step_tokens
        return STEPS * steps[batch]

    def run(z: int, batch: int, trials: int) -> Simulation:
        batch = spec.training.batch_size if real else batch
        trial, tracker = step(spec, z, tokens=tokens(batch), batch=batch, trials=trials)
        return Simulation(tracker.trace, max(0, trial.held))

    simulate: Simulate = run
    return fit(
        simulate,
        layers=first.depth,
        batch=spec.training.batch_size,
        device=device,
        convolutional=first.convolutional,
        identity=identity,
        tolerance=MEASURED_TOLERANCE if real else 0.005,
    )


def _simulated(device: Device) -> Step:
    def step(spec: ProfileSpec, z: int, **how: Any) -> tuple[ProbeTrial, MemoryTracker]:
        on_gpu = device == "cuda"
        tracker = MemoryTracker(temporaries=kernel_temporaries if on_gpu else None)
        with (
            content_free(MOST_OPERATORS),
            counting(tracker),
            cuda_semantics() if on_gpu else contextlib.nullcontext(),
            _moves_count() if on_gpu else contextlib.nullcontext(),
        ):
            return attempt(spec, z, live=lambda: tracker.live, **how), tracker

    return step


def _measured(device: Device) -> Step:
    """For real: on a GPU if one is asked for and here, else (or where it is too small) on the CPU."""

    def step(spec: ProfileSpec, z: int, **how: Any) -> tuple[ProbeTrial, MemoryTracker]:
        if device == "cuda" and torch.cuda.is_available():
            with contextlib.suppress(torch.OutOfMemoryError):
                return _on_gpu(spec, z, **how)
            gc.collect()
            torch.cuda.empty_cache()
        tracker = MemoryTracker()
        with torch.random.fork_rng(devices=[]), counting(tracker):
            return attempt(spec, z, live=lambda: tracker.live, **how), tracker

    return step


def _on_gpu(spec: ProfileSpec, z: int, **how: Any) -> tuple[ProbeTrial, MemoryTracker]:
    """The tracker tells when each tensor comes and goes, the card how much there was besides at the most."""
    place = torch.device("cuda", 0)
    gc.collect()
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats(place)
    tracker = MemoryTracker(only="cuda")
    besides = tracker.trace.allocate(0)
    with counting(tracker):
        trial = attempt(spec, z, device=place, live=lambda: torch.cuda.memory_allocated(place), **how)
        torch.cuda.synchronize(place)
    tracker.trace.sizes[besides] = max(0, torch.cuda.max_memory_allocated(place) - tracker.trace.peak())
    return trial, tracker


@contextlib.contextmanager
def _moves_count() -> Iterator[None]:
    """A tensor that an entrypoint moves to the device counts from there on; in a simulation both are the CPU."""
    move = Tensor.to

    def to(tensor: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        moved = move(tensor, *args, **kwargs)
        if moved is tensor and any(isinstance(a, torch.device) for a in (*args, *kwargs.values())):
            placed(moved)
        return moved

    with replaced(Tensor, "to", to):
        yield
