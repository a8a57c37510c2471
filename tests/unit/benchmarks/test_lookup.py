"""The look-up benchmark answers what the table says, and what lies between."""

from __future__ import annotations

import pytest

from tests.unit.benchmarks.tables import TOKENS, series, table


def test_a_measured_cell_is_given_as_it_is() -> None:
    assert table().value(3, 2, TOKENS / 4) == series(3.0, 2)[1]


def test_between_two_cells_the_value_is_interpolated() -> None:
    family = table()
    assert family.value(0, 4, TOKENS * 1.5 / 8) == pytest.approx((series(0.0, 4)[0] + series(0.0, 4)[1]) / 2)
    assert family.value(0, 3, TOKENS) == pytest.approx((series(0.0, 2)[-1] + series(0.0, 4)[-1]) / 2)


def test_beside_a_diverged_cell_the_value_is_that_it_diverged() -> None:
    family = table()
    family.document["values"]["4"][0] = [1.0, 2.0] + [None] * 6
    assert family.value(0, 4, TOKENS / 4) == 2.0
    assert family.value(0, 4, TOKENS * 2.5 / 8) is None
    assert family.value(0, 3, TOKENS) is None


def test_beyond_the_network_there_is_nothing() -> None:
    with pytest.raises(ValueError, match="beyond the 4 layers"):
        table().value(0, 5, TOKENS)


def test_packed_trials_pay_the_prefix_once() -> None:
    family = table()
    assert family.flops(1, 100, trials=8) == 100 * (3.0 + 8 * 3.0)
    assert family.seconds(1, 100, trials=8) == pytest.approx(10 * (0.3 + 8 * 0.1))
    assert family.seconds(3, 10) == pytest.approx((0.6 + 1.0) / 2)


def test_a_proposal_stands_for_the_nearest_configuration_on_the_scale_of_its_range() -> None:
    family = table()
    assert family.nearest({"lr": 0.9, "optimizer": "AdamW"}) == 0
    assert family.nearest({"lr": 10**-1.55, "optimizer": "AdamW"}) == 4
    family.document["configurations"].append({"lr": 1e-4, "optimizer": "SGD"})
    del family.__dict__["_positions"]
    assert family.nearest({"lr": 1e-3, "optimizer": "SGD"}) == 10
