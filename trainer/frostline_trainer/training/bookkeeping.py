"""What is kept and said of the trials beside training them: checkpoints, metrics, log lines and results."""

from __future__ import annotations

import math
import time
from collections.abc import Callable

import torch

from frostline_trainer.checkpoints.checkpoint import save_checkpoint
from frostline_trainer.checkpoints.interval import Interval, survived
from frostline_trainer.checkpoints.store import Store
from frostline_trainer.contract import TrialResult, checkpoint_folder
from frostline_trainer.logs import log
from frostline_trainer.reporting.metrics import RunMetrics
from frostline_trainer.training.member import Member
from frostline_trainer.training.pack import Pack

DIVERGENCE_STEPS = 25
"""Every so many steps (by absolute step, so that packing cannot matter) the loss is asked whether it is finite."""
PROGRESS_SECONDS = 10.0
"""Between two log lines on the progress of a trial."""


class Bookkeeping:
    """Checkpoints, metrics, log and results of one run.

    Args:
        pack: the trials.
        store: where checkpoints go.
        metrics: the live view.
    """

    def __init__(self, pack: Pack, store: Store, metrics: RunMetrics):
        self._pack, self._store, self._metrics = pack, store, metrics
        self._results: dict[str, TrialResult] = {}
        self._interval = Interval(pack.spec.checkpoint_seconds)
        self._since = self._logged = time.monotonic()
        self._steps = 0
        for trial in pack.members:
            metrics.update(trial.spec.name, tokens=pack.tokens(trial.step), step=trial.step)

    def evaluation(self, trial: Member, values: dict[str, float]) -> None:
        """Publish an evaluation; a loss that is not finite ends the trial."""
        trial.objective = values[self._pack.spec.metric]
        if not math.isfinite(values["loss"]):
            trial.objective, trial.reason = math.nan, "Diverged"
        tokens = self._pack.tokens(trial.step)
        self._metrics.update(trial.spec.name, objective=trial.objective, tokens=tokens, step=trial.step)
        rung = self._pack.spec.rung
        log("evaluation", trial=trial.spec.name, rung=rung, step=trial.step, tokens=tokens, **values)

    def progress(self, step: int, trials: list[Member]) -> None:
        """After each step; only every `DIVERGENCE_STEPS` steps does it wait for the device.

        Then the losses go to /metrics and to the log, and a trial whose loss is not finite ends.
        """
        self._steps += 1
        if (step + 1) % DIVERGENCE_STEPS and step + 1 != self._pack.last_step:
            return
        losses = {trial: trial.recent_loss() for trial in trials}
        now = time.monotonic()
        seconds = (now - self._since) / self._steps
        self._since, self._steps = now, 0
        peak = self._peak_bytes()
        for trial, loss in losses.items():
            self._metrics.update(trial.spec.name, loss=loss, step=trial.step, step_seconds=seconds, memory_peak=peak)
            if not math.isfinite(loss):
                trial.objective, trial.reason = math.nan, "Diverged"
                self._metrics.update(trial.spec.name, objective=math.nan)
        if now - self._logged >= PROGRESS_SECONDS:
            self._logged = now
            for trial, loss in losses.items():
                log(
                    "progress", trial=trial.spec.name, rung=self._pack.spec.rung, step=trial.step,
                    of=self._pack.last_step, tokens=self._pack.tokens(trial.step), loss=loss, step_seconds=seconds,
                )  # fmt: skip

    @property
    def checkpoint_due(self) -> bool:
        """Whether it is time for checkpoints on the way."""
        return self._interval.due

    def checkpoint_all(self, stopped: Callable[[], bool]) -> None:
        """Checkpoints on the way of all trials that are not over; once stopped, no further one is begun."""
        with self._interval.writing():
            for trial in self._pack.members:
                if trial.reason is None and not stopped():
                    with survived(trial.spec.name):
                        self._checkpoint(trial)
                        tokens = self._pack.tokens(trial.step)
                        self._metrics.update(trial.spec.name, checkpoint_tokens=tokens)

    def finish_ended(self) -> None:
        """Results of the trials that ended since this was last called."""
        for trial in self._pack.members:
            if trial.reason is not None and trial.spec.name not in self._results:
                self._finish(trial)

    def results(self) -> list[TrialResult]:
        """One result per trial, in the run's order.

        A trial that has not ended was stopped. The smallest checkpoints are written first: should the time that a
        stopped run is given not suffice, then fewest trials go without.
        """
        stopped = [trial for trial in self._pack.members if trial.reason is None]
        for trial in sorted(stopped, key=lambda trial: trial.checkpoint(self._pack.spec.layers, 0).bytes):
            trial.reason = "Stopped"
            self._finish(trial)
        return [self._results[trial.name] for trial in self._pack.spec.trials]

    def _finish(self, trial: Member) -> None:
        """A trial's result, its checkpoint written unless it diverged; its memory is freed.

        A checkpoint that a stopped trial cannot write is no reason to lose the others'.
        """
        assert trial.reason is not None
        name, tokens = trial.spec.name, self._pack.tokens(trial.step)
        folder = None
        if trial.reason == "Stopped":
            with survived(name):
                folder = self._checkpoint(trial)
        elif trial.reason != "Diverged":
            folder = self._checkpoint(trial)
        trial.release()
        self._metrics.update(name, finished=trial.reason != "Stopped", memory_peak=self._peak_bytes())
        log(
            "finished", trial=name, rung=self._pack.spec.rung, reason=trial.reason, tokens=tokens,
            objective=trial.objective, checkpoint=folder,
        )  # fmt: skip
        self._results[name] = TrialResult(
            name=name, reason=trial.reason, objective=trial.objective, tokens=tokens, checkpoint=folder
        )

    def _checkpoint(self, trial: Member) -> str:
        """Write a trial's checkpoint as it stands, in place of the one before, unless it is there; its folder."""
        spec = self._pack.spec
        folder = checkpoint_folder(trial.spec.name, spec.rung, spec.run)
        if trial.saved_step != trial.step:
            save_checkpoint(self._store, folder, trial.checkpoint(spec.layers, self._pack.tokens(trial.step)))
            trial.saved_step = trial.step
        return folder

    def _peak_bytes(self) -> int:
        cuda = self._pack.device.type == "cuda"
        return torch.cuda.max_memory_allocated(self._pack.device) if cuda else 0
