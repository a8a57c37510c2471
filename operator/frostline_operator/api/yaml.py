"""From YAML text to plain data with the line of everything in it, and back to YAML that a person can read and apply.

YAML 1.2, so that `1e-4` is a number. What a cluster would read differently (kubectl still takes an unquoted `yes` or
`on` for true, and `010` for eight) is refused rather than guessed, because the same file goes to both.
"""

from __future__ import annotations

import io
import re
from dataclasses import dataclass, field
from typing import Any

from pydantic import BaseModel
from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode
from ruamel.yaml.reader import ReaderError
from ruamel.yaml.representer import RoundTripRepresenter
from ruamel.yaml.scalarstring import DoubleQuotedScalarString

from frostline_operator.api.problems import Problem
from frostline_trainer.contract import FieldPath

_TAG = "tag:yaml.org,2002:"
_OLD_BOOLEANS = {word for base in ("yes", "no", "on", "off") for word in (base, base.capitalize(), base.upper())}
_OLD_OCTAL = re.compile(r"^[-+]?0[0-9_]+$")
_OTHER_NUMBERS = re.compile(r"^[-+.]?[0-9][0-9_.:eExXoOa-fA-F+-]*$")
_MOST_NODES = 100_000
"""Aliases can make a short text expand without end; no study comes near this."""
MOST_LEVELS = 64
"""Of lists and sections within each other; the deepest field of a study is at 8, and libraries give up at 255."""

_SYNTAX = (
    ("found character '\\t'", "a tab cannot indent; use spaces"),
    ("mapping values are not allowed", "a ':' where no key can start; check the indentation, or quote text with ': '"),
    ("could not find expected ':'", "a key without ': '; add it, or check the indentation"),
    ("found unexpected end of stream", "a quotation mark is never closed; close it"),
    ("expected <block end>", "the indentation does not fit the lines above; align it with its neighbours"),
    ("expected ',' or ']'", "a list in brackets is not closed, or lacks a comma"),
    ("expected ',' or '}'", "a section in braces is not closed, or lacks a comma"),
    ("found undefined alias", "an alias (*name) without its anchor; write &name where the value first occurs"),
    ("cannot start any token", "this character cannot start a value; put the text in quotes"),
)


@dataclass
class Document:
    """One YAML document."""

    data: Any
    lines: dict[FieldPath, int] = field(default_factory=dict)
    """Line of each key and list item, counted from 1; of the document itself under ()."""
    problems: list[tuple[int, FieldPath, str]] = field(default_factory=list)
    """What is wrong with it as YAML: line, path and words. Where there is any, the data holds None or is incomplete."""

    def line(self, path: FieldPath) -> int | None:
        """Line of a field, or of the closest thing around it that exists."""
        while path and path not in self.lines:
            path = path[:-1]
        return self.lines.get(path)

    def shown(self, path: FieldPath) -> str:
        """The path as the person wrote it; parameters go by their name."""
        text, data = "", self.data
        for step in path:
            if isinstance(step, int):
                label = str(step)
                data = data[step] if isinstance(data, list) and step < len(data) else None
                if text == "spec.parameters" and isinstance(data, dict) and isinstance(data.get("name"), str):
                    label = data["name"]
                text += f"[{label}]"
            else:
                data = data.get(step) if isinstance(data, dict) else None
                text += f".{step}" if text else step
        return text


def read_documents(text: str, file: str) -> tuple[list[Document], list[Problem]]:
    """All documents of a YAML text, as far as they can be read, and the syntax error that ended the reading, if any."""
    documents: list[Document] = []
    problems: list[Problem] = []
    try:
        for node in YAML(typ="rt").compose_all(text):
            if node is not None:
                reader = _Reader()
                document = Document(None, problems=reader.found)
                document.data = reader.read(node, (), document.lines)
                documents.append(document)
    except (YAMLError, RecursionError) as error:
        problems.append(_syntax_problem(error, text, file))
    return documents, problems


def _syntax_problem(error: Exception, text: str, file: str) -> Problem:
    if isinstance(error, RecursionError):
        return Problem(file, 1, "", "nested too deeply to be a study; remove levels")
    if isinstance(error, ReaderError):
        line = text.count("\n", 0, error.position) + 1
        return Problem(file, line, "", "not valid YAML: a character that YAML does not allow; remove it")
    if not isinstance(error, MarkedYAMLError):
        return Problem(file, 1, "", f"not valid YAML: {error}")
    raw = error.problem or error.context or "cannot be read"
    mark = error.problem_mark or error.context_mark
    words = next((words for start, words in _SYNTAX if start in raw), raw)
    if mark is None:
        return Problem(file, 1, "", f"not valid YAML: {words}")
    if error.context_mark is not None and "never closed" in words:
        mark = error.context_mark
    return Problem(file, mark.line + 1, "", f"not valid YAML at column {mark.column + 1}: {words}")


class _Reader:
    """Turns nodes into plain data, noting lines and everything that cannot stand."""

    def __init__(self) -> None:
        self.found: list[tuple[int, FieldPath, str]] = []
        self._open: list[int] = []
        self._deep = False
        self._count = 0

    def read(self, node: Node, path: FieldPath, lines: dict[FieldPath, int]) -> Any:
        line = node.start_mark.line + 1
        lines.setdefault(path, line)
        self._count += 1
        if id(node) in self._open:
            self._report(line, path, "an alias refers to what it is part of; write the value out")
            return None
        if len(self._open) > MOST_LEVELS:
            if not self._deep:
                self._report(line, path[:4], f"nested more than {MOST_LEVELS} levels deep; remove levels")
            self._deep = True
            return None
        if self._count > _MOST_NODES:
            if self._count == _MOST_NODES + 1:
                self._report(line, path, "the aliases in this file expand without end; write the values out")
            return None
        self._open.append(id(node))
        try:
            if isinstance(node, MappingNode):
                return self._mapping(node, path, lines)
            if isinstance(node, SequenceNode):
                return [self.read(item, (*path, index), lines) for index, item in enumerate(node.value)]
            return self._scalar(node, path)
        finally:
            self._open.pop()

    def _report(self, line: int, path: FieldPath, message: str) -> None:
        self.found.append((line, path, message))

    def _mapping(self, node: MappingNode, path: FieldPath, lines: dict[FieldPath, int]) -> dict[str, Any]:
        data: dict[str, Any] = {}
        merged: dict[str, Any] = {}
        for key_node, value_node in node.value:
            line = key_node.start_mark.line + 1
            if key_node.tag == _TAG + "merge":
                for base in value_node.value if isinstance(value_node, SequenceNode) else [value_node]:
                    found = self.read(base, path, lines)
                    merged = {**(found if isinstance(found, dict) else {}), **merged}
                continue
            key = self._scalar(key_node, path) if isinstance(key_node, ScalarNode) else None
            if not isinstance(key, str):
                written = key_node.value if isinstance(key_node, ScalarNode) else "this"
                self._report(line, path, f"the key {written} is not text; put it in quotes")
                continue
            if key in data:
                first = lines[(*path, key)]
                self._report(line, (*path, key), f"is there twice, first in line {first}; keep one")
                continue
            lines[(*path, key)] = line
            data[key] = self.read(value_node, (*path, key), lines)
        return {**merged, **data}

    def _scalar(self, node: Node, path: FieldPath) -> Any:
        kind, text = str(node.tag), str(node.value)
        line = node.start_mark.line + 1
        if kind == _TAG + "null":
            return None
        if kind == _TAG + "bool":
            return text.lower() == "true"
        if kind == _TAG + "int":
            if _OLD_OCTAL.match(text) and text.lstrip("+-") not in ("0",):
                plain = text.lstrip("+-0") or "0"
                self._report(line, path, f"{text} is read as octal by some tools; write {plain}")
            try:
                return _whole(text)
            except ValueError:  # Python refuses thousands of digits
                self._report(line, path, "a number with so many digits cannot be meant; shorten it")
                return None
        if kind == _TAG + "float":
            return float(text.lower().replace("_", "").replace(".inf", "inf").replace(".nan", "nan"))
        if kind in (_TAG + "str", _TAG + "timestamp", _TAG + "value"):
            if text in _OLD_BOOLEANS and not getattr(node, "style", None):
                meant = "true" if text.lower() in ("yes", "on") else "false"
                self._report(line, path, f"{text} is text here but {meant} to kubectl; write {meant}, or '{text}'")
            return text
        self._report(line, path, f"the tag {kind.replace(_TAG, '!!')} is not supported; remove it")
        return None


def too_deep(data: Any) -> bool:
    """Whether lists and sections lie in each other more than `MOST_LEVELS` deep."""
    level = [data]
    for _ in range(MOST_LEVELS + 1):
        level = [v for d in level for v in (d.values() if isinstance(d, dict) else d if isinstance(d, list) else ())]
    return bool(level)


def looks_ambiguous(text: str) -> bool:
    """Whether some reader of YAML takes this text, without quotes, for something else."""
    return text in _OLD_BOOLEANS or text in ("y", "Y", "n", "N", "<<", "=") or bool(_OTHER_NUMBERS.match(text))


def _whole(text: str) -> int:
    digits = text.replace("_", "").lower()
    unsigned = digits.lstrip("+-")
    base = {"0x": 16, "0o": 8, "0b": 2}.get(unsigned[:2], 10)
    value = int(unsigned, base)
    return -value if digits.startswith("-") else value


class _Representer(RoundTripRepresenter):
    """Floats in the shortest form that reads back as the same float, such as `0.0001` or `1e-05`."""


def _float(representer: Any, value: float) -> Any:
    special = {"inf": ".inf", "-inf": "-.inf", "nan": ".nan"}
    return representer.represent_scalar("tag:yaml.org,2002:float", special.get(repr(value), repr(value)))


_Representer.add_representer(float, _float)


def to_yaml(value: BaseModel | dict[str, Any]) -> str:
    """YAML of a model (only what differs from the defaults) or of plain data, in block style, as kubectl reads it."""
    data = (
        value.model_dump(mode="json", by_alias=True, exclude_defaults=True) if isinstance(value, BaseModel) else value
    )
    yaml = YAML()
    yaml.Representer = _Representer
    yaml.width = 100
    yaml.indent(mapping=2, sequence=4, offset=2)
    out = io.StringIO()
    yaml.dump(_quoted(data), out)
    return out.getvalue()


def _quoted(data: Any) -> Any:
    """The same data, with quotes around text that some YAML reader would take for something else."""
    if isinstance(data, dict):
        return {_quoted(key): _quoted(value) for key, value in data.items()}
    if isinstance(data, list):
        return [_quoted(value) for value in data]
    if isinstance(data, str) and (looks_ambiguous(data) or not data.isprintable()):
        return DoubleQuotedScalarString(data)
    return data


def study_to_yaml(study: BaseModel) -> str:
    """A whole manifest: `to_yaml` with apiVersion and kind, which are defaults but must be written."""
    data = study.model_dump(mode="json", by_alias=True, exclude_defaults=True)
    head = {key: getattr(study, name) for name, key in (("api_version", "apiVersion"), ("kind", "kind"))}
    return to_yaml({**head, **data})
