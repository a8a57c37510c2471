"""A bounded cache of the frozen prefix's output: memory first, then local disk.

A batch's members never change and the prefix is frozen, so what is read back is the very tensor that would be computed
again. Only batches that this run will visit again are kept.
"""

from __future__ import annotations

import contextlib
import os
import tempfile
import time
from pathlib import Path

import torch
from torch import Tensor


class PrefixCache:
    """Tensors by key, at most `memory_bytes` in memory and `disk_bytes` in files that vanish with the run.

    The disk is given up by itself where reading from it takes longer than computing did.
    """

    def __init__(self, memory_bytes: int, disk_bytes: int = 0, folder: str | None = None):
        self._memory: dict[tuple[str, int], Tensor] = {}
        self._files: dict[tuple[str, int], tuple[Path, torch.Size, torch.dtype]] = {}
        self._memory_left, self._disk_left = memory_bytes, disk_bytes
        self._folder: tempfile.TemporaryDirectory[str] | None = None
        self._where = folder
        self._compute_seconds = 0.0
        self._computed = 0
        self._read_seconds = 0.0
        self.hits = 0
        self.misses = 0

    def get(self, key: tuple[str, int], device: torch.device) -> Tensor | None:
        """What was put under this key, on the device; None where there is nothing."""
        found = self._memory.get(key)
        if found is None and key in self._files:
            found = self._read(key)
        if found is None:
            self.misses += 1
            return None
        self.hits += 1
        return found.to(device, non_blocking=True)

    def put(self, key: tuple[str, int], features: Tensor, seconds: float) -> None:
        """Keep a tensor, computed in so many seconds, where there is room."""
        self._compute_seconds += seconds
        self._computed += 1
        size = features.numel() * features.element_size()
        if size <= self._memory_left:
            self._memory_left -= size
            kept = features.detach()
            self._memory[key] = kept.cpu() if kept.is_cuda else kept.clone()
        elif size <= self._disk_left:
            self._disk_left -= size
            self._write(key, features.detach().cpu())

    def close(self) -> None:
        """Free memory and disk."""
        self._memory.clear()
        self._files.clear()
        if self._folder is not None:
            self._folder.cleanup()
            self._folder = None

    def _write(self, key: tuple[str, int], features: Tensor) -> None:
        if self._folder is None:
            self._folder = tempfile.TemporaryDirectory(prefix="frostline-cache-", dir=self._where)
        path = Path(self._folder.name) / f"{key[0]}-{key[1]}"
        try:
            path.write_bytes(features.contiguous().view(torch.uint8).numpy().data)
        except OSError:  # the disk is full: what is there stays, nothing more comes
            self._disk_left = 0
            path.unlink(missing_ok=True)
            return
        self._files[key] = (path, features.shape, features.dtype)

    def _read(self, key: tuple[str, int]) -> Tensor | None:
        path, shape, dtype = self._files[key]
        began = time.perf_counter()
        content = bytearray(os.stat(path).st_size)
        with contextlib.suppress(OSError), path.open("rb", buffering=0) as file:
            if file.readinto(content) == len(content):
                took = time.perf_counter() - began
                self._read_seconds = max(0.9 * self._read_seconds, took)
                if self._computed and took > 2 * self._compute_seconds / self._computed:
                    del self._files[key]
                    path.unlink(missing_ok=True)
                return torch.frombuffer(content, dtype=dtype).view(shape)
        del self._files[key]
        return None
