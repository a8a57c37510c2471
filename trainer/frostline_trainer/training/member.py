"""One trial of a pack: suffix, optimizer, schedule and progress. Nothing here knows of the other trials."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from frostline_trainer.checkpoints.checkpoint import Checkpoint, copy_into
from frostline_trainer.contract import Reason, TrialSpec
from frostline_trainer.data.fingerprint import Fingerprint
from frostline_trainer.models.cut import Suffix
from frostline_trainer.training.optim import (
    OptimizerBuilder,
    build_optimizer,
    load_optimizer_state,
    optimizer_state,
    set_learning_rate,
)
from frostline_trainer.training.schedule import learning_rate_share


class Member:
    """A trial in training.

    Args:
        spec: its part of the run.
        suffix: its trainable layers, on the device.
        device: where it trains.
        horizon: tokens (samples) at which the learning rate's schedule ends.
        step_tokens: tokens (samples) per optimizer step.
        build: makes the optimizer.
    """

    def __init__(
        self,
        spec: TrialSpec,
        suffix: Suffix,
        device: torch.device,
        horizon: int,
        step_tokens: int,
        build: OptimizerBuilder = build_optimizer,
    ):
        self.spec = spec
        self.suffix = suffix
        self.step = 0
        """Optimizer steps done, those of earlier rungs included."""
        self.reason: Reason | None = None
        """Why it ended; None while it goes on."""
        self.objective: float | None = None
        self.untied = False
        """Whether, at full z, input and output embeddings have become separate."""
        self.saved_step: int | None = None
        """Step of the checkpoint that this run wrote of it last."""
        self.data: Fingerprint = {}
        """Of the data that it trains on, for its checkpoints."""
        self._horizon, self._step_tokens = horizon, step_tokens
        training = spec.training
        if training.dropout is not None:
            set_dropout(suffix, training.dropout)
        if training.activation_checkpointing:
            suffix.checkpoint_activations()
        self._parameters = suffix.trainable()
        self.optimizer = build(training.optimizer, self._parameters.values())
        self.scaler = torch.amp.GradScaler(device.type, enabled=training.precision == "fp16")
        """Of the loss with fp16; otherwise it hands everything through."""
        self._loss = torch.zeros((), device=device)
        self._losses = 0
        suffix.train()

    # --- a step -------------------------------------------------------------------------------------------------------

    def update(self) -> None:
        """Update the weights from the gradients of a step's micro-batches, and clear the gradients."""
        training = self.spec.training
        tokens = (self.step + 1) * self._step_tokens
        share = learning_rate_share(training.schedule, tokens, self._horizon)
        set_learning_rate(self.optimizer, training.optimizer.lr * share)
        if training.gradient_clipping is not None:
            self.scaler.unscale_(self.optimizer)
            nn.utils.clip_grad_norm_(self._parameters.values(), training.gradient_clipping)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.optimizer.zero_grad(set_to_none=True)
        self.step += 1
        self._losses += 1

    def add_loss(self, loss: Tensor) -> None:
        """Count a micro-batch's share of a step's loss towards `recent_loss`, on the device."""
        self._loss += loss

    def recent_loss(self) -> float:
        """Mean training loss since this was last asked (NaN where nothing was trained); waits for the device.

        One loss that is not finite makes the mean not finite, so no divergence is missed between two questions.
        """
        mean = float(self._loss) / self._losses if self._losses else math.nan
        self._loss.zero_()
        self._losses = 0
        return mean

    # --- going on later -----------------------------------------------------------------------------------------------

    def checkpoint(self, layers: int, tokens: int) -> Checkpoint:
        """All that is needed to go on, weights of the suffix only."""
        extra: dict[str, Any] = {"untied": self.untied}
        if self.scaler.is_enabled():
            extra["scaler"] = self.scaler.state_dict()
        state = optimizer_state(self.optimizer, self._parameters)
        return Checkpoint(layers, self.step, tokens, self.suffix.state(), state, extra, self.data)

    def resume(self, saved: Checkpoint, folder: str) -> None:
        """Go on from a checkpoint of as many layers or fewer; what it lacks is thawed: fresh, without optimizer state.

        Raises:
            StudyFault: the checkpoint is of another model or of more layers.
        """
        copy_into(self.suffix.state(), saved.weights, folder)
        load_optimizer_state(self.optimizer, self._parameters, saved.optimizer)
        if self.scaler.is_enabled() and "scaler" in saved.extra:
            self.scaler.load_state_dict(saved.extra["scaler"])
        self.step = saved.step

    def held(self) -> Iterator[Tensor]:
        """Tensors of its own besides the suffix: optimizer state."""
        for state in self.optimizer.state.values():
            yield from (value for value in state.values() if isinstance(value, Tensor))

    def release(self) -> None:
        """Free weights and optimizer state: this trial is over."""
        self.optimizer.zero_grad(set_to_none=True)
        self.optimizer.state.clear()
        for parameter in self._parameters.values():
            parameter.data = parameter.data.new_empty(0)


def set_dropout(suffix: Suffix, share: float) -> None:
    """Set every dropout of the trainable part, whether it is a module or a number that a functional call reads."""
    for _, owned in suffix.owned():
        for module in owned.modules():
            if isinstance(module, nn.modules.dropout._DropoutNd):
                module.p = share
            for name, value in list(vars(module).items()):
                if isinstance(value, float) and ("dropout" in name or "drop" in name.split("_")):
                    setattr(module, name, share)
