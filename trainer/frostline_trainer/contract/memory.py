"""How much device memory a run needs at each z."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Annotated, Literal

from pydantic import Field, model_validator

from frostline_trainer.contract.base import Section
from frostline_trainer.contract.run import MAX_TRIALS_PER_RUN

PROFILE_LIMIT_BYTES = 4096
"""A memory profile lives in an object's status or annotation, so it is kept as small as a result."""


class MemoryProfile(Section):
    """Peak device memory of a training run as a function of z, batch and number of packed trials.

    Computed on any CPU by `python -m frostline_trainer profile` and evaluated here without torch. Sizes are in MiB
    (2**20 bytes) in the stored columns and in bytes in every answer. Columns are indexed by knot: `z[i]` is a layer
    count that was simulated; between knots memory is interpolated (blocks that are alike make it piecewise linear, and
    the knots are chosen so that this holds within `tolerance`). At most `PROFILE_LIMIT_BYTES` as JSON.
    """

    hash: str
    """Of everything the profile depends on, so that it can be cached: model, training settings, versions."""
    device: Literal["cuda", "cpu"]
    """Whose memory behaviour was simulated. On cpu the sizes are those of live tensors, which a run's `memoryLimit`
    bounds there: no context, no caching allocator, no workspaces."""
    method: Literal["Simulated", "Probed"] = "Simulated"
    """Probed: the model cannot be traced (some custom entrypoints), so a short real run was measured instead."""
    layers: Annotated[int, Field(ge=1)]
    """L."""
    batch: Annotated[int, Field(ge=1)]
    """Samples per micro-batch of the study; other batch sizes follow from `lines`."""
    margin: Annotated[float, Field(ge=1)] = 1.0
    """What a simulation cannot see, as a factor on the need: 1.08, or 1.10 with convolutions, whose workspaces depend
    on the algorithm that cuDNN chooses on the card."""
    workspace: Annotated[float, Field(ge=0)] = 0.0
    """MiB of cuBLAS workspaces: 8.125 per handle, one each for the forward and the backward thread."""
    tolerance: Annotated[float, Field(ge=0)] = 0.0
    """Share by which interpolated values may differ from simulated ones."""
    z: Annotated[list[int], Field(min_length=1)]
    lines: list[list[float]]
    """Peak of live tensors of one trial: the largest of the lines [fixed, per sample, fixed, per sample, ...]."""
    trial: list[float]
    """What each further packed trial adds: weights, optimizer state and kept gradients of its last z layers."""
    packed: list[list[float]]
    """What packing adds once, as [fixed, per sample]: the prefix's output, held until the last trial has used it."""
    needed: list[float]
    """Least memory under which the caching allocator does not run out, as a multiple of the live bytes, at `batch`."""
    elsewhere: list[float]
    """The same at other batch sizes and numbers of trials: the largest of those replayed."""
    reserved: list[float]
    """What the caching allocator holds where memory is plenty, as a multiple of the live bytes."""

    @model_validator(mode="after")
    def _columns_agree(self) -> MemoryProfile:
        for name in ("lines", "trial", "packed", "needed", "elsewhere", "reserved"):
            if len(getattr(self, name)) != len(self.z):
                raise ValueError(f"{name} must have {len(self.z)} entries, one per knot")
        if self.z != sorted(set(self.z)) or self.z[0] != 1 or self.z[-1] != self.layers:
            raise ValueError("z must rise from 1 to layers")
        return self

    def peak_allocated(self, z: int, batch: int | None = None, trials: int = 1) -> int:
        """Peak bytes of live tensors (`torch.cuda.max_memory_allocated`, workspaces included).

        Args:
            z: trainable layers, 1 to L.
            batch: samples per micro-batch; by default the study's.
            trials: trials packed into the run (K).
        """
        return self._rising(z, batch, trials, lambda knot: 1.0) + self._workspace

    def peak_reserved(self, z: int, batch: int | None = None, trials: int = 1) -> int:
        """Peak bytes that the caching allocator holds on a card with room to spare (`max_memory_reserved`)."""
        return self._rising(z, batch, trials, lambda knot: self.reserved[knot]) + self._workspace

    def required(self, z: int, batch: int | None = None, trials: int = 1, correction: float = 1.0) -> int:
        """Bytes that a device must have free for the process's tensors so that the run fits.

        `(smallest cap under which the replayed allocator does not run out + cuBLAS workspaces) x margin x correction`.
        The CUDA context (about 600 MiB) is not in it: it is the caller's to take off the card's memory.

        Args:
            z: trainable layers, 1 to L.
            batch: samples per micro-batch; by default the study's.
            trials: trials packed into the run (K).
            correction: measured over predicted, learnt from earlier runs on this kind of device.
        """
        exact = trials == 1 and batch in (None, self.batch)
        ratios = self.needed if exact else self.elsewhere
        need = self._rising(z, batch, trials, lambda knot: ratios[knot]) + self._workspace
        return math.ceil(need * self.margin * correction)

    def largest_layers(self, limit: int, batch: int | None = None, trials: int = 1, correction: float = 1.0) -> int:
        """Largest z that `limit` bytes hold, 0 where not even one layer fits."""
        return self._largest(self.layers, lambda z: self.required(z, batch, trials, correction) <= limit)

    def largest_trials(
        self, limit: int, z: int, batch: int | None = None, correction: float = 1.0, most: int = MAX_TRIALS_PER_RUN
    ) -> int:
        """Largest number of packed trials, at most `most`, that `limit` bytes hold at z; 0 where not even one fits."""
        return self._largest(most, lambda trials: self.required(z, batch, trials, correction) <= limit)

    def largest_batch(self, limit: int, z: int, trials: int = 1, correction: float = 1.0, most: int = 1 << 20) -> int:
        """Largest micro-batch, at most `most`, that `limit` bytes hold at z; 0 where not even one sample fits."""
        return self._largest(most, lambda batch: self.required(z, batch, trials, correction) <= limit)

    @property
    def _workspace(self) -> int:
        return round(self.workspace * 2**20)

    @staticmethod
    def _largest(most: int, fits: Callable[[int], bool]) -> int:
        """Bisection: `fits` holds up to some number and not beyond."""
        low, high = 0, most
        while low < high:
            middle = (low + high + 1) // 2
            low, high = (middle, high) if fits(middle) else (low, middle - 1)
        return low

    def _rising(self, z: int, batch: int | None, trials: int, ratio: Callable[[int], float]) -> int:
        """Interpolated between knots and never falling with z: more trainable layers never need less."""
        if not 1 <= z <= self.layers:
            raise ValueError(f"z must be between 1 and {self.layers}, not {z}")
        batch = self.batch if batch is None else batch
        best = before = 0.0
        for knot, at in enumerate(self.z):
            value = max(self._live(knot, batch, trials) * ratio(knot), best)
            if at >= z:
                if at > z:
                    value = before + (value - before) * (z - self.z[knot - 1]) / (at - self.z[knot - 1])
                return math.ceil(value * 2**20)
            best = before = value
        raise AssertionError("unreachable: the last knot is L")

    def _live(self, knot: int, batch: int, trials: int) -> float:
        numbers = self.lines[knot]
        peak = max(numbers[i] + numbers[i + 1] * batch for i in range(0, len(numbers), 2))
        if trials > 1:
            fixed, per_sample = self.packed[knot]
            peak += (trials - 1) * self.trial[knot] + max(0.0, fixed + per_sample * batch)
        return peak
