"""Whether the data is still what a study began with: a digest of a bounded part of it, kept in each checkpoint.

Files of up to `READ_BYTES` in all are read whole. Of more, sizes are taken and blocks at the head, at the tail and
evenly spaced between; of a folder with many files, all names and so much of files evenly spaced among them. Where the
data lies does not count, so that it may be moved.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from frostline_trainer.contract import DataSpec
from frostline_trainer.data.builtin import table_path
from frostline_trainer.errors import StudyFault

READ_BYTES = 64 * 2**20
"""At most, of all files together: a tenth of a second on a local disk."""
BLOCK_BYTES = 64 * 2**10
MOST_FILES = 256
"""Files of a folder whose content is looked at."""
MOST_NAMES = 100_000
"""Names in a folder that are looked at."""
MOST_NAMED = 32
"""A folder of no more files has each file's digest kept, so that the one that changed can be named."""

Fingerprint = dict[str, dict[str, Any]]
"""By field of the study, such as `data.path`: `files`, `bytes`, `sha256`, and `of` (each file's own, of few)."""

_WRITTEN_BY_READERS = re.compile(r"\..*|cache-.*\.arrow")
"""Files beside the data that come and go as it is used."""


def fingerprint(data: DataSpec) -> Fingerprint:
    """Of everything that `data` names and that is here; empty where a custom entrypoint brings its own."""
    prints: Fingerprint = {}
    if data.builtin == "python-docs":
        from pydoc_data.topics import topics

        content = "\0".join(f"{name}\0{topics[name]}" for name in sorted(topics)).encode()
        prints["data.builtin"] = {"files": 1, "bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
    elif data.builtin is not None:
        prints["data.builtin"] = _of(table_path(data.builtin))
    elif data.path is not None and Path(data.path).exists():
        prints["data.path"] = _of(Path(data.path))
    if data.kind == "Text" and Path(data.tokenizer).exists():
        prints["data.tokenizer"] = _of(Path(data.tokenizer))
    return prints


def check_unchanged(data: DataSpec, before: Mapping[str, Mapping[str, Any]], now: Fingerprint) -> None:
    """Hold the data against what it was.

    Args:
        data: as the study names it.
        before: its fingerprint then; empty where none was kept, as in checkpoints of earlier releases.
        now: its fingerprint.

    Raises:
        StudyFault: it has changed.
    """
    for field, was in before.items():
        is_now = now.get(field)
        if is_now is None or was.get("sha256") == is_now["sha256"]:
            continue
        name = getattr(data, field.removeprefix("data."))
        raise StudyFault(
            f"{field}: {name} is not the data that the study began with: {_difference(was, is_now)}; results from "
            "both cannot be compared. Put it back as it was, or begin a new study with it"
        )


def _difference(was: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    old, new = was.get("of") or {}, now.get("of") or {}
    for name in sorted({*old, *new}) if old and new else ():
        if name not in new:
            return f"{name} is gone"
        if name not in old:
            return f"{name} is new"
        if old[name] != new[name]:
            return f"{name} has changed"
    if was.get("files") != now["files"]:
        return f"it has {now['files']:,} files now and had {was.get('files', 0):,}"
    if was.get("bytes") != now["bytes"]:
        return f"it has {now['bytes']:,} bytes now and had {was.get('bytes', 0):,}"
    return "its content has changed, and not its size"


def _of(path: Path) -> dict[str, Any]:
    if path.is_file():
        size, digest = _digest(path, READ_BYTES)
        return {"files": 1, "bytes": size, "sha256": digest}
    names = _names(path)
    looked_at = names[:: -(-len(names) // MOST_FILES)] if names else []
    digests = {name: _digest(path / name, READ_BYTES // len(looked_at)) for name in looked_at}
    whole = hashlib.sha256()
    for name in names:
        size, digest = digests.get(name, (0, ""))
        whole.update(f"{name}\0{size}\0{digest}\n".encode(errors="surrogateescape"))
    total = sum(size for size, _ in digests.values())
    named = {name: digest[:16] for name, (_, digest) in digests.items()} if len(names) <= MOST_NAMED else {}
    return {"files": len(names), "bytes": total, "sha256": whole.hexdigest(), "of": named}


def _names(root: Path) -> list[str]:
    """Files below a folder, relative to it, sorted; in one order on every file system, should there be too many."""
    names: list[str] = []
    entries = 0
    for folder, folders, files in os.walk(root, followlinks=True):
        folders.sort()
        entries += 1 + len(files)
        inner = Path(folder).relative_to(root)
        names += [str(inner / file) for file in sorted(files) if not _WRITTEN_BY_READERS.fullmatch(file)]
        if entries > MOST_NAMES:
            break
    return sorted(names[:MOST_NAMES])


def _digest(path: Path, limit: int) -> tuple[int, str]:
    """A file's size, and the digest of its content or of as many blocks of it as fit `limit` bytes."""
    digest = hashlib.sha256()
    try:
        with path.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            if size <= limit:
                while part := file.read(2**20):
                    digest.update(part)
                return size, digest.hexdigest()
            blocks = max(2, limit // BLOCK_BYTES)
            for number in range(blocks):
                file.seek((size - BLOCK_BYTES) * number // (blocks - 1))
                digest.update(file.read(BLOCK_BYTES))
            return size, digest.hexdigest()
    except OSError:  # such as a link to nothing, which whoever opens the data passes over or reports
        return 0, "unreadable"
