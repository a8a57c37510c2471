"""What the engine knows about memory: the profile's prediction, corrected by what the study's runs measured."""

from __future__ import annotations

from frostline_operator.engine import calibration
from frostline_operator.engine.calibration import Correction
from frostline_operator.engine.placement import OutOfMemory, Placement
from frostline_operator.engine.state import MemoryClass, Observation, Run, RunState, StudyState


def placement(seen: Observation, state: StudyState) -> Placement:
    """The placement rules of a study as its runs have taught them so far."""
    usable = {memory_class.name: memory_class.usable_bytes for memory_class in seen.classes}
    failures = [
        OutOfMemory(usable.get(run.memory_class), run.layers, len(run.trials))
        for run in state.runs.values()
        if run.state is RunState.OUT_OF_MEMORY
    ]
    learnt = corrections(seen, state)

    def need(layers: int, trials: int, memory_class: MemoryClass) -> int | None:
        if seen.memory is None:
            return None
        factor = learnt.get(memory_class.name, Correction()).factor
        return seen.memory.required(layers, None, trials, factor)

    rules = seen.spec.placement
    return Placement(seen.classes, need, rules.margin, failures, rules.overflow, rules.degrade)


def predicted_peak(seen: Observation, layers: int, trials: int) -> int | None:
    """Predicted peak of live bytes: what a run's measured peak is held against."""
    return None if seen.memory is None else seen.memory.peak_allocated(layers, None, trials)


def corrections(seen: Observation, state: StudyState) -> dict[str, Correction]:
    """The correction of the profile for each memory class, from all ended runs. Their order does not matter."""
    if seen.memory is None:
        return {}
    usable = {memory_class.name: memory_class.usable_bytes for memory_class in seen.classes}
    learnt: dict[str, Correction] = {}
    ended = [run for run in state.runs.values() if not run.state.active]
    for run in sorted(ended, key=lambda run: (run.state is RunState.OUT_OF_MEMORY, run.name)):
        before = learnt.get(run.memory_class, Correction())
        learnt[run.memory_class] = _after(seen, before, run, usable.get(run.memory_class))
    return learnt


def _after(seen: Observation, before: Correction, run: Run, usable: int | None) -> Correction:
    assert seen.memory is not None
    if run.state is RunState.OUT_OF_MEMORY and usable is not None:
        required = seen.memory.required(run.layers, None, len(run.trials))
        return calibration.exhausted(before, required=required, limit=usable)
    if run.state is RunState.SUCCEEDED and run.predicted_bytes:
        return calibration.observed(before, predicted=run.predicted_bytes, measured=run.peak_bytes)
    return before
