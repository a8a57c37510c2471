"""Which errors say that memory or disk did not suffice, and which that the device itself failed.

PyTorch has a class of its own for the caching allocator's errors only. What libraries below it run into comes as
`RuntimeError` (`torch.AcceleratorError` from 2.8 on), told apart by the words of CUDA, cuBLAS, cuDNN and NCCL.
"""

from __future__ import annotations

import errno
from collections.abc import Iterator

import torch
from safetensors import SafetensorError

_OUT_OF_MEMORY = (
    "out of memory",  # "CUDA error: out of memory", cuDNN's, NCCL's "Cuda failure 2 'out of memory'"
    "cublas_status_alloc_failed",
    "cusolver_status_alloc_failed",
    "cusparse_status_insufficient_resources",
    "cudnn_status_alloc_failed",
    "cudnn_status_internal_error_device_allocation_failed",
    "cudnn_status_internal_error_host_allocation_failed",
    "cufft_alloc_failed",
    "std::bad_alloc",
    "can't allocate memory",  # PyTorch's allocator of host memory
    "cannot allocate memory",  # ENOMEM
)
_NO_SPACE = ("no space left on device", "disk quota exceeded")
_DEVICE_FAILED = (
    "cuda error",
    "cuda driver",
    "cuda failure",  # NCCL's way to say it
    "nccl error",
    "device-side assert",
    "uncorrectable ecc",
    "illegal memory access",
    "unspecified launch failure",
    "no cuda gpus are available",
    "no cuda-capable device",
    "found no nvidia driver",
    "gpu is lost",
    "fallen off the bus",
    "cublas_status_",
    "cudnn_status_",
    "cusolver_status_",
    "cufft_",
)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether it says that memory did not suffice, the device's or the host's."""
    return any(
        isinstance(one, (torch.OutOfMemoryError, MemoryError)) or _says(one, _OUT_OF_MEMORY) for one in _causes(error)
    )


def is_device_failure(error: BaseException) -> bool:
    """Whether it says that the device, its driver or a library on it failed, for another reason than memory."""
    return not is_out_of_memory(error) and any(_says(one, _DEVICE_FAILED) for one in _causes(error))


def is_no_space(error: BaseException) -> bool:
    """Whether it says that a disk, or somebody's share of it, is full."""
    return any(
        (isinstance(one, OSError) and one.errno in (errno.ENOSPC, errno.EDQUOT)) or _says(one, _NO_SPACE)
        for one in _causes(error)
    )


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    """The error and what it was raised from."""
    while error is not None:
        yield error
        error = error.__cause__


def _says(error: BaseException, words: tuple[str, ...]) -> bool:
    """Of errors that libraries raise; a person's own `ValueError` may speak of anything."""
    text = str(error).lower()
    return isinstance(error, (RuntimeError, OSError, SafetensorError)) and any(word in text for word in words)
