"""A made-up table whose answers are known."""

from __future__ import annotations

from typing import Any

from benchmarks.lookup import Family

LAYERS, FRACTIONS, TOKENS = 4, 8, 800
PARAMETERS = [
    {"name": "lr", "type": "Float", "min": 1e-4, "max": 1.0, "scale": "Log"},
    {"name": "optimizer", "type": "Categorical", "values": ["AdamW", "SGD"], "bind": "training.optimizer.name"},
]


def series(quality: float, z: int) -> list[float]:
    """Better with more layers and more tokens; ranks alike everywhere."""
    return [quality + 1.0 / z + 1.0 / part for part in range(1, FRACTIONS + 1)]


def table(count: int = 10, **changes: Any) -> Family:
    """Configuration i has lr = 10^-(4 i / count) and quality i: the first is the best."""
    document: dict[str, Any] = {
        "title": "made up",
        "unit": "samples",
        "layers": LAYERS,
        "tokens": TOKENS,
        "fractions": FRACTIONS,
        "parameters": PARAMETERS,
        "configurations": [{"lr": 10 ** (-4 * i / count), "optimizer": "AdamW"} for i in range(count)],
        "values": {str(z): [series(float(i), z) for i in range(count)] for z in (1, 2, 4)},
        "continued": {"1": [[9.0 - i, 8.0 - i, 7.0 - i, float(i)] for i in range(count)]},
        "profile": {
            "hash": "test",
            "layers": LAYERS,
            "unit": "samples",
            "parameters": [0, 1, 2, 3],
            "prefixFlops": [3.0, 2.0, 1.0, 0.0],
            "suffixFlops": [3.0, 6.0, 9.0, 12.0],
            "stepTokens": 10,
        },
        "seconds": {"1": [0.3, 0.1], "2": [0.2, 0.4], "4": [0.0, 1.0]},
    }
    return Family("made-up", document | changes)
