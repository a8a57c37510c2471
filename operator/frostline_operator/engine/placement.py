"""Which device a run goes to, and with how many layers: hardware as a fidelity.

A run's need is the predicted peak times (1 + headroom). It goes to the smallest memory class that fits its z, so that
large cards stay free for high rungs. Where no class fits, z becomes the largest that does.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from frostline_operator.engine.schedule import Rung
from frostline_operator.engine.state import MemoryClass

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
