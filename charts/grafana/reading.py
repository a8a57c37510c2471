"""The other way round: what the panels of a finished dashboard ask, for tests and for pictures without a Grafana."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parents[1] / "frostline" / "dashboards"
_VARIABLE = re.compile(r"\$(?:\{(\w+)\}|(\w+))")


@dataclass(frozen=True)
class Asked:
    """One query of one panel."""

    dashboard: str
    panel: str
    letter: str
    expression: str
    legend: str
    instant: bool

    def __str__(self) -> str:
        return f"{self.dashboard}: {self.panel} {self.letter}"


def read(name: str, folder: Path = FOLDER) -> dict[str, Any]:
    """A dashboard as it is in the chart."""
    found: dict[str, Any] = json.loads((folder / f"{name}.json").read_text(encoding="utf-8"))
    return found


def panels(document: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The panels of a dashboard, headings left out."""
    return [panel for panel in document["panels"] if panel["type"] != "row"]


def asked(document: Mapping[str, Any]) -> list[Asked]:
    """Every query of a dashboard, variables as they are."""
    return [
        Asked(
            document["title"],
            panel["title"],
            target["refId"],
            target["expr"],
            target.get("legendFormat", ""),
            bool(target.get("instant")),
        )
        for panel in panels(document)
        for target in panel["targets"]
    ]


def substituted(expression: str, values: Mapping[str, str]) -> str:
    """An expression with Grafana's variables replaced.

    Raises:
        KeyError: it has a variable that is not given.
    """
    return _VARIABLE.sub(lambda match: values[match[1] or match[2]], expression)
