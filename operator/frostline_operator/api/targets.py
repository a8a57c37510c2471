"""Where a hyperparameter goes: from a path such as `training.optimizer.lr` to the field behind it.

What may be bound:
- everything below `training`;
- everything below `model`; keys below `model.config` are free, and one width of an MLP is `model.hidden.0`;
- of `data` only what does not change what is validated, which is `data.augment`: values measured on different held-out
  data, or in units of different tokenizers, cannot be ranked against each other.
"""

from __future__ import annotations

import functools
import typing
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel
from pydantic.alias_generators import to_camel
from pydantic.fields import FieldInfo

from frostline_operator.api.parameters import Parameter
from frostline_operator.api.problems import field_named, known_keys, listed, nearest
from frostline_trainer.contract import DataSpec, ModelSpec, OptimizerSpec, ScheduleSpec, TrainingSpec

SECTIONS: dict[str, type[BaseModel]] = {"model": ModelSpec, "data": DataSpec, "training": TrainingSpec}
"""What a path may start with."""
_IMPLICIT: tuple[tuple[str, type[BaseModel]], ...] = (
    ("training.optimizer", OptimizerSpec),
    ("training.schedule", ScheduleSpec),
    ("training", TrainingSpec),
)
_BINDABLE_DATA = ("augment",)
_DEPTH_FIELDS = ("family", "name", "pretrained", "entrypoint")
_DEPTH_KEYS = {
    "model_type", "n_layer", "n_layers", "num_layers", "num_hidden_layers", "num_decoder_layers", "num_blocks",
    "layer_types", "depth", "depths",
}  # fmt: skip
_ALSO_CALLED = {
    "learningrate": "training.optimizer.lr",
    "stepsize": "training.optimizer.lr",
    "wd": "training.optimizer.weightDecay",
    "l2": "training.optimizer.weightDecay",
    "decay": "training.optimizer.weightDecay",
    "optimizer": "training.optimizer.name",
    "schedule": "training.schedule.name",
    "scheduler": "training.schedule.name",
    "bs": "training.batchSize",
    "batch": "training.batchSize",
    "seqlen": "training.sequenceLength",
    "contextlength": "training.sequenceLength",
    "gradclip": "training.gradientClipping",
    "clip": "training.gradientClipping",
    "maxgradnorm": "training.gradientClipping",
    "warmupratio": "training.schedule.warmup",
    "width": "model.config.n_embd",
    "nembd": "model.config.n_embd",
    "hiddensize": "model.config.hidden_size",
}
"""What people call a field elsewhere."""


class UnknownFieldError(ValueError):
    """There is no such field to bind to; the message says which was probably meant."""


@dataclass(frozen=True)
class Target:
    """A field that takes a hyperparameter's value."""

    text: str
    """The path in YAML names."""
    path: tuple[str, ...]
    """The path in Python names; below `model.config`, the keys as they are."""
    field: FieldInfo | None
    """None where keys are free, and for an entry of a list."""

    @property
    def section(self) -> str:
        """`model`, `data` or `training`."""
        return self.path[0]

    @property
    def changes_depth(self) -> bool:
        """Whether the number of layers may depend on it, so that z would mean something else from trial to trial."""
        if self.section != "model":
            return False
        return self.path[1] in _DEPTH_FIELDS or (self.path[1] == "config" and self.path[-1] in _DEPTH_KEYS)

    def overlaps(self, other: Target) -> bool:
        """Whether both write to one place."""
        shorter = min(len(self.path), len(other.path))
        return self.path[:shorter] == other.path[:shorter]


def target_of(parameter: Parameter) -> Target | None:
    """The field a hyperparameter is bound to, by its `bind` or else by its name; None if it is bound to nothing.

    Raises:
        UnknownFieldError: if `bind` names no field that can be bound.
    """
    return resolve(parameter.bind) if parameter.bind is not None else _by_name(parameter.name)


@functools.cache
def resolve(text: str) -> Target:
    """The field behind a path.

    Raises:
        UnknownFieldError: if there is none, or it cannot be bound.
    """
    names = text.split(".")
    if "" in names:
        raise UnknownFieldError(f"{text} has an empty part; write it like training.optimizer.lr")
    section = SECTIONS.get(names[0])
    if section is None:
        raise UnknownFieldError(
            f"{text} does not start with model, data or training; write it like training.optimizer.lr"
        )
    if names[0] == "data" and len(names) > 1 and names[1] in set(known_keys(DataSpec)) - set(_BINDABLE_DATA):
        raise UnknownFieldError(
            f"{text} would change what is validated, so that trials could not be compared; "
            "of data, only data.augment can be bound"
        )
    return _walk(text, names, section)


def _walk(text: str, names: list[str], section: type[BaseModel]) -> Target:
    model: type[BaseModel] = section
    path = [names[0]]
    for position, name in enumerate(names[1:], start=1):
        attribute = next((a for a, info in model.model_fields.items() if info.alias == name), None)
        if attribute is None:
            raise UnknownFieldError(_unknown(text, ".".join(names[:position]), name, model))
        path.append(attribute)
        field = model.model_fields[attribute]
        rest = names[position + 1 :]
        inner = field.annotation
        if isinstance(inner, type) and issubclass(inner, BaseModel):
            if not rest:
                raise UnknownFieldError(f"{text} is a section; bind one of its fields: {listed(known_keys(inner))}")
            model = inner
        elif typing.get_origin(inner) is dict:
            if not rest:
                raise UnknownFieldError(f"{text} is a section; bind one of its keys, such as {text}.n_embd")
            return Target(text, (*path, *rest), None)
        elif typing.get_origin(inner) is list:
            if len(rest) != 1 or not rest[0].isdecimal():
                raise UnknownFieldError(f"{text} takes a list; bind one of its entries, such as model.hidden.0")
            return Target(text, (*path, rest[0]), None)
        elif rest:
            raise UnknownFieldError(f"{'.'.join(names[: position + 1])} is a single value; remove .{'.'.join(rest)}")
        else:
            return Target(text, tuple(path), field)
    raise UnknownFieldError(f"{text} is a section; bind one of its fields: {listed(known_keys(model))}")


def _unknown(text: str, parent: str, name: str, model: type[BaseModel]) -> str:
    meant = suggestion(text.rpartition(".")[2])
    here = nearest(name, known_keys(model))
    if here:
        meant = f"{parent}.{here}" + text.removeprefix(f"{parent}.{name}")
    if meant is None or meant == text:
        return f"there is no field {text}; {parent} has {listed(known_keys(model), 'and')}"
    return f"there is no field {text}; did you mean {meant}?"


def suggestion(name: str) -> str | None:
    """The path of the field that a person who writes this name most likely means."""
    plain = name.lower().replace("_", "").replace("-", "")
    if plain in _ALSO_CALLED:
        return _ALSO_CALLED[plain]
    leaves = {path.rpartition(".")[2]: path for path in reversed(bindable())}
    found = nearest(name, leaves, cutoff=0.7)
    return leaves[found] if found else None


@functools.cache
def bindable() -> tuple[str, ...]:
    """Every path that can be bound, apart from the free keys below `model.config`."""
    found: list[str] = []

    def collect(prefix: str, model: type[BaseModel]) -> None:
        for alias, field in ((f.alias or name, f) for name, f in model.model_fields.items()):
            inner: Any = field.annotation
            if isinstance(inner, type) and issubclass(inner, BaseModel):
                collect(f"{prefix}.{alias}", inner)
            elif typing.get_origin(inner) not in (dict, list) and (prefix != "data" or alias in _BINDABLE_DATA):
                found.append(f"{prefix}.{alias}")

    for section in ("training", "model", "data"):
        collect(section, SECTIONS[section])
    return tuple(found)


def _by_name(name: str) -> Target | None:
    """The training field of this name, written as in YAML or with underscores; None if there is none, or several."""
    wanted = to_camel(name)
    found = [
        f"{prefix}.{wanted}"
        for prefix, model in _IMPLICIT
        if (field := field_named(model, wanted)) is not None
        and not (isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel))
    ]
    return resolve(found[0]) if len(found) == 1 else None
