"""Asking again and again: what comes in is handed on once, and trouble is said and got over."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pytest

from frostline_operator.api.metrics import QuerySpec
from frostline_operator.engine.reconcile import Sample
from frostline_operator.scores.asking import Asker
from frostline_operator.scores.prometheus import PrometheusClient
from frostline_operator.scores.queries import CustomQuery, Reading, TargetLabels, TrainerSeries
from frostline_operator.scores.settings import PrometheusSettings

from .server import Server, serving

UID = "uid-1"
SERIES = TrainerSeries(UID, "n", TargetLabels())


@pytest.fixture
def server() -> Iterator[Server]:
    with serving() as running:
        yield running


@pytest.fixture
def woken() -> list[str]:
    return []


class Taker:
    """Where a study's readings go."""

    def __init__(self) -> None:
        self._readings: list[Reading] = []

    def __call__(self, readings: Sequence[Reading]) -> None:
        self._readings += readings

    def all(self) -> list[Reading]:
        """What came since the last call."""
        readings, self._readings = self._readings, []
        return readings


@pytest.fixture
def taker() -> Taker:
    return Taker()


@pytest.fixture
def asker(server: Server, woken: list[str]) -> Iterator[Asker]:
    made = Asker(PrometheusClient(PrometheusSettings(url=server.url, timeout_seconds=1.0)), 300.0, woken.append)
    made.start()
    yield made
    made.stop()


def until(holds: Callable[[], bool], seconds: float = 30.0) -> None:
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end, "still not so"
        time.sleep(0.02)


def shown(objective: str, tokens: int, at: float = 1.0) -> list[dict[str, Any]]:
    labels = {"study_uid": UID, "trial": "s-0000", "rung": "0", "run": "r", "namespace": "n", "pod": "r-x"}
    values = {"frostline_trial_objective": objective, "frostline_trial_tokens_total": str(tokens)}
    return [{"metric": {"__name__": n, **labels}, "values": [[at, v]]} for n, v in values.items()]


def windows(server: Server) -> list[int]:
    return [int(re.findall(r"\[(\d+)s\]", query)[0]) for query in server.queries]


def test_each_value_is_handed_on_once_and_wakes_its_study(
    server: Server, asker: Asker, taker: Taker, woken: list[str]
) -> None:
    server.finds("matrix", *shown("NaN", 100))
    asker.follow(UID, SERIES, taker, interval=1.0, period=0.1)
    until(lambda: len(server.queries) >= 3)
    [reading] = taker.all()
    assert reading.sample.tokens == 100 and woken == [UID]
    server.finds("matrix", *shown("2.5", 200, 2.0))
    until(lambda: len(woken) == 2)
    assert [s.sample for s in taker.all()] == [Sample("s-0000", 0, 200, 2.5)]
    assert taker.all() == [] and asker.problem(UID) is None


def test_the_first_query_looks_back_further_than_the_next_ones(server: Server, asker: Asker, taker: Taker) -> None:
    asker.follow(UID, SERIES, taker, interval=1.0, period=0.1, back=1000.0)
    until(lambda: len(server.queries) >= 3)
    first, *others = windows(server)
    assert first == 1060 and set(others) <= {61}


def test_after_an_outage_it_looks_back_to_before_it(
    server: Server, asker: Asker, taker: Taker, woken: list[str]
) -> None:
    asker.follow(UID, SERIES, taker, interval=1.0, period=0.1)
    until(lambda: len(server.queries) >= 2)
    server.says_text("down", 502)
    until(lambda: (p := asker.problem(UID)) is not None and p.reason == "ServerError")
    assert UID in woken
    time.sleep(3.0)
    asked = len(server.queries)
    server.finds("matrix", *shown("2.5", 200))
    until(lambda: asker.problem(UID) is None)
    # The answer may be that of a query which was under way
    assert max(windows(server)[asked - 1 :]) >= 62
    assert len(taker.all()) == 1
    counts = {
        s.labels["outcome"]: s.value for m in asker.queries.collect() for s in m.samples if s.name.endswith("total")
    }
    assert counts["Success"] >= 2 and counts["ServerError"] >= 1


def test_while_it_is_down_it_is_asked_more_rarely(server: Server, asker: Asker, taker: Taker) -> None:
    server.says_text("down", 502)
    asker.follow(UID, SERIES, taker, interval=30.0, period=0.1)
    time.sleep(2.0)
    assert len(server.queries) <= 6  # after 0.1, 0.2, 0.4, 0.8 s ...; evenly it would be twenty


def test_a_slow_prometheus_holds_up_nobody(server: Server, asker: Asker, taker: Taker) -> None:
    server.pause = 5
    began = time.monotonic()
    asker.follow(UID, SERIES, taker, interval=1.0, period=0.1)
    assert taker.all() == []
    asker.rest(UID)
    asker.forget(UID)
    assert time.monotonic() - began < 4


def test_studies_without_open_runs_are_not_asked_for(server: Server, asker: Asker, taker: Taker) -> None:
    asker.follow(UID, SERIES, taker, interval=1.0, period=0.1)
    until(lambda: len(server.queries) >= 2)
    asker.rest(UID)
    time.sleep(0.3)
    asked = len(server.queries)
    time.sleep(0.5)
    assert len(server.queries) == asked
    asker.follow(UID, SERIES, taker, interval=1.0, period=0.1)
    until(lambda: len(server.queries) > asked)
    asker.forget(UID)
    assert taker.all() == [] and asker.problem(UID) is None and not asker.asked(UID)


def test_whether_it_was_asked_at_all(server: Server, asker: Asker, taker: Taker) -> None:
    assert not asker.asked(UID)
    server.says_text("down", 502)
    asker.follow(UID, SERIES, taker, interval=1.0, period=0.1)
    until(lambda: asker.asked(UID))


def custom(objective: str, tokens: int) -> list[dict[str, Any]]:
    labels = {"trial": "s-0000", "rung": "0"}
    values = {"objective": objective, "tokens": str(tokens)}
    return [{"metric": {"frostline_part": part, **labels}, "value": [1.0, v]} for part, v in values.items()]


def shows_at_first(server: Server, asker: Asker, taker: Taker, interval: float) -> None:
    """A query of one's own whose first answer is 1.5 at 200 tokens."""
    server.finds("vector", *custom("1.5", 200))
    asker.follow(UID, CustomQuery(QuerySpec(objective="x"), (), TargetLabels()), taker, interval=interval, period=0.05)


def taken(taker: Taker) -> list[Sample]:
    """The next values that are handed over."""
    found: list[Sample] = []
    until(lambda: bool(found.extend(one.sample for one in taker.all()) or found))
    return found


def test_a_value_of_ones_own_query_counts_once_it_has_stayed_the_same_for_an_interval(
    server: Server, asker: Asker, taker: Taker
) -> None:
    # Two jobs scrape one pod: for a moment the older objective stands at the newer tokens
    shows_at_first(server, asker, taker, interval=1.0)
    until(lambda: len(server.queries) >= 5)
    assert taker.all() == [] and not asker.asked(UID), "an operator that has just started waits as well"
    server.finds("vector", *custom("1.25", 200))
    assert taken(taker) == [Sample("s-0000", 0, 200, 1.25)] and asker.asked(UID)
    # Seen long ago, and still the same: not handed on again
    asked = len(server.queries)
    until(lambda: len(server.queries) >= asked + 5)
    assert taker.all() == []


def test_a_value_settles_though_its_series_is_gone_by_then(server: Server, asker: Asker, taker: Taker) -> None:
    shows_at_first(server, asker, taker, interval=1.0)
    until(lambda: len(server.queries) >= 3)
    server.finds("vector")
    assert taken(taker) == [Sample("s-0000", 0, 200, 1.5)]


def test_what_no_second_answer_confirms_is_not_handed_over_though_prometheus_is_gone(
    server: Server, asker: Asker, taker: Taker
) -> None:
    shows_at_first(server, asker, taker, interval=3.0)
    until(lambda: len(server.queries) >= 3)
    server.says_text("down", 502)
    until(lambda: (p := asker.problem(UID)) is not None and p.reason == "ServerError")
    # It has an interval to come back, and is then given up on like any that is down
    assert not asker.asked(UID)
    until(lambda: asker.asked(UID))
    assert taker.all() == []
    server.finds("vector", *custom("1.5", 200))
    assert taken(taker) == [Sample("s-0000", 0, 200, 1.5)]
