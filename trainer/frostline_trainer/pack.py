"""A pack: the trials of a run on one frozen prefix. Built here, trained in `loop`."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable

import torch
from torch import Tensor, nn

from frostline_trainer.cache import PrefixCache
from frostline_trainer.checkpoint import Checkpoint, load_checkpoint
from frostline_trainer.contract import RunSpec, TrainingSpec
from frostline_trainer.data.open import open_data
from frostline_trainer.data.order import BatchOrder
from frostline_trainer.data.source import Source
from frostline_trainer.errors import StudyFault
from frostline_trainer.families import build_network
from frostline_trainer.families.weights import estimate_statistics, has_batch_norm
from frostline_trainer.member import Member, autocast
from frostline_trainer.network import run_prefix
from frostline_trainer.objective import METRICS
from frostline_trainer.store import Store

SHARED = ("batch_size", "accumulation", "sequence_length", "precision", "prefix_precision")
"""Fields of `TrainingSpec` on which the batches or the prefix depend: trials of one run must agree on them."""
STATISTICS_BATCHES, STATISTICS_SAMPLES = 8, 64
"""Batches and their size for the statistics of frozen batch norms; fixed, so that every trial of a study gets the same."""


@dataclasses.dataclass
class Pack:
    """A prefix and the trials that train on its output."""

    spec: RunSpec
    device: torch.device
    training: TrainingSpec
    """Of the first trial; the others agree on the fields in `SHARED`."""
    source: Source
    order: BatchOrder
    prefix: nn.Module | None
    members: list[Member]
    cache: PrefixCache
    layers: int
    """L of the network."""
    last_step: int
    """Optimizer steps after which a trial has seen the rung's tokens."""

    @property
    def step_tokens(self) -> int:
        """Tokens (or samples) per optimizer step."""
        return self.order.members(0).numel() * self.training.accumulation * self.source.shape.tokens_per_sample

    def tokens(self, step: int) -> int:
        """Tokens seen after so many steps, in the contract's words: at the rung's last step, the rung's tokens."""
        return min(step * self.step_tokens, self.spec.tokens)

    def batch(self, position: int) -> tuple[Tensor, Tensor]:
        """Features at the cut and targets of the micro-batch at this position."""
        batch = self.order.batch_at(position)
        x, y = self.source.train(self.order.members(batch), position)
        again = not self.source.augmented and position + self.order.batches < self._positions + self.order.batches
        returns = again and self._returns(batch, position)
        return self._features(("train", batch), x, keep=returns), self._to(y)

    def held_out(self) -> list[tuple[int, int]]:
        """Ranges of held-out samples, one per validation batch."""
        limit = self.source.valid_samples
        if self.spec.data.validation_limit is not None:
            per_sample = self.source.shape.tokens_per_sample
            limit = min(limit, max(1, self.spec.data.validation_limit // per_sample))
        size = self.training.batch_size
        return [(start, min(start + size, limit)) for start in range(0, limit, size)]

    def held_out_batch(self, start: int, stop: int) -> tuple[Tensor, Tensor]:
        """Features at the cut and targets of held-out samples; every evaluation asks for the same ones."""
        x, y = self.source.valid(start, stop)
        return self._features(("valid", start), x, keep=self.spec.evaluations > 1), self._to(y)

    @property
    def _positions(self) -> int:
        return self.last_step * self.training.accumulation

    def _returns(self, batch: int, position: int) -> bool:
        """Whether this run visits the batch again after this position."""
        epoch = position // self.order.batches
        last_epoch, remainder = divmod(self._positions, self.order.batches)
        if epoch + 1 < last_epoch:
            return True
        if epoch + 1 > last_epoch or not remainder:
            return False
        begin = last_epoch * self.order.batches
        return any(self.order.batch_at(begin + i) == batch for i in range(remainder))

    def _features(self, key: tuple[str, int], x: Tensor, keep: bool) -> Tensor:
        if self.prefix is None:
            return self._to(x)
        cached = self.cache.get(key, self.device)
        if cached is not None:
            return cached
        began = time.perf_counter()
        precision = "fp32" if self.training.prefix_precision == "bf16" else self.training.precision
        x = self._to(x)
        if self.training.prefix_precision == "bf16" and x.is_floating_point():
            x = x.bfloat16()
        with autocast(self.device, precision):
            features = run_prefix(self.prefix, x)
        if self.training.precision == "fp32" and features.dtype != torch.float32:
            features = features.float()
        if keep:
            self.cache.put(key, features, time.perf_counter() - began)
        return features

    def _to(self, tensor: Tensor) -> Tensor:
        return tensor.to(self.device, non_blocking=True)


def build_pack(spec: RunSpec, device: torch.device, store: Store, stopped: Callable[[], bool] = lambda: False) -> Pack:
    """Data, network, one prefix and a suffix per trial, each resumed from its parent.

    Raises:
        StudyFault: anything in the study that cannot work.
    """
    training = _agreed(spec)
    source = open_data(spec.data, training, spec.seed)
    network = build_network(spec.model, source.shape, spec.seed)
    network.check(spec.layers)
    order = BatchOrder(source.train_samples, training.batch_size, spec.seed)
    step_tokens = order.members(0).numel() * training.accumulation * source.shape.tokens_per_sample
    whole = network.module()
    if not spec.model.pretrained and has_batch_norm(whole):
        whole.to(device)
        estimate_statistics(whole, _statistics_batches(source, spec.seed, device))
    saved = {t.name: load_checkpoint(store, t.parent.path) for t in spec.trials if t.parent is not None}
    untied = [t.name in saved and _was_untied(saved[t.name], network.layers) for t in spec.trials]
    layers = network.layers
    split = network.split(spec.layers, len(spec.trials), untied=untied)
    prefix = split.prefix
    if prefix is not None:
        prefix.to(device, torch.bfloat16 if training.prefix_precision == "bf16" else None)
    members = []
    for trial, suffix, apart in zip(spec.trials, split.suffixes, untied, strict=True):
        member = Member(trial, suffix.to(device), device, spec.seed, spec.horizon, step_tokens)
        member.untied = apart
        if trial.parent is not None:
            member.resume(saved.pop(trial.name), trial.parent.path)
        members.append(member)
    cache = PrefixCache(spec.cache_bytes)
    last_step = -(-spec.tokens // step_tokens)
    return Pack(spec, device, training, source, order, prefix, members, cache, layers, last_step)


def _agreed(spec: RunSpec) -> TrainingSpec:
    if spec.metric not in METRICS:
        raise StudyFault(
            f"objective.metric: {spec.metric!r} is not measured by family {spec.model.family}; use one of {', '.join(METRICS)}"
        )
    first = spec.trials[0]
    for other in spec.trials[1:]:
        for name in SHARED:
            ours, theirs = getattr(first.training, name), getattr(other.training, name)
            if ours != theirs:
                raise StudyFault(
                    f"trials.training.{name}: {first.name} has {ours}, {other.name} has {theirs}; trials of one run share "
                    f"batches and prefix, so they must agree on {', '.join(SHARED)}: put these two into different runs"
                )
    return first.training


def _was_untied(saved: Checkpoint, layers: int) -> bool:
    """A head once separated from the embeddings stays so: to merge two trained tensors would throw one of them away."""
    return saved.layers < layers or bool(saved.extra.get("untied", False))


def _statistics_batches(source: Source, seed: int, device: torch.device) -> list[Tensor]:
    order = BatchOrder(source.train_samples, STATISTICS_SAMPLES, seed)
    count = min(STATISTICS_BATCHES, order.batches)
    return [source.train(order.members(i), i)[0].to(device) for i in range(count)]
