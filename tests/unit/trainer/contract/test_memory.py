"""The profile as the operator evaluates it: monotone, consistent, and without torch."""

from __future__ import annotations

import subprocess
import sys

import pydantic
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from frostline_trainer.contract import MemoryProfile


@st.composite
def profiles(draw: st.DrawFn) -> MemoryProfile:
    layers = draw(st.integers(1, 40))
    knots = sorted({1, layers, *draw(st.lists(st.integers(1, layers), max_size=4))})
    size = st.floats(0, 1e5)
    ratio = st.floats(1, 1.5)
    count = len(knots)
    return MemoryProfile(
        hash="h",
        device="cuda",
        layers=layers,
        batch=draw(st.integers(1, 512)),
        margin=draw(st.floats(1, 1.2)),
        workspace=16.25,
        z=knots,
        lines=[draw(st.lists(size, min_size=2, max_size=2)) for _ in knots],
        trial=draw(st.lists(size, min_size=count, max_size=count)),
        packed=[[0.0, 0.0]] * count,
        needed=draw(st.lists(ratio, min_size=count, max_size=count)),
        elsewhere=draw(st.lists(ratio, min_size=count, max_size=count)),
        reserved=draw(st.lists(ratio, min_size=count, max_size=count)),
    )


@settings(max_examples=80, deadline=None)
@given(profiles(), st.integers(1, 1000), st.integers(2, 16))
def test_more_layers_larger_batches_and_more_trials_never_need_less(
    profile: MemoryProfile, batch: int, trials: int
) -> None:
    needs = [profile.required(z, batch, trials) for z in range(1, profile.layers + 1)]
    assert needs == sorted(needs)
    for z in (1, profile.layers):
        assert profile.required(z, batch + 1, trials) >= profile.required(z, batch, trials)
        assert profile.required(z, batch, trials + 1) >= profile.required(z, batch, trials)
        assert profile.required(z, batch, trials, 1.2) >= profile.required(z, batch, trials)


@settings(max_examples=80, deadline=None)
@given(profiles(), st.integers(0, 2**38), st.integers(1, 8))
def test_the_largest_z_fits_and_the_next_does_not(profile: MemoryProfile, limit: int, trials: int) -> None:
    z = profile.largest_layers(limit, None, trials)
    assert z == 0 or profile.required(z, None, trials) <= limit
    assert z == profile.layers or profile.required(z + 1, None, trials) > limit


@given(profiles())
def test_a_profile_survives_json(profile: MemoryProfile) -> None:
    assert MemoryProfile.model_validate_json(profile.model_dump_json(by_alias=True)) == profile


@given(profiles())
def test_a_z_that_does_not_exist_is_refused(profile: MemoryProfile) -> None:
    for z in (0, profile.layers + 1):
        with pytest.raises(ValueError, match="z must be between"):
            profile.required(z)


def test_columns_of_unequal_length_are_refused() -> None:
    with pytest.raises(pydantic.ValidationError, match="one per knot"):
        MemoryProfile(
            hash="h", device="cpu", layers=2, batch=1, z=[1, 2], lines=[[1.0, 0.0]],
            trial=[0.0] * 2, packed=[[0.0, 0.0]] * 2, needed=[1.0] * 2, elsewhere=[1.0] * 2, reserved=[1.0] * 2,
        )  # fmt: skip


def test_evaluating_needs_no_torch() -> None:
    code = "import sys, frostline_trainer.contract; assert not {'torch', 'numpy'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
