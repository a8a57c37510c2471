"""What the comparison's picture draws."""

from benchmarks.pages import COLORS
from benchmarks.peers.__main__ import names
from benchmarks.peers.report import SHOWN


def test_each_curve_of_the_picture_is_of_a_search_that_there_is_and_has_a_colour() -> None:
    assert set(SHOWN) <= set(names()) and len(SHOWN) <= len(COLORS)
