"""HPOTrials are written beside the ticks: all of them in the end, whatever comes between."""

import time
from collections.abc import Callable

from frostline_operator.kubernetes.client.api import ApiError
from frostline_operator.kubernetes.status.publishing import Publisher


class Book:
    """Something of several parts, which may be refused at first."""

    def __init__(self, parts: int, refusals: int = 0) -> None:
        self.left, self.refusals, self.goes = parts, refusals, 0

    def write(self) -> bool:
        self.goes += 1
        if self.refusals:
            self.refusals -= 1
            raise ApiError(500, "InternalError", "not now")
        self.left -= 1
        return self.left <= 0


def until(holds: Callable[[], bool]) -> None:
    end = time.monotonic() + 20
    while not holds():
        assert time.monotonic() < end
        time.sleep(0.01)


def test_everything_is_written_in_parts_and_refusals_are_tried_again() -> None:
    publisher = Publisher()
    publisher.start()
    easy, hard = Book(3), Book(1, refusals=1)
    publisher.submit(easy, at_once=True)
    publisher.submit(hard, at_once=True)
    until(lambda: easy.left == hard.left == 0)
    assert (easy.goes, hard.goes) == (3, 2)
    publisher.stop()


def test_changes_that_come_in_a_burst_are_written_together() -> None:
    publisher, book = Publisher(), Book(1)
    for _ in range(10):
        publisher.submit(book)
    publisher.start()
    until(lambda: book.left == 0)
    time.sleep(1.2)
    assert book.goes == 1
    publisher.stop()
