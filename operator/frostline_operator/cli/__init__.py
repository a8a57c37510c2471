"""The command line: `frostline`."""

from __future__ import annotations

from frostline_operator.cli.app import main

__all__ = ["main"]
