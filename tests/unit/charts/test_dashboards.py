"""Dashboards and rules are what the code makes, ask only for what is exposed, and say what to do."""

from __future__ import annotations

import itertools
import json
import re
from typing import Any

import pytest
from charts.grafana.__main__ import DASHBOARDS, FOLDER
from charts.grafana.frame import document
from charts.grafana.panels import WIDTH
from charts.grafana.reading import asked, panels, read, substituted
from grafana_foundation_sdk.builders.dashboard import Dashboard as DashboardBuilder
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models.dashboard import Dashboard

from frostline_trainer.contract import METRIC_LABELS, MetricName
from tests.unit.engine.world import World, study
from tests.unit.kubernetes.status.test_metrics import CLASSES, shown, whole

NAMES = list(DASHBOARDS)
RULES = FOLDER.parent / "rules" / "frostline.yaml"
_METRIC = re.compile(r"(?<![\w:])(?:frostline|process)_[a-z_0-9]+")


def exposed() -> set[str]:
    """Names of all series that operator and trainer expose."""
    world = World(study(), 5, classes=CLASSES)
    world.play()
    described = re.findall(r"^# TYPE (\S+) (\S+)$", whole([shown(world)]), re.MULTILINE)
    histograms = {f"{name}{end}" for name, kind in described if kind == "histogram" for end in ("_bucket", "_count")}
    trainer = {value for name, value in vars(MetricName).items() if name.isupper()}
    return {name for name, _ in described} | histograms | trainer


@pytest.mark.parametrize("name", NAMES)
def test_the_chart_has_what_the_code_makes(name: str) -> None:
    made = document(DASHBOARDS[name]())
    assert (FOLDER / f"{name}.json").read_text(encoding="utf-8") == made, "run `make dashboards`"
    assert document(DASHBOARDS[name]()) == made, "the same code gives the same text"


@pytest.mark.parametrize("name", NAMES)
def test_it_is_a_dashboard_by_grafanas_own_schema(name: str) -> None:
    found = read(name)
    known = json.loads(json.dumps(Dashboard.from_json(found), cls=JSONEncoder))
    assert known == found, "reading it with Grafana's types loses or adds nothing"
    assert isinstance(DASHBOARDS[name](), DashboardBuilder)
    assert found["uid"] == f"frostline-{name}" and found["tags"] == ["frostline"] and found["schemaVersion"] >= 39
    assert [v["name"] for v in found["templating"]["list"]] == ["datasource", "namespace", "study"]
    [link] = found["links"]
    assert link["type"] == "dashboards" and link["tags"] == ["frostline"] and link["includeVars"] and link["keepTime"]


@pytest.mark.parametrize("name", NAMES)
def test_each_panel_has_title_unit_and_a_description_that_helps(name: str) -> None:
    found = panels(read(name))
    titles = [panel["title"] for panel in found]
    assert len(set(titles)) == len(titles)
    for panel in found:
        assert len(panel["description"]) > 40 or panel["title"] == "Conditions over time", panel["title"]
        assert panel["description"].endswith("."), panel["title"]
        assert panel["fieldConfig"]["defaults"]["unit"], panel["title"]
        assert panel["datasource"] == {"type": "prometheus", "uid": "${datasource}"}
        assert all(target["datasource"] == panel["datasource"] for target in panel["targets"])
        assert len({target["refId"] for target in panel["targets"]}) == len(panel["targets"]) > 0


@pytest.mark.parametrize("name", NAMES)
def test_no_panel_lies_over_another_and_each_row_of_them_is_full(name: str) -> None:
    def cells(panel: dict[str, Any]) -> set[tuple[int, int]]:
        at = panel["gridPos"]
        return set(itertools.product(range(at["x"], at["x"] + at["w"]), range(at["y"], at["y"] + at["h"])))

    everything = [cells(panel) for panel in read(name)["panels"]]
    taken = set().union(*everything)
    assert sum(map(len, everything)) == len(taken)
    assert len(taken) % WIDTH == 0 and max(x for x, _ in taken) == WIDTH - 1


def test_only_what_is_exposed_is_asked_for_and_by_labels_that_exist() -> None:
    known = exposed()
    for name in NAMES:
        for query in asked(read(name)):
            used = set(_METRIC.findall(query.expression))
            assert used and used <= known, (str(query), used - known)
    rules = "\n".join(line for line in RULES.read_text().splitlines() if not re.match(r"\s*- (name|record):", line))
    recorded = {name.rpartition(":")[2] for name in re.findall(r"record: (\S+)", RULES.read_text())}
    assert set(_METRIC.findall(rules)) - recorded <= known
    assert {"study", "trial", "rung"} <= set(METRIC_LABELS)


def test_variables_are_replaced_whole() -> None:
    given = {"study": "s", "namespace": "team", "__rate_interval": "15s"}
    assert substituted('m{study="$study", namespace="${namespace}"}[$__rate_interval]', given) == (
        'm{study="s", namespace="team"}[15s]'
    )
    with pytest.raises(KeyError):
        substituted("m[$__range]", given)
