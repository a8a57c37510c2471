"""Where the training data comes from: the section `data` of a study."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Literal

from pydantic import Field
from pydantic.alias_generators import to_camel

from frostline_trainer.contract.base import FieldPath, Section


class DataSpec(Section):
    """Where the training data comes from. Exactly one of `builtin` and `path` (Custom models may have neither)."""

    kind: Literal["Text", "Images", "Table", "None"]
    """Text for language models, Images for classifiers, Table for MLPs, None when an entrypoint brings its own."""
    builtin: Literal["python-docs", "digits", "breast-cancer"] | None = None
    """Small real data that comes inside a package, for trying things out: `python-docs` (English text of Python's own
    documentation), `digits` (1,797 images of 8 x 8 pixels), `breast-cancer` (569 rows of 30 measurements)."""
    path: Annotated[str, Field(min_length=1, max_length=4096)] | None = None
    """Text: a file, a folder of text files, or a folder saved by Hugging Face `datasets`. Images: an ImageFolder
    (one folder per class), a torchvision data set's root (with `torchvision`), or an .npz with `x` and `y`. Table: a
    .csv or an .npz with `x` and `y`."""
    torchvision: Annotated[str, Field(min_length=1, max_length=128)] | None = None
    """Images: name of a torchvision data set found under `path`, such as CIFAR100. Nothing is downloaded."""
    tokenizer: Annotated[str, Field(min_length=1, max_length=4096)] = "bytes"
    """Text: `bytes` (256 symbols, no vocabulary) or the path of a Hugging Face tokenizer, or hf://owner/model@revision
    from the hub."""
    text_column: Annotated[str, Field(min_length=1, max_length=256)] = "text"
    """Text: the column that holds the text, for a `datasets` folder."""
    target_column: Annotated[str, Field(min_length=1, max_length=256)] = "target"
    """Table: the .csv column to predict (a class label, or a number: see `task`). A column of numbers may have
    missing values (empty, NA, nan, null, ?), which become its mean; each word of a column of words becomes an input."""
    task: Literal["Classification", "Regression"] = "Classification"
    """Table: whether `targetColumn` (or `y`) holds classes or numbers. Regression trains on the mean squared error of
    the standardised number and reports loss (in that scale), mse, rmse, mae (in the number's own unit) and r2."""
    image_size: Annotated[int, Field(ge=8, le=4096)] | None = None
    """Images: side in pixels that images are resized to; by default as they are."""
    augment: bool = False
    """Images: random crops and horizontal flips. Inputs then differ in each pass, so no prefix is cached."""
    validation_fraction: Annotated[float, Field(gt=0, lt=1)] = 0.1
    """Share held out for validation when the data has no split of its own."""
    validation_limit: Annotated[int, Field(ge=1)] | None = None
    """At most so many validation tokens (or samples) per evaluation; by default all of the held-out part."""

    def problems(self) -> Iterator[tuple[FieldPath, str]]:
        """No source, two sources, or fields that are for another kind of data."""
        if self.kind == "None":
            for field in ("builtin", "path"):
                if getattr(self, field):
                    yield (
                        (field,),
                        f"kind None takes no {field}: the entrypoint brings its own data; remove one of the two",
                    )
        elif self.builtin is None and self.path is None:
            yield (), f"gives no source; add path, or builtin: {_BUILTIN_OF[self.kind]} to try things out"
        elif self.builtin is not None and self.path is not None:
            yield ("path",), "builtin and path are two sources; remove one of the two"
        if self.builtin and self.kind != "None" and _BUILTIN_OF[self.kind] != self.builtin:
            right = next(kind for kind, name in _BUILTIN_OF.items() if name == self.builtin)
            yield (
                ("builtin",),
                f"{self.builtin} is of kind {right}; set kind: {right}, or builtin: {_BUILTIN_OF[self.kind]}",
            )
        for field, kind in _DATA_FIELDS.items():
            if self.kind != kind and getattr(self, field) != DataSpec.model_fields[field].default:
                name = to_camel(field)
                yield (name,), f"{name} is for kind {kind}, not for {self.kind}; remove it or set kind: {kind}"
        if self.torchvision and not self.path:
            yield ("torchvision",), "torchvision needs path, the data set's root folder (nothing is downloaded); add it"


_BUILTIN_OF = {"Text": "python-docs", "Images": "digits", "Table": "breast-cancer"}
"""Which built-in data there is of a kind."""
_DATA_FIELDS = {
    "torchvision": "Images",
    "tokenizer": "Text",
    "text_column": "Text",
    "target_column": "Table",
    "task": "Table",
    "image_size": "Images",
    "augment": "Images",
}
"""Which kind of data a field is for."""
