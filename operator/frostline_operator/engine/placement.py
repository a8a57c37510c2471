"""Which device a run goes to, and with how many layers: hardware as a fidelity.

A run's need is the predicted peak times (1 + headroom). It goes to the smallest memory class that fits its z, so that
large cards stay free for high rungs. Where no class fits, z becomes the largest that does.

What finished runs teach about a memory profile is one factor per model and memory class. A prediction is made without
the card, so each run's measured peak is held against it. The factor multiplies `MemoryProfile.required`. Its rules:

- **From measurements** it is the highest ratio of measured to predicted live bytes so far. A maximum does not depend on
  the order in which runs finish, and a single greedy configuration is what runs out of memory.
- **Never below 1 until `RUNS_TO_TRUST` runs agree**, then not below `LOWEST`: memory is given back slowly.
- **Running out of memory sets a floor** just high enough that the run which failed would no longer be said to fit.
  Later successes do not lower it: they say nothing about the run that failed.
- It never exceeds `HIGHEST`: a profile that wrong is not corrected but distrusted; what ran out is then avoided by
  itself (`OutOfMemory`): the same z and trials are not tried again on an equal or smaller device.

Everything here is a pure function of its arguments, and nothing is kept: a correction is made anew from the study's
runs, for each memory class (`corrections`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from frostline_operator.engine.schedule import Rung
from frostline_operator.engine.state import MemoryClass, Observation, Run, RunState, StudyState

LOWEST = 0.95
"""Least factor: the profile's own margin (1.08 or more) is never eaten up by optimism."""
HIGHEST = 4.0
"""Largest factor."""
RUNS_TO_TRUST = 3
"""Measured runs before a factor below 1 is believed."""
STEP = 1.01
"""By how much a failed run's need is put above the memory that did not suffice."""


@dataclass(frozen=True, slots=True)
class Correction:
    """What is known of one model on one GPU product."""

    highest: float = 0.0
    """Highest ratio of measured to predicted bytes; 0 before the first run."""
    runs: int = 0
    """Runs measured."""
    floor: float = 0.0
    """Set by runs that ran out of memory; 0 while none did."""
    failures: int = 0
    """Runs that ran out of memory although they were said to fit."""

    @property
    def factor(self) -> float:
        """What `MemoryProfile.required` is multiplied with, between `LOWEST` and `HIGHEST`."""
        measured = self.highest if self.runs >= RUNS_TO_TRUST else max(self.highest, 1.0)
        return min(HIGHEST, max(measured, self.floor, LOWEST))


def after_measurement(correction: Correction, *, predicted: int, measured: int) -> Correction:
    """After a run that ended well: `predicted` is `peak_allocated` at its z, batch and trials, `measured` its peak.

    A run that measured nothing (`measured` 0, as on a CPU without a limit) changes nothing.
    """
    if predicted <= 0 or measured <= 0:
        return correction
    return replace(correction, highest=max(correction.highest, measured / predicted), runs=correction.runs + 1)


def after_exhaustion(correction: Correction, *, required: int, limit: int) -> Correction:
    """After exit 42: `required` is the profile's own figure (correction 1), `limit` the bytes that did not suffice.

    From then on the same run is no longer said to fit `limit`, up to the bound `HIGHEST`.
    """
    if required <= 0 or limit <= 0:
        return correction
    if required * correction.factor > limit:  # it was not said to fit: nothing to learn
        return correction
    floor = min(HIGHEST, max(correction.floor, limit / required * STEP))
    return replace(correction, floor=floor, failures=correction.failures + 1)


def ratio(predicted: int | None, measured: int | None) -> float | None:
    """Measured over predicted, for trials and reports, to three digits; None where one of them is unknown."""
    return round(measured / predicted, 3) if predicted and measured else None


Need = Callable[[int, int, MemoryClass], int | None]
"""(layers, trials, class) -> bytes that a device must have free, None where nothing is known."""


def usable_memory(total: int) -> int:
    """Bytes of a card that a run may plan with: the CUDA context, the driver and other processes need some."""
    return int(min(0.90 * total, 0.97 * total - 2**30))


@dataclass(frozen=True)
class OutOfMemory:
    """A combination that is known not to fit: neither does anything larger on an equal or smaller device."""

    usable_bytes: int | None
    layers: int
    trials: int

    def rules_out(self, memory_class: MemoryClass, layers: int, trials: int) -> bool:
        """Whether this failure says that the combination cannot fit either."""
        at_most = self.usable_bytes is None or (
            memory_class.usable_bytes is not None and memory_class.usable_bytes <= self.usable_bytes
        )
        return at_most and layers >= self.layers and trials >= self.trials


@dataclass(frozen=True)
class Fit:
    """A place for a run."""

    memory_class: str
    layers: int
    trials: int


class NothingFits(Exception):  # noqa: N818 - it is an answer, not a malfunction
    """No class of the cluster holds even one trainable layer."""


@dataclass(frozen=True)
class Placement:
    """The memory side of a study: what needs how much, and what is known not to fit."""

    classes: Sequence[MemoryClass]
    need: Need
    headroom: float
    failures: Sequence[OutOfMemory] = ()
    overflow: bool = False
    """Let a run take a larger class when the smallest fitting one is full."""
    degrade: bool = False
    """Let a run take fewer layers on a smaller class when the fitting one is full."""

    def fits(self, memory_class: MemoryClass, layers: int, trials: int) -> bool:
        """Whether a run is expected to fit a device of the class."""
        if any(failure.rules_out(memory_class, layers, trials) for failure in self.failures):
            return False
        need = self.need(layers, trials, memory_class)
        if need is None or memory_class.usable_bytes is None:
            return True
        return need * (1 + self.headroom) <= memory_class.usable_bytes

    def largest_layers(self, asked: int) -> int:
        """Most layers, up to `asked`, that one trial can train anywhere in the cluster; 0 where nothing fits."""
        for layers in range(asked, 0, -1):
            if any(self.fits(memory_class, layers, 1) for memory_class in self.classes):
                return layers
        return 0

    def trainable(self, rung: Rung) -> Rung:
        """The rung as this cluster can train it: with fewer layers where no device holds those it asks for."""
        return replace(rung, layers=self.largest_layers(rung.layers) or rung.layers)

    def home(self, asked: int) -> MemoryClass | None:
        """The class that a run of `asked` layers belongs on: the smallest that holds the most of them; None if none."""
        layers = self.largest_layers(asked)
        return next((c for c in self._by_size() if layers and self.fits(c, layers, 1)), None)

    def place(self, asked: int, trials: int, free: Mapping[str, int]) -> Fit | None:
        """A free device for up to `trials` trials at `asked` layers, or None while the fitting ones are taken.

        Args:
            asked: z of the rung; fewer are taken only where no class fits it, or with `degrade`.
            trials: how many would share the run; fewer are taken where memory asks for it, at least one.
            free: free devices by class name.

        Raises:
            NothingFits: if no class holds even one layer.
        """
        some_class_fits = False
        for layers in range(asked, 0, -1):
            fitting = [c for c in self._by_size() if self.fits(c, layers, 1)]
            some_class_fits = some_class_fits or bool(fitting)
            for memory_class in fitting if self.overflow else fitting[:1]:
                if free.get(memory_class.name, 0) > 0:
                    together = self._most_trials(memory_class, layers, trials)
                    return Fit(memory_class.name, layers, together)
            if some_class_fits and not self.degrade:
                return None
        if not some_class_fits:
            raise NothingFits
        return None

    def _by_size(self) -> list[MemoryClass]:
        return sorted(self.classes, key=_size)

    def _most_trials(self, memory_class: MemoryClass, layers: int, wanted: int) -> int:
        for trials in range(wanted, 1, -1):
            if self.fits(memory_class, layers, trials):
                return trials
        return 1


def _size(memory_class: MemoryClass) -> tuple[bool, int, str]:
    return (memory_class.usable_bytes is None, memory_class.usable_bytes or 0, memory_class.name)


def placement(observation: Observation, state: StudyState) -> Placement:
    """The placement rules of a study as its runs have taught them so far."""
    usable = {memory_class.name: memory_class.usable_bytes for memory_class in observation.classes}
    failures = [
        OutOfMemory(usable.get(run.memory_class), run.layers, len(run.trials))
        for run in state.runs.values()
        if run.state is RunState.OUT_OF_MEMORY
    ]
    learnt = corrections(observation, state)

    def need(layers: int, trials: int, memory_class: MemoryClass) -> int | None:
        if observation.memory is None:
            return None
        factor = learnt.get(memory_class.name, Correction()).factor
        return observation.memory.required(layers, None, trials, factor)

    rules = observation.spec.placement
    return Placement(observation.classes, need, rules.margin, failures, rules.overflow, rules.degrade)


def predicted_peak(observation: Observation, layers: int, trials: int) -> int | None:
    """Predicted peak of live bytes: what a run's measured peak is held against."""
    return None if observation.memory is None else observation.memory.peak_allocated(layers, None, trials)


def corrections(observation: Observation, state: StudyState) -> dict[str, Correction]:
    """The correction of the profile for each memory class, from all ended runs. Their order does not matter."""
    if observation.memory is None:
        return {}
    usable = {memory_class.name: memory_class.usable_bytes for memory_class in observation.classes}
    learnt: dict[str, Correction] = {}
    ended = [run for run in state.runs.values() if not run.state.active]
    for run in sorted(ended, key=lambda run: (run.state is RunState.OUT_OF_MEMORY, run.name)):
        before = learnt.get(run.memory_class, Correction())
        learnt[run.memory_class] = _after(observation, before, run, usable.get(run.memory_class))
    return learnt


def _after(observation: Observation, before: Correction, run: Run, usable: int | None) -> Correction:
    assert observation.memory is not None
    if run.state is RunState.OUT_OF_MEMORY and usable is not None:
        required = observation.memory.required(run.layers, None, len(run.trials))
        return after_exhaustion(before, required=required, limit=usable)
    if run.state is RunState.SUCCEEDED and run.predicted_bytes:
        return after_measurement(before, predicted=run.predicted_bytes, measured=run.peak_bytes)
    return before
