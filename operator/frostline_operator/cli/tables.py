"""Tables as wide as they are: nothing of them is cut off where a pipe or a narrow terminal has fewer columns."""

from __future__ import annotations

from rich.console import Console, ConsoleOptions, RenderableType, RenderResult
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


class Fitting:
    """A table where it fits the terminal, its lines in words where it does not: no column of it is ever cut.

    Args:
        table: whose columns do not wrap.
        lines: the same in words, which wrap.
    """

    def __init__(self, table: Table, lines: RenderableType) -> None:
        self._table = table
        self._lines = lines

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        natural = Measurement.get(console, options.update(max_width=_WIDEST), self._table).maximum
        yield self._table if natural <= options.max_width else self._lines
