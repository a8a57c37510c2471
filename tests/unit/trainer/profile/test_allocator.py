"""The replay holds what PyTorch's caching allocator would hold, by its published rules."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from frostline_trainer.device.tracker import Trace
from frostline_trainer.profile.allocator import (
    MIB,
    CachingAllocator,
    CapacityExceededError,
    replay,
    smallest_cap,
)

requests = st.lists(st.tuples(st.integers(1, 40 * MIB), st.integers(0, 10)), min_size=1, max_size=60)


def trace_of(steps: list[tuple[int, int]]) -> Trace:
    """Allocates each size and frees an older block now and then."""
    trace, live = Trace(), []
    for size, pick in steps:
        live.append(trace.allocate(size))
        if pick < 6 and len(live) > 1:
            trace.release(live.pop(pick % len(live)))
    return trace


@pytest.mark.parametrize(
    ("request_bytes", "segment"),
    [
        (1, 2 * MIB),
        (1 * MIB, 2 * MIB),
        (1 * MIB + 1, 20 * MIB),
        (10 * MIB - 512, 20 * MIB),
        (10 * MIB, 10 * MIB),
        (11 * MIB + 1, 12 * MIB),
        (1000 * MIB, 1000 * MIB),
    ],
)
def test_a_first_request_takes_a_segment_of_the_size_that_its_pool_prescribes(request_bytes: int, segment: int) -> None:
    allocator = CachingAllocator()
    allocator.malloc(request_bytes)
    assert allocator.reserved == segment


def test_requests_are_rounded_to_512_bytes() -> None:
    allocator = CachingAllocator()
    allocator.malloc(1)
    allocator.malloc(513)
    assert allocator.allocated == 512 + 1024


def test_a_freed_block_is_reused_before_a_new_segment_is_taken() -> None:
    allocator = CachingAllocator()
    block = allocator.malloc(30 * MIB)
    allocator.free(block)
    allocator.malloc(30 * MIB)
    assert allocator.peak_reserved == 30 * MIB


def test_the_best_fit_wins_not_the_first() -> None:
    allocator = CachingAllocator()
    big, small = allocator.malloc(64 * MIB), allocator.malloc(32 * MIB)
    allocator.free(big)
    allocator.free(small)
    allocator.malloc(30 * MIB)  # goes into the 32 MiB block ...
    allocator.malloc(64 * MIB)  # ... so that this one still finds its place
    assert allocator.peak_reserved == 96 * MIB


def test_neighbours_that_are_free_are_joined() -> None:
    allocator = CachingAllocator()
    whole = allocator.malloc(64 * MIB)
    allocator.free(whole)
    parts = [allocator.malloc(16 * MIB) for _ in range(4)]
    for part in (parts[0], parts[2], parts[1], parts[3]):
        allocator.free(part)
    allocator.malloc(64 * MIB)
    assert allocator.peak_reserved == 64 * MIB


def test_a_large_block_is_not_split_for_a_remainder_of_a_mebibyte() -> None:
    allocator = CachingAllocator()
    allocator.malloc(11 * MIB)  # segment of 12 MiB, 1 MiB over
    assert allocator.allocated == 12 * MIB


def test_at_the_cap_cached_segments_are_released_before_memory_runs_out() -> None:
    allocator = CachingAllocator(cap=100 * MIB)
    for _ in range(3):
        blocks = [allocator.malloc(30 * MIB) for _ in range(3)]
        for block in blocks:
            allocator.free(block)
    allocator.malloc(100 * MIB)
    assert allocator.reserved == 100 * MIB


def test_memory_runs_out_where_the_live_blocks_leave_no_room() -> None:
    allocator = CachingAllocator(cap=100 * MIB)
    allocator.malloc(60 * MIB)
    with pytest.raises(CapacityExceededError):
        allocator.malloc(60 * MIB)


def test_fragments_make_a_replay_need_more_than_its_live_bytes() -> None:
    trace = Trace()
    keep = []
    for _ in range(20):  # pairs in one segment of 20 MiB each: free one of each pair, none of the holes joins
        first, second = trace.allocate(9 * MIB), trace.allocate(9 * MIB)
        keep.append(second)
        trace.release(first)
    trace.allocate(19 * MIB)
    assert smallest_cap(trace) > 1.05 * trace.peak()


@settings(max_examples=40, deadline=None)
@given(requests)
def test_reserved_is_never_less_than_allocated_and_a_cap_of_reserved_always_suffices(
    steps: list[tuple[int, int]],
) -> None:
    trace = trace_of(steps)
    free = replay(trace)
    assert free.reserved >= free.allocated >= trace.peak()
    assert replay(trace, cap=free.reserved).reserved <= free.reserved


@settings(max_examples=25, deadline=None)
@given(requests)
def test_the_smallest_cap_suffices_and_lies_between_live_and_reserved(steps: list[tuple[int, int]]) -> None:
    trace = trace_of(steps)
    cap = smallest_cap(trace)
    free = replay(trace)
    assert free.allocated <= cap <= free.reserved
    replay(trace, cap=cap)


def test_all_is_given_back_in_the_end() -> None:
    allocator = CachingAllocator()
    rng = random.Random(3)
    blocks = [allocator.malloc(rng.randrange(1, 30 * MIB)) for _ in range(200)]
    rng.shuffle(blocks)
    for block in blocks:
        allocator.free(block)
    assert allocator.allocated == 0
    allocator._release_cached()
    assert allocator.reserved == 0
