"""Out of memory and a broken device are told apart by class and words, in all the forms they come in."""

from __future__ import annotations

import errno

import pytest
import torch
from safetensors import SafetensorError

from frostline_trainer.device.failures import is_device_failure, is_no_space, is_out_of_memory

OUT_OF_MEMORY: list[BaseException] = [
    torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"),
    torch.AcceleratorError("CUDA error: out of memory\nCompile with `TORCH_USE_CUDA_DSA`"),
    RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
    RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"),
    RuntimeError("cuDNN error: CUDNN_STATUS_INTERNAL_ERROR_DEVICE_ALLOCATION_FAILED"),
    RuntimeError("NCCL error in: x.cpp:1, unhandled cuda error. Last error: Cuda failure 2 'out of memory'"),
    RuntimeError("[enforce fail at alloc_cpu.cpp:124] DefaultCPUAllocator: can't allocate memory"),
    RuntimeError("std::bad_alloc"),
    MemoryError(),
    OSError(12, "Cannot allocate memory"),
]
DEVICE: list[BaseException] = [
    torch.AcceleratorError("CUDA error: uncorrectable ECC error encountered"),
    torch.AcceleratorError("CUDA error: device-side assert triggered"),
    torch.AcceleratorError("CUDA error: an illegal memory access was encountered"),
    RuntimeError("CUDA error: unspecified launch failure"),
    RuntimeError("CUDA driver initialization failed, you might not have a CUDA gpu."),
    RuntimeError("Found no NVIDIA driver on your system"),
    RuntimeError("No CUDA GPUs are available"),
    RuntimeError("CUDA error: CUBLAS_STATUS_EXECUTION_FAILED when calling `cublasSgemm`"),
    RuntimeError("NCCL error in: x.cpp:1, remote process exited"),
]
NEITHER: list[BaseException] = [
    RuntimeError("mat1 and mat2 shapes cannot be multiplied (4x3 and 5x2)"),
    ValueError("a label says: out of memory"),
    OSError(28, "No space left on device"),
]


@pytest.mark.parametrize("error", OUT_OF_MEMORY, ids=str)
def test_every_form_of_out_of_memory_is_one(error: BaseException) -> None:
    assert is_out_of_memory(error) and not is_device_failure(error)


@pytest.mark.parametrize("error", DEVICE, ids=str)
def test_a_device_that_fails_is_not_out_of_memory(error: BaseException) -> None:
    assert is_device_failure(error) and not is_out_of_memory(error)


@pytest.mark.parametrize("error", NEITHER, ids=str)
def test_other_errors_are_neither(error: BaseException) -> None:
    assert not is_device_failure(error) and not is_out_of_memory(error)


def test_what_an_error_was_raised_from_counts() -> None:
    try:
        try:
            raise OUT_OF_MEMORY[2]
        except RuntimeError as error:
            raise RuntimeError("while tracing") from error
    except RuntimeError as outer:
        assert is_out_of_memory(outer)


NO_SPACE: list[BaseException] = [
    OSError(errno.ENOSPC, "No space left on device"),
    OSError(errno.EDQUOT, "Disk quota exceeded"),
    SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)"),
    RuntimeError("[enforce fail at inline_container.cc:603] . unexpected pos: No space left on device"),
]


@pytest.mark.parametrize("error", NO_SPACE)
def test_a_full_disk_is_neither_memory_nor_device_nor_the_persons_own_words(error: BaseException) -> None:
    wrapped = RuntimeError("could not write")
    wrapped.__cause__ = error
    assert is_no_space(error) and is_no_space(wrapped)
    assert not is_out_of_memory(error) and not is_device_failure(error)
    assert not is_no_space(ValueError(str(error))) and not is_no_space(OSError(errno.EIO, "Input/output error"))
