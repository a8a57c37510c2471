"""Raw rows and calibration to the one file that is kept: benchmarks/results/paper-grid.json."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

import torch

from benchmarks.lookup import table_path
from benchmarks.measures import Value
from benchmarks.paper import calibrate
from benchmarks.paper.cases import FRACTIONS, PARAMETERS, WORK, Case
from benchmarks.paper.grid import Rows, rows_path

FORMAT = 1


def costs(case: Case, scale: str, again: bool = False) -> dict[str, Any]:
    """FLOPs, seconds and bytes of a case; measured once and kept beside the raw rows."""
    path = WORK / f"{scale}-{case.name}-costs.json"
    if not path.exists() or again:
        document = {
            "profile": calibrate.model_profile(case).model_dump(mode="json", by_alias=True, exclude={"memory"}),
            "seconds": {str(z): list(pace) for z, pace in calibrate.pace(case).items()},
            "memory": [dataclasses.asdict(found) for found in calibrate.memory(case)],
            "device": torch.cuda.get_device_name() if torch.cuda.is_available() else "one CPU thread",
        }
        path.write_text(json.dumps(document))
    found: dict[str, Any] = json.loads(path.read_text())
    return found


def family(case: Case, scale: str) -> dict[str, Any]:
    """Everything that the look-up benchmark knows of a family."""
    rows = Rows(rows_path(case, scale)).rows
    kinds = {(row["kind"], row["seed"]) for row in rows}
    again = _by_depth(case, rows, "grid", 1)
    return {
        "title": case.title,
        "unit": case.unit,
        "layers": case.layers,
        "tokens": case.tokens,
        "fractions": FRACTIONS,
        "parameters": PARAMETERS,
        "configurations": case.assignments(),
        "values": _by_depth(case, rows, "grid", 0),
        "warm": _by_depth(case, rows, "warm", 0),
        "secondSeed": again.get(str(case.layers)),
        "continued": {
            kind.removeprefix("continue-"): _by_depth(case, rows, kind, 0)[str(case.layers)]
            for kind, seed in sorted(kinds)
            if kind.startswith("continue-") and _by_depth(case, rows, kind, 0)
        },
        **costs(case, scale),
    }


def _by_depth(case: Case, rows: list[dict[str, Any]], kind: str, seed: int) -> dict[str, list[list[Value]]]:
    """z -> configuration -> series, of those z at which every configuration was trained."""
    found: dict[int, dict[int, list[Value]]] = {}
    for row in rows:
        if (row["kind"], row["seed"]) == (kind, seed):
            found.setdefault(row["z"], {})[row["config"]] = [_short(value) for value in row["values"]]
    whole = sorted(z for z, series in found.items() if len(series) == case.configurations)
    return {str(z): [found[z][index] for index in range(case.configurations)] for z in whole}


def _short(value: Value) -> Value:
    return None if value is None else float(f"{value:.5g}")


def write(known: dict[str, Case], scale: str) -> None:
    """The table of all families, a line per configuration and z so that a change is a small difference."""
    path = table_path(scale)
    families = {name: family(case, scale) for name, case in known.items()}
    text = json.dumps({"format": FORMAT, "torch": torch.__version__, "families": families}, separators=(",", ":"))
    path.write_text(text.replace("]],", "]],\n").replace("},{", "},\n{") + "\n", encoding="utf-8")
    print(f"{path}: {path.stat().st_size / 1024:.0f} KiB")
