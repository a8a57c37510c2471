"""What is derived in the chart is up to date, every value is explained, and the schema lets nothing unknown pass."""

import importlib.util
import json
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from ruamel.yaml import YAML

from frostline_operator import __version__
from frostline_operator.crds.manifests import crd_texts
from frostline_operator.kubernetes.settings import OperatorSettings

ROOT = Path(__file__).parents[3]
CHART = ROOT / "charts" / "frostline"
VALUES = YAML(typ="safe").load((CHART / "values.yaml").read_text(encoding="utf-8"))
SCHEMA = json.loads((CHART / "values.schema.json").read_text(encoding="utf-8"))
# Of Kubernetes' own types, which grow with its versions: the API server knows them better.
OPEN = {"global", "headers", "extraVolumes", "podSecurityContext", "securityContext", "spec"}


@pytest.fixture(scope="module")
def generate() -> ModuleType:
    found = importlib.util.spec_from_file_location("chart_generate", ROOT / "charts" / "generate.py")
    assert found is not None and found.loader is not None
    module = importlib.util.module_from_spec(found)
    import sys

    sys.modules["chart_generate"] = module
    found.loader.exec_module(module)
    return module


def test_what_is_derived_is_up_to_date(generate: ModuleType) -> None:
    stale = [str(p) for p, text in generate.derived().items() if p.read_text(encoding="utf-8") != text]
    assert stale == [], "run make generate"


def test_the_charts_definitions_are_those_of_the_models() -> None:
    for name, text in crd_texts().items():
        assert (CHART / "files" / "crds" / name).read_text(encoding="utf-8") == text
        assert (ROOT / "crds" / name).read_text(encoding="utf-8") == text
        # Where the chart puts its labels and annotations: one line that says metadata, at the margin
        assert text.count("\nmetadata:\n") == 1


def leaves(node: dict[str, Any], path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    for key, value in node.items():
        if isinstance(value, dict) and value:
            yield from leaves(value, (*path, key))
        else:
            yield (*path, key)


def test_every_value_has_a_comment_and_is_in_the_readme(generate: ModuleType) -> None:
    explained = {v.path: v.comment for v in generate.values((CHART / "values.yaml").read_text(encoding="utf-8"))}
    readme = (CHART / "README.md").read_text(encoding="utf-8")
    for path in leaves(VALUES):
        # A map with a default, such as resources, is explained as a whole
        known = [explained[path[:n]] for n in range(1, len(path) + 1) if path[:n] in explained]
        assert any(len(words) > 10 for words in known), path
        assert any(f"| `{'.'.join(path[:n])}` |" in readme for n in range(1, len(path) + 1)), path


def test_the_schema_knows_every_value_and_nothing_else() -> None:
    def walk(schema: dict[str, Any], values: Any, path: str) -> None:
        if "$ref" in schema:
            schema = SCHEMA["definitions"][schema["$ref"].rpartition("/")[2]]
        if schema.get("type") != "object" or "properties" not in schema:
            return
        assert schema.get("additionalProperties") is False, path
        missing = set(values) - set(schema["properties"])
        unused = set(schema["properties"]) - set(values) - {"global", "claims"}
        assert not missing and not unused, (path, missing, unused)
        for name, value in values.items():
            if isinstance(value, dict) and value:
                walk(schema["properties"][name], value, f"{path}.{name}")

    walk(SCHEMA, VALUES, "values")


def test_the_operators_settings_have_the_charts_defaults() -> None:
    defaults = OperatorSettings()
    for name, value in VALUES["settings"].items():
        field = next(key for key, info in OperatorSettings.model_fields.items() if (info.alias or key) == name)
        assert getattr(defaults, field) == value, name
    known = {info.alias or key for key, info in OperatorSettings.model_fields.items()}
    elsewhere = {"image", "command", "namespaces", "template", "checkpoints", "checkpointClaim", "runtimeClass",
                 "lease", "prometheus"}  # fmt: skip
    assert known - elsewhere == set(VALUES["settings"])


def test_chart_images_and_package_are_of_one_version() -> None:
    chart = YAML(typ="safe").load((CHART / "Chart.yaml").read_text(encoding="utf-8"))
    assert chart["appVersion"] == __version__
    assert f"TAG ?= {__version__}\n" in (ROOT / "Makefile").read_text(encoding="utf-8")
