"""The checked-in definitions are what the models come to."""

from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

from frostline_operator.api.search import FidelitySpec
from frostline_operator.api.study import HPOStudySpec
from frostline_operator.cli.crds import reference_page
from frostline_operator.crds.manifests import crd_texts, crds
from frostline_operator.crds.reference import reference
from frostline_operator.crds.rules import IMMUTABLE, IMMUTABLE_SEARCH
from frostline_operator.crds.schema import structural
from frostline_operator.kubernetes.settings import OperatorSettings

ROOT = Path(__file__).parents[3]
MAY_CHANGE = {"suspend", "search", "budget", "trust", "metrics", "template", "priority", "checkpointInterval"}


def test_the_files_are_up_to_date() -> None:
    for name, text in crd_texts().items():
        assert (ROOT / "crds" / name).read_text() == text, f"crds/{name} is stale: run frostline crds --output crds"


def nodes(schema: dict[str, Any]) -> list[dict[str, Any]]:
    inner = [*schema.get("properties", {}).values()]
    inner += [schema[key] for key in ("items", "additionalProperties") if isinstance(schema.get(key), dict)]
    return [schema, *(found for below in inner for found in nodes(below))]


@pytest.mark.parametrize("name", ["hpostudies.yaml", "hpotrials.yaml"])
def test_schemas_are_structural(name: str) -> None:
    [version] = crds()[name]["spec"]["versions"]
    for node in nodes(version["schema"]["openAPIV3Schema"]):
        assert "$ref" not in node and "anyOf" not in node and "title" not in node
        free = node.get("x-kubernetes-preserve-unknown-fields") or node.get("x-kubernetes-int-or-string")
        assert "type" in node or free, node
        assert not isinstance(node.get("exclusiveMinimum"), (int, float)) or node["exclusiveMinimum"] is True


def test_the_reference_is_up_to_date() -> None:
    text = (ROOT / "docs/reference.md").read_text()
    assert text == reference_page(), "docs/reference.md is stale: run make generate"


@pytest.mark.parametrize("model", [HPOStudySpec, OperatorSettings])
def test_every_field_a_person_writes_says_what_it_is(model: type[BaseModel]) -> None:
    rows = [line for line in reference("x", structural(model), "x").splitlines() if line.startswith("| `")]
    assert len(rows) > 10
    assert [row for row in rows if row.endswith("|  |")] == []


def test_the_reference_has_a_section_for_each_object_and_says_its_rules() -> None:
    text = reference("spec", structural(HPOStudySpec), "spec")
    for heading in ("`spec.fidelity.layers`", "`spec.parameters[].when`", "`spec.budget.prices[]`"):
        assert f"\n### {heading}\n" in text
    assert "- min must be above 0 for scale Log; raise it or set scale: Linear" in text
    assert "| `eta` | integer ≥ 2, ≤ 16 | `2` |" in text


def test_all_sections_are_fixed_but_those_that_may_change() -> None:
    fields = {field.alias or name for name, field in HPOStudySpec.model_fields.items()}
    assert set(IMMUTABLE) == fields - MAY_CHANGE
    search = {"algorithm", "sampler", "gridPoints", "initial", "eta", "seed", "trials", "maxTrialsPerRun"}
    assert set(IMMUTABLE_SEARCH) == search


def test_numbers_or_words_and_defaults() -> None:
    layers = structural(FidelitySpec)["properties"]["layers"]
    assert layers["default"] == {"min": "Half", "max": "All"}
    low = layers["properties"]["min"]
    assert low["x-kubernetes-int-or-string"] is True
    assert low["x-kubernetes-validations"][0]["rule"] == (
        "type(self) == int ? self >= 1 : (self == 'All' || self == 'Half')"
    )


def test_a_union_without_a_schema_is_an_error_here_and_not_in_a_cluster() -> None:
    class Odd(BaseModel):
        field: dict[str, int] | list[int] = {}

    with pytest.raises(TypeError, match="no structural schema"):
        structural(Odd)


def test_rules_have_messages_that_fit_one_line() -> None:
    for manifest in crds().values():
        [version] = manifest["spec"]["versions"]
        for node in nodes(version["schema"]["openAPIV3Schema"]):
            for rule in node.get("x-kubernetes-validations", []):
                assert rule["message"] and "\n" not in rule["message"] and len(rule["message"]) < 200
