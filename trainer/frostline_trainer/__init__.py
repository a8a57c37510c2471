"""Everything that trains: the last z layers of one or several trials, within one pod or process.

Importing this package must stay cheap and free of torch: the operator imports `frostline_trainer.contract` from an
image that has no torch in it. `Trial`, for custom entrypoints, is therefore loaded when it is first asked for.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from frostline_trainer.custom.entrypoint import Trial

__all__ = ["Trial"]


def __getattr__(name: str) -> object:
    if name == "Trial":
        from frostline_trainer.custom.entrypoint import Trial

        return Trial
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
