"""The YAML that the docs show, found by its fences."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[1]
PAGES = [*sorted(ROOT.glob("*.md")), *sorted(ROOT.glob("docs/*.md")), *sorted(ROOT.glob("charts/*/*.md"))]
FENCE = re.compile(r"^```(\w+)\n(.*?)^```", re.MULTILINE | re.DOTALL)


def blocks() -> Iterator[tuple[str, str]]:
    """Yield page and line, and the text, of each YAML block."""
    for page in PAGES:
        for found in FENCE.finditer(page.read_text()):
            if found[1] == "yaml":
                line = page.read_text()[: found.start()].count("\n") + 1
                yield f"{page.relative_to(ROOT)}:{line}", found[2]


BLOCKS = dict(blocks())
MANIFESTS = {where: text for where, text in BLOCKS.items() if "kind: HPOStudy\n" in text}
FRAGMENTS = {where: text for where, text in BLOCKS.items() if "apiVersion:" not in text}
