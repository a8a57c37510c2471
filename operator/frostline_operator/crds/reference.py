"""The API reference: a structural schema as Markdown, so that what people read is what the API server holds.

One heading per section, its fields in a table (type, default, meaning), and below them the rules that span fields, in
the words of the API server's own answer.
"""

from __future__ import annotations

import json
from collections.abc import Iterator

from frostline_operator.crds.schema import Schema

_DEEPEST = 3
"""Headings below it would not stand out from text."""


def reference(title: str, schema: Schema, path: str, depth: int = 1) -> str:
    """A section and all sections within it.

    Args:
        title: of the heading.
        schema: structural, of type object.
        path: of the section as a person writes it, such as `spec.fidelity`.
        depth: of the heading.
    """
    return "\n".join(_section(title, schema, path, depth)).rstrip() + "\n"


def _section(title: str, schema: Schema, path: str, depth: int) -> Iterator[str]:
    yield f"{'#' * min(depth, _DEEPEST)} {title}"
    yield ""
    if schema.get("description"):
        yield str(schema["description"])
        yield ""
    fields: dict[str, Schema] = schema["properties"]
    required = schema.get("required", [])
    yield "| field | type | default | meaning |"
    yield "|---|---|---|---|"
    for name, field in fields.items():
        default = "required" if name in required else _default(field)
        yield f"| `{name}` | {_type(field)} | {default} | {_meaning(field)} |"
    yield ""
    messages = list(_messages(schema))
    if messages:
        yield from (f"- {_cell(message)}" for message in messages)
        yield ""
    for name, field in fields.items():
        inner, suffix = _object(field)
        if inner is not None:
            where = f"{path}.{name}{suffix}"
            yield from _section(f"`{where}`", inner, where, depth + 1)


def _messages(schema: Schema) -> Iterator[str]:
    """What rules answer; those that say the same of several fields in one line."""
    subjects: dict[str, list[str]] = {}
    for rule in schema.get("x-kubernetes-validations", []):
        if "message" in rule:
            subject, _, rest = str(rule["message"]).partition(" ")
            subjects.setdefault(rest, []).append(subject)
    for rest, named in subjects.items():
        yield f"{', '.join(dict.fromkeys(named))} {rest}"


def _object(field: Schema) -> tuple[Schema | None, str]:
    """The section that a field holds, and how its path goes on."""
    if "properties" in field:
        return field, ""
    if "properties" in field.get("items", {}):
        return field["items"], "[]"
    values = field.get("additionalProperties")
    if isinstance(values, dict) and "properties" in values:
        return values, ".*"
    return None, ""


def _type(field: Schema) -> str:
    if field.get("x-kubernetes-int-or-string"):
        return "integer or word"
    if "enum" in field:
        return ", ".join(f"`{value}`" for value in field["enum"])
    if "items" in field:
        return f"list of {_type(field['items'])}"
    if isinstance(field.get("additionalProperties"), dict):
        return f"name to {_type(field['additionalProperties'])}"
    kind = str(field.get("type", "any"))
    limits = [
        f"{sign} {_number(field[bound])}"
        for bound, strict, sign, strict_sign in (
            ("minimum", "exclusiveMinimum", "≥", ">"),
            ("maximum", "exclusiveMaximum", "≤", "<"),
        )
        if bound in field
        for sign in [strict_sign if field.get(strict) else sign]
    ]
    return " ".join([kind, *limits[:1]]) + "".join(f", {limit}" for limit in limits[1:])


def _number(value: float) -> str:
    return f"{value:g}" if abs(value) < 1e6 else f"{value:,.0f}"


def _default(field: Schema) -> str:
    if "default" not in field or "properties" in field:
        return ""
    value = field["default"]
    if value in ([], {}, ""):
        return "empty"
    return f"`{value if isinstance(value, str) else json.dumps(value)}`"


def _meaning(field: Schema) -> str:
    described = field.get("description") or field.get("items", {}).get("description") or ""
    return _cell(str(described))


def _cell(text: str) -> str:
    """Text that cannot end its cell."""
    return " ".join(text.split()).replace("|", "\\|")
