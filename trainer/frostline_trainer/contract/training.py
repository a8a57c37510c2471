"""How a trial is trained: the section `training` of a study."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Literal

from pydantic import Field

from frostline_trainer.contract.base import FieldPath, Section

Precision = Literal["fp32", "bf16", "fp16"]


class OptimizerSpec(Section):
    """How the trainable layers are updated. Every field is a usual target of a hyperparameter's `bind`."""

    name: Literal["AdamW", "Adam", "SGD", "Adafactor", "AdamW8bit"] = "AdamW"
    """AdamW8bit keeps its states in 8 bits and needs bitsandbytes and a GPU."""
    lr: Annotated[float, Field(gt=0, le=1e3)] = 1e-3
    """Peak learning rate."""
    weight_decay: Annotated[float, Field(ge=0, le=1e3)] = 0.0
    """Decoupled for AdamW; applied to matrices only, never to biases and norms."""
    beta1: Annotated[float, Field(ge=0, lt=1)] = 0.9
    """Adam and its kin: decay of the mean of gradients."""
    beta2: Annotated[float, Field(ge=0, lt=1)] = 0.999
    """Adam and its kin: decay of the mean of squared gradients."""
    eps: Annotated[float, Field(gt=0, le=1)] = 1e-8
    """Adam and its kin: keeps the division finite."""
    momentum: Annotated[float, Field(ge=0, lt=1)] = 0.9
    """SGD only."""
    nesterov: bool = False
    """SGD only."""
    fused: bool | None = None
    """Use the fused kernel, which saves a temporary as large as the trainable part. By default where it exists."""


class ScheduleSpec(Section):
    """Learning rate over the tokens (or samples) seen; its horizon is the highest rung's tokens."""

    name: Literal["Constant", "Cosine", "Linear"] = "Cosine"
    """How the learning rate goes on after the warm-up."""
    warmup: Annotated[float, Field(ge=0, le=1)] = 0.0
    """Share of the horizon over which the learning rate rises linearly from zero."""
    final: Annotated[float, Field(ge=0, le=1)] = 0.1
    """Learning rate at the horizon, as a share of the peak."""


class TrainingSpec(Section):
    """How a trial is trained. Any field may be bound to a hyperparameter by its path, such as training.optimizer.lr."""

    batch_size: Annotated[int, Field(ge=1, le=1_048_576)] = 8
    """Sequences (or samples) per optimizer step and accumulation step."""
    accumulation: Annotated[int, Field(ge=1, le=65536)] = 1
    """Micro-batches per optimizer step."""
    sequence_length: Annotated[int, Field(ge=2, le=1_048_576)] = 256
    """Tokens per sequence (language models)."""
    optimizer: OptimizerSpec = Field(default_factory=OptimizerSpec)
    schedule: ScheduleSpec = Field(default_factory=ScheduleSpec)
    precision: Precision = "fp32"
    """Precision of the trainable part's compute; weights and optimizer state stay in fp32."""
    prefix_precision: Literal["fp32", "bf16"] = "fp32"
    """Precision in which the frozen prefix is stored and run. bf16 halves its memory and changes features a little."""
    gradient_clipping: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = None
    """Largest norm of the gradient; unset for no clipping."""
    label_smoothing: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Training loss only; validation is always measured without."""
    dropout: Annotated[float, Field(ge=0, lt=1)] | None = None
    """Sets the dropout of the trainable part; unset keeps the model's own. The frozen prefix never drops."""
    activation_checkpointing: bool = False
    """Recompute the trainable blocks' activations in the backward pass: less memory, about a third more compute."""
    depth_transfer: Literal["None", "Auto"] = "None"
    """Auto multiplies the learning rate by L / z at a rung that trains z of L layers, for all optimizers but SGD: few
    layers want a larger rate. The operator does it; what a run is given is the rate in force."""
    depth_factors: Annotated[list[Annotated[float, Field(gt=0, le=1e3)]], Field(min_length=1, max_length=32)] | None = (
        None
    )
    """Instead of L / z, what the rate is multiplied by at each rung, lowest first; 1 for rungs beyond the list, and
    wherever all layers are trained."""

    def problems(self) -> Iterator[tuple[FieldPath, str]]:
        """Two rules for one thing."""
        if self.depth_transfer == "Auto" and self.depth_factors is not None:
            text = "depthFactors stand instead of depthTransfer: Auto; keep one of the two"
            yield ("depthFactors",), text
