"""Mixed precision: weights and optimizer state stay in fp32, compute may be lower."""

from __future__ import annotations

import torch

from frostline_trainer.contract import Precision

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


def autocast(device: torch.device, precision: Precision) -> torch.autocast:
    """Compute as `training.precision` asks; with fp32 this does nothing."""
    return torch.autocast(device.type, dtype=DTYPES[precision], enabled=precision != "fp32")
