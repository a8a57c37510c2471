"""What training costs in FLOPs, by the model profile.

FLOPs per token at z are the forward pass of everything and the backward pass of the trainable part only; a run of K
trials pays the frozen prefix once (`prefix`) and the trainable part K times (`suffix`).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from frostline_operator.api.study import Promotion
from frostline_operator.engine.schedule import Rung, goes_on
from frostline_trainer.contract import PACKING_PAYS, ModelProfile

LEAST_SAVING = 0.05
"""Sharing a run must save at least this part of the cost: a trial's result comes later for it."""
UNSURE_GAIN = 0.76
"""The slowest that packing was ever measured where it is not chosen (docs/packing.md): what to expect at worst."""


def run_flops(profile: ModelProfile, layers: int, tokens: int, trials: int) -> float:
    """FLOPs of one run of `trials` trials over `tokens` tokens each."""
    z = min(layers, profile.layers) - 1
    return tokens * (profile.prefix_flops[z] + trials * profile.suffix_flops[z])


def full_flops(profile: ModelProfile, tokens: int) -> float:
    """FLOPs of one trial with the whole network trained."""
    return run_flops(profile, profile.layers, tokens, 1)


def increment(rung_tokens: int, start_tokens: int, step_tokens: int) -> int:
    """Tokens that a trial is trained on to reach a rung: whole optimizer steps."""
    return -(-(rung_tokens - start_tokens) // step_tokens) * step_tokens


def schedule_tokens(profile: ModelProfile, rungs: Sequence[Rung], sizes: Sequence[int], promotion: Promotion) -> int:
    """Tokens that all trials of a bracket see together."""
    return sum(size * tokens for _, size, tokens in steps(profile, rungs, sizes, promotion))


def steps(
    profile: ModelProfile, rungs: Sequence[Rung], sizes: Sequence[int], promotion: Promotion
) -> Iterator[tuple[Rung, int, int]]:
    """(rung, trials, tokens per trial) of each rung of a bracket."""
    seen, below = 0, None
    for rung, size in zip(rungs, sizes, strict=True):
        before = seen if below is not None and goes_on(promotion, below.layers, rung.layers) else 0
        tokens = increment(rung.tokens, before, profile.step_tokens)
        yield rung, size, tokens
        seen, below = before + tokens, rung


def packing_pays(profile: ModelProfile, layers: int, trials: int, startup_share: float = 0.0) -> bool:
    """Whether one run of `trials` trials is expected to take less than a run for each.

    A shared run saves the frozen prefix and the start-up of all trials but one. Where the profile's gain is too small
    to be sure of (`PACKING_PAYS`), sharing is taken to slow the training itself down (`UNSURE_GAIN`).

    Args:
        profile: of the model.
        layers: z.
        trials: how many would share the run.
        startup_share: seconds of a run's start-up over those of training one trial, 0 where unknown.
    """
    if trials < 2:
        return False
    gain = profile.packing_gain(min(layers, profile.layers), trials)
    if gain < PACKING_PAYS:
        gain = UNSURE_GAIN
    apart = trials * (startup_share + 1)
    together = startup_share + trials / gain
    return together <= apart * (1 - LEAST_SAVING)
