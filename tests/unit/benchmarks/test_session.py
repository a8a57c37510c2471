"""What every search is charged and judged by, and Frostline's engine on a table whose answers are known."""

from __future__ import annotations

import pytest
from benchmarks.peers import frostline
from benchmarks.peers.session import BudgetSpent, Session, full_trainings

from tests.unit.benchmarks.tables import TOKENS, table


def test_a_search_pays_for_what_it_trains_and_ends_at_its_budget() -> None:
    session = Session(table(), "seconds", full_trainings(table(), "seconds", 1.5))
    session.train(3, 0, TOKENS)
    assert session.spent == pytest.approx(80.0)
    with pytest.raises(BudgetSpent):
        session.train(2, 0, TOKENS)
    assert session.spent == pytest.approx(80.0)
    session.train(2, TOKENS / 2, TOKENS)
    assert session.spent == pytest.approx(120.0)


def test_the_incumbent_is_the_best_at_the_highest_fidelity_and_judged_by_full_training() -> None:
    family = table()
    session = Session(family, "flops", 1e9)
    session.train(1, 0, TOKENS / 8)
    session.train(5, 0, TOKENS)
    session.train(1, 0, TOKENS / 2)
    session.train(4, 0, TOKENS)
    assert [round(value * family.best, 6) for _, value in session.trace] == [1.0, 5.0, 4.0]


def test_a_diverged_trial_is_told_as_the_worst_and_never_becomes_the_incumbent() -> None:
    family = table()
    family.document["values"]["4"][0] = [None] * 8
    session = Session(family, "flops", 1e9)
    worst = family.value(9, 4, TOKENS / 8)
    assert session.train(0, 0, TOKENS) == worst
    assert session.trace == []


@pytest.mark.parametrize(
    "name",
    ["frostline, from z = 1", "frostline, tokens only", "frostline, Hyperband", "frostline Continue, from z = 1"],
)
def test_the_engine_finds_the_best_configuration_of_a_small_table(name: str) -> None:
    family = table(6)
    if name == "frostline Continue, from z = 1":
        family.document["continued"] = {"1": [[s[0], s[1], s[3], s[7]] for s in family.document["values"]["4"]]}
    session = Session(family, "seconds", full_trainings(family, "seconds", 30))
    frostline.search(session, frostline.VARIANTS[name], seed=0)
    assert session.trace[-1][1] == 0.0
    assert session.spent <= session.budget


def test_fewer_layers_and_packing_make_the_first_full_training_cheaper() -> None:
    reached = {}
    names = ("frostline, from z = 1", "frostline, no packing", "frostline, tokens only")
    for name in names:
        session = Session(table(), "seconds", full_trainings(table(), "seconds", 40))
        frostline.search(session, frostline.VARIANTS[name], seed=0)
        reached[name] = session.trials / session.spent
    assert reached[names[0]] > reached[names[1]] > reached[names[2]]
