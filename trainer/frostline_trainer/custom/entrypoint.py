"""Your own training code as a trial: what a `Custom` model's entrypoint is called with, and how it is run.

An entrypoint is a plain function with a plain loop. It asks the `Trial` for everything that makes it a trial: the
hyperparameters, which layers to train, how many tokens (samples) to go, and where to report.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import math
import random
import sys
import traceback
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from frostline_trainer.checkpoints.checkpoint import Checkpoint, copy_into, load_parents, save_checkpoint
from frostline_trainer.checkpoints.interval import LARGEST_SHARE, Interval, survived
from frostline_trainer.checkpoints.store import Store
from frostline_trainer.contract import (
    DataSpec,
    Reason,
    RunSpec,
    Scalar,
    TrainingSpec,
    TrialResult,
    TrialSpec,
    checkpoint_folder,
)
from frostline_trainer.custom.turns import Turns
from frostline_trainer.data.fingerprint import Fingerprint, check_unchanged, fingerprint
from frostline_trainer.data.order import BatchOrder
from frostline_trainer.device.failures import is_device_failure, is_no_space, is_out_of_memory
from frostline_trainer.device.placement import host_memory, to_device
from frostline_trainer.errors import InfrastructureFault, StudyFault, located
from frostline_trainer.logs import log
from frostline_trainer.models.cut import ChainNetwork, Suffix
from frostline_trainer.models.vision import cut
from frostline_trainer.models.weights import estimate_statistics
from frostline_trainer.reporting.metrics import RunMetrics
from frostline_trainer.seeds import derive
from frostline_trainer.training.optim import load_optimizer_state, optimizer_state


class _Diverged(Exception):  # noqa: N818 - control flow: leaves the entrypoint once its trial is over
    """The reported metric is not finite."""


class Trial:
    """One hyperparameter configuration at one fidelity, for a custom entrypoint."""

    def __init__(self, run: RunSpec, spec: TrialSpec, device: torch.device, place: Place):
        self.name: str = spec.name
        self.hyperparameters: dict[str, Scalar] = spec.hyperparameters
        """As sampled, by the names of the study's search space."""
        self.training: TrainingSpec = spec.training
        """The study's training section with this trial's hyperparameters bound."""
        self.config: dict[str, Any] = run.model.config
        """The study's `model.config`, as written."""
        self.data: DataSpec = run.data
        self.layers: int = run.layers
        """z: how many units, counted from the output, this rung trains."""
        self._saved = place.parents.get(spec.name)
        self.start_tokens: int = self._saved.tokens if self._saved else 0
        """Tokens (samples) seen in earlier rungs and attempts: where to go on in the data."""
        self.tokens: int = run.tokens
        """Tokens (samples) to have seen at the end, the earlier ones included."""
        self.horizon: int = run.horizon
        """Tokens (samples) at which a learning rate's schedule ends: those of the last rung where a promoted trial goes
        on from its checkpoint, else this rung's."""
        self.seed: int = run.seed
        """Of the study: the same for all its trials. Draw initial weights and the order of the data from it."""
        self.device: torch.device = device
        self._run, self._spec, self._place = run, spec, place
        self._suffix: Suffix | None = None
        self._optimizer: Optimizer | None = None
        self._scheduler: LRScheduler | None = None
        self._interval = Interval(run.checkpoint_seconds, LARGEST_SHARE / len(run.trials))
        self._seen = self.start_tokens
        self._written: int | None = None
        place.metrics.update(self.name, tokens=self._seen)
        self._objective: float | None = None
        self._until_freeze = contextlib.ExitStack()

    def freeze(
        self, model: nn.Module | Sequence[nn.Module], statistics: Iterable[Tensor] = ()
    ) -> tuple[Callable[[Tensor], Tensor], Suffix]:
        """Cut the model for this rung and move it to the device.

        Args:
            model: the units from input to output as a list or an `nn.Sequential`, each a module from one tensor to one
                tensor; or any model that torch.fx can trace, which is then cut where a single tensor passes. Build it
                without looking at the hyperparameters, so that all trials have the same frozen part.
            statistics: a few input batches, for the running statistics of batch norms in a random frozen part.

        Returns:
            (prefix, suffix). `prefix(x)` gives the features at the cut, without autograd; with several trials in a
            run it is computed once for all of them. `suffix(features)` gives the logits; optimise its parameters. It
            already holds what the trial has learnt in earlier rungs and attempts.

        Raises:
            StudyFault: there are fewer units than layers to train, or the model cannot be cut.
        """
        network = chain(model)
        whole = to_device(network.module(), self.device)
        self._until_freeze.close()
        estimate_statistics(whole, (batch.to(self.device) for batch in statistics))
        split = network.split(self.layers)
        self._suffix = split.suffixes[0]
        if self._saved is not None and self._spec.parent is not None:
            copy_into(self._suffix.state(), self._saved.weights, self._spec.parent.path)
        self._suffix.train()
        return self._place.turns.share(split.prefix), self._suffix

    def resume(self, optimizer: Optimizer, scheduler: LRScheduler | None = None) -> Optimizer:
        """Give the optimizer the state it had in the rung or attempt before; parameters thawed since start afresh.

        A scheduler goes on where it was, and so does the learning rate that it had set. Both states are written to this
        rung's checkpoint.

        Raises:
            StudyFault: the model has not been cut yet.
        """
        if self._suffix is None:
            raise StudyFault("entrypoint: call trial.freeze before trial.resume")
        self._optimizer, self._scheduler = optimizer, scheduler
        if self._saved is not None:
            load_optimizer_state(optimizer, self._suffix.trainable(), self._saved.optimizer)
            self._resume_scheduler(self._saved.extra.get("scheduler"))
        return optimizer

    def _resume_scheduler(self, state: dict[str, Any] | None) -> None:
        if self._scheduler is None or self._optimizer is None or state is None:
            return
        self._scheduler.load_state_dict(state)
        for group, rate in zip(self._optimizer.param_groups, self._scheduler.get_last_lr(), strict=True):
            group["lr"] = rate

    def batches(self, samples: int, batch_size: int) -> Iterator[Tensor]:
        """Which samples to train on next, from where the trial stands to `tokens`: in place of a shuffling DataLoader.

        The order is shuffled anew in each pass, is the same for all trials of a study (so that they can share the
        prefix), and goes on at the right place after a stop. It ends early once the run is to stop.

        Args:
            samples: in the training part.
            batch_size: samples per step.

        Yields:
            Indices `[batch_size]` (fewer if there are fewer samples), on the CPU.
        """
        order = BatchOrder(samples, batch_size, self.seed)
        size = min(batch_size, samples)
        for step in range(self.start_tokens // size, -(-self.tokens // size)):
            if self.should_stop:
                return
            yield order.members(order.batch_at(step))

    def report(self, tokens: int, **metrics: float) -> None:
        """Say how many tokens (samples) have been seen, and, after an evaluation, what was measured.

        Report the tokens alone after each step, its update done, since now and then a checkpoint is written here; and
        the metrics whenever there is an evaluation, the last one at `trial.tokens`. A metric that is not finite ends
        the trial here.

        Args:
            tokens: seen so far, the ones of earlier rungs and attempts included.
            metrics: by name; the study's objective must be among them if any are given.

        Raises:
            StudyFault: the study's objective is missing.
        """
        self._seen = min(tokens, self.tokens)
        if self._interval.due and self._suffix is not None and self._seen < self.tokens and not self.should_stop:
            with self._interval.writing(), survived(self.name):
                self._save(self._suffix)
                self._place.metrics.update(self.name, checkpoint_tokens=self._seen)
        if not metrics:
            return
        name = self._run.metric
        if name not in metrics:
            raise StudyFault(
                f"objective.metric: the study asks for {name!r}, the entrypoint reported {', '.join(metrics)}; "
                "report it, or change the objective"
            )
        value = float(metrics[name])
        self._objective = value if math.isfinite(value) else math.nan
        loss = float(metrics["loss"]) if "loss" in metrics else None
        self._place.metrics.update(self.name, objective=self._objective, tokens=self._seen, loss=loss)
        log("evaluation", trial=self.name, rung=self._run.rung, tokens=self._seen, **metrics)
        if not math.isfinite(value):
            raise _Diverged

    @property
    def should_stop(self) -> bool:
        """The run has been asked to stop: report the tokens seen and return; a checkpoint is written for you."""
        return self._place.stopped()

    def _call(self, entrypoint: Callable[[Trial], None]) -> None:
        """Call the entrypoint; until it calls `freeze`, what it makes (data, its model) is in host memory."""
        with self._until_freeze as stack:
            stack.enter_context(host_memory())
            entrypoint(self)

    def _was_over(self) -> bool:
        """Whether an attempt that was killed at its very end, before anybody had its result, has left it."""
        objective = None if self._saved is None else self._saved.extra.get("objective")
        if self.start_tokens < self.tokens or objective is None:
            return False
        self._objective = objective
        self._place.metrics.update(self.name, objective=objective, tokens=self._seen)
        return True

    def _result(self, reason: Reason) -> TrialResult:
        folder = None
        if reason != "Diverged" and self._suffix is not None:
            folder = self._save(self._suffix)
        self._place.metrics.update(self.name, finished=reason != "Stopped")
        log("finished", trial=self.name, rung=self._run.rung, reason=reason, tokens=self._seen, checkpoint=folder)
        return TrialResult(
            name=self.name,
            reason=reason,
            objective=self._objective,
            tokens=self._seen,
            checkpoint=folder,
        )

    def _save(self, suffix: Suffix) -> str:
        folder = checkpoint_folder(self.name, self._run.rung, self._run.run)
        if self._written == self._seen:
            return folder
        state = optimizer_state(self._optimizer, suffix.trainable()) if self._optimizer else {}
        # Nobody here counts steps; tokens tell its files from those of the one before as well
        extra = {"objective": self._objective, "scheduler": _plain_state(self._scheduler)}
        checkpoint = Checkpoint(self.layers, self._seen, self._seen, suffix.state(), state, extra, self._place.data)
        save_checkpoint(self._place.store, folder, checkpoint)
        self._written = self._seen
        return folder


def _plain_state(scheduler: LRScheduler | None) -> dict[str, Any] | None:
    """A scheduler's state as JSON holds it.

    Raises:
        StudyFault: it holds something else, such as a tensor.
    """
    if scheduler is None:
        return None
    state = {name: value for name, value in scheduler.state_dict().items() if not name.startswith("_get_lr")}
    try:
        document: dict[str, Any] = json.loads(json.dumps(state))
    except (TypeError, ValueError) as error:
        raise StudyFault(
            f"entrypoint: the state of {type(scheduler).__name__} cannot be kept in a checkpoint ({error}); hand "
            "trial.resume a scheduler of plain numbers, such as CosineAnnealingLR or LinearLR"
        ) from error
    return document


def chain(model: nn.Module | Sequence[nn.Module]) -> ChainNetwork:
    """A custom model as an ordered list of units.

    Raises:
        StudyFault: it cannot be cut.
    """
    if isinstance(model, nn.Module) and not isinstance(model, nn.Sequential):
        return ChainNetwork(cut(model, type(model).__name__))
    return ChainNetwork([(f"unit{i}", unit) for i, unit in enumerate(model)])


class Place:
    """What the trials of a run have in common."""

    def __init__(
        self,
        store: Store,
        metrics: RunMetrics,
        stopped: Callable[[], bool],
        turns: Turns,
        parents: Mapping[str, Checkpoint] | None = None,
        data: Fingerprint | None = None,
    ):
        self.store, self.metrics, self.stopped, self.turns = store, metrics, stopped, turns
        self.parents = parents or {}
        """Checkpoints to go on from, by trial."""
        self.data = data or {}
        """Fingerprint of the data that the study names; empty where it names none."""


def run_custom(
    spec: RunSpec, device: torch.device, store: Store, metrics: RunMetrics, stopped: Callable[[], bool]
) -> list[TrialResult]:
    """Call the entrypoint once per trial; several trials take turns, switching where they ask for the prefix.

    Raises:
        StudyFault: the entrypoint cannot be imported, raised an error, or returned before its tokens were seen; or the
            data that the study names is not what a parent was trained on.
    """
    assert spec.model.entrypoint is not None
    function = load_entrypoint(spec.model.entrypoint)
    turns = Turns(len(spec.trials))
    parents = load_parents(store, {t.name: t.parent.path for t in spec.trials if t.parent is not None})
    opened = fingerprint(spec.data)
    for parent in parents.values():
        check_unchanged(spec.data, parent.data, opened)
    place = Place(store, metrics, stopped, turns, parents, opened)
    trials = [Trial(spec, trial, device, place) for trial in spec.trials]

    def evaluate(trial: Trial) -> TrialResult:
        if trial._was_over():
            return trial._result("Completed")
        seed_everything(spec.seed)
        try:
            trial._call(function)
        except _Diverged:
            return trial._result("Diverged")
        except (StudyFault, InfrastructureFault):
            raise
        except Exception as error:
            if is_out_of_memory(error) or is_device_failure(error) or is_no_space(error):
                raise
            traceback.print_exc()
            raise StudyFault(f"entrypoint {spec.model.entrypoint} raised {located(error)}") from error
        except SystemExit as left:
            raise StudyFault(
                f"entrypoint {spec.model.entrypoint} left with sys.exit({left.code}); return instead"
            ) from left
        over = trial._seen >= spec.tokens
        if over and trial._objective is not None:
            return trial._result("Completed")
        if stopped():
            return trial._result("Stopped")
        if over:
            raise StudyFault(
                f"entrypoint {spec.model.entrypoint} never reported the study's objective {spec.metric!r}; after the "
                f"last evaluation call trial.report(tokens=trial.tokens, {spec.metric}=...)"
            )
        raise StudyFault(
            f"entrypoint {spec.model.entrypoint} returned after {trial._seen} of {spec.tokens} tokens; train until "
            "trial.tokens and report there"
        )

    return turns.run([lambda trial=trial: evaluate(trial) for trial in trials])  # type: ignore[misc]


def load_entrypoint(name: str) -> Callable[[Trial], None]:
    """Import `package.module:function`; the working directory counts as a place to import from.

    Raises:
        StudyFault: no such module or function.
    """
    module_name, function_name = name.split(":")
    if str(Path.cwd()) not in sys.path:
        sys.path.insert(0, str(Path.cwd()))
    try:
        function = getattr(importlib.import_module(module_name), function_name)
    except (ImportError, AttributeError) as error:
        raise StudyFault(
            f"model.entrypoint: {name} cannot be imported ({error}); it must be in the image or on PYTHONPATH"
        ) from error
    except (Exception, SystemExit) as error:  # the module's own code runs as it is imported
        raise StudyFault(f"model.entrypoint: importing {module_name} raised {located(error)}") from error
    if not callable(function):
        raise StudyFault(f"model.entrypoint: {name} is no function")
    return function  # type: ignore[no-any-return]


def seed_everything(seed: int) -> None:
    """The same start for each trial, whether it runs first or last in its process."""
    torch.manual_seed(derive(seed, "custom"))
    random.seed(derive(seed, "custom", "python"))
    np.random.seed(derive(seed, "custom", "numpy") % 2**32)
