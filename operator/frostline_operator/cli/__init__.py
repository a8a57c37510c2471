"""The command line: `frostline`."""

from __future__ import annotations

from frostline_operator.cli import commands as _commands  # noqa: F401 - adds its commands to the app
from frostline_operator.cli.app import main

__all__ = ["main"]
