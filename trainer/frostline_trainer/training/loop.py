"""The training loop, to be read from top to bottom.

Per micro-batch the frozen prefix runs once; then each trial of the pack does its own forward pass, backward pass and
update on that output, one after the other, so that the activations of only one suffix exist at a time.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable

import torch

from frostline_trainer.checkpoints.checkpoint import save_checkpoint
from frostline_trainer.checkpoints.interval import Interval, survived
from frostline_trainer.checkpoints.store import Store
from frostline_trainer.contract import TrialResult, checkpoint_folder
from frostline_trainer.device.limit import on_host
from frostline_trainer.errors import StudyFault
from frostline_trainer.logs import log
from frostline_trainer.reporting.metrics import RunMetrics
from frostline_trainer.training.member import Member
from frostline_trainer.training.objective import Tally
from frostline_trainer.training.pack import Pack
from frostline_trainer.training.precision import autocast

DIVERGENCE_STEPS = 25
"""Every so many steps (by absolute step, so that packing cannot matter) the loss is asked whether it is finite."""
PROGRESS_SECONDS = 10.0


def train(pack: Pack, store: Store, metrics: RunMetrics, stopped: Callable[[], bool]) -> list[TrialResult]:
    """Train all trials of the pack to the rung's tokens, evaluating on the way, and checkpoint each.

    Args:
        pack: what to train.
        store: where checkpoints go.
        metrics: the live view.
        stopped: asked between steps; once true, every unfinished trial is checkpointed as it stands.

    Returns:
        One result per trial, in the run's order.
    """
    due = {member.spec.name: evaluation_steps(member.step, pack.last_step, pack.evaluations) for member in pack.members}
    results: dict[str, TrialResult] = {}
    progress = Progress(pack, metrics)
    for member in pack.members:
        metrics.update(member.spec.name, tokens=pack.tokens(member.step), step=member.step)
    first = min(member.step for member in pack.members)

    interval = Interval(pack.spec.checkpoint_seconds)

    for step in range(first, pack.last_step + 1):
        # Evaluations that are due after `step` steps, and trials that are over.
        ready = [m for m in pack.members if m.reason is None and m.step == step and step in due[m.spec.name]]
        if ready and not stopped():
            for member, values in evaluate(pack, ready, stopped).items():
                report(pack, metrics, member, values)
        for member in pack.members:
            if member.reason is None and member.step == step == pack.last_step and not stopped():
                member.reason = "Completed"
            if member.reason is not None and member.spec.name not in results:
                results[member.spec.name] = finish(pack, store, metrics, member)
        if stopped():
            break

        # One optimizer step of every trial that stands at this step.
        active = [m for m in pack.members if m.reason is None and m.step == step]
        if not active:
            continue
        advance(pack, step, active)
        progress.stepped(step, active)

        # Against being killed without warning.
        if interval.due and step + 1 < pack.last_step:
            with interval.writing():
                for member in pack.members:
                    if member.reason is None and not stopped():
                        with survived(member.spec.name):
                            save(pack, store, member)
                            metrics.update(member.spec.name, checkpoint_tokens=pack.tokens(member.step))

    for member in pack.members:
        if member.reason is None:
            member.reason = "Stopped"
            results[member.spec.name] = finish(pack, store, metrics, member)
    return [results[trial.name] for trial in pack.spec.trials]


def advance(pack: Pack, step: int, active: list[Member]) -> None:
    """One optimizer step of these trials; the memory profile runs the same on tensors without content.

    Raises:
        StudyFault: a suffix overwrote the features that it shares with the others.
    """
    for micro in range(pack.accumulation):
        features, targets = pack.batches.train(step * pack.accumulation + micro)
        pristine = features._version
        for member in active:
            member.train(features, targets, micro)
        if features._version != pristine:
            raise StudyFault(
                "model: the first trainable unit overwrites its input in place, so trials cannot share a prefix; "
                "remove the in-place operation, or choose other layers"
            )


def evaluation_steps(start: int, end: int, evaluations: int) -> set[int]:
    """Steps after which to evaluate: spread evenly from `start` (exclusive) to `end`, the last at `end` itself."""
    return {start + -(-(end - start) * i // evaluations) for i in range(1, evaluations + 1)} if end > start else {end}


@torch.no_grad()
def evaluate(pack: Pack, members: list[Member], stopped: Callable[[], bool]) -> dict[Member, dict[str, float]]:
    """Metrics of these trials on the held-out part, the prefix again run once per batch for all of them.

    Nothing is returned where the run is stopped on the way.
    """
    tallies = {member: Tally(pack.device) for member in members}
    for member in members:
        member.suffix.eval()
    for number in range(len(pack.batches.held_out)):
        if stopped():
            break
        features, targets = pack.batches.valid(number)
        for member, tally in tallies.items():
            with autocast(pack.device, pack.precision):
                logits = member.suffix(features)
            tally.add(logits, targets)
    for member in members:
        member.suffix.train()
    return {} if stopped() else {member: tally.metrics() for member, tally in tallies.items()}


def report(pack: Pack, metrics: RunMetrics, member: Member, values: dict[str, float]) -> None:
    """Make an evaluation known; a loss that is not finite ends the trial."""
    member.objective = values[pack.spec.metric]
    if not math.isfinite(values["loss"]):
        member.objective, member.reason = math.nan, "Diverged"
    tokens = pack.tokens(member.step)
    metrics.update(member.spec.name, objective=member.objective, tokens=tokens, step=member.step)
    log("evaluation", trial=member.spec.name, rung=pack.spec.rung, step=member.step, tokens=tokens, **values)


def finish(pack: Pack, store: Store, metrics: RunMetrics, member: Member) -> TrialResult:
    """A trial's result, its checkpoint written unless it diverged; its memory is freed."""
    assert member.reason is not None
    tokens = pack.tokens(member.step)
    folder: str | None = None
    if member.reason != "Diverged":
        folder = save(pack, store, member)
    member.release()
    peak = torch.cuda.max_memory_allocated(pack.device) if pack.device.type == "cuda" else 0
    metrics.update(member.spec.name, finished=member.reason != "Stopped", memory_peak=peak)
    log(
        "finished", trial=member.spec.name, rung=pack.spec.rung, reason=member.reason, tokens=tokens,
        objective=member.objective, checkpoint=folder,
    )  # fmt: skip
    return TrialResult(
        name=member.spec.name,
        reason=member.reason,
        objective=member.objective,
        tokens=tokens,
        checkpoint=folder,
    )


def save(pack: Pack, store: Store, member: Member) -> str:
    """Write a trial's checkpoint as it stands, in place of the one before, unless it is there; its folder."""
    folder = checkpoint_folder(member.spec.name, pack.spec.rung, pack.spec.run)
    if member.saved_step != member.step:
        with on_host():
            save_checkpoint(store, folder, member.checkpoint(pack.spec.layers, pack.tokens(member.step)))
        member.saved_step = member.step
    return folder


class Progress:
    """Looks at the losses now and then: for the log, for /metrics, and to end trials that diverged."""

    def __init__(self, pack: Pack, metrics: RunMetrics):
        self._pack, self._metrics = pack, metrics
        self._since = time.monotonic()
        self._said = self._since
        self._steps = 0

    def stepped(self, step: int, active: list[Member]) -> None:
        """After each step; only every `DIVERGENCE_STEPS` steps does it wait for the device."""
        self._steps += 1
        if (step + 1) % DIVERGENCE_STEPS and step + 1 != self._pack.last_step:
            return
        losses = {member: member.recent_loss() for member in active}
        now = time.monotonic()
        seconds = (now - self._since) / self._steps
        self._since, self._steps = now, 0
        cuda = self._pack.device.type == "cuda"
        peak = torch.cuda.max_memory_allocated(self._pack.device) if cuda else 0
        for member, loss in losses.items():
            self._metrics.update(member.spec.name, loss=loss, step=member.step, step_seconds=seconds, memory_peak=peak)
            if not math.isfinite(loss):
                member.objective, member.reason = math.nan, "Diverged"
                self._metrics.update(member.spec.name, objective=math.nan)
        if now - self._said >= PROGRESS_SECONDS:
            self._said = now
            for member, loss in losses.items():
                log(
                    "progress", trial=member.spec.name, rung=self._pack.spec.rung, step=member.step,
                    of=self._pack.last_step, tokens=self._pack.tokens(member.step), loss=loss, step_seconds=seconds,
                )  # fmt: skip
