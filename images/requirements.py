"""Print what the distribution and some of its extras depend on, one requirement a line.

    python requirements.py pyproject.toml operator

An image installs these before the sources are there: gigabytes that change rarely are then a layer of their own.
"""

import sys
import tomllib
from pathlib import Path


def requirements(project: dict[str, object], extras: list[str]) -> list[str]:
    """The distribution's dependencies and those of the extras; an unknown extra is a KeyError."""
    optional: dict[str, list[str]] = project["optional-dependencies"]  # type: ignore[assignment]
    found: list[str] = list(project["dependencies"])  # type: ignore[call-overload]
    for extra in extras:
        found += optional[extra]
    return found


if __name__ == "__main__":
    document = tomllib.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    print(*requirements(document["project"], sys.argv[2:]), sep="\n")
