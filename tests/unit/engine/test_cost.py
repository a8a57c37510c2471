"""What the rungs of a schedule cost: what is trained again, and what is gone on with."""

from __future__ import annotations

import pytest

from frostline_operator.api.study import Promotion
from frostline_operator.engine import cost
from frostline_operator.engine.forecast import forecast
from frostline_operator.engine.schedule import Rung, goes_on
from frostline_operator.engine.state import MemoryClass, Observation, StudyState
from tests.unit.engine.world import PROFILE, study

RUNGS = (Rung(0, 2, 100), Rung(1, 2, 200), Rung(2, 2, 400), Rung(3, 4, 800))
SIZES = (8, 4, 2, 1)


@pytest.mark.parametrize(
    ("promotion", "same", "thawed"),
    [("RestartOnThaw", True, False), ("Continue", True, True), ("Restart", False, False)],
)
def test_a_promoted_trial_goes_on_where_its_promotion_says_so(promotion: Promotion, same: bool, thawed: bool) -> None:
    assert (goes_on(promotion, 2, 2), goes_on(promotion, 2, 4)) == (same, thawed)


@pytest.mark.parametrize(
    ("promotion", "each"),
    [("RestartOnThaw", [100, 100, 200, 800]), ("Continue", [100, 100, 200, 400]), ("Restart", [100, 200, 400, 800])],
)
def test_a_rung_costs_what_is_trained_at_it(promotion: Promotion, each: list[int]) -> None:
    found = list(cost.steps(PROFILE, RUNGS, SIZES, promotion))
    assert [tokens for _, _, tokens in found] == each
    assert [rung for rung, _, _ in found] == list(RUNGS)
    whole = sum(size * tokens for size, tokens in zip(SIZES, each, strict=True))
    assert cost.schedule_tokens(PROFILE, RUNGS, SIZES, promotion) == whole


def test_the_baseline_over_tokens_alone_never_starts_over_since_nothing_thaws() -> None:
    def baseline(promotion: str) -> float:
        spec = study(promotion=promotion, search={"algorithm": "SuccessiveHalving", "trials": 8})
        return forecast(Observation("s", spec, PROFILE, (MemoryClass("any", None, 1),), StudyState(), 0.0)).tokens_only

    assert baseline("RestartOnThaw") == baseline("Continue") < baseline("Restart")
