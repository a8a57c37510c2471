"""Work that is done again and again: when it is due, by one thread at a time, and never ended by a defect."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator

import pytest

from frostline_operator.runtime.poller import Poller


@pytest.fixture
def poller() -> Iterator[Poller]:
    made = Poller("test", 3)
    made.start()
    yield made
    made.stop()


def until(holds: Callable[[], bool]) -> None:
    end = time.monotonic() + 20
    while not holds():
        assert time.monotonic() < end, "it has not come to hold"
        time.sleep(0.005)


def test_work_is_done_again_after_the_pause_that_it_returns_until_it_returns_none(poller: Poller) -> None:
    at: list[float] = []

    def work() -> float | None:
        at.append(time.monotonic())
        return 0.1 if len(at) < 3 else None

    poller.schedule("work", work)
    until(lambda: len(at) == 3)
    assert at[1] - at[0] >= 0.1 and at[2] - at[1] >= 0.1
    time.sleep(0.3)
    assert len(at) == 3


def test_what_is_due_first_is_done_first(poller: Poller) -> None:
    done: list[str] = []
    poller.schedule("late", lambda: done.append("late"), after=0.2)
    poller.schedule("soon", lambda: done.append("soon"), after=0.05)
    until(lambda: len(done) == 2)
    assert done == ["soon", "late"]


def test_work_of_one_key_is_done_by_one_thread_and_once_more_if_asked_for_meanwhile(poller: Poller) -> None:
    began, go = threading.Semaphore(0), threading.Semaphore(0)
    at_once, most, count = 0, 0, 0

    def work() -> None:
        nonlocal at_once, most, count
        at_once += 1
        most, count = max(most, at_once), count + 1
        began.release()
        assert go.acquire(timeout=20)
        at_once -= 1

    poller.schedule("work", work)
    assert began.acquire(timeout=20)
    for _ in range(5):
        poller.schedule("work", work)
    go.release(2)
    assert began.acquire(timeout=20)
    until(lambda: at_once == 0)
    time.sleep(0.1)
    assert (most, count) == (1, 2)


def test_scheduling_again_brings_forward_and_never_puts_off(poller: Poller) -> None:
    done: list[float] = []
    poller.schedule("work", lambda: done.append(time.monotonic()), after=60)
    poller.schedule("work", lambda: done.append(time.monotonic()))
    poller.schedule("work", lambda: done.append(time.monotonic()), after=60)
    until(lambda: len(done) == 1)


def test_cancelled_work_is_not_done(poller: Poller) -> None:
    done: list[str] = []
    poller.schedule("work", lambda: done.append("work"), after=0.1)
    poller.cancel("work")
    time.sleep(0.3)
    assert done == []


def test_a_defect_is_logged_tried_again_and_holds_up_nothing_else(
    poller: Poller, caplog: pytest.LogCaptureFixture
) -> None:
    goes: list[int] = []
    done: list[str] = []

    def broken() -> None:
        goes.append(1)
        if len(goes) == 1:
            raise ValueError("a defect")

    poller.schedule("broken", broken)
    poller.schedule("other", lambda: done.append("other"), after=0.05)
    until(lambda: len(goes) == 2 and bool(done))
    assert "broken failed; trying again in 1 s" in caplog.text


def test_a_stopped_poller_begins_nothing_more(poller: Poller) -> None:
    done: list[str] = []
    poller.stop()
    poller.schedule("work", lambda: done.append("work"))
    time.sleep(0.2)
    assert done == []
