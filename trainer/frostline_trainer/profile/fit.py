"""From a few simulations to the compact profile: which layer counts, which batches, which packs to simulate.

Every z, batch and K is not simulated; three structures make that unnecessary, and each is checked, not assumed:

- **Batch**: the envelope of two records (`curve`), at the study's batch and the next, checked against a third far off.
- **z**: blocks that are alike make memory piecewise linear. Knots start at 1, 2, L - 1, L; the middle of each gap is
  simulated, and where it is off the straight line by more than the tolerance the gap is split further. A network
  whose blocks all differ ends with a knot at every z.
- **K**: each further trial adds what it holds between its steps (its weights, optimizer state, kept gradients), read
  off the simulation. What packing adds once is measured with K = 2.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Literal, Protocol

from frostline_trainer.contract import PROFILE_LIMIT_BYTES, MemoryProfile
from frostline_trainer.device.tracker import CUDA_GRANULE, Trace
from frostline_trainer.profile import curve
from frostline_trainer.profile.allocator import MIB, replay, smallest_cap
from frostline_trainer.profile.curve import Line, LinearTrace

PLAIN_MARGIN = 1.08
"""What simulation does not see, without convolutions: temporaries inside kernels, other streams."""
CONVOLUTION_MARGIN = 1.10
"""With convolutions, whose workspaces depend on the algorithm that cuDNN picks on the card."""
CPU_MARGIN = 1.01
"""On a CPU the very thing that was simulated is counted; left are odd batches and scalars."""
NEED_TOLERANCE = 0.02
"""How far the replayed need in the middle of a gap may be off the straight line: the allocator's gaps are less even
over z than live bytes, and it is the need that decides whether a run fits."""
CUBLAS_WORKSPACES = 2 * 8.125
"""MiB: a workspace of 8.125 MiB for the thread of the forward and for that of the backward pass (4096:2:16:8). Hopper
takes 32 MiB each; the 48 MiB more are within the margin on cards of that size."""


@dataclass(frozen=True)
class Simulation:
    """One simulated run."""

    trace: Trace
    trial_bytes: int
    """What one trial holds between its steps and another trial would hold as well."""


class Simulate(Protocol):
    """Simulates a run of at least two steps at this z, micro-batch and number of packed trials."""

    def __call__(self, z: int, batch: int, trials: int) -> Simulation:
        """The record of the run."""
        ...


@dataclass(frozen=True)
class _Knot:
    lines: list[Line]
    trial: int
    needed: float
    elsewhere: float
    reserved: float

    def peak(self, batch: int) -> int:
        return curve.height(self.lines, batch)

    def need(self, batch: int) -> float:
        """Least memory under which the replayed allocator does not run out."""
        return self.peak(batch) * self.needed


class _Fitter:
    def __init__(self, simulate: Simulate, layers: int, batch: int, device: Literal["cuda", "cpu"], tolerance: float):
        self.simulate = simulate
        self.layers = layers
        self.batch = batch
        self.device = device
        self.tolerance = tolerance
        self.probes = (batch, batch + 1)  # exact at the study's batch, and the slope to all others
        self.knots: dict[int, _Knot] = {}
        self.error = 0.0

    def run(self) -> None:
        start = sorted({1, min(2, self.layers), max(1, self.layers - 1), self.layers})
        for z in start:
            self._add(z)
        for low, high in pairwise(start):
            self._refine(low, high)
        self._check_batch()

    def _check_batch(self) -> None:
        """How well the batches that were simulated foretell one that is three times as large."""
        foretold, simulated = self.knots[1].peak(3 * self.batch), self.simulate(1, 3 * self.batch, 1).trace.peak()
        self.error = max(self.error, abs(foretold - simulated) / simulated)

    def _linear(self, z: int, trials: int = 1) -> tuple[LinearTrace, int]:
        first, second = (self.simulate(z, batch, trials) for batch in self.probes)
        try:
            trace = curve.linear(first.trace, self.probes[0], second.trace, self.probes[1])
        except curve.NotLinearError:
            # Other operators at every batch size: the peaks alone give the line, the record at hand the overhead.
            trace = curve.proportional(first.trace, self.probes[0], second.trace.peak(), self.probes[1])
        return trace, first.trial_bytes

    def _add(self, z: int) -> _Knot:
        if z in self.knots:
            return self.knots[z]
        trace, trial = self._linear(z)
        lines = trace.lines(CUDA_GRANULE)
        needed = elsewhere = reserved = 1.0
        if self.device == "cuda":
            for batch in {max(1, self.batch // 2), self.batch, 2 * self.batch}:
                record = trace.at(batch)
                whole = replay(record)
                ratio = smallest_cap(record) / whole.allocated
                elsewhere = max(elsewhere, ratio)
                if batch == self.batch:
                    needed, reserved = ratio, whole.reserved / whole.allocated
        self.knots[z] = _Knot(lines, trial, needed, elsewhere, reserved)
        return self.knots[z]

    def _refine(self, low: int, high: int) -> None:
        if high - low < 2:
            return
        middle = (low + high) // 2
        one, two, knot = self.knots[low], self.knots[high], self._add(middle)
        share = (middle - low) / (high - low)
        worst = 0.0
        for batch in (max(1, self.batch // 4), self.batch, 4 * self.batch):
            straight = one.peak(batch) + share * (two.peak(batch) - one.peak(batch))
            worst = max(worst, abs(straight - knot.peak(batch)) / knot.peak(batch))
        straight = one.trial + share * (two.trial - one.trial)
        worst = max(worst, abs(straight - knot.trial) / max(1, knot.peak(self.batch)))
        straight = one.need(self.batch) + share * (two.need(self.batch) - one.need(self.batch))
        short = abs(straight - knot.need(self.batch)) / knot.need(self.batch)
        if worst > self.tolerance or short > max(self.tolerance, NEED_TOLERANCE):
            self._refine(low, middle)
            self._refine(middle, high)
        else:
            self.error = max(self.error, worst, short)

    def packing(self) -> tuple[Line, float]:
        """What a second trial adds once beyond `trial`, as a line over the batch, seen at z = 1.

        Also by what factor the allocator's overhead grows with two trials, seen at z = 1 and in the middle. Above,
        packs are large and rare, and what they add is the same.
        """
        trace, _ = self._linear(1, trials=2)
        lines = trace.lines(CUDA_GRANULE)
        extra = [curve.height(lines, b) - self.knots[1].peak(b) - self.knots[1].trial for b in self.probes]
        added = (extra[0] - (extra[1] - extra[0]) * self.batch, extra[1] - extra[0])
        if self.device == "cpu":
            return added, 1.0
        middle = min(self.knots, key=lambda knot: abs(knot - self.layers // 2))
        overhead = 1.0
        for z, record in ((1, trace.at(self.batch)), (middle, self.simulate(middle, self.batch, 2).trace)):
            overhead = max(overhead, smallest_cap(record) / record.peak() / self.knots[z].needed)
        return added, overhead


def fit(
    simulate: Simulate,
    *,
    layers: int,
    batch: int,
    device: Literal["cuda", "cpu"] = "cuda",
    convolutional: bool = False,
    packs: bool = True,
    identity: str = "",
    tolerance: float = 0.005,
) -> MemoryProfile:
    """The memory profile of what `simulate` runs.

    Args:
        simulate: runs one simulation.
        layers: L.
        batch: the study's micro-batch, at which the allocator's overhead is replayed.
        device: cuda, or cpu for live tensor bytes without allocator, workspaces and margin.
        convolutional: the network has convolutions.
        packs: whether several trials can share a run.
        identity: hash of what the profile depends on.
        tolerance: largest relative error of interpolation between knots.
    """
    fitter = _Fitter(simulate, layers, batch, device, tolerance)
    fitter.run()
    added: Line = (0, 0)
    if packs:
        added, ratio = fitter.packing()
        fitter.knots = {
            z: _Knot(k.lines, k.trial, k.needed, max(k.elsewhere, k.needed * ratio), k.reserved)
            for z, k in fitter.knots.items()
        }
    kept = dict(fitter.knots)
    loose = 0.001
    while True:
        profile = _written(kept, added, fitter, loose, device, convolutional, identity)
        if len(profile.model_dump_json(by_alias=True).encode()) <= PROFILE_LIMIT_BYTES:
            return profile
        if loose < 0.01:
            loose *= 2
        else:
            fitter.error = max(fitter.error, _drop_least(kept, batch))


def _drop_least(knots: dict[int, _Knot], batch: int) -> float:
    """Removes the inner knot that a straight line replaces best; returns the error that this makes."""
    order = sorted(knots)
    errors: dict[int, float] = {}
    for before, z, after in zip(order, order[1:], order[2:], strict=False):
        share = (z - before) / (after - before)
        for value in (_Knot.peak, _Knot.need):
            one, two, exact = (value(knots[n], batch) for n in (before, after, z))
            errors[z] = max(errors.get(z, 0.0), abs(one + share * (two - one) - exact) / exact)
    least = min(errors, key=errors.__getitem__)
    del knots[least]
    return errors[least]


def _written(
    knots: dict[int, _Knot],
    added: Line,
    fitter: _Fitter,
    loose: float,
    device: Literal["cuda", "cpu"],
    convolutional: bool,
    identity: str,
) -> MemoryProfile:
    batches = sorted({1, max(1, fitter.batch // 4), fitter.batch, 4 * fitter.batch, 16 * fitter.batch})
    order = sorted(knots)
    lines, packed = [], []
    for z in order:
        kept = curve.simplify(knots[z].lines, batches, loose)
        lines.append([_digits(number / MIB) for line in kept for number in line])
        packed.append([_digits(number / MIB) for number in added])
    on_gpu = device == "cuda"
    return MemoryProfile(
        hash=identity,
        device=device,
        layers=fitter.layers,
        batch=fitter.batch,
        margin=CPU_MARGIN if not on_gpu else CONVOLUTION_MARGIN if convolutional else PLAIN_MARGIN,
        workspace=CUBLAS_WORKSPACES if on_gpu else 0.0,
        tolerance=round(fitter.error + loose, 4),
        z=order,
        lines=lines,
        trial=[_digits(knots[z].trial / MIB) for z in order],
        packed=packed,
        needed=[round(knots[z].needed, 3) for z in order],
        elsewhere=[round(knots[z].elsewhere, 3) for z in order],
        reserved=[round(knots[z].reserved, 3) for z in order],
    )


def _digits(value: float) -> float:
    """Six significant digits: short in JSON, and far finer than the prediction."""
    return float(f"{value:.6g}")
