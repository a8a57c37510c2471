"""Gives CPU tensors without content the memory behaviour of CUDA.

Without a GPU, such tensors live on the CPU, and PyTorch then takes the CPU's ways: a dropout that keeps a mask in
full precision, an attention that keeps other things, another list of operators that autocast leaves in fp32. A GPT-2
simulated like that comes out 44 to 115 % too large. `cuda_semantics` swaps these for what CUDA does; nothing is
computed, only shapes and types matter.
"""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import torch
from torch.nn import functional

from frostline_trainer.profile.replaced import replaced

aten = torch.ops.aten

_HALF = (torch.float16, torch.bfloat16)

# Operators that CUDA's autocast runs in fp32 and the CPU's does not (autocast_mode.h, AT_FORALL_FP32 and
# AT_FORALL_DIFFERENT_REDISPATCH), as far as networks use them on activations.
_FP32_ON_CUDA = (
    "layer_norm",
    "native_layer_norm",
    "group_norm",
    "softmax.int",
    "log_softmax.int",
    "pow.Tensor_Scalar",
    "pow.Tensor_Tensor",
    "pow.Scalar",
    "rsqrt",
    "exp",
    "log",
    "softplus",
    "cumsum",
    "sum",
    "sum.dim_IntList",
    "norm.Scalar",
    "rms_norm",
)


def _dropout(input: torch.Tensor, p: float, train: bool) -> torch.Tensor:
    """A mask of one byte per element, where the CPU keeps one in the input's precision."""
    if not train or p == 0:
        return input
    output: torch.Tensor = torch.native_dropout(input, p, True)[0]
    return output


def _dropout_in_place(input: torch.Tensor, p: float, train: bool) -> torch.Tensor:
    return input.copy_(_dropout(input, p, train)) if train and p else input


def _attention(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attn_mask: torch.Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    *,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> torch.Tensor:
    """Flash attention for half precision without a mask, else the memory-efficient kernel (sdp_utils.cpp)."""
    if enable_gqa and key.size(-3) != query.size(-3) and (attn_mask is not None or query.dtype not in _HALF):
        groups = query.size(-3) // key.size(-3)
        key, value = key.repeat_interleave(groups, -3), value.repeat_interleave(groups, -3)
    squeeze = query.dim() == 3
    if squeeze:
        query, key, value = (x.unsqueeze(0) for x in (query, key, value))
    if query.dtype in _HALF and attn_mask is None:
        width = query.size(-1)
        padding = -width % 8
        if padding:
            query, key, value = (functional.pad(x, (0, padding)) for x in (query, key, value))
        scale = scale if scale is not None else width**-0.5
        out = aten._scaled_dot_product_flash_attention(query, key, value, dropout_p, is_causal, False, scale=scale)[0]
        out = out[..., :width] if padding else out
    else:
        bias = None
        if attn_mask is not None:
            bias = attn_mask
            if bias.dtype is torch.bool:
                bias = torch.zeros_like(bias, dtype=query.dtype).masked_fill_(bias.logical_not(), float("-inf"))
            bias = bias.expand(query.size(0), query.size(1), query.size(2), key.size(2))
        grad = torch.is_grad_enabled() and any(x.requires_grad for x in (query, key, value))
        out = aten._scaled_dot_product_efficient_attention(
            query, key, value, bias, grad, dropout_p, is_causal, scale=scale
        )[0]
    result: torch.Tensor = out.squeeze(0) if squeeze else out
    return result


@contextlib.contextmanager
def cuda_semantics() -> Iterator[None]:
    """While active, CPU tensors keep for the backward pass what CUDA tensors would keep."""
    with contextlib.ExitStack() as stack:
        stack.enter_context(_cuda_kernels())
        # Two places ask whether "the device" has multi-tensor kernels, which decides the optimizers' defaults.
        for where in ("torch.utils._foreach_utils", "torch.optim.optimizer", "torch.nn.utils.clip_grad"):
            stack.enter_context(_foreach_everywhere(where))
        stack.enter_context(_no_fast_path())
        yield


@contextlib.contextmanager
def plain_masks() -> Iterator[None]:
    """Keeps transformers from building an explicit attention mask for hollow tensors.

    It looks for packed sequences in `position_ids`, whose values hollow tensors do not have, and then makes a mask of
    batch x length x length that no real run makes.
    """
    try:
        from transformers import masking_utils
    except ImportError:
        yield
        return
    with replaced(masking_utils, "find_packed_sequence_indices", lambda *args, **kwargs: None):
        yield


@contextlib.contextmanager
def _no_fast_path() -> Iterator[None]:
    """nn.MultiheadAttention's fused inference kernel has no fake counterpart; the plain way needs about the same."""
    before = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        yield
    finally:
        torch.backends.mha.set_fastpath_enabled(before)


@contextlib.contextmanager
def _foreach_everywhere(module: str) -> Iterator[None]:
    import importlib

    namespace = importlib.import_module(module)
    if not hasattr(namespace, "_get_foreach_kernels_supported_devices"):
        yield
        return
    with replaced(namespace, "_get_foreach_kernels_supported_devices", lambda: ["cpu", "cuda"]):
        yield


@contextlib.contextmanager
def _cuda_kernels() -> Iterator[None]:
    """Puts CUDA's ways into the dispatcher's CPU tables, for as long as the context lasts.

    In the tables and not around Python functions, so that calls from inside other operators, from compiled modules and
    from a recomputation in the backward pass are met as well.
    """
    library = torch.library.Library("aten", "IMPL")  # type: ignore[no-untyped-call]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for name, kernel in _KERNELS.items():
            library.impl(name, kernel, "AutogradCPU")  # type: ignore[no-untyped-call]
        for name in _FP32_ON_CUDA:
            base, _, overload = name.partition(".")
            packet = getattr(aten, base, None)
            if packet is not None and (overload or "default") in packet.overloads():
                operator = getattr(packet, overload or "default")
                library.impl(name, _in_fp32(operator), "AutocastCPU")  # type: ignore[no-untyped-call]
    try:
        yield
    finally:
        library._destroy()  # type: ignore[no-untyped-call]


_KERNELS: dict[str, Callable[..., torch.Tensor]] = {
    "dropout": _dropout,
    "dropout_": _dropout_in_place,
    "scaled_dot_product_attention": _attention,
}


def _in_fp32(operator: Any) -> Callable[..., Any]:
    def wide(value: Any) -> Any:
        if isinstance(value, torch.Tensor) and value.dtype in _HALF:
            return value.float()
        return value

    def run(*args: Any, **kwargs: Any) -> Any:
        with torch._C._ExcludeDispatchKeyGuard(torch._C.DispatchKeySet(torch._C.DispatchKey.AutocastCPU)):
            return operator(*(wide(arg) for arg in args), **{key: wide(value) for key, value in kwargs.items()})

    return run


def kernel_temporaries(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Iterable[int]:
    """Bytes of the large buffers that a CUDA kernel takes for the time it runs, by operator.

    Known: the fp32 accumulator of dQ and the row sums of flash attention's backward pass (flash_api.cpp, mha_bwd), the
    row sums of the memory-efficient one (attention_backward.cu), and the sorted indices of a dense embedding gradient
    (Embedding.cu). Convolution workspaces and cuBLAS are not operators' business: see `docs/memory-profile.md`.
    """
    name = func._schema.name
    if name == "aten::_scaled_dot_product_flash_attention_backward":
        query = args[1]
        batch, heads, length, width = query.shape
        up_length, up_width = -(-length // 128) * 128, -(-width // 32) * 32
        return (batch * up_length * heads * up_width * 4, batch * heads * up_length * 4)
    if name == "aten::_scaled_dot_product_efficient_attention_backward":
        batch, heads, length, _ = args[1].shape
        return (batch * heads * length * 4,)
    if name == "aten::embedding_dense_backward":
        indices = args[1]
        return (indices.numel() * 8,) * 4
    return ()
