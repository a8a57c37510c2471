"""What the docs show is right: manifests load, fragments fit, links lead somewhere."""

from __future__ import annotations

import io
import json
import re
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from ruamel.yaml import YAML

from frostline_operator.api.bindings import bind
from frostline_operator.api.loader import parse_study
from frostline_operator.api.study import HPOStudySpec
from frostline_operator.engine.space import assignments
from frostline_operator.kubernetes.settings import OperatorSettings
from tests.documentation import FENCE, FRAGMENTS, MANIFESTS, PAGES, ROOT

LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")


def fields(model: Any) -> set[str]:
    return {field.alias or name for name, field in model.model_fields.items()}


def test_the_docs_have_manifests_and_fragments() -> None:
    assert len(MANIFESTS) >= 4
    assert len(FRAGMENTS) >= 3


@pytest.mark.parametrize("where", MANIFESTS)
def test_a_manifest_in_the_docs_loads_and_its_configurations_bind(where: str) -> None:
    study = parse_study(MANIFESTS[where])
    for assignment in assignments(study.spec.parameters, study.spec.search, study.spec.search.trials or 8):
        bind(study.spec.parameters, study.spec.base, assignment)


@pytest.mark.parametrize("where", FRAGMENTS)
def test_a_fragment_in_the_docs_is_part_of_a_study_of_settings_or_of_values(where: str) -> None:
    for document in YAML(typ="safe").load_all(io.StringIO(FRAGMENTS[where])):
        assert isinstance(document, dict)
        if FRAGMENTS[where].startswith("# values.yaml\n"):
            jsonschema.validate(document, json.loads((ROOT / "charts/frostline/values.schema.json").read_text()))
        elif set(document) <= fields(HPOStudySpec):
            for name, value in document.items():
                section = next(f for n, f in HPOStudySpec.model_fields.items() if (f.alias or n) == name).annotation
                if isinstance(section, type) and isinstance(value, dict):
                    section(**value)
        elif set(document) <= fields(OperatorSettings):
            OperatorSettings.model_validate(document)
        else:
            assert "#" in FRAGMENTS[where].splitlines()[0], "say in a first comment which file this is a part of"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    dead = []
    for target in LINK.findall(FENCE.sub("", page.read_text())):
        path, _, anchor = target.partition("#")
        if "://" in target:
            continue
        found = page if not path else (page.parent / path).resolve()
        if not found.exists() or (anchor and found.suffix == ".md" and anchor not in anchors(found)):
            dead.append(target)
    assert dead == []


def anchors(page: Path) -> set[str]:
    """Return the anchors of a page's headings, as forges make them."""
    headings = re.findall(r"^#+ (.*)$", FENCE.sub("", page.read_text()), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-") for heading in headings}
