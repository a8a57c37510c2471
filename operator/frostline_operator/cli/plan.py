"""`frostline plan`: what a study would do, before anything is spent."""

from __future__ import annotations

import time
from pathlib import Path

from rich.console import Console
from rich.table import Table

from frostline_operator.api.loader import load_study
from frostline_operator.api.quantity import format_bytes
from frostline_operator.cli import text
from frostline_operator.cluster.local import devices
from frostline_operator.cluster.local.profile import memory_of, profile_document, profile_model
from frostline_operator.engine.forecast import Forecast, forecast
from frostline_operator.engine.state import Observation, StudyState
from frostline_trainer.contract import ModelProfile


def show_plan(manifest: Path, declared: list[str]) -> int:
    """Print the plan of a study. Returns the exit code."""
    console = Console()
    study = load_study(manifest)
    available = devices.discover(study.spec.search.parallelism, declared)
    profile = profile_model(profile_document(study.spec), memory_of(available))
    seen = Observation(study.metadata.name, study.spec, profile, devices.classes(available), StudyState(), time.time())
    found = forecast(seen)
    console.print(
        f"[bold]{study.metadata.name}[/bold]: {study.spec.search.algorithm}, {found.plan.trials:,} trials over "
        f"{profile.layers} layers, on {devices.describe(available)}",
        highlight=False,
    )
    console.print(_table(found, profile))
    for line in _comparison(found, profile):
        console.print(line, highlight=False)
    return 0


def _table(found: Forecast, profile: ModelProfile) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0))
    several = len(found.plan.brackets) > 1
    memory = any(row.required_bytes is not None for row in found.rungs)
    columns = ["rung", "layers", profile.unit, "trials", "per run", "parameters", "compute"]
    for column in (["bracket"] if several else []) + columns + (["class", "memory"] if memory else []):
        table.add_column(column, justify="right")
    for row in found.rungs:
        layers = f"{row.layers}" if row.layers == row.asked_layers else f"{row.layers} of {row.asked_layers} asked"
        cells = [str(row.bracket)] if several else []
        cells += [str(row.rung), layers, f"{row.tokens:,}", f"{row.trials:,}", str(row.together)]
        cells += [text.count(row.parameters), text.flops(row.flops)]
        if memory:
            need = "–" if row.required_bytes is None else format_bytes(row.required_bytes)
            cells += [row.memory_class or "fits nowhere", need]
        table.add_row(*cells)
    return table


def _comparison(found: Forecast, profile: ModelProfile) -> list[str]:
    if found.plan.open_ended:
        return ["Open-ended: it draws configurations until the budget is spent; the table shows one at a time."]
    rows = [
        ("this study", found.flops, ""),
        (f"halving over {profile.unit} alone", found.tokens_only, text.times(found.tokens_only, found.flops)),
        ("every trial in full", found.full, text.times(found.full, found.flops)),
    ]
    return [f"{name:<28} {text.flops(amount):>12}  {ratio}" for name, amount, ratio in rows]
