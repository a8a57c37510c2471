"""What a custom entrypoint costs at each z: parameters and FLOPs, counted in a run of one step."""

from __future__ import annotations

import hashlib
from collections.abc import Callable

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from frostline_trainer.contract import ModelProfile, ProfileSpec
from frostline_trainer.logs import log
from frostline_trainer.profile.custom_trial import MOST_OPERATORS, ProbeTrial, attempt
from frostline_trainer.profile.knots import at_every_z
from frostline_trainer.profile.pretend import content_free


def custom_costs(spec: ProfileSpec) -> ModelProfile:
    """What a custom entrypoint costs, per sample that it reports.

    Raises:
        StudyFault: see `attempt`.
    """
    try:
        first, rows = _count(spec, _without_content)
    except Exception as error:  # noqa: BLE001 - whatever it is, the same for real tells whether it is the study's fault
        log("not-traceable", message=f"the entrypoint is tried for real: {error}")
        first, rows = _count(spec, _for_real)
    document = spec.model_dump_json() + torch.__version__
    return ModelProfile(
        hash=hashlib.sha256(document.encode()).hexdigest()[:16],
        layers=first.depth,
        unit="samples",
        parameters=[round(row[0]) for row in rows],
        prefix_flops=[row[1] for row in rows],
        suffix_flops=[row[2] for row in rows],
        step_tokens=first.step_tokens,
    )


def _count(
    spec: ProfileSpec, step: Callable[[ProfileSpec, int], tuple[ProbeTrial, int]]
) -> tuple[ProbeTrial, list[tuple[float, ...]]]:
    first, _ = step(spec, 1)

    def measure(z: int) -> tuple[float, ...]:
        trial, total = step(spec, z)
        own, rest = trial.prefix_flops, total - trial.prefix_flops
        return trial.parameters, own / trial.step_tokens, rest / trial.step_tokens

    return first, at_every_z(first.depth, measure)


def _without_content(spec: ProfileSpec, z: int) -> tuple[ProbeTrial, int]:
    """One step at z, and the FLOPs of all of it."""
    with content_free(MOST_OPERATORS) as hollow, sdpa_kernel(SDPBackend.MATH):
        return attempt(spec, z, flops=lambda: hollow.flops), hollow.flops


def _for_real(spec: ProfileSpec, z: int) -> tuple[ProbeTrial, int]:
    with FlopCounterMode(display=False) as counter:
        return attempt(spec, z, flops=counter.get_total_flops), counter.get_total_flops()
