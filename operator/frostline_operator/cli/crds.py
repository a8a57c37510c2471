"""`frostline crds`: the custom resource definitions, as files or to be piped into kubectl."""

from __future__ import annotations

from pathlib import Path

from rich.console import Console

from frostline_operator.crds.manifests import crd_texts, write_crds


def show_crds(output: Path | None) -> int:
    """Write the definitions into a folder, or print them. Returns the exit code."""
    if output is None:
        print("---\n".join(crd_texts().values()), end="")
        return 0
    for path in write_crds(output):
        Console(stderr=True).print(f"wrote {path}", highlight=False)
    return 0
