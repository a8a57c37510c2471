"""What is printed where a terminal is narrow or there is none."""

from __future__ import annotations

import io

import pytest
from rich.console import Console
from rich.table import Table

from frostline_operator.cli.plan import idle
from frostline_operator.cli.tables import print_whole
from frostline_operator.engine.forecast import forecast
from frostline_operator.engine.state import MemoryClass
from tests.unit.engine.world import World, study


@pytest.mark.parametrize("width", [20, 60, 80, 400])
def test_no_column_of_a_table_is_cut_however_narrow_the_terminal(width: int) -> None:
    out = io.StringIO()
    console = Console(file=out, width=width)
    table = Table(box=None)
    names = [f"column-{i}-that-is-rather-long" for i in range(6)]
    for name in names:
        table.add_column(name, no_wrap=True, justify="right")
    table.add_row(*names)
    print_whole(console, table)
    assert all(out.getvalue().count(name) == 2 for name in names) and "…" not in out.getvalue()
    assert console.width == width, "what comes after is wrapped as before"


def test_classes_that_no_rung_runs_on_are_named() -> None:
    classes = (MemoryClass("small", 2**33, 4), MemoryClass("large", 2**35, 1))
    world = World(study(), classes=classes)
    seen = world.observe()
    [line] = idle(seen, forecast(seen))
    assert "1 x large" in line and "placement.overflow: true" in line
