"""What is read off the table, where the table's answers are known."""

from __future__ import annotations

import pytest
from benchmarks.paper import analysis

from tests.unit.benchmarks.tables import LAYERS, table


def test_where_everything_ranks_alike_every_fidelity_agrees_and_no_search_regrets() -> None:
    family = table(40)
    assert [e.value for e in analysis.over_layers(family).values()] == pytest.approx([1.0] * 3)
    assert all(value == pytest.approx(1.0) for row in analysis.joint(family) for value in row)
    assert analysis.chosen_regret(family, analysis.path(family, 1)).value == 0.0
    assert analysis.within(family, analysis.path(family, 1)) == 1.0
    assert analysis.lowest_useful(family) == 1


def test_a_layer_count_that_ranks_backwards_shows_and_misleads() -> None:
    family = table(40)
    family.document["values"]["1"] = family.document["values"]["1"][::-1]
    assert analysis.over_layers(family)[1].value == pytest.approx(-1.0)
    assert analysis.lowest_useful(family) == 2
    assert analysis.chosen_regret(family, analysis.path(family, 1)).value > 1.0
    assert analysis.chosen_regret(family, analysis.path(family, LAYERS)).value == 0.0


def test_the_schedule_is_that_of_the_product() -> None:
    rungs = analysis.path(table(), 1)
    assert [(rung.z, rung.part, rung.trials) for rung in rungs] == [(1, 1, 32), (1, 2, 16), (2, 4, 8), (4, 8, 4)]


def test_continue_pays_for_the_difference_only_and_packing_for_one_prefix() -> None:
    family = table()
    rungs = analysis.path(family, LAYERS)
    restarted = analysis.path_cost(family, rungs, "flops", packing=1)
    continued = analysis.path_cost(family, rungs, "flops", promotion="Continue", packing=1)
    assert restarted == [32 * 1200.0, 16 * 2400.0, 8 * 4800.0, 4 * 9600.0]
    assert continued == [32 * 1200.0, 16 * 1200.0, 8 * 2400.0, 4 * 4800.0]
    assert analysis.path_cost(family, analysis.path(family, 1), "flops")[0] == 100 * (2 * 3.0 + 32 * 3.0)


def test_a_study_measures_the_agreement_of_those_promoted_only() -> None:
    family = table(40)
    assert analysis.measured_agreement(family, analysis.path(family, 1), 0) == pytest.approx(1.0)
    agreements, regrets = analysis.trust(family, 1, replays=3)
    assert regrets == [0.0, 0.0, 0.0] and agreements == pytest.approx([1.0] * 3)
