"""Tables as wide as they are: nothing of them is cut off where a pipe or a narrow terminal has fewer columns."""

from __future__ import annotations

from rich.console import Console
from rich.measure import Measurement
from rich.table import Table

_WIDEST = 1000


def print_whole(console: Console, table: Table) -> None:
    """Print a table; lines longer than the terminal are wrapped by it, and none is shortened."""
    width = console.width
    natural = Measurement.get(console, console.options.update(max_width=_WIDEST), table).maximum
    console.width = max(width, natural)
    try:
        console.print(table)
    finally:
        console.width = width
