"""A bounded cache of the frozen prefix's output: host memory first, then local disk.

A batch's members never change and the prefix is frozen, so what is read back is, bit for bit, what would be computed
again.
"""

from __future__ import annotations

import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

Key = tuple[str, int]


@dataclass
class _Entry:
    """Bytes in memory or in a file, and what they are."""

    content: Any
    shape: torch.Size
    dtype: torch.dtype
    targets: Tensor


class PrefixCache:
    """Features and targets by batch, at most `memory_bytes` in memory and `disk_bytes` in files.

    The files live in an own temporary folder under `folder` and go with `close`. Where reading from the disk turns out
    slower than computing, those entries are given up; that changes the time, never a value.
    """

    def __init__(self, memory_bytes: int, disk_bytes: int = 0, folder: str | None = None):
        self._entries: dict[Key, _Entry] = {}
        self._memory_left, self._disk_left = memory_bytes, disk_bytes
        self._where = folder
        self._folder: tempfile.TemporaryDirectory[str] | None = None
        self._compute_seconds = 0.0
        self._computed = 0

    def __contains__(self, key: Key) -> bool:
        return key in self._entries

    def get(self, key: Key, device: torch.device) -> tuple[Tensor, Tensor] | None:
        """Features and targets on the device; None where there is nothing under this key."""
        entry = self._entries.get(key)
        content = (
            self._read(key, entry.content) if entry and isinstance(entry.content, Path) else entry and entry.content
        )
        if entry is None or content is None:
            return None
        features = torch.from_numpy(content).view(entry.dtype).view(entry.shape)
        return features.to(device, non_blocking=True), entry.targets.to(device, non_blocking=True)

    def put(self, key: Key, features: Tensor, targets: Tensor, seconds: float) -> None:
        """Keep features that took so many seconds to compute, where there is room."""
        self._compute_seconds += seconds
        self._computed += 1
        size = features.numel() * features.element_size()
        if size > self._memory_left and size > self._disk_left:
            return
        # As a numpy array: host memory is not what a run's limit on device memory counts.
        content = features.detach().cpu().contiguous().flatten().view(torch.uint8).numpy()
        if size <= self._memory_left:
            self._memory_left -= size
            kept: Any = content.copy()
        else:
            self._disk_left -= size
            kept = self._write(key, content)
        if kept is not None:
            self._entries[key] = _Entry(kept, features.shape, features.dtype, targets.cpu())

    def close(self) -> None:
        """Free memory and disk."""
        self._entries.clear()
        if self._folder is not None:
            self._folder.cleanup()
            self._folder = None

    def _write(self, key: Key, content: Any) -> Path | None:
        try:
            if self._folder is None:
                self._folder = tempfile.TemporaryDirectory(prefix="frostline-cache-", dir=self._where)
            path = Path(self._folder.name) / f"{key[0]}-{key[1]}"
            path.write_bytes(content.data)
        except OSError:  # the disk is full or not there: what is kept stays, nothing more comes
            self._disk_left = 0
            return None
        return path

    def _read(self, key: Key, path: Path) -> Any:
        import numpy as np

        began = time.perf_counter()
        try:
            content = np.fromfile(path, dtype=np.uint8)
        except OSError:
            del self._entries[key]
            return None
        if time.perf_counter() - began > self._compute_seconds / max(1, self._computed):
            del self._entries[key]
            path.unlink(missing_ok=True)
        return content
