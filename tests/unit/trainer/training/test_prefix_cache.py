"""The cache of the prefix's output keeps its bounds and its contents."""

from __future__ import annotations

from pathlib import Path

import torch

from frostline_trainer.training.prefix_cache import PrefixCache


def test_the_cache_keeps_its_bounds_and_what_it_was_given(tmp_path: Path) -> None:
    cpu = torch.device("cpu")
    cache = PrefixCache(memory_bytes=5000, disk_bytes=9000, folder=str(tmp_path))
    tensors = [torch.randn(10, 100, dtype=t) for t in (torch.float32, torch.float32, torch.float32, torch.bfloat16)]
    for i, tensor in enumerate(tensors):
        cache.put(("train", i), tensor, torch.tensor([i]), seconds=60.0)
    on_disk = [p.stat().st_size for p in tmp_path.rglob("train-*")]
    assert sorted(on_disk) == [2000, 4000, 4000][: len(on_disk)] or sum(on_disk) <= 9000
    hits = [cache.get(("train", i), cpu) for i in range(4)]
    for tensor, hit in zip(tensors, hits, strict=True):
        if hit is not None:
            assert torch.equal(hit[0], tensor) and hit[0].dtype == tensor.dtype
    assert hits[0] is not None and hits[1] is not None
    cache.close()
    assert list(tmp_path.iterdir()) == []
