"""Which values an answer of Prometheus holds, and which it does not."""

from __future__ import annotations

import math
from collections.abc import Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from frostline_operator.api.metrics import QueryLabels, QuerySpec
from frostline_operator.engine.reconcile import Sample
from frostline_operator.scores.prometheus import Answer, Series
from frostline_operator.scores.queries import CustomQuery, TargetLabels, TrainerSeries, escaped, filled

UID = "uid-1"
PLACE = {"namespace": "n", "instance": "10.0.0.1:9090"}
OBJECTIVE, TOKENS = "frostline_trial_objective", "frostline_trial_tokens_total"
FINISHED, LOSS = "frostline_trial_finished", "frostline_trial_loss"


def series(name: str, points: Mapping[float, float], **labels: str) -> Series:
    everything = {"study_uid": UID, "trial": "s-0000", "rung": "1", "run": "r", "pod": "r-x7k2p", **PLACE, **labels}
    return Series({"__name__": name, **everything}, tuple(points.items()))


def read(*found: Series) -> list[Sample]:
    findings = TrainerSeries(UID, "n", TargetLabels()).read(Answer("matrix", found))
    assert findings.problem is None
    return sorted((reading.sample for reading in findings.readings), key=lambda s: (s.trial, s.tokens))


def test_a_value_is_the_objective_and_the_tokens_of_one_scrape() -> None:
    found = read(series(OBJECTIVE, {10.0: 3.5, 15.0: 3.25}), series(TOKENS, {5.0: 0, 10.0: 100, 15.0: 200}))
    assert found == [Sample("s-0000", 1, 100, 3.5), Sample("s-0000", 1, 200, 3.25)]


def test_an_old_objective_is_never_taken_at_new_tokens() -> None:
    # As it looks where the objective's series lags behind: its last sample is older than that of the tokens
    found = read(series(OBJECTIVE, {10.0: 9.0}), series(TOKENS, {10.0: 100, 15.0: 200}))
    assert found == [Sample("s-0000", 1, 100, 9.0)]


def test_targets_are_never_mixed() -> None:
    found = read(
        series(OBJECTIVE, {10.0: 9.0}, instance="a"),
        series(TOKENS, {10.0: 200}, instance="b"),
    )
    assert found == []


def test_one_pod_that_two_jobs_scrape_gives_the_value_once() -> None:
    both = [
        series(name, {at: value}, job=job)
        for job, at in (("one", 10.0), ("two", 10.5))
        for name, value in ((OBJECTIVE, 2.5), (TOKENS, 200.0))
    ]
    assert read(*both) == [Sample("s-0000", 1, 200, 2.5)]


def test_series_of_another_study_or_without_labels_are_left_out() -> None:
    for labels in ({"study_uid": "other"}, {"rung": "x"}, {"rung": "-1"}, {"trial": ""}, {"run": ""}):
        assert read(series(OBJECTIVE, {1.0: 2.0}, **labels), series(TOKENS, {1.0: 200}, **labels)) == []


@pytest.mark.parametrize("tokens", [math.nan, math.inf, -1.0])
def test_tokens_that_are_no_number_make_no_value(tokens: float) -> None:
    assert read(series(OBJECTIVE, {1.0: 2.0}), series(TOKENS, {1.0: tokens})) == []


def test_the_training_loss_comes_along() -> None:
    every = [series(name, {1.0: value}) for name, value in ((OBJECTIVE, 2.0), (TOKENS, 200), (LOSS, 0.5))]
    assert read(*every) == [Sample("s-0000", 1, 200, 2.0, 0.5)]


def test_a_counter_that_starts_over_is_another_value_of_fewer_tokens() -> None:
    found = read(series(OBJECTIVE, {1.0: 2.0, 2.0: 5.0}), series(TOKENS, {1.0: 200, 2.0: 50}))
    assert found == [Sample("s-0000", 1, 50, 5.0), Sample("s-0000", 1, 200, 2.0)]


def test_a_value_that_is_not_finite_is_passed_on_as_it_is() -> None:
    [found] = read(series(OBJECTIVE, {1.0: math.nan}), series(TOKENS, {1.0: 100}))
    assert math.isnan(found.objective)


def test_finished_belongs_to_the_scrape_too() -> None:
    answer = Answer(
        "matrix",
        (
            series(OBJECTIVE, {1.0: 4.0, 2.0: math.nan}),
            series(TOKENS, {1.0: 100, 2.0: 100}),
            series(FINISHED, {1.0: 0, 2.0: 1}),
        ),
    )
    [reading] = TrainerSeries(UID, "n", TargetLabels()).read(answer).readings
    assert reading.finished and reading.run == "r" and math.isnan(reading.sample.objective)


_moments = st.dictionaries(st.integers(0, 8), st.tuples(st.floats(allow_nan=False), st.integers(0, 10**9)), max_size=8)


@given(_moments, st.sets(st.integers(0, 8)), st.sets(st.integers(0, 8)))
def test_whatever_is_lost_each_value_is_one_that_the_trainer_showed(
    shown: dict[int, tuple[float, int]], without_objective: set[int], without_tokens: set[int]
) -> None:
    objective = {float(at): value for at, (value, _) in shown.items() if at not in without_objective}
    tokens = {float(at): float(count) for at, (_, count) in shown.items() if at not in without_tokens}
    found = read(series(OBJECTIVE, objective), series(TOKENS, tokens))
    assert {(s.objective, s.tokens) for s in found} <= set(shown.values())
    both = {shown[at] for at in shown.keys() - without_objective - without_tokens}
    assert {s.tokens for s in found} == {count for _, count in both}


@pytest.mark.parametrize(
    "labels",
    [
        {"namespace": "tenant"},
        {"namespace": ""},
        {"pod": "another-run-x7k2p"},
        {"pod": "r"},
        {"pod": ""},
        {"run": "", "pod": "-x7k2p"},
        {"namespace": "tenant", "exported_namespace": "n"},
        {"pod": "tenants-pod", "exported_pod": "r-x7k2p"},
    ],
)
def test_what_was_scraped_elsewhere_is_no_value_whatever_it_says_of_itself(labels: dict[str, str]) -> None:
    forged = [series(OBJECTIVE, {10.0: -100.0}, **labels), series(TOKENS, {10.0: 800}, **labels)]
    own = [series(OBJECTIVE, {10.0: 2.5}), series(TOKENS, {10.0: 200})]
    assert read(*forged, *own) == [Sample("s-0000", 1, 200, 2.5)]
    assert 'namespace="n"' in TrainerSeries(UID, "n", TargetLabels()).query(60)


def test_a_long_runs_pods_begin_with_as_much_of_its_name_as_kubernetes_keeps() -> None:
    run = "a" * 60
    labels = {"run": run, "pod": run[:58] + "x7k2p"}
    own = [series(OBJECTIVE, {10.0: 2.5}, **labels), series(TOKENS, {10.0: 200}, **labels)]
    assert read(*own) == [Sample("s-0000", 1, 200, 2.5)]


def test_an_answer_of_another_shape_is_a_problem() -> None:
    for kind in ("scalar", "string", "vector"):
        problem = TrainerSeries(UID, "n", TargetLabels()).read(Answer(kind)).problem
        assert problem is not None and problem.reason == "InvalidQuery"


def test_names_are_escaped_in_the_query() -> None:
    assert escaped('a"b\\c\nd') == 'a\\"b\\\\c\\nd'
    odd = 'x"} or vector(1) #'
    text = TrainerSeries(odd, odd, TargetLabels("ns", "p")).query(59.2)
    assert text.endswith('study_uid="x\\"} or vector(1) #",ns="x\\"} or vector(1) #",p!=""}[60s]')


# --- a query of one's own ---

QUERY = QuerySpec(objective="my_loss", tokens="my_tokens")
VALUES = (("study", "s"), ("study_uid", UID), ("namespace", "n"))


def vector(part: str, value: float, **labels: str) -> Series:
    return Series({"frostline_part": part, **labels}, ((1.0, value),))


def test_objective_and_tokens_are_asked_for_in_one_query() -> None:
    text = CustomQuery(
        QuerySpec(objective='a{uid="$study_uid"} # why', labels=QueryLabels()), VALUES, TargetLabels()
    ).query(300)
    assert text.count("label_replace") == 2 and f'a{{uid="{UID}"}} # why\n)' in text
    assert f'max by (trial, rung) (last_over_time({TOKENS}{{study_uid="{UID}",namespace="n"}}[300s]))' in text


def test_only_known_names_are_replaced() -> None:
    text = filled('x{a=~"foo$",s="$study",u="$study_uid",n="$namespaces"}', dict(VALUES))
    assert text == f'x{{a=~"foo$",s="s",u="{UID}",n="ns"}}'


def test_values_are_those_with_trial_rung_and_tokens() -> None:
    answer = Answer(
        "vector",
        (
            vector("objective", 2.5, trial="s-0000", rung="0"),
            vector("tokens", 200.0, trial="s-0000", rung="0"),
            vector("tokens", 100.0, trial="s-0001", rung="0"),
        ),
    )
    findings = CustomQuery(QUERY, VALUES, TargetLabels()).read(answer)
    assert [reading.sample for reading in findings.readings] == [Sample("s-0000", 0, 200, 2.5)]
    assert findings.readings[0].run is None and findings.problem is None


def test_labels_of_other_names_are_mapped() -> None:
    spec = QuerySpec(objective="a", tokens="b", labels=QueryLabels(trial="t", rung="r", run="job"))
    labels = {"t": "s-0000", "r": "2", "job": "run-7"}
    findings = CustomQuery(spec, VALUES, TargetLabels()).read(
        Answer("vector", (vector("objective", 1.0, **labels), vector("tokens", 9.0, **labels)))
    )
    assert [(reading.run, reading.sample) for reading in findings.readings] == [("run-7", Sample("s-0000", 2, 9, 1.0))]


def problem_of(*found: Series, kind: str = "vector", warnings: tuple[str, ...] = ()) -> tuple[str, str, int]:
    findings = CustomQuery(QUERY, VALUES, TargetLabels()).read(Answer(kind, found, warnings))
    assert findings.problem is not None
    return findings.problem.reason, findings.problem.message, len(findings.readings)


def test_several_series_for_one_trial_count_for_nothing_and_the_others_do() -> None:
    good = [vector(part, 7.0, trial="s-0001", rung="0") for part in ("objective", "tokens")]
    doubled = [vector("objective", value, trial="s-0000", rung="0", pod=f"{value}") for value in (1.0, 2.0)]
    tokens = vector("tokens", 9.0, trial="s-0000", rung="0")
    reason, message, count = problem_of(*good, *doubled, tokens)
    assert (reason, count) == ("SeveralSeries", 1)
    assert "s-0000 at rung 0" in message and "max by (trial, rung)" in message


def test_series_without_the_labels_are_said() -> None:
    reason, message, count = problem_of(vector("objective", 1.0, pod="x"))
    assert (reason, count) == ("MissingLabels", 0)
    assert 'pod="x"' in message and "metrics.query.labels" in message


def test_a_value_without_tokens_is_said() -> None:
    reason, message, _ = problem_of(vector("objective", 1.0, trial="s-0000", rung="0"))
    assert reason == "NoTokens" and "metrics.query.tokens" in message


def test_a_part_of_an_answer_is_no_answer() -> None:
    both = [vector(part, 7.0, trial="s-0001", rung="0") for part in ("objective", "tokens")]
    reason, message, count = problem_of(*both, warnings=("store gateway 2 cannot be reached",))
    assert (reason, count) == ("PartialAnswer", 0) and "gateway" in message
    remark = Answer("vector", tuple(both), ("PromQL info: metric might not be a counter",))
    assert CustomQuery(QUERY, VALUES, TargetLabels()).read(remark).problem is None


def test_scalars_and_ranges_are_no_vectors() -> None:
    for kind in ("scalar", "matrix", "string"):
        reason, message, _ = problem_of(kind=kind)
        assert reason == "InvalidQuery" and kind in message
