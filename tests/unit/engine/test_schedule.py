"""Rungs and brackets: the numbers of the papers, and integer arithmetic at the powers where floats fail."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from frostline_operator.api.search import AmountRange, FidelitySpec, LayerRange, RungSpec, SearchSpec
from frostline_operator.engine.schedule import brackets, halving, hyperband_trials, integer_log, rungs


@pytest.mark.parametrize(
    ("value", "base", "expected"), [(243, 3, 5), (59049, 3, 10), (1000, 10, 3), (1, 2, 0), (7, 2, 2)]
)
def test_integer_log_is_exact_where_floating_point_is_not(value: int, base: int, expected: int) -> None:
    assert integer_log(base, value) == expected


@given(base=st.integers(2, 16), exponent=st.integers(0, 40))
def test_integer_log_inverts_powers(base: int, exponent: int) -> None:
    assert integer_log(base, base**exponent) == exponent
    if base**exponent > 1:
        assert integer_log(base, base**exponent - 1) == exponent - 1 if exponent else 0


def test_ten_layers_give_the_joint_schedule_of_the_paper() -> None:
    fidelity = FidelitySpec(layers=LayerRange(min=1), tokens=AmountRange(max=400_000))
    assert [(r.layers, r.tokens) for r in rungs(fidelity, 2, 10)] == [
        (1, 50_000),
        (2, 100_000),
        (5, 200_000),
        (10, 400_000),
    ]


def test_by_default_half_of_the_layers_train_at_least_and_no_rung_is_lost() -> None:
    fidelity = FidelitySpec(tokens=AmountRange(max=400_000))
    assert [r.layers for r in rungs(fidelity, 2, 12)] == [6, 6, 6, 12]
    assert [r.tokens for r in rungs(fidelity, 2, 12)] == [50_000, 100_000, 200_000, 400_000]
    assert [r.layers for r in rungs(fidelity, 2, 3)] == [1, 3]
    shallow = FidelitySpec(layers=LayerRange(max=8), tokens=AmountRange(max=800))
    assert [r.layers for r in rungs(shallow, 2, 24)] == [4, 4, 4, 8]


def test_all_layers_at_every_rung_is_classic_halving_over_tokens() -> None:
    fidelity = FidelitySpec(layers=LayerRange(min="All"), tokens=AmountRange(max=800, min=100))
    assert [(r.layers, r.tokens) for r in rungs(fidelity, 2, 10)] == [(10, 100), (10, 200), (10, 400), (10, 800)]


def test_all_tokens_at_every_rung_is_halving_over_layers() -> None:
    fidelity = FidelitySpec(layers=LayerRange(min=1), samples=AmountRange(max=900, min="All"))
    assert [(r.layers, r.tokens) for r in rungs(fidelity, 3, 9)] == [(1, 900), (3, 900), (9, 900)]


def test_the_least_tokens_decide_how_many_rungs_there_are() -> None:
    fidelity = FidelitySpec(tokens=AmountRange(max=243, min=1))
    assert [r.tokens for r in rungs(fidelity, 3, 50)] == [1, 3, 9, 27, 81, 243]


def test_rungs_that_come_out_the_same_are_one_rung() -> None:
    fidelity = FidelitySpec(layers=LayerRange(max=2), tokens=AmountRange(max=5, min="All"))
    steps = rungs(fidelity, 4, 10)
    assert [(r.index, r.layers, r.tokens) for r in steps] == [(0, 2, 5)]


def test_explicit_rungs_are_taken_as_given_but_never_deeper_than_the_network() -> None:
    fidelity = FidelitySpec(rungs=[RungSpec(layers=2, tokens=10), RungSpec(layers=50, tokens=20)])
    assert [(r.layers, r.tokens) for r in rungs(fidelity, 2, 6)] == [(2, 10), (6, 20)]


def test_more_than_the_network_has_is_asked_for_as_all_of_it() -> None:
    fidelity = FidelitySpec(layers=LayerRange(min=20, max=40), tokens=AmountRange(max=100))
    assert all(r.layers == 6 for r in rungs(fidelity, 2, 6))


@given(
    layers=st.integers(1, 200),
    tokens=st.integers(1, 10**12),
    eta=st.integers(2, 8),
    least=st.one_of(st.none(), st.just("All"), st.integers(1, 10**6)),
)
def test_fidelity_rises_and_ends_at_the_full_one(layers: int, tokens: int, eta: int, least: int | str | None) -> None:
    if isinstance(least, int):
        least = min(least, tokens)
    steps = rungs(FidelitySpec(tokens=AmountRange(max=tokens, min=least)), eta, layers)  # type: ignore[arg-type]
    assert (steps[-1].layers, steps[-1].tokens) == (layers, tokens)
    for lower, upper in itertools.pairwise(steps):
        assert lower.layers <= upper.layers and lower.tokens <= upper.tokens
        assert (lower.layers, lower.tokens) != (upper.layers, upper.tokens)
    if isinstance(least, int):
        assert steps[0].tokens >= least


def test_hyperband_brackets_equal_table_1_of_li_et_al() -> None:
    made = brackets(SearchSpec(algorithm="Hyperband", eta=3), 5, hyperband_trials(3, 5))
    resources = [3**i for i in range(5)]
    table = [list(zip(b.sizes, resources[b.first_rung :], strict=True)) for b in made]
    assert table == [
        [(81, 1), (27, 3), (9, 9), (3, 27), (1, 81)],
        [(27, 3), (9, 9), (3, 27), (1, 81)],
        [(9, 9), (3, 27), (1, 81)],
        [(6, 27), (2, 81)],
        [(5, 81)],
    ]


@given(trials=st.integers(1, 10_000), eta=st.integers(2, 8), count=st.integers(1, 8))
def test_halving_lets_fewer_in_at_each_rung_and_somebody_reaches_the_top(trials: int, eta: int, count: int) -> None:
    sizes = halving(trials, eta, count)
    assert sizes[0] == trials and sizes[-1] >= 1
    assert all(low >= high for low, high in itertools.pairwise(sizes))
    assert all(size in (1, trials // eta**r) for r, size in enumerate(sizes))
