"""What is wrong with a manifest, in words a person can act on.

Pydantic's messages are put in plain words: what the field must be, what it is, and what to write instead.
"""

from __future__ import annotations

import difflib
import re
import types
import typing
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel, TypeAdapter, ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails

from frostline_trainer.contract import FieldPath


@dataclass(frozen=True, order=True)
class Problem:
    """One thing to change in a manifest."""

    file: str
    line: int | None
    """Counted from 1. None where there is no line: the file cannot be read, or the manifest came from a cluster."""
    path: str
    """The field as the person wrote it, such as `spec.parameters[lr].min`; empty for the manifest as a whole."""
    message: str
    """What is wrong, and after a semicolon what to do about it."""

    def __str__(self) -> str:
        place = self.file if self.line is None else f"{self.file}:{self.line}"
        return ": ".join(part for part in (place, self.path, self.message) if part)


class StudyError(Exception):
    """A manifest that cannot be used: every problem found in it, in the order of its lines."""

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems: tuple[Problem, ...] = tuple(
            sorted(dict.fromkeys(problems), key=lambda p: (p.file, p.line or 0, p.path, p.message))
        )
        super().__init__("\n".join(map(str, self.problems)))


def nearest(word: str, known: Iterable[str], cutoff: float = 0.6) -> str | None:
    """The known word that was most likely meant, or None: spelling counts, upper case and separators do not."""
    plain: dict[str, str] = {}
    for candidate in known:
        plain.setdefault(_plain(candidate), candidate)
    if _plain(word) in plain:
        return plain[_plain(word)]
    found = difflib.get_close_matches(_plain(word), plain, n=1, cutoff=cutoff)
    if not found and len(_plain(word)) >= 3:
        found = [c for c in plain if len(c) >= 3 and (c.startswith(_plain(word)) or _plain(word).startswith(c))]
    return plain[found[0]] if found else None


def _plain(word: str) -> str:
    return word.lower().replace("_", "").replace("-", "").replace(" ", "")


def listed(words: Sequence[str], last: str = "or") -> str:
    """The words as a person lists them: `a`, `a or b`, `a, b or c`."""
    if len(words) < 2:
        return "".join(words)
    return f"{', '.join(words[:-1])} {last} {words[-1]}"


def shown(value: object) -> str:
    """A value as it would be written in YAML, shortened."""
    if value is None:
        return "nothing"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, dict):
        return "a section"
    if isinstance(value, (list, tuple)):
        return "a list"
    if isinstance(value, float):
        return f"{value:g}" if float(f"{value:g}") == value else repr(value)
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}...'"


PATTERNS = {
    r"^[A-Za-z_][A-Za-z0-9_.-]*$": "a name that starts with a letter, then letters, digits, '_', '-' or '.'",
    r"^(model|training|data)\.[A-Za-z0-9_.]+$": "the path of a field below model, training or data, such as "
    "training.optimizer.lr",
    r"^[A-Za-z_][\w.]*:[A-Za-z_]\w*$": "package.module:function",
    r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$": "lower-case letters, digits and '-' only, such as my-study",
    r"^([0-9]+(?:\.[0-9]+)?)(Ki|Mi|Gi|Ti|k|M|G|T)?$": "an amount of memory, such as 24Gi or 512Mi",
    r"\S": "more than blanks",
    r"^[a-zA-Z_][a-zA-Z0-9_]*$": "the name of a Prometheus label: letters, digits and '_', no digit first",
    r"^([0-9]+d)?([0-9]+h)?([0-9]+m)?([0-9]+s)?$": "a length of time, such as 90s, 15m or 1h30m",
}
"""What each regular expression of the API means to a person."""

_PLAIN = {
    "int_type": "a whole number",
    "int_parsing": "a whole number",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "float_parsing": "a number",
    "finite_number": "a finite number",
    "string_type": "text",
    "bool_type": "true or false",
    "bool_parsing": "true or false",
    "list_type": "a list, such as [a, b]",
    "dict_type": "a section of `key: value` lines",
    "model_type": "a section of `key: value` lines",
    "model_attributes_type": "a section of `key: value` lines",
    "datetime_type": "a time, such as 2030-01-31T12:00:00Z",
}
_BOUNDS = {
    "greater_than": "above {gt}",
    "greater_than_equal": "at least {ge}",
    "less_than": "below {lt}",
    "less_than_equal": "at most {le}",
}


def describe(errors: Sequence[ErrorDetails]) -> str:
    """One message for all of pydantic's errors at one field (a field of several types has one for each)."""
    value = errors[0]["input"]
    for error in errors:
        special = _special(error)
        if special:
            return special
    if value is None:
        return "is empty; give it a value, or remove the key"
    of_right_type = [e for e in errors if e["type"] in _BOUNDS or e["type"] == "literal_error"]
    bounded = any(e["type"] in _BOUNDS for e in errors)
    phrases = list(dict.fromkeys(_expected(error) for error in (of_right_type if bounded else errors)))
    if {"true or false", "a whole number", "a number", "text"} <= set(phrases):
        phrases = ["text, a number, or true or false"]
    written = repr(value) if isinstance(value, float) and "a whole number" in phrases else shown(value)
    return f"must be {listed(phrases)}, got {written}{_remedy(errors, value)}"


def _special(error: ErrorDetails) -> str | None:
    kind, context = error["type"], error.get("ctx", {})
    if kind == "value_error":
        return str(context["error"])
    if kind in ("too_short", "string_too_short", "too_long", "string_too_long"):
        unit = "character" if kind.startswith("string") else "entry"
        short = kind.endswith("short")
        count = context["min_length"] if short else context["max_length"]
        plural = unit if count == 1 else ("entries" if unit == "entry" else "characters")
        return f"must have at {'least' if short else 'most'} {count} {plural}, has {len(error['input'])}"
    if kind == "string_pattern_mismatch":
        return f"must be {PATTERNS.get(context['pattern'], context['pattern'])}, got {shown(error['input'])}"
    return None


def _expected(error: ErrorDetails) -> str:
    kind, context = error["type"], error.get("ctx", {})
    if kind in _BOUNDS:
        return _BOUNDS[kind].format(**{name: shown(bound) for name, bound in context.items()})
    if kind == "literal_error":
        choices = re.findall(r"'([^']*)'", context["expected"])
        return f"one of {listed(choices)}" if len(choices) > 1 else "".join(choices)
    if kind in _PLAIN:
        return _PLAIN[kind]
    return error["msg"].removeprefix("Input should be ").removeprefix("Value error, ")


def _remedy(errors: Sequence[ErrorDetails], value: object) -> str:
    kinds = {error["type"] for error in errors}
    if isinstance(value, str):
        choices = [c for e in errors if e["type"] == "literal_error" for c in re.findall(r"'([^']*)'", str(e["ctx"]))]
        meant = nearest(value, choices)
        if meant:
            return f"; did you mean {meant}?"
        if kinds & {"int_type", "float_type", "int_parsing", "float_parsing"}:
            return "; remove the quotes" if _is_number(value) else ""
        if "bool_type" in kinds and value.lower() in ("true", "false", "yes", "no", "on", "off"):
            return f"; write {'true' if value.lower() in ('true', 'yes', 'on') else 'false'} without quotes"
    if isinstance(value, float) and kinds & {"int_type", "int_from_float"} and value.is_integer() and abs(value) < 1e18:
        return f"; write {int(value)}"
    if "string_type" in kinds and isinstance(value, (bool, int, float)) and not kinds & {"int_type", "float_type"}:
        return "; put it in quotes"
    return ""


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def model_at(root: type[BaseModel], path: Iterable[str | int]) -> type[BaseModel] | None:
    """The model that describes what is at a path of YAML names; None where keys are free, or nothing is known."""
    current: Any = root
    for step in path:
        if isinstance(current, type) and issubclass(current, BaseModel):
            field = field_named(current, str(step))
            current = field.annotation if field is not None else None
        else:
            current = _item(current)
        current = _unwrapped(current)
        if current is None:
            return None
    return current if isinstance(current, type) and issubclass(current, BaseModel) else None


def field_named(model: type[BaseModel], name: str) -> FieldInfo | None:
    """The model's field of this YAML name."""
    return next((field for field in model.model_fields.values() if (field.alias or "") == name), None)


def known_keys(model: type[BaseModel]) -> list[str]:
    """The keys a section may have, as written in YAML."""
    return [field.alias or name for name, field in model.model_fields.items()]


def _unwrapped(annotation: Any) -> Any:
    """The annotation without Optional and Annotated; of a union, the member that is a section or a list."""
    while typing.get_origin(annotation) is typing.Annotated:
        annotation = typing.get_args(annotation)[0]
    if typing.get_origin(annotation) in (typing.Union, types.UnionType):
        members = [_unwrapped(m) for m in typing.get_args(annotation) if m is not type(None)]
        structured = [m for m in members if typing.get_origin(m) is list or _is_model(m)]
        return structured[0] if structured else None
    return annotation


def _is_model(annotation: Any) -> bool:
    return isinstance(annotation, type) and issubclass(annotation, BaseModel)


def _item(annotation: Any) -> Any:
    return typing.get_args(annotation)[0] if typing.get_origin(annotation) is list else None


def field_error(field: FieldInfo, value: object) -> str | None:
    """What is wrong with a value for a field by itself, or None."""
    try:
        _adapter(field).validate_python(value, strict=True)
    except ValidationError as error:
        return describe(error.errors())
    return None


_ADAPTERS: dict[int, tuple[FieldInfo, TypeAdapter[Any]]] = {}


def _adapter(field: FieldInfo) -> TypeAdapter[Any]:
    if id(field) not in _ADAPTERS:
        annotation: Any = field.annotation
        _ADAPTERS[id(field)] = (
            field,
            TypeAdapter(typing.Annotated[(annotation, *field.metadata)] if field.metadata else annotation),
        )
    return _ADAPTERS[id(field)][1]


def plain_path(error: ErrorDetails, data: Any) -> FieldPath:
    """The error's location without the tags that pydantic adds for members of a union."""
    path: list[str | int] = []
    step: Any
    location = error["loc"]
    for position, step in enumerate(location):
        if (isinstance(data, dict) and step in data) or (
            isinstance(data, list) and isinstance(step, int) and step < len(data)
        ):
            data = data[step]
        elif error["type"] != "missing" or position < len(location) - 1:
            continue
        path.append(step)
    return tuple(path)
