"""One dashboard as an HTML page: Grafana's grid of 24 columns, and in each cell a panel's real answer."""

from __future__ import annotations

import html
import itertools
import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import plotly.graph_objects as go
import plotly.io
from plotly.offline import get_plotlyjs

from benchmarks.dashboards import values

ROW_PIXELS, GAP = 34, 6
PALETTE = ("#73BF69", "#F2CC0C", "#5794F2", "#FF9830", "#F2495C", "#B877D9", "#8AB8FF", "#FFB357", "#37872D", "#C4162A")
COLOURS = {"green": "#73BF69", "orange": "#FF9830", "red": "#F2495C", "blue": "#5794F2", "transparent": "#888"}
Points = Sequence[tuple[float, float]]


@dataclass(frozen=True)
class Series:
    """One series of an answer; an instant query has one point."""

    labels: Mapping[str, str]
    points: Points


Ask = Callable[[str, bool], list[Series]]
"""(expression, instant) -> what it came to."""

_STYLE = """
body{margin:0;padding:10px;background:#111217;color:#ccccdc;font:13px/1.4 Inter,Helvetica,Arial,sans-serif}
h1{font-size:18px;font-weight:500;margin:2px 4px 10px}h1 small{color:#8e8e9b;font-size:13px;margin-left:12px}
.grid{display:grid;grid-template-columns:repeat(24,1fr);grid-auto-rows:ROWpx;gap:GAPpx}
.panel{background:#181b1f;border:1px solid #24262c;border-radius:3px;overflow:hidden;display:flex;flex-direction:column}
.panel>h2{font-size:13px;font-weight:500;margin:5px 8px 0;white-space:nowrap;overflow:hidden;text-overflow:ellipsis}
.row{align-self:center;font-size:15px;font-weight:500;padding-left:4px}
.stat{flex:1;display:flex;align-items:center;justify-content:center;font-size:30px;font-weight:500;text-align:center}
.stat.small{font-size:20px;color:#8e8e9b}
.none{flex:1;display:flex;align-items:center;justify-content:center;color:#8e8e9b}
table{border-collapse:collapse;margin:4px 8px;font-size:12.5px}td,th{padding:3px 8px;border-bottom:1px solid #2a2d34;
text-align:right}th{color:#6e9fff;font-weight:500}td:first-child,th:first-child{text-align:left}
.bar{display:grid;grid-template-columns:30% 1fr 18%;gap:8px;align-items:center;margin:3px 8px;font-size:12.5px}
.bar i{display:block;height:14px;background:#5794F2;border-radius:2px}.bars{margin:auto 0}
"""


def page(document: Mapping[str, Any], subtitle: str, ask: Ask, span: tuple[float, float]) -> str:
    """The whole page.

    Args:
        document: the dashboard.
        subtitle: which study it is of.
        ask: answers a panel's expression, variables included.
        span: the time that all panels show, in seconds since 1970.
    """
    cells = [_cell({**panel, "timeSpan": span}, ask) for panel in document["panels"]]
    style = _STYLE.replace("ROW", str(ROW_PIXELS)).replace("GAP", str(GAP))
    head = f"<meta charset=utf-8><title>{html.escape(document['title'])}</title><style>{style}</style>"
    heading = f"<h1>{html.escape(document['title'])}<small>{html.escape(subtitle)}</small></h1>"
    script, grid = f"<script>{get_plotlyjs()}</script>", f"<div class=grid>{''.join(cells)}</div>"
    return f"<!doctype html><html><head>{head}{script}</head><body>{heading}{grid}</body></html>"


def _cell(panel: Mapping[str, Any], ask: Ask) -> str:
    at = panel["gridPos"]
    place = f"grid-area:{at['y'] + 1}/{at['x'] + 1}/span {at['h']}/span {at['w']}"
    title = html.escape(panel["title"])
    if panel["type"] == "row":
        return f'<div class=row style="{place}">⌄ {title}</div>'
    answers = [
        (target, [s for s in ask(target["expr"], bool(target.get("instant"))) if s.points])
        for target in panel["targets"]
    ]
    drawn = _DRAW[panel["type"]](panel, answers) if any(found for _, found in answers) else _nothing(panel)
    return f'<div class=panel style="{place}"><h2>{title}</h2>{drawn}</div>'


Answers = Sequence[tuple[Mapping[str, Any], Sequence[Series]]]


def _nothing(panel: Mapping[str, Any]) -> str:
    words = panel["fieldConfig"]["defaults"].get("noValue", "No data")
    kind = "stat small" if panel["type"] == "stat" else "none"
    return f"<div class='{kind}'>{html.escape(words)}</div>"


def _unit(panel: Mapping[str, Any]) -> tuple[str, int | None]:
    defaults = panel["fieldConfig"]["defaults"]
    return defaults["unit"], defaults.get("decimals")


def _colour(panel: Mapping[str, Any], value: float) -> str:
    steps = panel["fieldConfig"]["defaults"].get("thresholds", {}).get("steps") or [{"color": "blue"}]
    reached = [step for step in steps if step.get("value") is None or value >= step["value"]]
    return COLOURS.get(reached[-1]["color"], reached[-1]["color"])


def _stat(panel: Mapping[str, Any], answers: Answers) -> str:
    target, found = answers[0]
    series, value = found[-1], found[-1].points[-1][1]
    unit, decimals = _unit(panel)
    by_name = panel["options"].get("textMode") == "name"
    shown = values.name(target["legendFormat"], series.labels) if by_name else values.text(value, unit, decimals)
    return f"<div class=stat style='color:{_colour(panel, value)}'>{html.escape(shown)}</div>"


def _bars(panel: Mapping[str, Any], answers: Answers) -> str:
    unit, decimals = _unit(panel)
    rows = [
        (values.name(target["legendFormat"], series.labels), series.points[-1][1])
        for target, found in answers
        for series in found
    ]
    most = max(value for _, value in rows) or 1.0
    made = "".join(
        f"<div class=bar><span>{html.escape(name)}</span><i style='width:{100 * value / most:.1f}%'></i>"
        f"<span>{values.text(value, unit, decimals)}</span></div>"
        for name, value in sorted(rows)
    )
    return f"<div class=bars>{made}</div>"


def _table(panel: Mapping[str, Any], answers: Answers) -> str:
    steps = {step["id"]: step["options"] for step in panel["transformations"]}
    units = {
        override["matcher"]["options"]: override["properties"][0]["value"]
        for override in panel["fieldConfig"]["overrides"]
    }
    if "joinByField" not in steps:
        return _statements(panel, steps, answers)
    key, renamed = steps["joinByField"]["byField"], steps["organize"]["renameByName"]
    columns = [renamed[f"Value #{target['refId']}" if len(answers) > 1 else "Value"] for target, _ in answers]
    cells: dict[str, dict[str, float]] = {}
    for column, (_, found) in zip(columns, answers, strict=True):
        for series in found:
            cells.setdefault(series.labels.get(key, ""), {})[column] = series.points[-1][1]
    head = "".join(f"<th>{html.escape(column)}</th>" for column in (key, *columns))
    lines = []
    for row in sorted(cells):
        shown = (values.text(cells[row][c], units.get(c, "short")) if c in cells[row] else "" for c in columns)
        lines.append(f"<tr><td>{html.escape(row)}</td>{''.join(f'<td>{text}</td>' for text in shown)}</tr>")
    return f"<table><tr>{head}</tr>{''.join(lines)}</table>"


def _statements(panel: Mapping[str, Any], steps: Mapping[str, Any], answers: Answers) -> str:
    words = panel["fieldConfig"]["defaults"]["mappings"][0]["options"]
    hidden = set(steps["organize"]["excludeByName"])
    found = answers[0][1]
    labels = sorted({label for series in found for label in series.labels} - hidden, reverse=True)
    lines = []
    for series in sorted(found, key=lambda s: [s.labels.get(label, "") for label in labels]):
        word = words.get(values.plain(series.points[-1][1]), {"text": "?", "color": "red"})
        texts = "".join(f"<td>{html.escape(series.labels.get(label, ''))}</td>" for label in labels)
        colour = COLOURS.get(word["color"], word["color"])
        lines.append(f"<tr>{texts}<td style='color:{colour}'>{html.escape(word['text'])}</td></tr>")
    head = "".join(f"<th>{label}</th>" for label in (*labels, "holds"))
    return f"<table><tr>{head}</tr>{''.join(lines)}</table>"


def _lines(panel: Mapping[str, Any], answers: Answers) -> str:
    unit, decimals = _unit(panel)
    defaults = panel["fieldConfig"]["defaults"]
    custom = defaults["custom"]
    stacked = custom.get("stacking", {}).get("mode") == "normal"
    figure = go.Figure()
    named = [(values.name(t["legendFormat"], s.labels), s) for t, found in answers for s in found]
    for n, (label, series) in enumerate(sorted(named, key=lambda pair: pair[0])):
        colour = _fixed(panel, label) or PALETTE[n % len(PALETTE)]
        points = _broken(series.points)
        figure.add_trace(
            go.Scatter(
                x=[at * 1000 for at, _ in points],
                y=[value for _, value in points],
                name=label,
                mode="lines+markers" if len(series.points) < 4 else "lines",
                line={
                    "width": 1.4,
                    "color": colour,
                    "shape": "hv" if custom["lineInterpolation"] == "stepAfter" else "linear",
                },
                marker={"size": 4},
                stackgroup="one" if stacked else None,
            )
        )
    for step in defaults.get("thresholds", {}).get("steps", [])[1:]:
        figure.add_hline(y=step["value"], line={"color": COLOURS["red"], "dash": "dash", "width": 1})
    everything = [v for _, s in named for _, v in s.points if math.isfinite(v)]
    low, high = defaults.get("min"), defaults.get("max")
    if low is not None and high is None and everything:
        high = max(everything) * 1.05 or 1.0
    figure.update_yaxes(range=[low, high] if low is not None else None, **_ticks(everything, low, high, unit, decimals))
    return _plot(figure, panel, legend=panel["options"]["legend"]["showLegend"] and len(named) <= 14)


def _fixed(panel: Mapping[str, Any], label: str) -> str | None:
    """The colour that an override gives a series."""
    for override in panel["fieldConfig"]["overrides"]:
        matcher = override["matcher"]
        if matcher["id"] == "byRegexp" and re.search(matcher["options"].strip("/"), label):
            return str(override["properties"][0]["value"]["fixedColor"])
    return None


def _broken(points: Points) -> list[tuple[float, float | None]]:
    """Points with a gap where some are missing, as Grafana draws them."""
    step = min((b[0] - a[0] for a, b in itertools.pairwise(points)), default=0.0)
    made: list[tuple[float, float | None]] = []
    for n, (at, value) in enumerate(points):
        if n and at - points[n - 1][0] > 1.5 * step:
            made.append((points[n - 1][0] + step, None))
        made.append((at, value))
    return made


def _ticks(
    everything: Sequence[float], low: float | None, high: float | None, unit: str, decimals: int | None
) -> dict[str, Any]:
    """Ticks in the panel's unit: plotly knows no bytes and no durations."""
    if unit == "short" or not everything:
        return {}
    least, most = (min(everything) if low is None else low), (max(everything) if high is None else high)
    if most <= least:
        most = least + 1
    at = values.ticks(least, most, unit)
    return {"tickvals": at, "ticktext": [values.text(value, unit, decimals) for value in at]}


def _states(panel: Mapping[str, Any], answers: Answers) -> str:
    words = panel["fieldConfig"]["defaults"]["mappings"][0]["options"]
    figure = go.Figure()
    target, found = answers[0]
    for series in sorted(found, key=lambda s: values.name(target["legendFormat"], s.labels), reverse=True):
        label, begin = values.name(target["legendFormat"], series.labels), 0
        points = series.points
        for n in range(1, len(points) + 1):
            if n == len(points) or points[n][1] != points[begin][1]:
                word = words.get(values.plain(points[begin][1]), {"text": "?", "color": "red"})
                end = points[min(n, len(points) - 1)][0]
                figure.add_trace(
                    go.Bar(
                        y=[label],
                        x=[max(1.0, (end - points[begin][0]) * 1000)],
                        base=[points[begin][0] * 1000],
                        orientation="h",
                        marker={"color": COLOURS.get(word["color"], word["color"]), "line": {"width": 0}},
                        text=word["text"],
                        textposition="inside",
                        insidetextanchor="middle",
                    )
                )
                begin = n
    figure.update_layout(barmode="overlay", bargap=0.25)
    return _plot(figure, panel, legend=False)


def _plot(figure: go.Figure, panel: Mapping[str, Any], legend: bool) -> str:
    at = panel["gridPos"]
    figure.update_layout(
        template="plotly_dark",
        paper_bgcolor="rgba(0,0,0,0)",
        plot_bgcolor="rgba(0,0,0,0)",
        height=at["h"] * (ROW_PIXELS + GAP) - GAP - 28,
        margin={"l": 8, "r": 10, "t": 6, "b": 4},
        font={"size": 11, "color": "#ccccdc"},
        showlegend=legend,
        legend={"orientation": "h", "y": -0.12, "x": 0, "font": {"size": 10.5}, "tracegroupgap": 0},
    )
    times = [at * 1000 for at in panel["timeSpan"]]
    figure.update_xaxes(type="date", gridcolor="#2a2d34", tickformat="%H:%M", nticks=6, range=times)
    figure.update_yaxes(gridcolor="#2a2d34", automargin=True, zeroline=False, nticks=6)
    made: str = plotly.io.to_html(figure, include_plotlyjs=False, full_html=False, config={"displayModeBar": False})
    return made


_DRAW: dict[str, Callable[[Mapping[str, Any], Answers], str]] = {
    "stat": _stat,
    "bargauge": _bars,
    "table": _table,
    "timeseries": _lines,
    "state-timeline": _states,
}
