"""What a plan says of limits and prices, with the operator's settings and without."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from .conftest import Study, frostline


def test_a_cost_is_reckoned_by_the_operators_prices_and_without_them_the_plan_says_how_to_see_it(
    study: Study, write: Callable[[Study], Path], tmp_path: Path
) -> None:
    study["spec"]["budget"] = {"cost": 3}
    path, settings = write(study), tmp_path / "settings.yaml"
    settings.write_text("prices: [{memoryClass: 8Gi, perHour: 3600}]\n", encoding="utf-8")
    cards = ("--gpu", "8Gi", "--tflops", "8Gi=0.001")
    alone = frostline("plan", path, *cards)
    assert alone.returncode == 0 and "--settings" in alone.stdout and "by budget.prices" not in alone.stdout
    known = frostline("plan", path, *cards, "--settings", settings)
    assert known.returncode == 0 and "by budget.prices" in known.stdout, known.stdout + known.stderr
    settings.write_text("headrom: 1\n", encoding="utf-8")
    wrong = frostline("plan", path, *cards, "--settings", settings)
    assert wrong.returncode == 2 and "headroom" in wrong.stderr + wrong.stdout
