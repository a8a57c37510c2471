"""From a pydantic model to the structural schema that a custom resource definition needs.

Structural schemas know no references, no unions and no `null` type. A union of a number and a word becomes
`x-kubernetes-int-or-string`; one of all scalars, and free-form mappings, keep whatever is in them. What is lost that
way is said in CEL where it can be (`rules`), and else checked by the operator, which answers with condition Accepted.
"""

from __future__ import annotations

import copy
from typing import Any

from pydantic import BaseModel

from frostline_operator.crds.rules import list_keys, rules_of

Schema = dict[str, Any]

_FREE: Schema = {"x-kubernetes-preserve-unknown-fields": True}
_COPIED = (
    "type", "description", "enum", "pattern", "minLength", "maxLength", "minItems", "maxItems", "minimum", "maximum",
    "format",
)  # fmt: skip
_LONGEST_WORD = 20
"""Bound of the text in a number-or-word, for the same reason as `_MOST_KEYS`."""
_MOST_KEYS = 100
"""Bound of free mappings, without which the API server assumes the worst about what a rule costs."""


def structural(model: type[BaseModel]) -> Schema:
    """The structural schema of a model, nested sections, defaults and rules included."""
    document = model.model_json_schema(by_alias=True)
    classes = {members.__name__: members for members in _sections(model)}
    definitions: dict[str, Schema] = {**document.get("$defs", {}), model.__name__: document}
    return _Writer(definitions, classes).of(model.__name__)


def _sections(model: type[BaseModel]) -> list[type[BaseModel]]:
    """The model and every model within it."""
    members: list[type[BaseModel]] = []
    pending: list[Any] = [model]
    while pending:
        kind = pending.pop()
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            if kind not in members:
                members.append(kind)
                pending += [field.annotation for field in kind.model_fields.values()]
        else:
            pending += list(getattr(kind, "__args__", ()))
    return members


class _Writer:
    """Walks pydantic's JSON schema."""

    def __init__(self, definitions: dict[str, Schema], classes: dict[str, type[BaseModel]]) -> None:
        self._definitions = definitions
        self._classes = classes

    def of(self, name: str) -> Schema:
        definition, model = self._definitions[name], self._classes[name]
        schema: Schema = {"type": "object"}
        if definition.get("description"):
            schema["description"] = _text(definition["description"])
        properties = {}
        for alias, wanted in definition["properties"].items():
            field = next(f for n, f in model.model_fields.items() if (f.alias or n) == alias)
            properties[alias] = self._field(wanted)
            if alias in list_keys(name):
                properties[alias]["x-kubernetes-list-type"] = "map"
                properties[alias]["x-kubernetes-list-map-keys"] = [list_keys(name)[alias]]
            if field.default_factory is not None:
                value = field.get_default(call_default_factory=True)
                # In full: rules are tried on a default as it is written, before the defaults within it are filled in.
                whole = (
                    value.model_dump(mode="json", by_alias=True, exclude_none=True)
                    if isinstance(value, BaseModel)
                    else value
                )
                properties[alias]["default"] = whole
        schema["properties"] = properties
        if definition.get("required"):
            schema["required"] = sorted(definition["required"])
        rules = rules_of(name)
        if rules:
            schema["x-kubernetes-validations"] = rules
        return schema

    def _field(self, wanted: Schema) -> Schema:
        options = [option for option in wanted.get("anyOf", [wanted]) if option.get("type") != "null"]
        schema = self._union(options)
        if len(options) < len(wanted.get("anyOf", [wanted])):
            schema["nullable"] = True
        if wanted.get("description"):
            schema["description"] = _text(wanted["description"])
        if wanted.get("default") is not None:
            schema["default"] = copy.deepcopy(wanted["default"])
        return schema

    def _union(self, options: list[Schema]) -> Schema:
        if len(options) == 1:
            return self._single(options[0])
        kinds = {option.get("type") for option in options}
        if kinds == {"integer", "string"}:
            number = next(option for option in options if option["type"] == "integer")
            text = next(option for option in options if option["type"] == "string")
            words = text.get("enum") or [text["const"]]
            least = number["minimum"]
            named = " || ".join(f"self == '{word}'" for word in words)
            rule = {
                "rule": f"type(self) == int ? self >= {least} : {named if len(words) == 1 else f'({named})'}",
                "message": f"must be a whole number of at least {least}, or {' or '.join(words)}",
            }
            return {"x-kubernetes-int-or-string": True, "maxLength": _LONGEST_WORD, "x-kubernetes-validations": [rule]}
        if kinds <= {"boolean", "integer", "number", "string"}:
            return dict(_FREE)
        raise TypeError(f"no structural schema for the union {options}")

    def _single(self, wanted: Schema) -> Schema:
        if "$ref" in wanted:
            return self.of(wanted["$ref"].rpartition("/")[2])
        schema = {key: wanted[key] for key in _COPIED if key in wanted and key != "description"}
        if "const" in wanted:
            schema["enum"] = [wanted["const"]]
        for bound, limit in (("exclusiveMinimum", "minimum"), ("exclusiveMaximum", "maximum")):
            if bound in wanted:
                schema[limit], schema[bound] = wanted[bound], True
        if wanted.get("type") == "integer":
            schema["format"] = "int64"
        if wanted.get("type") == "array":
            schema["items"] = self._field(wanted["items"])
        if wanted.get("type") == "object":
            schema |= self._mapping(wanted)
        return schema

    def _mapping(self, wanted: Schema) -> Schema:
        values = wanted.get("additionalProperties", True)
        if values is True or values == {}:
            return dict(_FREE)
        return {"additionalProperties": self._field(values), "maxProperties": _MOST_KEYS}


def _text(description: str) -> str:
    """One paragraph per blank line; line breaks of the source are no line breaks for a reader."""
    return "\n\n".join(" ".join(part.split()) for part in description.split("\n\n"))
