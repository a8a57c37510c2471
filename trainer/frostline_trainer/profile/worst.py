"""The configuration of a search space that needs the most memory.

A study's memory is planned once, for all its trials. Hyperparameters that change it (a batch size, a width, an
optimizer) are therefore taken at the corner that needs most, which is found by trying the corners at z = 1 and z = L.
"""

from __future__ import annotations

from typing import Literal

from frostline_trainer.contract import ProfileSpec
from frostline_trainer.data.open import profiled_shape
from frostline_trainer.errors import StudyFault
from frostline_trainer.logs import log
from frostline_trainer.profile.custom_memory import custom_need
from frostline_trainer.profile.simulate import layers_of, simulate

Device = Literal["cuda", "cpu"]


def worst_case(spec: ProfileSpec, device: Device) -> tuple[ProfileSpec, float, str]:
    """The variant that needs most at full depth.

    Returns:
        (specification, factor, label). Where another variant needs more at z = 1, `factor` (at least 1) is by how much;
        the label is empty where the specification itself is the largest.
    """
    if not spec.variants:
        return spec, 1.0, ""
    base = spec.vary(spec.variants[0].model_copy(update={"model": None, "training": None, "hyperparameters": None}))
    tried: list[tuple[ProfileSpec, str, tuple[int, int]]] = []
    for candidate, label in [(base, ""), *((spec.vary(v), v.label) for v in spec.variants)]:
        try:
            tried.append((candidate, label, needs(candidate, device)))
        except StudyFault as fault:
            if not label:
                raise
            log("corner-left-out", corner=label, message=str(fault))
    worst, label, most = max(tried, key=lambda entry: (entry[2][1], entry[2][0]))
    factor = max(need[0] / max(1, most[0]) for _, _, need in tried)
    return worst, max(1.0, factor), label


def needs(spec: ProfileSpec, device: Device) -> tuple[int, int]:
    """Peak bytes at z = 1 and at z = L."""
    if spec.model.family == "Custom":
        return custom_need(spec, device)
    shape, _ = profiled_shape(spec)
    layers, _ = layers_of(spec, shape)
    first, last = (
        simulate(spec, shape, z=z, batch=spec.training.batch_size, device=device).trace.peak() for z in (1, layers)
    )
    return first, last


def required(spec: ProfileSpec, z: int, device: Device) -> int:
    """Peak bytes at one z, to compare variants; 0 for a custom entrypoint, which does as it likes with its training."""
    if spec.model.family == "Custom":
        return 0
    shape, _ = profiled_shape(spec)
    return simulate(spec, shape, z=z, batch=spec.training.batch_size, device=device).trace.peak()
