"""A training run on tensors that have a size and no content.

It is the trainer's own run: the same cut, pack, step, optimizer and evaluation (`pack.assemble`, `loop.train_step`,
`loop.evaluate`), so a change there changes the prediction by itself. Only three things are stand-ins: the weights and
the data are hollow tensors, whoever asks for a number (a loss, a step count) is told 1 (`hollow`), and operators keep
what CUDA's kernels keep (`semantics`).
"""

from __future__ import annotations

import contextlib
from typing import Literal

import torch
from torch import Tensor, nn

from frostline_trainer.checkpoints.store import Store
from frostline_trainer.contract import ProfileSpec, RunSpec, TrialSpec
from frostline_trainer.data.shape import DataShape
from frostline_trainer.data.source import Pair, Source, blank
from frostline_trainer.device.emulation import counting
from frostline_trainer.device.placement import host_memory, placed
from frostline_trainer.device.tracker import CUDA_GRANULE, MemoryTracker, rounded
from frostline_trainer.models.build import build_network
from frostline_trainer.models.cut import Network
from frostline_trainer.profile.eight_bit import build_for_simulation
from frostline_trainer.profile.fit import Simulation
from frostline_trainer.profile.pretend import content_free
from frostline_trainer.profile.semantics import cuda_semantics, kernel_temporaries
from frostline_trainer.training.loop import evaluate, train_step
from frostline_trainer.training.pack import Pack, assemble

STEPS = 2
"""Optimizer steps per simulation: the first creates the optimizer's state, the second runs with it."""
MICRO_BATCHES = 2
"""Micro-batches per simulated step at most: from the second one on, gradients are there already, and no more comes."""


class ShapeSource(Source):
    """Data of the right shape that nobody reads."""

    def __init__(self, shape: DataShape, batch: int):
        self.shape = shape
        self.train_samples = 2 * max(2, batch)  # the statistics of batch norms take two batches
        self.valid_samples = batch

    def training(self, indices: Tensor, position: int) -> Pair:
        """As many samples as asked for."""
        return self._samples(indices.numel())

    def validation(self, start: int, stop: int) -> Pair:
        """As many samples as asked for."""
        return self._samples(stop - start)

    def _samples(self, count: int) -> Pair:
        return blank(self.shape, count)


def simulate(
    spec: ProfileSpec,
    shape: DataShape,
    *,
    z: int,
    batch: int,
    trials: int = 1,
    device: Literal["cuda", "cpu"] = "cuda",
    granule: int = CUDA_GRANULE,
) -> Simulation:
    """The allocations of a run of `trials` packed trials: set-up, two optimizer steps, an evaluation between them.

    Args:
        spec: model, data and training.
        shape: of the data (`data.open.data_shape`).
        z: trainable layers.
        batch: samples per micro-batch, in the place of the specification's.
        trials: K.
        device: whose kernels' memory behaviour to follow. `cpu` is for limits that a CPU run enforces on itself.
        granule: bytes to which sizes are rounded where the tracker counts.

    Raises:
        StudyFault: the model cannot be built or has no such z.
    """
    run = run_spec(spec, z, batch, trials)
    tracker = MemoryTracker(granule=granule, temporaries=kernel_temporaries if device == "cuda" else None)
    with content_free(), counting(tracker):
        with host_memory():
            network = build_network(spec.model, shape, 0, weights=False)
            source = ShapeSource(shape, batch)
        # The optimizers' defaults look at the parameters, so CUDA's ways begin before the pack is put together.
        with cuda_semantics() if device == "cuda" else contextlib.nullcontext():
            pack = _assemble(run, source, network, device)
            del network
            for step in range(STEPS):
                train_step(pack, step, pack.members)
                if step == 0:
                    evaluate(pack, pack.members, lambda: False)
            trial_bytes = _held_between_steps(pack, granule)
    return Simulation(tracker.trace, trial_bytes)


def _assemble(run: RunSpec, source: Source, network: Network, device: Literal["cuda", "cpu"]) -> Pack:
    """The pack as the run makes it. On a CPU a limit holds from the first step on (`run.evaluate_run`)."""
    if device == "cuda":
        return assemble(run, torch.device("cpu"), Store(""), source, network, build_for_simulation)
    with host_memory():
        pack = assemble(run, torch.device("cpu"), Store(""), source, network, build_for_simulation)
    placed(*pack.tensors())
    return pack


def _held_between_steps(pack: Pack, granule: int) -> int:
    """Bytes of one trial's weights, optimizer state and, where micro-batches accumulate, gradients."""
    first = pack.members[0]
    saved = first.checkpoint(pack.spec.layers, 0)
    tensors = [*saved.weights.values(), *saved.optimizer.values()]
    if pack.accumulation > 1:
        tensors += first.suffix.trainable().values()
    sizes = [rounded(tensor.numel() * tensor.element_size(), granule) for tensor in tensors]
    return sum(sizes)


def run_spec(spec: ProfileSpec, z: int, batch: int, trials: int) -> RunSpec:
    """The run that is simulated: `trials` alike, with no more micro-batches per step than tell something."""
    training = spec.training.model_copy(
        update={"batch_size": batch, "accumulation": min(spec.training.accumulation, MICRO_BATCHES)}
    )
    return RunSpec(
        study="profile",
        study_uid="profile",
        run="profile",
        rung=0,
        layers=z,
        tokens=2**40,
        horizon=2**40,
        trials=[TrialSpec(name=f"trial-{i}", training=training) for i in range(trials)],
        model=spec.model,
        data=spec.data,
        checkpoint="",
    )


def layers_of(spec: ProfileSpec, shape: DataShape) -> tuple[int, bool]:
    """L, and whether the network has convolutions."""
    with content_free(), counting(MemoryTracker(record=False)), host_memory():
        network = build_network(spec.model, shape, 0, weights=False)
        convolutional = any(isinstance(m, nn.modules.conv._ConvNd) for m in network.module().modules())
        return network.layers, convolutional
