"""Tensors written one after the other are a safetensors file like any other."""

from __future__ import annotations

import hashlib

import pytest
import torch
from safetensors.torch import load, save

from frostline_trainer.checkpoints.tensors import Digested, size_of, stream

TENSORS = {
    "scalar": torch.tensor(3.0),
    "half/state": torch.randn(3, 5).bfloat16(),
    "bytes": torch.arange(7, dtype=torch.uint8),
    "flags": torch.tensor([True, False]),
    "transposed": torch.randn(4, 6).t(),
    "nothing": torch.empty(0, 3),
    "counts": torch.arange(5),
    'named "oddly" é': torch.randn(2, dtype=torch.float64),
}


@pytest.mark.parametrize("tensors", [TENSORS, {}], ids=["many", "none"])
def test_what_is_written_in_parts_is_read_by_the_library(tensors: dict[str, torch.Tensor]) -> None:
    read = load(b"".join(stream(tensors)))
    assert read.keys() == tensors.keys()
    for name, tensor in tensors.items():
        assert read[name].dtype == tensor.dtype and torch.equal(read[name], tensor)


def test_it_is_as_long_as_what_the_library_writes() -> None:
    ours = b"".join(stream(TENSORS))
    theirs = save({name: tensor.contiguous() for name, tensor in TENSORS.items()})
    assert abs(len(ours) - len(theirs)) <= 16


def test_no_more_than_one_tensor_is_in_memory_at_a_time() -> None:
    largest = max(size_of([tensor]) for tensor in TENSORS.values())
    header, *parts = list(stream(TENSORS))[1:]
    assert max(map(len, parts)) == largest and len(header) % 8 == 0


def test_the_digest_is_of_all_parts() -> None:
    digested = Digested(stream(TENSORS))
    assert hashlib.sha256(b"".join(digested)).hexdigest() == digested.sha256()
