"""A look at a study's data before anything is trained: bounded in bytes and seconds, however large the data is."""

from __future__ import annotations

import itertools
from pathlib import Path

import torch

from frostline_trainer.contract import DataSpec, TrainingSpec
from frostline_trainer.data.open import open_data
from frostline_trainer.data.shape import DataShape
from frostline_trainer.data.text import tokenizer
from frostline_trainer.errors import StudyFault

MOST_FILES = 10_000
"""Of a folder of texts that are listed."""
MOST_LOOKED_INTO = 200
"""Of them, whose beginnings are read."""
BEGINNING = 64 * 1024
"""Bytes of a text file that are read."""
SAMPLES = 4
"""Of images and rows that are fetched."""


def preview(data: DataSpec, training: TrainingSpec) -> DataShape:
    """The data's shape, after a look at what is there.

    Texts are listed and their beginnings decoded; tables and arrays are opened whole, as they are for their shape
    anyway; of images a few are decoded.

    Raises:
        StudyFault: it is missing, empty or not what `data.kind` says; the message names the field and the remedy.
    """
    if data.kind == "Text":
        classes = tokenizer(data)[1]
        if data.path is not None:
            _text(Path(data.path), data, training.sequence_length)
        return DataShape("Text", (training.sequence_length,), classes)
    source = open_data(data, training, 0)
    for part, count in (("training", source.train_samples), ("validation", source.valid_samples)):
        if count < 1:
            raise StudyFault(f"data.path: the {part} part is empty; give more samples, or change validationFraction")
    try:
        source.training(torch.arange(min(SAMPLES, source.train_samples)), 0)
        source.validation(0, min(SAMPLES, source.valid_samples))
    except (OSError, ValueError, RuntimeError) as error:
        words = " ".join(str(error).split())[:300]
        raise StudyFault(f"data.path: a sample cannot be read ({type(error).__name__}: {words}); mend it") from error
    return source.shape


def _text(path: Path, data: DataSpec, length: int) -> None:
    if not path.exists():
        raise StudyFault(f"data.path: there is no {path}; give a file or folder that this run can read")
    if path.is_dir() and ((path / "dataset_info.json").exists() or (path / "dataset_dict.json").exists()):
        return  # columns and splits are checked when it is opened, which reads none of its rows
    files = list(itertools.islice(_listed(path), MOST_FILES))
    if not files:
        raise StudyFault(f"data.path: the folder {path} holds no files; put text files into it")
    for file in files[:MOST_LOOKED_INTO]:
        _beginning(file)
    size = sum(file.stat().st_size for file in files)
    if not size:
        raise StudyFault(f"data.path: {path} is empty; give text")
    held_out = max(length + 1, round(size * data.validation_fraction))
    if len(files) < MOST_FILES and size - held_out < length + 1:  # no tokenizer makes more symbols than bytes
        raise StudyFault(
            f"training.sequenceLength: {path} has {size:,} bytes, which is too little for a training and a validation "
            f"sequence of {length}; lower it, or give more text"
        )


def _listed(path: Path) -> itertools.chain[Path]:
    if path.is_file():
        return itertools.chain([path])
    return itertools.chain(f for f in path.rglob("*") if f.is_file() and not f.name.startswith("."))


def _beginning(file: Path) -> None:
    """Refuse a file whose beginning is no text in UTF-8."""
    try:
        with file.open("rb") as opened:
            content = opened.read(BEGINNING)
    except OSError as error:
        raise StudyFault(
            f"data.path: {file} cannot be read ({error.strerror}); remove it, or let it be read"
        ) from error
    if content[:2] in (b"\xff\xfe", b"\xfe\xff") or b"\0" in content:
        what = "UTF-16 text" if content[:2] in (b"\xff\xfe", b"\xfe\xff") or _every_other(content) else "binary"
        raise StudyFault(f"data.path: {file} is {what}, not text in UTF-8; convert it (iconv), or remove it")
    try:
        content.decode("utf-8")
    except UnicodeDecodeError as error:
        if error.end < len(content) - 4 or len(content) < BEGINNING:  # else a character is cut in two
            raise StudyFault(
                f"data.path: {file} is not text in UTF-8 (byte {error.start}); convert it (iconv), or remove it"
            ) from error


def _every_other(content: bytes) -> bool:
    """Whether zero bytes are at every other place, as in UTF-16 of Latin letters."""
    return max(content[0::2].count(0), content[1::2].count(0)) > 0.4 * len(content)
