"""What the engine knows about memory: the profile's prediction, corrected by what runs measured."""

from __future__ import annotations

from frostline_operator.engine.placement import OutOfMemory, Placement
from frostline_operator.engine.state import MemoryClass, Observation, RunState, StudyState


def placement(seen: Observation, state: StudyState) -> Placement:
    """The placement rules of a study as its runs have taught them so far."""
    usable = {memory_class.name: memory_class.usable_bytes for memory_class in seen.classes}
    failures = [
        OutOfMemory(usable.get(run.memory_class), run.layers, len(run.trials))
        for run in state.runs.values()
        if run.state is RunState.OUT_OF_MEMORY
    ]

    def predict(layers: int, trials: int, memory_class: MemoryClass) -> int | None:
        return None

    return Placement(seen.classes, predict, seen.spec.placement.headroom, failures)
