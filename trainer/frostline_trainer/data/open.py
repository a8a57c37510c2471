"""From a `DataSpec` to a `Source`, or to its shape alone."""

from __future__ import annotations

from frostline_trainer.contract import DataSpec, ProfileSpec, TrainingSpec
from frostline_trainer.data.shape import DataShape
from frostline_trainer.data.source import Source
from frostline_trainer.errors import StudyFault


def open_data(data: DataSpec, training: TrainingSpec, seed: int) -> Source:
    """The data, ready to be read.

    Raises:
        StudyFault: it cannot be read; the message names the field and the remedy.
    """
    if data.kind == "Text":
        from frostline_trainer.data.text import open_text

        return open_text(data, training.sequence_length)
    if data.kind == "Images":
        from frostline_trainer.data.images import open_images

        return open_images(data, seed)
    if data.kind == "Table":
        from frostline_trainer.data.table import open_table

        return open_table(data, seed)
    raise StudyFault("data.kind: None is for model.family: Custom only; give Text, Images or Table")


def data_shape(data: DataSpec, training: TrainingSpec) -> DataShape:
    """The data's shape, for text without reading any of it.

    Raises:
        StudyFault: it cannot be read.
    """
    if data.kind == "Text":
        from frostline_trainer.data.text import tokenizer

        return DataShape("Text", (training.sequence_length,), tokenizer(data)[1])
    return open_data(data, training, 0).shape


def profiled_shape(spec: ProfileSpec) -> tuple[DataShape, list[str]]:
    """The shape to profile with, and what was assumed: a profile may be made where the tokenizer is not.

    Raises:
        StudyFault: it cannot be read, and the model does not say how many symbols there are.
    """
    try:
        return data_shape(spec.data, spec.training), []
    except StudyFault:
        symbols = spec.model.config.get("vocab_size")
        if spec.data.kind != "Text" or not isinstance(symbols, int):
            raise
    note = f"data.tokenizer: {spec.data.tokenizer} is not here; profiled with model.config.vocab_size, {symbols}"
    return DataShape("Text", (spec.training.sequence_length,), symbols), [note]
