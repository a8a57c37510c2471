"""The order of the data: every epoch shows everything once, and follows from the seed alone."""

from __future__ import annotations

import pytest
import torch

from frostline_trainer.data.order import BatchOrder


def test_every_epoch_shows_every_sample_once_in_another_order() -> None:
    order = BatchOrder(24, 4, seed=3)
    epochs = []
    for epoch in range(3):
        batches = [order.batch_at(epoch * order.batches + i) for i in range(order.batches)]
        epochs.append(batches)
        assert sorted(torch.cat([order.members(b) for b in batches]).tolist()) == list(range(24))
    assert epochs[0] != epochs[1] != epochs[2]


def test_samples_left_over_fill_a_last_batch_so_that_none_is_never_seen() -> None:
    order = BatchOrder(10, 4, seed=0)
    assert order.batches == 3
    assert set(torch.cat([order.members(b) for b in range(3)]).tolist()) == set(range(10))
    assert all(len(order.members(b)) == 4 for b in range(3))
    assert len(BatchOrder(3, 8, seed=0).members(0)) == 3


def test_the_order_is_a_pure_function_of_seed_and_position() -> None:
    one, two = BatchOrder(100, 8, seed=5), BatchOrder(100, 8, seed=5)
    assert [one.batch_at(p) for p in range(60)] == [two.batch_at(p) for p in reversed(range(60))][::-1]
    other = BatchOrder(100, 8, seed=6)
    assert not torch.equal(one.members(0), other.members(0))


@pytest.mark.parametrize("end", [1, 7, 8, 9, 20, 31])
def test_what_comes_again_is_known_ahead(end: int) -> None:
    order = BatchOrder(32, 4, seed=1)
    visits = [order.batch_at(p) for p in range(end)]
    for position, batch in enumerate(visits):
        assert order.comes_again(position, end) == (batch in visits[position + 1 :])
