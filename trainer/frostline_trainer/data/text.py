"""Text as token ids: a file, a folder of files, a folder saved by Hugging Face `datasets`, or Python's own docs."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from frostline_trainer.contract import DataSpec
from frostline_trainer.data.shape import DataShape
from frostline_trainer.data.source import Pair, Source
from frostline_trainer.errors import StudyFault
from frostline_trainer.hub import local_folder

SYMBOLS = 256
"""Vocabulary of the `bytes` tokenizer."""


class TextSource(Source):
    """One long row of token ids, read in windows of the sequence length; the target is the next token."""

    def __init__(self, train: Tensor, valid: Tensor, length: int, classes: int):
        self.shape = DataShape("Text", (length,), classes)
        self._train, self._valid, self._length = train, valid, length
        self.train_samples = (len(train) - 1) // length
        self.valid_samples = (len(valid) - 1) // length
        for part, samples, tokens in (
            ("training", self.train_samples, train),
            ("validation", self.valid_samples, valid),
        ):
            if samples < 1:
                raise StudyFault(
                    f"training.sequenceLength: the {part} text has {len(tokens)} tokens, fewer than one sequence of "
                    f"{length} + 1; lower sequenceLength, raise data.validationFraction or give more text"
                )

    def training(self, indices: Tensor, position: int) -> Pair:
        """See `Source.training`."""
        return self._windows(self._train, indices)

    def validation(self, start: int, stop: int) -> Pair:
        """See `Source.validation`."""
        return self._windows(self._valid, torch.arange(start, stop))

    def _windows(self, tokens: Tensor, indices: Tensor) -> Pair:
        window = tokens[indices[:, None] * self._length + torch.arange(self._length + 1)].long()
        return window[:, :-1], window[:, 1:]


def open_text(data: DataSpec, length: int) -> TextSource:
    """The text that `data` names, tokenised, with its held-out part.

    Files of a folder are put in an order that looks random but is fixed (by a hash of their names), so that the
    held-out part at the end is like the rest.

    Raises:
        StudyFault: nothing to read, an unknown column, a tokenizer that cannot be loaded, or too little text.
    """
    encode, classes = tokenizer(data)
    if data.builtin == "python-docs":
        train = _encode_all(_python_docs(), encode)
        valid = None
    else:
        assert data.path is not None
        path = Path(data.path)
        if not path.exists():
            raise StudyFault(f"data.path: there is no {path}; give a file or folder that this run can read")
        if path.is_dir() and ((path / "dataset_info.json").exists() or (path / "dataset_dict.json").exists()):
            train, valid = _datasets(path, data.text_column, encode)
        else:
            train, valid = _encode_all(_files(path), encode), None
    if valid is None:
        cut = len(train) - max(length + 1, round(len(train) * data.validation_fraction))
        train, valid = train[: max(cut, 0)], train[max(cut, 0) :]
    return TextSource(train, valid, length, classes)


def tokenizer(data: DataSpec) -> tuple[Any, int]:
    """A function from text to a list of ids, and the number of symbols.

    Raises:
        StudyFault: the tokenizer's folder cannot be loaded.
    """
    if data.tokenizer == "bytes":
        return (lambda text: np.frombuffer(text.encode(), dtype=np.uint8)), SYMBOLS
    from transformers import AutoTokenizer

    folder = local_folder(data.tokenizer, "data.tokenizer")
    try:
        loaded = AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    except (OSError, ValueError) as error:
        raise StudyFault(
            f"data.tokenizer: no tokenizer can be loaded from {data.tokenizer}; give `bytes` or a folder written by "
            f"save_pretrained ({' '.join(str(error).split())[:200]})"
        ) from error
    return (lambda text: np.asarray(loaded(text, verbose=False)["input_ids"], dtype=np.int32)), len(loaded)


def _encode_all(texts: Iterable[str], encode: Any) -> Tensor:
    parts = [encode(text) for text in texts]
    return torch.from_numpy(np.concatenate(parts)) if parts else torch.zeros(0, dtype=torch.uint8)


def _python_docs() -> list[str]:
    from pydoc_data.topics import topics

    return [topics[name] for name in sorted(topics, key=_scatter)]


def _scatter(name: str) -> bytes:
    return hashlib.blake2b(name.encode(), digest_size=8).digest()


def _files(path: Path) -> list[str]:
    files = [path] if path.is_file() else [f for f in path.rglob("*") if f.is_file() and not f.name.startswith(".")]
    if not files:
        raise StudyFault(f"data.path: the folder {path} holds no files; put text files into it")
    texts = []
    for file in sorted(files, key=lambda f: _scatter(str(f.relative_to(path)))):
        try:
            texts.append(file.read_text(encoding="utf-8"))
        except (UnicodeDecodeError, OSError) as error:
            raise StudyFault(
                f"data.path: {file} cannot be read as UTF-8 text ({error}); remove or convert it"
            ) from error
    return texts


def _datasets(path: Path, column: str, encode: Any) -> tuple[Tensor, Tensor | None]:
    try:
        import datasets
    except ImportError as error:
        raise StudyFault(
            f"data.path: {path} was saved by Hugging Face datasets, which is not installed here; "
            "pip install 'frostline[datasets]'"
        ) from error
    loaded = datasets.load_from_disk(str(path))
    splits = dict(loaded) if isinstance(loaded, datasets.DatasetDict) else {"train": loaded}
    train = splits.get("train")
    if train is None:
        raise StudyFault(f"data.path: {path} has no split named train, only {', '.join(splits)}")
    if column not in train.column_names:
        raise StudyFault(f"data.textColumn: no column {column!r}; there are {', '.join(train.column_names)}")
    valid = next((splits[name] for name in ("validation", "valid", "test") if name in splits), None)
    return _encode_all(train[column], encode), None if valid is None else _encode_all(valid[column], encode)
