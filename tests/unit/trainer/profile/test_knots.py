"""Figures at every z are measured at few of them where blocks are alike."""

from __future__ import annotations

from frostline_trainer.profile.knots import at_every_z


def test_blocks_that_are_alike_are_measured_at_a_few_z_only() -> None:
    asked = []

    def linear(z: int) -> tuple[float, ...]:
        asked.append(z)
        return (7.0 + 3 * z + (100 if z == 30 else 0), 2.0 * z)

    assert at_every_z(30, linear) == [(7.0 + 3 * z + (100 if z == 30 else 0), 2.0 * z) for z in range(1, 31)]
    assert len(asked) == len(set(asked)) <= 5


def test_units_that_all_differ_are_measured_at_every_z() -> None:
    assert at_every_z(9, lambda z: (z**2,)) == [(z**2,) for z in range(1, 10)]
    assert at_every_z(1, lambda z: (z,)) == [(1,)]
    assert at_every_z(2, lambda z: (z,)) == [(1,), (2,)]
