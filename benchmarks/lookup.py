"""The look-up benchmark: what every configuration came to at every fidelity, and what that cost.

One JSON file per scale, made by `benchmarks.paper`. Search algorithms are compared on it in seconds instead of hours. A
configuration that a search proposes stands for the nearest one in the table, as in Syne Tune's tabulated benchmarks
(nearest neighbour as surrogate), and the value between two measured fidelities is interpolated linearly.
"""

from __future__ import annotations

import bisect
import functools
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.measures import Value

RESULTS = Path(__file__).parent / "results"
Scalar = bool | int | float | str


@dataclass(frozen=True)
class Family:
    """One family of networks and the table of its results."""

    name: str
    document: dict[str, Any]

    # --- what it is ---

    @property
    def title(self) -> str:
        return str(self.document["title"])

    @property
    def unit(self) -> str:
        """What fidelity counts: tokens or samples."""
        return str(self.document["unit"])

    @property
    def layers(self) -> int:
        """L."""
        return int(self.document["layers"])

    @property
    def tokens(self) -> int:
        """Tokens (or samples) of full fidelity."""
        return int(self.document["tokens"])

    @property
    def fractions(self) -> int:
        """Each run was evaluated after so many equal parts of its tokens."""
        return int(self.document["fractions"])

    @property
    def parameters(self) -> list[dict[str, Any]]:
        """The search space, as in a manifest."""
        return list(self.document["parameters"])

    @property
    def configurations(self) -> list[dict[str, Scalar]]:
        return list(self.document["configurations"])

    @property
    def sections(self) -> dict[str, Any]:
        """Model and data of a study, as in a manifest. Nothing is trained: the table stands for them."""
        if self.unit == "samples":
            model: dict[str, Any] = {"family": "MLP", "hidden": [2] * (self.layers - 1)}
            return {"model": model, "data": {"kind": "Table", "builtin": "breast-cancer"}}
        model = {"family": "CausalLM", "config": {"model_type": "gpt2"}}
        return {"model": model, "data": {"kind": "Text", "builtin": "python-docs"}}

    @functools.cached_property
    def depths(self) -> list[int]:
        """The z that were measured."""
        return sorted(int(z) for z in self.document["values"])

    # --- values ---

    def measured(self, z: int, fraction: int) -> list[Value]:
        """Every configuration's loss at a measured z after so many eighths of the tokens."""
        return [series[fraction - 1] for series in self.document["values"][str(z)]]

    @functools.cached_property
    def full(self) -> list[Value]:
        """At full fidelity: the truth that everything is held against."""
        return self.measured(self.layers, self.fractions)

    @functools.cached_property
    def best(self) -> float:
        return min(value for value in self.full if value is not None)

    def value(self, configuration: int, z: int, tokens: float) -> Value:
        """A configuration's loss at any fidelity between the measured ones; None where it diverged."""
        at = bisect.bisect_left(self.depths, z)
        if at == len(self.depths):
            raise ValueError(f"z = {z} is beyond the {self.layers} layers of {self.name}")
        upper = self._along(configuration, self.depths[at], tokens)
        if self.depths[at] == z or at == 0:
            return upper
        lower = self._along(configuration, self.depths[at - 1], tokens)
        if lower is None or upper is None:
            return None
        share = (z - self.depths[at - 1]) / (self.depths[at] - self.depths[at - 1])
        return lower + share * (upper - lower)

    def _along(self, configuration: int, z: int, tokens: float) -> Value:
        series = self.document["values"][str(z)][configuration]
        place = min(max(tokens / self.tokens * self.fractions, 1.0), float(self.fractions)) - 1
        low, high = series[math.floor(place)], series[math.ceil(place)]
        if low is None or high is None:
            return None
        return float(low + (place - math.floor(place)) * (high - low))

    # --- what it costs ---

    def flops(self, z: int, tokens: float, trials: int = 1) -> float:
        """FLOPs of training so many trials on one prefix over `tokens` tokens each."""
        profile = self.document["profile"]
        return float(tokens * (profile["prefixFlops"][z - 1] + trials * profile["suffixFlops"][z - 1]))

    def seconds(self, z: int, tokens: float, trials: int = 1) -> float:
        """The same in seconds of one CPU thread, as measured side by side; start-up and validation are not in it."""
        shared, each = self._pace(z)
        return tokens / int(self.document["profile"]["stepTokens"]) * (shared + trials * each)

    def _pace(self, z: int) -> tuple[float, float]:
        """Seconds per step that all trials share, and that each takes for itself; interpolated between measured z."""
        pace = {int(key): tuple(value) for key, value in self.document["seconds"].items()}
        known = sorted(pace)
        at = min(bisect.bisect_left(known, z), len(known) - 1)
        if known[at] == z or at == 0:
            return pace[known[at]]
        low, high = known[at - 1], known[at]
        share = (z - low) / (high - low)
        a, b = pace[low], pace[high]
        return a[0] + share * (b[0] - a[0]), a[1] + share * (b[1] - a[1])

    # --- from a proposal to the table ---

    def nearest(self, assignment: Mapping[str, Any]) -> int:
        """The configuration of the table that is nearest to a proposed one, in the unit cube of the space."""
        wanted = self._position(assignment)
        return min(range(len(self._positions)), key=lambda i: _distance(wanted, self._positions[i]))

    @functools.cached_property
    def _positions(self) -> list[list[float | str]]:
        return [self._position(configuration) for configuration in self.configurations]

    def _position(self, assignment: Mapping[str, Any]) -> list[float | str]:
        place: list[float | str] = []
        for parameter in self.parameters:
            value = assignment[parameter["name"]]
            if parameter["type"] == "Categorical":
                place.append(str(value))
                continue
            low, high, x = parameter["min"], parameter["max"], float(value)
            if parameter.get("scale") == "Log":
                low, high, x = math.log(low), math.log(high), math.log(x)
            place.append((x - low) / (high - low))
        return place


def _distance(one: list[float | str], other: list[float | str]) -> float:
    """Squared; different categories are as far apart as the two ends of a range."""
    return sum(
        float(a != b) if isinstance(a, str) or isinstance(b, str) else (a - b) ** 2
        for a, b in zip(one, other, strict=True)
    )


def load(scale: str = "small") -> dict[str, Family]:
    """The families of a scale's table.

    Raises:
        SystemExit: nobody has made it yet.
    """
    path = table_path(scale)
    if not path.exists():
        raise SystemExit(f"there is no {path}; make it with `make bench-paper`")
    document = json.loads(path.read_text())
    return {name: Family(name, family) for name, family in document["families"].items()}


def table_path(scale: str) -> Path:
    return RESULTS / ("paper-grid.json" if scale == "small" else f"paper-grid-{scale}.json")
