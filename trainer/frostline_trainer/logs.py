"""The log: one JSON document per line on standard output, for people with `jq` and for collectors alike."""

from __future__ import annotations

import contextlib
import datetime
import json
import math
import sys
from typing import Any


def log(event: str, **fields: Any) -> None:
    """One line: time, event and fields; numbers that JSON lacks become text."""
    line: dict[str, Any] = {
        "time": datetime.datetime.now(datetime.UTC).isoformat(timespec="milliseconds"),
        "event": event,
    }
    for name, value in fields.items():
        if isinstance(value, float):
            value = float(f"{value:.6g}") if math.isfinite(value) else str(value)
        line[name] = value
    with contextlib.suppress(OSError):  # a disk that is full, or a reader that is gone, is no reason to stop training
        print(json.dumps(line, default=str), file=sys.stdout, flush=True)
