"""A pack: the trials of a run on one frozen prefix. Built here, trained in `loop`."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterator

import torch
from torch import Tensor, nn

from frostline_trainer.checkpoints.checkpoint import Checkpoint, load_parents
from frostline_trainer.checkpoints.store import Store
from frostline_trainer.contract import Precision, RunSpec, TrainingSpec
from frostline_trainer.data.fingerprint import Fingerprint, check_unchanged, fingerprint
from frostline_trainer.data.open import open_data
from frostline_trainer.data.order import BatchOrder
from frostline_trainer.data.source import Source
from frostline_trainer.device.placement import host_memory, placed, to_device
from frostline_trainer.errors import StudyFault
from frostline_trainer.models.build import build_network
from frostline_trainer.models.cut import Network, in_bf16
from frostline_trainer.models.weights import estimate_statistics, has_batch_norm
from frostline_trainer.training.batches import Batches
from frostline_trainer.training.member import Member
from frostline_trainer.training.objective import Objective, objective_of
from frostline_trainer.training.optim import OptimizerBuilder, build_optimizer
from frostline_trainer.training.prefix_cache import PrefixCache

EVALUATIONS = 4
"""Points that a learning curve of one run has where nothing speaks against it."""
SHARED = ("batch_size", "accumulation", "sequence_length", "precision", "prefix_precision")
"""Fields of `TrainingSpec` on which the batches or the prefix depend: trials of one run must agree on them."""
STATISTICS_SAMPLES = 512
"""Samples for the statistics of frozen batch norms, taken in batches of the study's size, as training takes them."""


@dataclasses.dataclass
class Pack:
    """A prefix and the trials that train on its output."""

    spec: RunSpec
    device: torch.device
    accumulation: int
    precision: Precision
    objective: Objective
    batches: Batches
    prefix: nn.Module | None
    members: list[Member]
    layers: int
    """L of the network."""
    step_tokens: int
    """Tokens (or samples) per optimizer step."""
    evaluations: int
    """Validation passes of each trial."""

    @property
    def first_step(self) -> int:
        """Optimizer steps that the trial which is furthest behind has done."""
        return min(member.step for member in self.members)

    @property
    def last_step(self) -> int:
        """Optimizer steps after which a trial has seen the rung's tokens: whole steps, rounded up."""
        return whole_steps(self.spec.tokens, self.step_tokens)

    def standing_at(self, step: int) -> list[Member]:
        """Trials that go on and have done so many optimizer steps."""
        return [member for member in self.members if member.reason is None and member.step == step]

    def tokens(self, step: int) -> int:
        """Tokens seen after so many steps, in the contract's words: at the rung's last step, the rung's tokens."""
        return min(step * self.step_tokens, self.spec.tokens)

    def tensors(self) -> Iterator[Tensor]:
        """All that the run holds on the device before it starts."""
        for module in [self.prefix, *(member.suffix for member in self.members)]:
            if module is not None:
                yield from module.parameters()
                yield from module.buffers()
        for member in self.members:
            yield from member.held()


def build_pack(spec: RunSpec, device: torch.device, store: Store) -> Pack:
    """Data, network, one prefix and a suffix per trial, each resumed from its parent.

    Raises:
        StudyFault: anything in the study that cannot work.
    """
    training = _agreed(spec)
    with host_memory():
        source = open_data(spec.data, training, spec.seed)
        opened = fingerprint(spec.data)
        network = build_network(spec.model, source.shape, spec.seed)
    return assemble(spec, device, store, source, network, opened=opened)


def assemble(
    spec: RunSpec,
    device: torch.device,
    store: Store,
    source: Source,
    network: Network,
    optimizer: OptimizerBuilder = build_optimizer,
    opened: Fingerprint | None = None,
) -> Pack:
    """The pack of a network that is built, and of data that is open: cut, moved to the device, resumed.

    Whoever wants to know what a run takes, without data, weights and GPU, hands in stand-ins for all three
    (`frostline_trainer.profile.simulate`), and no fingerprint of the data.

    Raises:
        StudyFault: z is not in 1..L, a parent's checkpoint does not fit, or it was trained on other data.
        CheckpointsLost: a parent's checkpoint is missing or damaged.
    """
    training = _agreed(spec)
    objective = _objective(spec, source)
    network.check(spec.layers)
    order = BatchOrder(source.train_samples, training.batch_size, spec.seed)
    step_tokens = order.members(0).numel() * training.accumulation * source.shape.tokens_per_sample
    whole = network.module()
    estimating = not spec.model.pretrained and has_batch_norm(whole)
    if estimating:
        to_device(whole, device)
        estimate_statistics(whole, statistics_batches(source, training.batch_size, spec.seed, device))
    saved = load_parents(store, {t.name: t.parent.path for t in spec.trials if t.parent is not None})
    for parent in saved.values():
        check_unchanged(spec.data, parent.data, opened or {})
    untied = [t.name in saved and _was_untied(saved[t.name], network.layers) for t in spec.trials]
    layers = network.layers
    with contextlib.nullcontext() if estimating else host_memory():
        split = network.split(spec.layers, len(spec.trials), untied=untied)
        prefix = to_device(in_bf16(split.prefix) if training.prefix_precision == "bf16" else split.prefix, device)
    members = []
    for trial, suffix, apart in zip(spec.trials, split.suffixes, untied, strict=True):
        to_device(suffix, device)
        member = Member(trial, suffix, device, spec.horizon, step_tokens, optimizer)
        member.untied = apart
        member.data = opened or {}
        if trial.parent is not None:
            member.resume(saved.pop(trial.name), trial.parent.path)
            placed(*member.held())
        members.append(member)
    last = whole_steps(spec.tokens, step_tokens)
    trained = (last - min(member.step for member in members)) * step_tokens
    valid_samples = _validated(spec, source)
    evaluations = spec.evaluations or affordable_evaluations(trained, valid_samples * source.shape.tokens_per_sample)
    batches = Batches(
        source,
        order,
        prefix,
        PrefixCache(spec.cache_bytes, spec.cache_disk_bytes, spec.cache_folder),
        training,
        device,
        last * training.accumulation,
        evaluations,
        valid_samples,
    )
    return Pack(
        spec,
        device,
        training.accumulation,
        training.precision,
        objective,
        batches,
        prefix,
        members,
        layers,
        step_tokens,
        evaluations,
    )


def whole_steps(tokens: int, step_tokens: int) -> int:
    """Optimizer steps that it takes to see so many tokens; the last one may see more."""
    return -(-tokens // step_tokens)


def affordable_evaluations(trained: int, validated: int) -> int:
    """Validation passes that a learning curve is worth: up to four, over no more tokens together than are trained on.

    A pass without gradients takes about a third of the work per token, so short runs on the first rung, where most
    trials are, would else spend more than they train on points of a curve that nobody needs. One is always had.
    """
    return max(1, min(EVALUATIONS, trained // max(1, validated)))


def _validated(spec: RunSpec, source: Source) -> int:
    """How many held-out samples an evaluation looks at."""
    if spec.data.validation_limit is None:
        return source.valid_samples
    return min(source.valid_samples, max(1, spec.data.validation_limit // source.shape.tokens_per_sample))


def _objective(spec: RunSpec, source: Source) -> Objective:
    objective = objective_of(source.shape)
    if spec.metric not in objective.metrics:
        raise StudyFault(
            f"objective.metric: {spec.metric!r} is not measured by family {spec.model.family} on this data; "
            f"use one of {', '.join(objective.metrics)}"
        )
    return objective


def _agreed(spec: RunSpec) -> TrainingSpec:
    first = spec.trials[0]
    for other in spec.trials[1:]:
        for name in SHARED:
            ours, theirs = getattr(first.training, name), getattr(other.training, name)
            if ours != theirs:
                raise StudyFault(
                    f"trials.training.{name}: {first.name} has {ours}, {other.name} has {theirs}; trials of one run "
                    f"share batches and prefix, so they must agree on {', '.join(SHARED)}: put these two into "
                    "different runs"
                )
    return first.training


def _was_untied(saved: Checkpoint, layers: int) -> bool:
    """A head once separated from the embeddings stays so: to merge two trained tensors would throw one of them away."""
    return saved.layers < layers or bool(saved.extra.get("untied", False))


def statistics_batches(source: Source, batch_size: int, seed: int, device: torch.device) -> Iterator[Tensor]:
    """Inputs for `estimate_statistics`, one batch at a time, so that it takes no more memory than a forward pass.

    Batches have the study's size, but two samples at least, as one has no variance where maps are a single pixel.
    """
    size = max(2, batch_size)
    members = BatchOrder(source.train_samples, max(STATISTICS_SAMPLES, 2 * size), seed).members(0)
    for number, batch in enumerate(torch.split(members, size)):
        if number == 0 or len(batch) == size:
            yield source.training(batch, number)[0].to(device)
