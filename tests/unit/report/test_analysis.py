"""What a report concludes from results."""

from __future__ import annotations

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from frostline_operator.report.analysis import (
    MIN_TRIALS,
    agreements,
    fullest_rung,
    importances,
    ranks,
    spearman,
)
from frostline_operator.report.figures_settings import log_marks
from frostline_operator.report.record import StudyRecord

from . import records


def with_values(settings: list[float], values: list[float | None]) -> StudyRecord:
    """One rung; `lr` is given, everything else as drawn."""
    record = records.whole()
    pattern = record.trials[0]
    trials = tuple(
        pattern.model_copy(
            update={
                "index": i,
                "name": f"t-{i}",
                "assignment": {**record.trials[i % 16].assignment, "lr": setting},
                "results": (pattern.results[0].model_copy(update={"value": value, "state": "Completed"}),),
            }
        )
        for i, (setting, value) in enumerate(zip(settings, values, strict=True))
    )
    return record.model_copy(update={"trials": trials})


def of(record: StudyRecord, name: str = "lr") -> float | None:
    return next(one.share for one in importances(record, 0) if one.name == name)


LRS = [10 ** (-4 + i / 8) for i in range(24)]


@pytest.mark.parametrize(
    ("values", "low", "high"),
    [
        ([float(i) for i in range(24)], 0.99, 1.0),
        ([-float(i) for i in range(24)], 0.99, 1.0),
        ([(i - 11.5) ** 2 for i in range(24)], 0.85, 1.0),
        ([math.sin(12.9898 * i) * 43758.5453 % 1 for i in range(24)], 0.0, 0.35),
    ],
    ids=["rising", "falling", "an optimum in the middle", "noise"],
)
def test_importance_sees_slopes_and_optima_and_no_more(values: list[float | None], low: float, high: float) -> None:
    share = of(with_values(LRS, values))
    assert share is not None
    assert low <= share <= high


def test_importance_of_a_choice() -> None:
    record = records.whole()
    shares = {"by beta2": {0.95: 1.0, 0.99: 2.0, 0.999: 3.0}}["by beta2"]
    trials = [record.trials[i % 16] for i in range(24)]
    values: list[float | None] = [shares[float(t.assignment["beta2"])] + 0.01 * i for i, t in enumerate(trials)]
    assert (of(with_values(LRS, values), "beta2") or 0) > 0.8


def test_chance_is_shown_beside_the_share() -> None:
    few = {one.name: one for one in importances(records.whole(), 0)}
    assert 0.1 < few["lr"].chance < 0.6


@pytest.mark.parametrize("count", [0, 1, MIN_TRIALS - 1])
def test_too_few_trials_have_no_importance(count: int) -> None:
    assert of(with_values(LRS[:count], [float(i) for i in range(count)])) is None


def test_equal_values_have_no_importance() -> None:
    assert of(with_values(LRS, [1.0] * 24)) is None


def test_importance_comes_best_first_and_is_repeatable() -> None:
    found = importances(records.whole(), 0)
    assert found == importances(records.whole(), 0)
    shares = [one.share for one in found if one.share is not None]
    assert shares == sorted(shares, reverse=True)
    assert found[0].name == "lr"


def test_places_at_a_rung() -> None:
    record = with_values([1e-3] * 5, [3.0, 1.0, None, 2.0, None])
    assert ranks(record, 0, 0) == {"t-1": 1, "t-3": 2, "t-0": 3, "t-2": 4, "t-4": 4}


def test_places_where_more_is_better() -> None:
    record = records.accuracy()
    places = ranks(record, 3, 0)
    assert record.best is not None
    assert places[record.best.trial] == 1


def test_trials_that_still_run_have_no_place() -> None:
    record = records.under_way()
    running = {t.name for t in record.trials if t.state == "Running"}
    assert running
    assert not running & set(ranks(record, 1, 0))


def test_agreement_is_over_the_trials_that_reached_both() -> None:
    found = agreements(records.whole())
    assert [(a.low, a.high) for a in found] == [(0, 1), (1, 2), (2, 3)]
    assert [len(a.points) for a in found] == [7, 4, 2]
    assert found[2].rho is None, "two trials always agree or disagree perfectly"


@pytest.mark.parametrize("name", list(records.ALL))
def test_nothing_is_too_little_or_too_broken_to_analyse(name: str) -> None:
    record = records.ALL[name]()
    agreements(record)
    importances(record, fullest_rung(record))


def test_spearman_where_it_is_not_defined() -> None:
    assert spearman([1, 2], [1, 2]) is None
    assert spearman([1, 1, 1], [1, 2, 3]) is None
    assert spearman([1, 2, 3], [3, 2, 1]) == -1.0


@given(st.floats(1e-9, 1e6), st.floats(1.0, 1e9))
@settings(max_examples=200, deadline=None)
def test_log_marks_are_few_and_in_range(low: float, ratio: float) -> None:
    marks = log_marks(low, low * ratio)
    assert 1 <= len(marks) <= 8
    assert marks == sorted(marks)
    assert all(low * 0.89 <= mark <= low * ratio * 1.11 for mark in marks)
