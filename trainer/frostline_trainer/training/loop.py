"""The training loop, to be read from top to bottom.

Per micro-batch the frozen prefix runs once; then each trial of the pack does its own forward pass, backward pass and
update on that output, one after the other, so that the activations of only one suffix exist at a time.
"""

from __future__ import annotations

from collections.abc import Callable

import torch

from frostline_trainer.checkpoints.store import Store
from frostline_trainer.contract import TrialResult
from frostline_trainer.errors import StudyFault
from frostline_trainer.reporting.metrics import RunMetrics
from frostline_trainer.seeds import derive
from frostline_trainer.training.bookkeeping import Bookkeeping
from frostline_trainer.training.member import Member
from frostline_trainer.training.pack import Pack
from frostline_trainer.training.precision import autocast


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
    due = {trial: evaluation_steps(trial.step, pack.last_step, pack.evaluations) for trial in pack.members}
    books = Bookkeeping(pack, store, metrics)

    for step in range(pack.first_step, pack.last_step + 1):
        # Evaluate the trials for which it is time; the last time is after the last step.
        evaluated = [trial for trial in pack.standing_at(step) if step in due[trial]]
        if evaluated and not stopped():
            for trial, values in evaluate(pack, evaluated, stopped).items():
                books.evaluation(trial, values)

        # A trial ends where it diverged, and at the last step.
        if step == pack.last_step and not stopped():
            for trial in pack.standing_at(step):
                trial.reason = "Completed"
        books.finish_ended()
        if stopped():
            break

        # Trials of a pack may stand at different steps: those that are ahead wait for the others.
        trials = pack.standing_at(step)
        if not trials:
            continue
        train_step(pack, step, trials)
        books.progress(step, trials)

        # Against being killed without warning.
        if books.checkpoint_due and step + 1 < pack.last_step:
            books.checkpoint_all(stopped)

    return books.results()


def train_step(pack: Pack, step: int, trials: list[Member]) -> None:
    """One optimizer step of these trials; the memory profile runs the same on tensors without content.

    Nothing here waits for the device. Each random number follows from the study's seed, the step and the micro-batch,
    so a trial's result does not depend on the others.

    Raises:
        StudyFault: a suffix overwrote the features that it shares with the others.
    """
    for micro in range(pack.accumulation):
        features, targets = pack.batches.training(step * pack.accumulation + micro)
        version = features._version
        for trial in trials:
            torch.manual_seed(derive(pack.spec.seed, "dropout", step, micro))
            with autocast(pack.device, pack.precision):
                loss = pack.objective.loss(trial.suffix(features), targets, trial.spec.training.label_smoothing)
            if pack.accumulation > 1:
                loss = loss / pack.accumulation
            trial.scaler.scale(loss).backward()  # type: ignore[no-untyped-call]
            trial.add_loss(loss.detach())
            if micro == pack.accumulation - 1:
                trial.update()
            del loss  # or its graph would outlive the next trial's forward pass
        if features._version != version:
            raise StudyFault(
                "model: the first trainable unit overwrites its input in place, so trials cannot share a prefix; "
                "remove the in-place operation, or choose other layers"
            )


@torch.no_grad()
def evaluate(pack: Pack, trials: list[Member], stopped: Callable[[], bool]) -> dict[Member, dict[str, float]]:
    """Metrics of these trials on the held-out part, the prefix again run once per batch for all of them.

    Nothing is returned where the run is stopped on the way.
    """
    tallies = {trial: pack.objective.tally(pack.device) for trial in trials}
    for trial in trials:
        trial.suffix.eval()
    for number in range(len(pack.batches.held_out)):
        if stopped():
            break
        features, targets = pack.batches.validation(number)
        for trial, tally in tallies.items():
            with autocast(pack.device, pack.precision):
                outputs = trial.suffix(features)
            tally.add(outputs, targets)
    for trial in trials:
        trial.suffix.train()
    return {} if stopped() else {trial: tally.metrics() for trial, tally in tallies.items()}


def evaluation_steps(start: int, end: int, evaluations: int) -> set[int]:
    """Steps after which to evaluate: spread evenly from `start` (exclusive) to `end`, the last at `end` itself."""
    return {start + -(-(end - start) * i // evaluations) for i in range(1, evaluations + 1)} if end > start else {end}
