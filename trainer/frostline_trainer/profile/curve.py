"""From two records to memory at any batch size.

A training step runs the same operators at every batch size, and each tensor's size is a constant plus something
proportional to the batch. Two simulations therefore give every block's size at any batch; the live bytes at each moment
are a line over the batch, and the peak is the upper envelope of these lines, of which a handful matter.
"""

from __future__ import annotations

from array import array
from dataclasses import dataclass

from frostline_trainer.device.tracker import Trace, rounded

Line = tuple[int, int]
"""Bytes that do not depend on the batch, and bytes per sample of the batch."""


class NotLinearError(Exception):
    """The two records do not match: the model does other things at another batch size."""


@dataclass(frozen=True)
class LinearTrace:
    """A record whose block n takes `fixed[n] + slope[n] * batch` bytes."""

    events: array[int]
    fixed: array[int]
    slope: array[int]

    def at(self, batch: int) -> Trace:
        """The record at one batch size."""
        trace = Trace()
        trace.events = self.events
        trace.sizes = array("q", [f + s * batch for f, s in zip(self.fixed, self.slope, strict=True)])
        return trace

    def lines(self, granule: int) -> list[Line]:
        """Upper envelope over all batches from 1: the peak at `batch` is the largest `fixed + slope * batch`."""
        fixed = slope = 0
        best: dict[int, int] = {}
        for event in self.events:
            block = abs(event)
            size = self.fixed[block]
            if not self.slope[block]:
                size = rounded(size, granule)
            if event > 0:
                fixed += size
                slope += self.slope[block]
                if best.get(slope, fixed - 1) < fixed:
                    best[slope] = fixed
            else:
                fixed -= size
                slope -= self.slope[block]
        return envelope([(f, s) for s, f in best.items()])


def linear(first: Trace, first_batch: int, second: Trace, second_batch: int) -> LinearTrace:
    """Reads each block's size as a line through its sizes in two records; raises NotLinearError where they differ."""
    if first.events != second.events:
        raise NotLinearError("the two records have different operators")
    step = second_batch - first_batch
    fixed, slope = array("q"), array("q")
    for one, two in zip(first.sizes, second.sizes, strict=True):
        per_sample = (two - one) // step if (two - one) % step == 0 else -(-(two - one) // step)
        slope.append(per_sample)
        fixed.append(one - per_sample * first_batch)
    return LinearTrace(first.events, fixed, slope)


def proportional(first: Trace, first_batch: int, second_peak: int, second_batch: int) -> LinearTrace:
    """A stand-in where two records do not match: the first one's blocks, all growing by the same share per sample."""
    peak = first.peak(1)
    share = (second_peak / peak - 1) / (second_batch - first_batch) if peak else 0.0
    slope = array("q", [max(0, round(size * share)) for size in first.sizes])
    fixed = array("q", [size - per * first_batch for size, per in zip(first.sizes, slope, strict=True)])
    return LinearTrace(first.events, fixed, slope)


def envelope(lines: list[Line]) -> list[Line]:
    """The lines that are largest for some batch of at least 1, by rising slope (a convex hull)."""
    hull: list[Line] = []
    for fixed, slope in sorted(set(lines), key=lambda line: (line[1], line[0])):
        if hull and hull[-1][1] == slope:
            hull.pop()
        # The last line is never largest once the new one overtakes it before it overtook its own predecessor.
        while hull and (_meet(hull[-1], (fixed, slope)) <= 1 or _hidden(hull, (fixed, slope))):
            hull.pop()
        hull.append((fixed, slope))
    return hull


def _meet(lower: Line, upper: Line) -> float:
    """Batch from which `upper`, the steeper line, is the larger."""
    return (lower[0] - upper[0]) / (upper[1] - lower[1])


def _hidden(hull: list[Line], new: Line) -> bool:
    return len(hull) > 1 and _meet(hull[-1], new) <= _meet(hull[-2], hull[-1])


def height(lines: list[Line], batch: int) -> int:
    """The peak at one batch size."""
    return max(fixed + slope * batch for fixed, slope in lines)


def simplify(lines: list[Line], batches: list[int], tolerance: float) -> list[Line]:
    """Drops lines as long as the peak at none of `batches` falls by more than `tolerance` (a share)."""
    kept = list(lines)
    while len(kept) > 1:
        losses = []
        for index in range(len(kept)):
            rest = kept[:index] + kept[index + 1 :]
            losses.append(max(1 - height(rest, batch) / height(lines, batch) for batch in batches))
        index = min(range(len(kept)), key=losses.__getitem__)
        if losses[index] > tolerance:
            break
        kept.pop(index)
    return kept
