"""Two sources for one value must agree; a missing one says nothing."""

from __future__ import annotations

import math

from frostline_operator.engine.reconcile import Sample, at_rung, disagreements
from frostline_trainer.contract import ExitCode, RunResult, TrialResult


def record(**values: float) -> RunResult:
    trials = [TrialResult(name=n, reason="Completed", objective=v, tokens=100) for n, v in values.items()]
    return RunResult(run="r", layers=1, exit_code=ExitCode.DONE, trials=trials)


def test_only_values_at_the_rungs_tokens_count() -> None:
    samples = [Sample("a", 1, 50, 9.0), Sample("a", 1, 100, 2.0), Sample("b", 1, 99, 1.0), Sample("c", 0, 100, 3.0)]
    assert at_rung(samples, 1, 100) == {"a": 2.0}


def test_rounding_is_no_disagreement_and_a_missing_sample_is_none_either() -> None:
    assert disagreements({"a": 1.0 + 1e-9}, record(a=1.0, b=2.0), 1) == []
    assert disagreements({"a": math.nan}, record(a=math.nan), 1) == []


def test_another_value_is_reported_with_both() -> None:
    [found] = disagreements({"a": 1.5}, record(a=1.0), 1)
    assert "showed 1.5" in str(found) and "says 1" in str(found)
