"""Hardware as a fidelity: the smallest class that fits, fewer layers only where nothing else helps."""

from __future__ import annotations

import pytest

from frostline_operator.engine.placement import Fit, NothingFits, OutOfMemory, Placement
from frostline_operator.engine.state import MemoryClass

SMALL, LARGE = MemoryClass("small", 8, 2), MemoryClass("large", 24, 1)


def rules(**changes: object) -> Placement:
    """One layer needs 2, one more trial 1."""
    settings: dict[str, object] = {
        "classes": (LARGE, SMALL),
        "need": lambda layers, trials, _: 2 * layers + trials - 1,
        "headroom": 0.0,
    }
    return Placement(**{**settings, **changes})  # type: ignore[arg-type]


FREE = {"small": 1, "large": 1}


def test_a_run_goes_to_the_smallest_class_that_fits_its_layers() -> None:
    assert rules().place(4, 1, FREE) == Fit("small", 4, 1)
    assert rules().place(5, 1, FREE) == Fit("large", 5, 1)


def test_it_waits_for_that_class_unless_it_may_overflow_or_degrade() -> None:
    assert rules().place(4, 1, {"large": 1}) is None
    assert rules(overflow=True).place(4, 1, {"large": 1}) == Fit("large", 4, 1)
    assert rules().place(5, 1, {"small": 1}) is None
    assert rules(degrade=True).place(5, 1, {"small": 1}) == Fit("small", 4, 1)


def test_as_many_trials_share_a_run_as_fit() -> None:
    assert rules().place(3, 8, FREE) == Fit("small", 3, 3)


def test_where_no_class_fits_it_takes_the_most_layers_that_do() -> None:
    assert rules().largest_layers(20) == 12
    assert rules().place(20, 1, FREE) == Fit("large", 12, 1)


def test_headroom_is_kept_free() -> None:
    assert rules(headroom=0.5).place(3, 1, FREE) == Fit("large", 3, 1)


def test_nothing_fits_is_an_answer_of_its_own() -> None:
    with pytest.raises(NothingFits):
        rules(need=lambda *_: 100).place(1, 1, FREE)


def test_memory_is_no_limit_where_nothing_is_known_of_it() -> None:
    assert rules(need=lambda *_: None).place(50, 16, FREE) == Fit("small", 50, 16)


@pytest.mark.parametrize(
    ("memory_class", "layers", "trials", "ruled_out"),
    [
        (SMALL, 3, 2, True),
        (SMALL, 4, 5, True),
        (SMALL, 2, 9, False),
        (SMALL, 3, 1, False),
        (LARGE, 3, 2, False),
    ],
)
def test_what_ran_out_of_memory_rules_out_everything_that_needs_more(
    memory_class: MemoryClass, layers: int, trials: int, ruled_out: bool
) -> None:
    assert OutOfMemory(8, 3, 2).rules_out(memory_class, layers, trials) is ruled_out


def test_after_a_failure_the_next_try_is_on_the_larger_class() -> None:
    assert rules(failures=[OutOfMemory(8, 3, 1)]).place(3, 1, FREE) == Fit("large", 3, 1)
    failed_everywhere = [OutOfMemory(8, 3, 1), OutOfMemory(24, 3, 1)]
    assert rules(failures=failed_everywhere).place(3, 1, FREE) == Fit("small", 2, 1)
