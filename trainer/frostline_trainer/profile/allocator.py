"""What the CUDA caching allocator would hold for a given order of requests.

`torch.cuda.max_memory_reserved` is what decides whether a run fits: 1.15 times the bytes of live tensors at the median
and up to 1.45 times. No flat margin is right for all, so the requests are replayed through a model of the allocator
(CUDACachingAllocator.cpp, default settings: no expandable segments, one stream, no garbage collection threshold).
"""

from __future__ import annotations

from bisect import bisect_left, insort
from dataclasses import dataclass

from frostline_trainer.device.tracker import CUDA_GRANULE, Trace, rounded

MIB = 1 << 20
SMALL_REQUEST = 1 * MIB
"""Requests up to this size are served from the small pool (kSmallSize)."""
SMALL_SEGMENT = 2 * MIB
"""Segments of the small pool (kSmallBuffer)."""
LARGE_SEGMENT = 20 * MIB
"""Segments for requests between `SMALL_REQUEST` and `LARGE_REQUEST` (kLargeBuffer)."""
LARGE_REQUEST = 10 * MIB
"""From here on a segment is as large as the request, rounded up to `SEGMENT_GRANULE` (kMinLargeAlloc)."""
SEGMENT_GRANULE = 2 * MIB
"""kRoundLarge."""


class CapacityExceededError(Exception):
    """The replay ran out of memory: even with all cached segments released, a request did not fit under the cap."""


class _Block:
    """A stretch of a segment, linked to its neighbours."""

    __slots__ = ("after", "before", "free", "offset", "pool", "size")

    def __init__(self, pool: _Pool, offset: int, size: int) -> None:
        self.pool = pool
        self.offset = offset
        """Address: segments get addresses in the order of their creation, which breaks ties as real addresses do."""
        self.size = size
        self.free = False
        self.before: _Block | None = None
        self.after: _Block | None = None


class _Pool:
    """Free blocks ordered by size, then address, as the allocator's BlockPool is."""

    def __init__(self, *, small: bool) -> None:
        self.small = small
        self.keys: list[tuple[int, int]] = []
        self.blocks: dict[int, _Block] = {}

    def put(self, block: _Block) -> None:
        block.free = True
        insort(self.keys, (block.size, block.offset))
        self.blocks[block.offset] = block

    def take(self, block: _Block) -> None:
        block.free = False
        del self.keys[bisect_left(self.keys, (block.size, block.offset))]
        del self.blocks[block.offset]

    def best_fit(self, size: int) -> _Block | None:
        index = bisect_left(self.keys, (size, -1))
        return self.blocks[self.keys[index][1]] if index < len(self.keys) else None


@dataclass(frozen=True)
class Replay:
    """The outcome of a replay, in bytes."""

    allocated: int
    """Peak of the live blocks as `torch.cuda.max_memory_allocated` counts them."""
    reserved: int
    """Peak of the segments held, as `torch.cuda.max_memory_reserved` counts them."""


class CachingAllocator:
    """A simulated device: `malloc` and `free` as PyTorch would call them, never above `cap` bytes of segments."""

    def __init__(self, cap: int | None = None) -> None:
        self.cap = cap
        self.reserved = self.peak_reserved = 0
        self.allocated = self.peak_allocated = 0
        self._next_address = 0
        self._small = _Pool(small=True)
        self._large = _Pool(small=False)

    def malloc(self, nbytes: int) -> _Block:
        """Serves a request from the cache or a new segment; raises CapacityExceededError where neither is possible."""
        size = max(rounded(nbytes, CUDA_GRANULE), CUDA_GRANULE)
        pool = self._small if size <= SMALL_REQUEST else self._large
        block = pool.best_fit(size)
        if block is not None:
            pool.take(block)
        else:
            block = self._segment(pool, size)
        remaining = block.size - size
        if remaining >= CUDA_GRANULE if pool.small else remaining > SMALL_REQUEST:
            rest = _Block(pool, block.offset + size, remaining)
            rest.before, rest.after = block, block.after
            if block.after is not None:
                block.after.before = rest
            block.after = rest
            block.size = size
            pool.put(rest)
        self.allocated += block.size
        self.peak_allocated = max(self.peak_allocated, self.allocated)
        return block

    def free(self, block: _Block) -> None:
        """Gives a block back to its pool and joins it with free neighbours."""
        self.allocated -= block.size
        pool = block.pool
        before, after = block.before, block.after
        if before is not None and before.free:
            pool.take(before)
            before.size += block.size
            before.after = after
            if after is not None:
                after.before = before
            block = before
        if after is not None and after.free:
            pool.take(after)
            block.size += after.size
            block.after = after.after
            if after.after is not None:
                after.after.before = block
        pool.put(block)

    def _segment(self, pool: _Pool, size: int) -> _Block:
        if pool.small:
            need = SMALL_SEGMENT
        elif size < LARGE_REQUEST:
            need = LARGE_SEGMENT
        else:
            need = rounded(size, SEGMENT_GRANULE)
        if self.cap is not None and self.reserved + need > self.cap:
            self._release_cached()
            if self.reserved + need > self.cap:
                raise CapacityExceededError(
                    f"{need} bytes more than {self.reserved} would exceed the cap of {self.cap}"
                )
        self.reserved += need
        self.peak_reserved = max(self.peak_reserved, self.reserved)
        block = _Block(pool, self._next_address, need)
        self._next_address += need + SEGMENT_GRANULE  # a gap, so that segments never look like neighbours
        return block

    def _release_cached(self) -> None:
        """Returns wholly free segments to the device, as the allocator does before it gives up."""
        for pool in (self._large, self._small):
            for block in [b for b in pool.blocks.values() if b.before is None and b.after is None]:
                pool.take(block)
                self.reserved -= block.size


def replay(trace: Trace, *, cap: int | None = None) -> Replay:
    """Replays a record of requests; raises CapacityExceededError where it does not fit under `cap` bytes."""
    allocator = CachingAllocator(cap)
    blocks: dict[int, _Block] = {}
    sizes = trace.sizes
    for event in trace.events:
        if event > 0:
            blocks[event] = allocator.malloc(sizes[event])
        else:
            allocator.free(blocks.pop(-event))
    return Replay(allocator.peak_allocated, allocator.peak_reserved)


def smallest_cap(trace: Trace, *, tolerance: float = 0.005) -> int:
    """The least memory, within `tolerance`, under which the replay does not run out.

    It lies between the peak of the live bytes (a lower bound for any allocator) and the reserved bytes of an
    unlimited device (which suffice by construction). The first cap tried is often enough for large models.
    """
    free = replay(trace)
    low, high = free.allocated, free.reserved
    while high - low > max(tolerance * high, SEGMENT_GRANULE):
        middle = (low + high) // 2
        try:
            high = min(middle, replay(trace, cap=middle).reserved)
        except CapacityExceededError:
            low = middle
    return high
