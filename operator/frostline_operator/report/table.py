"""The rung table in a terminal."""

from __future__ import annotations

from rich.table import Table
from rich.text import Text

from frostline_operator.report import numbers
from frostline_operator.report.record import RungRecord, StudyRecord


def rung_table(record: StudyRecord) -> Table:
    """One line for each rung: its fidelity, what became of its trials, what it cost, and how far to trust it."""
    metric = record.study.spec.objective.metric
    brackets = len({row.bracket for row in record.rungs}) > 1
    table = Table(title=f"{record.study.metadata.name}: rungs", title_justify="left", header_style="bold")
    if brackets:
        table.add_column("bracket", justify="right")
    headers = ("rung", "layers", record.unit, "entered", "finished", "promoted", "failed", f"best {metric}", "FLOPs",
               "time", "rank corr.")  # fmt: skip
    for name in headers:
        table.add_column(name, justify="right", no_wrap=True)
    previous = None
    for row in record.rungs:
        if previous is not None and previous != row.bracket:
            table.add_section()
        previous = row.bracket
        table.add_row(*([str(row.bracket)] if brackets else []), *_cells(row, record.layers))
    return table


def _cells(row: RungRecord, depth: int) -> list[Text | str]:
    layers = Text(f"{row.layers}/{depth}")
    if row.layers != row.asked_layers:
        layers = Text(f"{row.layers}/{depth} (asked {row.asked_layers})", style="yellow")
    entered = f"{row.entered} ({row.running} running)" if row.running else str(row.entered)
    return [
        str(row.rung),
        layers,
        numbers.short(row.tokens),
        entered,
        str(row.finished),
        str(row.promoted),
        Text(str(row.failed), style="red" if row.failed else ""),
        numbers.value(row.best),
        numbers.short(row.flops) if row.flops else numbers.DASH,
        numbers.duration(row.seconds) if row.seconds else numbers.DASH,
        numbers.correlation(row.rank_correlation),
    ]
