"""`python -m charts.grafana`: write the dashboards into the chart."""

from __future__ import annotations

from pathlib import Path

from charts.grafana.fleet import fleet
from charts.grafana.frame import document
from charts.grafana.operator import operator
from charts.grafana.study import study

FOLDER = Path(__file__).parents[1] / "frostline" / "dashboards"
DASHBOARDS = {"study": study, "fleet": fleet, "operator": operator}

if __name__ == "__main__":
    FOLDER.mkdir(parents=True, exist_ok=True)
    for name, make in DASHBOARDS.items():
        path = FOLDER / f"{name}.json"
        path.write_text(document(make()), encoding="utf-8")
        print(path)
