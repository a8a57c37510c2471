"""In which order samples are seen: a pure function of (seed, position), so that resuming anywhere is exact.

Which samples share a batch is drawn once; every epoch visits the same batches in a new order. A batch's output of the
frozen prefix is therefore the same tensor in every epoch, and the cache can hand it out again bit for bit.
"""

from __future__ import annotations

import functools

import torch

from frostline_trainer.seeds import derive


class BatchOrder:
    """The endless sequence of micro-batches over a training set."""

    def __init__(self, samples: int, batch_size: int, seed: int):
        self._seed = seed
        self._batch = min(batch_size, samples)
        self.batches = -(-samples // self._batch)
        """Micro-batches per epoch; where samples are left over, the last batch is filled up from the first."""
        generator = torch.Generator().manual_seed(derive(seed, "batches", samples, batch_size))
        drawn = torch.randperm(samples, generator=generator)
        self._members = torch.cat([drawn, drawn[: self.batches * self._batch - samples]])

    def batch_at(self, position: int) -> int:
        """Which batch, 0 to `batches` - 1, is the `position`-th micro-batch since the start of training."""
        epoch, place = divmod(position, self.batches)
        return int(self._epoch(epoch)[place])

    def comes_again(self, position: int, end: int) -> bool:
        """Whether the batch at `position` is visited once more before position `end`."""
        epoch, last = position // self.batches, end // self.batches
        if epoch + 1 < last:
            return True
        return epoch < last and self.batch_at(position) in self._begun(last, end % self.batches)

    @functools.lru_cache(maxsize=1)  # noqa: B019
    def _begun(self, epoch: int, count: int) -> frozenset[int]:
        """The first batches of an epoch that is cut short."""
        return frozenset(self._epoch(epoch)[:count].tolist())

    def members(self, batch: int) -> torch.Tensor:
        """The indices of a batch's samples."""
        return self._members[batch * self._batch : (batch + 1) * self._batch]

    @functools.lru_cache(maxsize=4)  # noqa: B019 - one instance lives as long as the run
    def _epoch(self, epoch: int) -> torch.Tensor:
        generator = torch.Generator().manual_seed(derive(self._seed, "epoch", epoch))
        return torch.randperm(self.batches, generator=generator)
