"""Where checkpoints live: a local folder or any fsspec URL, behind four operations."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from frostline_trainer.errors import StudyFault


class Store:
    """Files under one root. Writing replaces a file whole or not at all, where the file system can.

    Names are relative to the root. Some are read from documents and checkpoints, which are a stranger's, so that a name
    that would lead out of the root is refused, by every operation, with a StudyFault.
    """

    def __init__(self, root: str):
        self._remote: Any = None
        if "://" in root and not root.startswith("file://"):
            import fsspec

            try:
                self._remote, self._root = fsspec.core.url_to_fs(root)
            except (ImportError, ValueError) as error:
                raise StudyFault(f"checkpoint: {root.split('://')[0]}:// cannot be opened: {error}") from error
        else:
            self._root = root.removeprefix("file://")

    def _at(self, name: str) -> str:
        """Where a name is below the root.

        Raises:
            StudyFault: it is outside.
        """
        if name.startswith("/") or "://" in name or "\\" in name or "\0" in name or ".." in name.split("/"):
            raise StudyFault(f"checkpoint: {name!r} leads out of the study's folder; it is neither read nor written")
        return f"{self._root}/{name}".rstrip("/")

    def write(self, name: str, content: bytes | Iterable[bytes]) -> None:
        """Create or replace a file; content in parts is written as it comes."""
        if self._remote is not None:
            self._remote.makedirs(self._at(name).rsplit("/", 1)[0], exist_ok=True)
            with self._remote.open(self._at(name), "wb") as file:
                for part in _parts(content):
                    file.write(part)
            return
        path = Path(self._at(name))
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, content)

    def read(self, name: str) -> bytes:
        """A file's content.

        Raises:
            FileNotFoundError: there is none.
        """
        if self._remote is not None:
            content = self._remote.cat_file(self._at(name))
            assert isinstance(content, bytes)
            return content
        return Path(self._at(name)).read_bytes()

    def remove(self, name: str) -> None:
        """Remove a file if it is there."""
        if self._remote is not None:
            if self._remote.exists(self._at(name)):
                self._remote.rm_file(self._at(name))
            return
        Path(self._at(name)).unlink(missing_ok=True)

    def remove_folder(self, name: str) -> bool:
        """Remove a folder and all in it, the root itself for an empty name; False where there was none."""
        where = self._at(name)
        if self._remote is not None:
            if not self._remote.exists(where):
                return False
            self._remote.rm(where, recursive=True)
            return True
        if not Path(where).is_dir():
            return False
        shutil.rmtree(where)
        return True

    def list(self, folder: str) -> list[str]:
        """Names of the files directly in a folder; none where there is no such folder."""
        if self._remote is not None:
            if not self._remote.exists(self._at(folder)):
                return []
            return [str(p).rsplit("/", 1)[-1] for p in self._remote.ls(self._at(folder), detail=False)]
        path = Path(self._at(folder))
        return [p.name for p in path.iterdir() if p.is_file()] if path.is_dir() else []


def _parts(content: bytes | Iterable[bytes]) -> Iterable[bytes]:
    return (content,) if isinstance(content, bytes) else content


def write_atomically(path: Path, content: bytes | Iterable[bytes]) -> None:
    """Replace the file in one step: readers see the old content or the new, never a part."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("wb") as file:
            for part in _parts(content):
                file.write(part)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError:
        temporary.unlink(missing_ok=True)  # or what did not fit would go on filling a full disk
        raise
