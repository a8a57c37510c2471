"""The report's charts of hyperparameters: one at a time, and whole configurations side by side."""

from __future__ import annotations

import html
import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from frostline_operator.api.parameters import Parameter
from frostline_operator.report import numbers
from frostline_operator.report.analysis import tuned, value_at
from frostline_operator.report.chart import Figure, drawn, hover, layout, rung_colour, titled, value_range
from frostline_operator.report.record import StudyRecord


def slice_of(record: StudyRecord, parameter: Parameter, rung: int) -> Figure | None:
    """The objective over one hyperparameter at one rung; None where fewer than two trials have both."""
    points = [
        (t, t.assignment[parameter.name], v)
        for t in drawn(record)
        if parameter.name in t.assignment and (v := value_at(t, rung)) is not None
    ]
    if len(points) < 2:
        return None
    metric = record.study.spec.objective.metric
    best = record.best.trial if record.best else None
    points.sort(key=lambda point: point[0].name == best)  # drawn last, on top
    texts = [hover(record, t, f"{metric} {numbers.value(v)} at rung {rung}") for t, _, v in points]
    axis, xs = _setting_axis(parameter, [p[1] for p in points])
    on = [any(r.rung == rung and r.promoted for r in t.results) for t, _, _ in points]
    warm = rung_colour(rung, record.top_rung + 1)
    colours = ["$best" if t.name == best else warm for t, _, _ in points]
    return {
        "data": [
            {"type": "scatter", "mode": "markers", "x": xs, "y": [p[2] for p in points], "text": texts,
             "hoverinfo": "text",
             "marker": {"opacity": 1, "size": [13 if t.name == best else 8 for t, _, _ in points],
                        "symbol": ["star" if t.name == best else "circle" for t, _, _ in points],
                        "color": [c if o or t.name == best else "$surface"
                                  for c, o, (t, _, _) in zip(colours, on, points, strict=True)],
                        "line": {"width": 1.5, "color": colours}}}
        ],
        "layout": layout(
            xaxis=titled("", **axis),
            yaxis=titled(metric, nticks=5, **value_range([p[2] for p in points], record.maximize)),
        ),
    }  # fmt: skip


def _setting_axis(parameter: Parameter, settings: Sequence[Any]) -> tuple[Figure, list[float]]:
    if parameter.type in ("Float", "Int"):
        if parameter.scale == "Log":
            marks = log_marks(min(map(float, settings)), max(map(float, settings)))
            return {"type": "log", "tickvals": marks, "ticktext": [f"{m:g}" for m in marks], "tickangle": 0}, list(
                map(float, settings)
            )
        return {"nticks": 6}, [float(s) for s in settings]
    choices = [numbers.scalar(choice) for choice in parameter.values or []]
    shift = np.random.default_rng(0).uniform(-0.14, 0.14, len(settings))
    xs = [choices.index(numbers.scalar(s)) + float(d) for s, d in zip(settings, shift, strict=True)]
    axis = {"tickvals": list(range(len(choices))), "ticktext": [html.escape(c) for c in choices],
            "range": [-0.5, len(choices) - 0.5], "showgrid": False}  # fmt: skip
    return axis, xs


def log_marks(low: float, high: float) -> list[float]:
    """Round numbers between two positive ones: powers of ten, and where there are few of them, 2 and 5 between."""
    first, last = math.floor(math.log10(low)), math.ceil(math.log10(high))
    decades = [float(f"1e{power}") for power in range(first, last + 1)]
    inside = [mark for mark in decades if low * 0.9 <= mark <= high * 1.1]
    if len(inside) >= 2:
        return inside[:: math.ceil(len(inside) / 4)]
    between = [float(f"{digit}e{power}") for power in range(first, last + 1) for digit in ("1", "3")]
    if sum(low <= mark <= high for mark in between) < 2:
        between = [float(f"{digit}e{power}") for power in range(first, last + 1) for digit in ("1", "2", "3", "5", "7")]
    return [mark for mark in between if low * 0.9 <= mark <= high * 1.1] or [low, high]


def parallel(record: StudyRecord, rung: int) -> Figure | None:
    """Whole configurations side by side, coloured by the objective; None where there is too little to compare."""
    parameters = tuned(record)
    rows = [(t, v) for t in drawn(record) if (v := value_at(t, rung)) is not None]
    rows = [(t, v) for t, v in rows if all(p.name in t.assignment for p in parameters)]
    if len(parameters) < 2 or len(rows) < 4:
        return None
    values = [v for _, v in rows]
    dimensions = [_dimension(p, [t.assignment[p.name] for t, _ in rows]) for p in parameters]
    dimensions.append({"label": html.escape(record.study.spec.objective.metric), "values": values})
    near = float(np.quantile(values, 0.1 if record.maximize else 0.9))
    bounds = {"cmin": near, "cmax": max(values)} if record.maximize else {"cmin": min(values), "cmax": near}
    line = {"color": values, "colorscale": [[0, "$rung4"], [0.5, "$mid"], [1, "$faint"]], **bounds,
            "reversescale": record.maximize}  # fmt: skip
    return {
        "data": [{"type": "parcoords", "dimensions": dimensions, "line": line,
                  "labelfont": {"color": "$ink", "size": 12},
                  "tickfont": {"color": "$muted", "size": 11}, "rangefont": {"color": "rgba(0,0,0,0)", "size": 1}}],
        "layout": layout(margin={"l": 56, "r": 48, "t": 40, "b": 16}),
    }  # fmt: skip


def _dimension(parameter: Parameter, settings: Sequence[Any]) -> Figure:
    label = html.escape(parameter.name)
    if parameter.values is not None:
        choices = [numbers.scalar(choice) for choice in parameter.values]
        return {"label": label, "values": [choices.index(numbers.scalar(s)) for s in settings],
                "tickvals": list(range(len(choices))), "ticktext": choices}  # fmt: skip
    if parameter.scale == "Log":
        logs = [math.log10(float(s)) for s in settings]
        low, high = min(logs), max(logs)
        marks = [low + (high - low) * i / 4 for i in range(5)]
        return {"label": label, "values": logs, "tickvals": marks, "ticktext": [f"{10**m:.2g}" for m in marks]}
    return {"label": label, "values": [float(s) for s in settings]}
