"""Tensors as a safetensors file, one after the other, so that they are never all in host memory at once.

The format: eight bytes with the header's length, the header as JSON (name, type, shape and place of each tensor), then
the tensors' bytes (https://huggingface.co/docs/safetensors). The library itself only writes from memory.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping

import torch
from torch import Tensor

_TYPES = {
    torch.float64: "F64",
    torch.float32: "F32",
    torch.float16: "F16",
    torch.bfloat16: "BF16",
    torch.int64: "I64",
    torch.int32: "I32",
    torch.int16: "I16",
    torch.int8: "I8",
    torch.uint8: "U8",
    torch.bool: "BOOL",
}
_ALIGNMENT = 8


def stream(tensors: Mapping[str, Tensor]) -> Iterator[bytes]:
    """The file's content in parts, each tensor copied from its device when its turn comes.

    Raises:
        KeyError: a type that the format has no name for.
    """
    # Wide types first, as the library does, so that each tensor is aligned.
    ordered = sorted(tensors.items(), key=lambda item: (-item[1].element_size(), item[0]))
    header: dict[str, object] = {}
    offset = 0
    for name, tensor in ordered:
        size = tensor.numel() * tensor.element_size()
        place = [offset, offset + size]
        header[name] = {"dtype": _TYPES[tensor.dtype], "shape": list(tensor.shape), "data_offsets": place}
        offset += size
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % _ALIGNMENT)
    yield len(text).to_bytes(8, "little")
    yield text
    for _, tensor in ordered:
        host = tensor.detach().to("cpu").contiguous()
        yield host.flatten().view(torch.uint8).numpy().tobytes() if host.numel() else b""


def size_of(tensors: Iterable[Tensor]) -> int:
    """Bytes of these tensors."""
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors)


class Digested:
    """Parts of a file, whose SHA-256 is known once they have been gone through."""

    def __init__(self, parts: Iterable[bytes]):
        self._parts = parts
        self._hash = hashlib.sha256()

    def __iter__(self) -> Iterator[bytes]:
        for part in self._parts:
            self._hash.update(part)
            yield part

    def sha256(self) -> str:
        """Of what has been gone through, as hexadecimal digits."""
        return self._hash.hexdigest()
