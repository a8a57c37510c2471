"""Drawing configurations: reproducible, without repeats, inside the ranges."""

from __future__ import annotations

import math
import threading
import time

from hypothesis import given, settings
from hypothesis import strategies as st

from frostline_operator.api.parameters import Condition, Parameter
from frostline_operator.api.search import SearchSpec
from frostline_operator.engine import space

LR = Parameter(name="lr", type="Float", min=1e-5, max=1e-1, scale="Log")
OPTIMIZER = Parameter(name="optimizer", type="Categorical", values=["AdamW", "SGD"])
MOMENTUM = Parameter(
    name="momentum", type="Float", min=0.5, max=0.99, when=Condition(parameter="optimizer", values=["SGD"])
)
DEPTH = Parameter(name="depth", type="Int", min=2, max=64, scale="Log")
DROP = Parameter(name="drop", type="Float", min=0.0, max=0.4, step=0.1)


def draw(parameters: list[Parameter], count: int, **search: object) -> list[space.Assignment]:
    return space.assignments(parameters, SearchSpec.model_validate({"trials": 1, **search}), count)


def identities(drawn: list[space.Assignment]) -> set[str]:
    return {repr(sorted(a.items())) for a in drawn}


@given(seed=st.integers(0, 10**6), sampler=st.sampled_from(["Random", "Sobol"]), first=st.integers(0, 40))
@settings(max_examples=30, deadline=None)
def test_a_configuration_does_not_depend_on_how_many_were_drawn_before(seed: int, sampler: str, first: int) -> None:
    parameters = [LR, OPTIMIZER, MOMENTUM, DEPTH]
    some = draw(parameters, first, seed=seed, sampler=sampler)
    space._drawn.cache_clear()
    many = draw(parameters, 50, seed=seed, sampler=sampler)
    assert many[:first] == some
    assert len(identities(many)) == 50


def test_another_seed_draws_other_configurations() -> None:
    assert draw([LR], 5, seed=1) != draw([LR], 5, seed=2)


@given(seed=st.integers(0, 1000), sampler=st.sampled_from(["Random", "Sobol"]))
@settings(max_examples=25, deadline=None)
def test_values_lie_in_their_ranges_and_have_their_types(seed: int, sampler: str) -> None:
    for drawn in draw([LR, OPTIMIZER, MOMENTUM, DEPTH, DROP], 30, seed=seed, sampler=sampler):
        assert 1e-5 <= float(drawn["lr"]) <= 1e-1
        assert isinstance(drawn["depth"], int) and 2 <= drawn["depth"] <= 64
        assert any(math.isclose(float(drawn["drop"]), 0.1 * i, abs_tol=1e-9) for i in range(5))
        assert ("momentum" in drawn) == (drawn["optimizer"] == "SGD")


def test_log_scale_spreads_evenly_over_the_orders_of_magnitude() -> None:
    drawn = [math.log10(float(a["lr"])) for a in draw([LR], 256, sampler="Sobol")]
    per_decade = [sum(1 for v in drawn if low <= v < low + 1) for low in (-5, -4, -3, -2)]
    assert all(60 <= count <= 68 for count in per_decade)


def test_a_finite_space_is_drawn_completely_and_then_ends() -> None:
    small = [OPTIMIZER, DROP, MOMENTUM.model_copy(update={"step": 0.49})]
    drawn = draw(small, 1000)
    assert len(drawn) == len(identities(drawn)) == space.cardinality(small, SearchSpec(trials=1)) == 5 + 5 * 2


def test_inactive_parameters_do_not_make_two_configurations_differ() -> None:
    parameters = [OPTIMIZER, MOMENTUM.model_copy(update={"step": 0.1})]
    assert sum(1 for a in draw(parameters, 100) if a["optimizer"] == "AdamW") == 1


def test_grid_goes_through_all_combinations_in_order() -> None:
    drawn = draw([LR, OPTIMIZER], 100, sampler="Grid", gridPoints=3)
    assert [(a["lr"], a["optimizer"]) for a in drawn] == [
        (lr, name) for lr in (1e-5, 1e-3, 1e-1) for name in ("AdamW", "SGD")
    ]


def test_given_configurations_come_first_and_are_not_repeated() -> None:
    drawn = draw([LR, OPTIMIZER], 4, initial=[{"lr": 0.01, "optimizer": "SGD"}, {"lr": 0.01, "optimizer": "SGD"}])
    assert drawn[0] == {"lr": 0.01, "optimizer": "SGD"}
    assert len(identities(drawn)) == 4


def test_what_a_given_configuration_leaves_out_is_sampled() -> None:
    first = draw([LR, OPTIMIZER], 1, initial=[{"optimizer": "SGD"}])[0]
    assert first["optimizer"] == "SGD" and 1e-5 <= float(first["lr"]) <= 1e-1


def test_many_threads_may_draw_from_one_space_at_a_time() -> None:
    space._drawn.cache_clear()
    space._space.cache_clear()
    answers: list[list[space.Assignment]] = []
    barrier = threading.Barrier(8)

    def ask(count: int) -> None:
        barrier.wait()
        answers.extend(draw([LR, OPTIMIZER, DEPTH], n) for n in range(count, 900, 97))

    threads = [threading.Thread(target=ask, args=(count,)) for count in range(1, 9)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    longest = draw([LR, OPTIMIZER, DEPTH], 1000)
    assert len(answers) == sum(len(range(count, 900, 97)) for count in range(1, 9))
    assert all(answer == longest[: len(answer)] for answer in answers)


def test_a_range_of_very_many_steps_is_never_listed() -> None:
    fine = [Parameter(name=f"p{i}", type="Float", min=0.0, max=1.0, step=1e-5) for i in range(4)]
    before = time.perf_counter()
    assert len(draw(fine, 10)) == len(draw(fine, 10, sampler="Grid")) == 10
    assert time.perf_counter() - before < 1.0


def test_drawing_takes_time_in_proportion_to_what_is_drawn() -> None:
    """Calls of the work itself are counted, since a busy machine's clock proves nothing."""
    space._drawn.cache_clear()
    parameters = [LR, OPTIMIZER]
    for count in range(1, 5000, 7):
        draw(parameters, count, seed=12345)
    assert space._drawn.cache_info().misses <= math.log2(8192)
