"""From models back to YAML that a person can read, edit and apply."""

from __future__ import annotations

import io
from typing import Any

from pydantic import BaseModel
from ruamel.yaml import YAML
from ruamel.yaml.representer import RoundTripRepresenter
from ruamel.yaml.scalarstring import DoubleQuotedScalarString

from frostline_operator.api.manifest import looks_ambiguous


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
