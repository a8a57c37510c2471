"""Numbers as people read them."""

from __future__ import annotations

import pytest

from frostline_operator.report import numbers


@pytest.mark.parametrize(
    ("made", "text"),
    [
        (numbers.value(None), "–"), (numbers.value(float("nan")), "–"), (numbers.value(2.183124), "2.1831"),
        (numbers.value(0.0), "0"), (numbers.value(1.5e-7), "1.5000e-07"), (numbers.value(123456.0), "123,456"),
        (numbers.short(262144), "262k"), (numbers.short(12), "12"), (numbers.flops(1.65e12), "1.65 TFLOP"),
        (numbers.duration(0.25), "0.2 s"), (numbers.duration(75), "1 min 15 s"), (numbers.duration(3600), "1 h"),
        (numbers.duration(90000), "1 d 1 h"), (numbers.duration(59.7), "1 min"), (numbers.times(7.55, 1.0), "7.55 ×"),
        (numbers.times(27.4, 1), "27.4 ×"), (numbers.times(2500, 10), "250 ×"),
        (numbers.times(0.93, 1), "0.93 ×"), (numbers.times(1, 0), "–"), (numbers.amount(262144), "262,144"),
        (numbers.amount(12.5e6), "12.5M"),
        (numbers.assignment({"lr": 0.001, "on": True}), "lr=0.001 on=true"), (numbers.size(None), "–"),
        (numbers.size(3 * 2**30), "3 GiB"), (numbers.scalar(True), "true"), (numbers.scalar(0.00123456), "0.001235"),
        (numbers.correlation(-0.5), "−0.50"), (numbers.correlation(None), "–"),
    ],
)  # fmt: skip
def test_numbers_as_people_read_them(made: str, text: str) -> None:
    assert made == text
