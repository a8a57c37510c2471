"""Batches as the trials see them: features at the cut and targets, computed once for all trials of the run."""

from __future__ import annotations

import time
from concurrent.futures import Future, ThreadPoolExecutor

import torch
from torch import Tensor, nn

from frostline_trainer.contract import TrainingSpec
from frostline_trainer.data.order import BatchOrder
from frostline_trainer.data.source import Pair, Source
from frostline_trainer.device.placement import host_memory, to_device
from frostline_trainer.models.cut import run_prefix
from frostline_trainer.training.precision import autocast
from frostline_trainer.training.prefix_cache import PrefixCache


class Batches:
    """Runs the frozen prefix over batches, or reads its output from the cache.

    Args:
        source: the data.
        order: which samples make the batch at a position.
        prefix: the frozen units, on `device`; None where there are none.
        cache: where features of batches that come again are kept.
        training: precision of prefix and trainable part.
        device: where features and targets go.
        end: position after the last micro-batch of this run.
        evaluations: how often the held-out part is gone through.
        valid_samples: how many held-out samples an evaluation looks at.
    """

    def __init__(
        self,
        source: Source,
        order: BatchOrder,
        prefix: nn.Module | None,
        cache: PrefixCache,
        training: TrainingSpec,
        device: torch.device,
        end: int,
        evaluations: int,
        valid_samples: int,
    ):
        self._source, self._order, self._prefix, self._cache = source, order, prefix, cache
        self._training, self._device = training, device
        self._end, self._evaluations = end, evaluations
        size = training.batch_size
        self.held_out = [(i, min(i + size, valid_samples)) for i in range(0, valid_samples, size)]
        """Ranges of held-out samples, one per validation batch."""
        # One thread reads ahead where that takes time; on a CPU, data in memory is had for nothing.
        ahead = source.slow or device.type == "cuda"
        self._reader = ThreadPoolExecutor(1, thread_name_prefix="read-ahead") if ahead else None
        self._next: tuple[int, Future[Pair]] | None = None

    def training(self, position: int) -> Pair:
        """Features and targets of the micro-batch at this position of the endless sequence of batches."""
        batch = self._order.batch_at(position)
        key = ("train", batch)
        cached = self._cache.get(key, self._device) if self._caches else None
        if cached is not None:
            return cached
        keep = self._caches and self._order.comes_again(position, self._end)
        return self._features(key, self._read(position), keep)

    def validation(self, number: int) -> Pair:
        """Features and targets of a validation batch; every evaluation asks for the same ones."""
        key = ("valid", number)
        cached = self._cache.get(key, self._device) if self._prefix is not None else None
        if cached is not None:
            return cached
        with host_memory():
            pair = self._source.validation(*self.held_out[number])
        return self._features(key, pair, keep=self._prefix is not None and self._evaluations > 1)

    def close(self) -> None:
        """Free the cache and end the reading thread."""
        self._cache.close()
        if self._reader is not None:
            self._reader.shutdown(wait=True, cancel_futures=True)

    @property
    def _caches(self) -> bool:
        return self._prefix is not None and not self._source.augmented

    def _read(self, position: int) -> Pair:
        if self._reader is None:
            return self._load(position)
        ready = self._next[1].result() if self._next and self._next[0] == position else self._load(position)
        following = position + 1
        self._next = None
        if following < self._end and ("train", self._order.batch_at(following)) not in self._cache:
            self._next = (following, self._reader.submit(self._load, following))
        return ready

    def _load(self, position: int) -> Pair:
        with host_memory():
            x, y = self._source.training(self._order.members(self._order.batch_at(position)), position)
        return (x.pin_memory(), y.pin_memory()) if self._device.type == "cuda" else (x, y)

    def _features(self, key: tuple[str, int], pair: Pair, keep: bool) -> Pair:
        x, y = (to_device(tensor, self._device) for tensor in pair)
        if self._prefix is None:
            return x, y
        began = time.perf_counter()
        features = self._run(x)
        if keep:
            with host_memory():
                self._cache.put(key, features, y, time.perf_counter() - began)
        return features, y

    def _run(self, x: Tensor) -> Tensor:
        training = self._training
        if training.prefix_precision == "bf16":
            features = run_prefix(self._prefix, x.bfloat16() if x.is_floating_point() else x)
            return features.float() if training.precision == "fp32" else features
        with autocast(self._device, training.precision):
            return run_prefix(self._prefix, x)
