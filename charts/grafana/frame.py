"""What is around the panels: variables, links between the dashboards, sections, and the document at the end."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass

from charts.grafana.panels import SOURCE, Builder
from grafana_foundation_sdk.builders.dashboard import (
    Dashboard,
    DashboardLink,
    DatasourceVariable,
    QueryVariable,
    Row,
)
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models.dashboard import (
    DashboardCursorSync,
    DashboardLinkType,
    VariableRefresh,
    VariableSort,
)

TAG = "frostline"


@dataclass(frozen=True)
class Section:
    """A heading and the panels below it."""

    title: str
    panels: Sequence[Builder]


def dashboard(name: str, title: str, description: str, sections: Sequence[Section], several: bool) -> Dashboard:
    """A whole dashboard.

    Args:
        name: becomes the uid, which stays the same for ever: links and bookmarks hold on to it.
        title, description: of the dashboard.
        sections: from top to bottom.
        several: whether it shows several studies at once, all of them unless some are picked.
    """
    made = Dashboard(title).uid(f"frostline-{name}").description(description).tags([TAG]).editable()
    made.time("now-3h", "now").refresh("30s").timezone("browser").tooltip(DashboardCursorSync.CROSSHAIR)
    link = DashboardLink("Frostline").type(DashboardLinkType.DASHBOARDS).tags([TAG]).as_dropdown(False)
    made.link(link.include_vars(True).keep_time(True))
    made.with_variable(DatasourceVariable("datasource").type("prometheus").label("Data source"))
    made.with_variable(_variable("namespace", "Namespace", "frostline_study_info", several))
    made.with_variable(_variable("study", "Study", 'frostline_study_info{namespace=~"$namespace"}', several))
    for section in sections:
        made.with_row(Row(section.title))
        for panel in section.panels:
            made.with_panel(panel)
    return made


def _variable(name: str, label: str, metric: str, several: bool) -> QueryVariable:
    query: dict[str, object] = {"query": f"label_values({metric}, {name})", "refId": name}
    made = QueryVariable(name).label(label).query(query).datasource(SOURCE)
    made.refresh(VariableRefresh.ON_TIME_RANGE_CHANGED).sort(VariableSort.ALPHABETICAL_ASC)
    made.multi(several).include_all(several)
    return made.all_value(".*") if several else made


def document(made: Dashboard) -> str:
    """As Grafana reads it; panels are numbered in their order, so that the same code gives the same text."""
    found = json.loads(json.dumps(made.build(), cls=JSONEncoder))
    for number, panel in enumerate(found["panels"], 1):
        panel["id"] = number
    return json.dumps(found, indent=1, sort_keys=True) + "\n"
