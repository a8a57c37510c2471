"""What the top of a report claims: no success without a result, and savings over equal work."""

from __future__ import annotations

import pytest

from frostline_operator.report.headline import savings, status
from frostline_operator.report.record import StudyRecord, TrialRung

from . import records


def changed_totals(record: StudyRecord, **amounts: float) -> StudyRecord:
    return record.model_copy(update={"totals": record.totals.model_copy(update=amounts)})


def test_a_study_without_a_usable_result_is_no_success() -> None:
    record = records.whole().model_copy(update={"best": None})
    assert status(record) == ("finished without a usable result", "bad")


def test_a_study_without_a_result_at_its_top_rung_is_no_success() -> None:
    record = records.whole()
    assert status(record) == ("finished", "good")
    assert record.best is not None
    low = record.model_copy(update={"best": record.best.model_copy(update={"rung": 0})})
    assert status(low) == ("finished without a result at the highest rung", "warn")
    assert status(low.model_copy(update={"outcome": "Running"})) == ("under way", "going")


def test_savings_say_how_many_trials_ran() -> None:
    record = records.whole()
    never = TrialRung(rung=0, state="Failed", layers=1, asked_layers=1, tokens=0)
    lost = [t.model_copy(update={"results": (never,), "state": "Failed"}) for t in record.trials[:3]]
    some = record.model_copy(update={"trials": (*lost, *record.trials[3:])})
    assert [line["words"] for line in savings(some)] == [
        "fewer FLOPs than training the 13 trials that ran in full",
        "fewer FLOPs than the 13 trials that ran to the same tokens with all layers",
    ]
    assert savings(record)[0]["words"] == "fewer FLOPs than training these 16 trials in full"


@pytest.mark.parametrize(("factor", "figure"), [(0.93, "0.93 ×"), (1.02, "1.02 ×")])
def test_where_freezing_gained_nothing_the_headline_says_so(factor: float, figure: str) -> None:
    line = savings(changed_totals(records.whole(), flops=1e12, full_flops=4e12, tokens_only_flops=factor * 1e12))[-1]
    assert line["figure"] == figure
    assert line["words"].startswith("freezing layers gained nothing")


def test_a_study_under_way_is_not_compared_with_a_whole_one() -> None:
    lines = savings(records.under_way())
    assert not any("in full" in line["words"] for line in lines)
