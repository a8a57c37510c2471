"""What a model costs at each z, and what that depends on."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Literal

from pydantic import Field
from pydantic.alias_generators import to_camel

from frostline_trainer.contract.base import FieldPath, Scalar, Section
from frostline_trainer.contract.data import DataSpec
from frostline_trainer.contract.memory import MemoryProfile
from frostline_trainer.contract.model import ModelSpec
from frostline_trainer.contract.training import TrainingSpec


class Variant(Section):
    """Another configuration of a study, as far as it differs."""

    model: ModelSpec | None = None
    training: TrainingSpec | None = None
    hyperparameters: dict[str, Scalar] | None = None
    label: str = ""
    """For people: what is different about it."""


class ProfileSpec(Section):
    """What a profile depends on: the input of `python -m frostline_trainer profile` (a `RunSpec` holds all of it)."""

    model: ModelSpec
    data: DataSpec
    training: TrainingSpec = Field(default_factory=TrainingSpec)
    hyperparameters: dict[str, Scalar] = Field(default_factory=dict)
    """One configuration of the study, for custom entrypoints, which are tried out for a step."""
    variants: Annotated[list[Variant], Field(max_length=64)] = Field(default_factory=list)
    """Corners of the search space. Memory is foretold for the one that needs most, so that every trial fits."""

    def vary(self, variant: Variant) -> ProfileSpec:
        """The specification of one of the variants."""
        changes = {name: getattr(variant, name) for name in ("model", "training", "hyperparameters")}
        given = {name: value for name, value in changes.items() if value is not None}
        return self.model_copy(update={**given, "variants": []})


UPDATE_FLOPS = 100.0
"""What the optimizer's update of one parameter costs, in FLOPs of matrix products in the same time: it moves some
twenty bytes and computes next to nothing."""
PACKING_PAYS = 1.25
"""Foretold gain from which packing several trials was never measured to lose."""


class ModelProfile(Section):
    """What a model costs at each z, computed once per model by `python -m frostline_trainer profile`.

    Lists are indexed by z - 1: entry 0 is for z = 1 (only the output unit trains), entry L - 1 for the whole network.
    FLOPs are per token (per sample for images and tables), one multiply-add counted as two.
    """

    hash: str
    """Of everything the profile depends on, so that it can be cached."""
    layers: Annotated[int, Field(ge=1)]
    """L: number of units from the input's to the output's."""
    unit: Literal["tokens", "samples"]
    parameters: Annotated[list[int], Field(min_length=1)]
    """Trainable parameters at z."""
    prefix_flops: list[float]
    """Forward pass of the frozen prefix at z: paid once per batch by all trials of a run."""
    suffix_flops: list[float]
    """Forward and backward pass of the trainable part at z: paid by each trial."""
    step_tokens: Annotated[int, Field(ge=1)]
    """Tokens (or samples) per optimizer step at the study's batch size."""
    memory: MemoryProfile | None = None
    """Peak device memory, where it was asked for."""
    notes: list[str] = Field(default_factory=list)
    """For people: what was assumed."""

    def packing_gain(self, layers: int, trials: int) -> float:
        """How many times faster per trial a run of so many trials is foretold to be than a run for each.

        One trial costs prefix + suffix per step, a packed one prefix / trials + suffix, where the suffix includes the
        optimizer's update (`UPDATE_FLOPS`). Packing pays from `PACKING_PAYS` on; docs/packing.md has what was measured.
        """
        prefix = self.prefix_flops[layers - 1] * self.step_tokens
        suffix = self.suffix_flops[layers - 1] * self.step_tokens + UPDATE_FLOPS * self.parameters[layers - 1]
        return (prefix + suffix) / (prefix / trials + suffix)

    def problems(self) -> Iterator[tuple[FieldPath, str]]:
        """Lists that do not have one entry per z."""
        for name in ("parameters", "prefix_flops", "suffix_flops"):
            if len(getattr(self, name)) != self.layers:
                yield (to_camel(name),), f"must have {self.layers} entries, one per z"
