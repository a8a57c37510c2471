"""The report's charts of hyperparameters: one at a time, and whole configurations side by side."""

from __future__ import annotations

import html
import math
from collections.abc import Sequence
from dataclasses import dataclass
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
    texts = [hover(t, f"{metric} {numbers.value(v)} at rung {rung}") for t, _, v in points]
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
    """Whole configurations side by side, one line for each; None where there is too little to compare.

    Every axis has its own scale, and the objective's, the last one, has the better end on top. The best quarter is
    coloured, the others are grey below it, so that one sees where the good ones pass.
    """
    parameters = tuned(record)
    rows = [(t, v) for t in drawn(record) if (v := value_at(t, rung)) is not None]
    rows = [(t, v) for t, v in rows if all(p.name in t.assignment for p in parameters)]
    if len(parameters) < 2 or len(rows) < 4:
        return None
    rows.sort(key=lambda row: row[1], reverse=record.maximize)
    metric = record.study.spec.objective.metric
    axes = [_axis(p, [t.assignment[p.name] for t, _ in rows]) for p in parameters]
    axes.append(_value_axis(metric, [v for _, v in rows], record.maximize))
    quarter = max(1, len(rows) // 4)
    best = record.best.trial if record.best else None
    groups = (
        ([i for i in range(quarter, len(rows)) if rows[i][0].name != best], "$dim", 1.0, 0.55),
        ([i for i in range(quarter) if rows[i][0].name != best], "$rung4", 1.8, 0.9),
        ([i for i in range(len(rows)) if rows[i][0].name == best], "$best", 3.0, 1.0),
    )
    traces = []
    for members, colour, width, opacity in groups:
        xs: list[int | None] = []
        ys: list[float | None] = []
        texts: list[str] = []
        for i in members:
            trial, value = rows[i]
            xs += [*range(len(axes)), None]
            ys += [*(axis.heights[i] for axis in axes), None]
            texts += [*[hover(trial, f"{metric} {numbers.value(value)} at rung {rung}")] * len(axes), ""]
        traces.append(
            {"type": "scatter", "mode": "lines+markers", "x": xs, "y": ys, "text": texts, "hoverinfo": "text",
             "opacity": opacity, "line": {"color": colour, "width": width}, "marker": {"color": colour, "size": 5}}
        )  # fmt: skip
    labels: list[Figure] = []
    for place, axis in enumerate(axes):
        labels += [
            {"x": place, "y": height, "text": text, "showarrow": False, "xanchor": "left", "xshift": 5,
             "bgcolor": "$paper", "borderpad": 1, "font": {"size": 11, "color": "$muted"}}
            for height, text in axis.marks
        ]  # fmt: skip
    return {
        "data": traces,
        "layout": layout(
            xaxis=titled("", tickvals=list(range(len(axes))), ticktext=[f"<b>{a.label}</b>" for a in axes], side="top",
                         range=[-0.2, len(axes) - 0.5], gridcolor="$line", ticks="", showline=False),
            yaxis=titled("", visible=False, range=[-0.06, 1.06]),
            margin={"l": 8, "r": 8, "t": 34, "b": 12},
            annotations=labels,
        ),
    }  # fmt: skip


@dataclass(frozen=True)
class _Axis:
    """One vertical axis: between 0 at its foot and 1 at its head."""

    label: str
    heights: list[float]
    """Of each configuration, in their order."""
    marks: list[tuple[float, str]]


def _axis(parameter: Parameter, settings: Sequence[Any]) -> _Axis:
    label = html.escape(parameter.name)
    if parameter.type not in ("Float", "Int"):
        choices = [numbers.scalar(c) for c in parameter.values or []]
        step = 1 / max(1, len(choices) - 1)
        shift = np.random.default_rng(0).uniform(-0.03, 0.03, len(settings))  # equal choices lie side by side
        heights = [choices.index(numbers.scalar(s)) * step + float(d) for s, d in zip(settings, shift, strict=True)]
        return _Axis(label, heights, [(i * step, html.escape(c)) for i, c in enumerate(choices)])
    amounts = [float(s) for s in settings]
    logarithmic = parameter.scale == "Log"
    marks = log_marks(min(amounts), max(amounts)) if logarithmic else _even_marks(min(amounts), max(amounts))
    ends = [min(*amounts, *marks), max(*amounts, *marks)]
    return _Axis(
        label,
        [_height(a, ends, logarithmic) for a in amounts],
        [(_height(m, ends, logarithmic), f"{m:g}") for m in marks],
    )


def _value_axis(metric: str, values: Sequence[float], maximize: bool) -> _Axis:
    """The objective by rank, because a few bad values would press all others into a line."""
    places = [1 - i / max(1, len(values) - 1) for i in range(len(values))]
    chosen = sorted({0, len(values) // 4, len(values) // 2, len(values) - 1})
    return _Axis(html.escape(metric), places, [(places[i], numbers.value(values[i])) for i in chosen])


def _height(amount: float, ends: Sequence[float], logarithmic: bool) -> float:
    low, high, at = (math.log(x) for x in (*ends, amount)) if logarithmic else (*ends, amount)
    return 0.5 if high == low else (at - low) / (high - low)


def _even_marks(low: float, high: float) -> list[float]:
    """Three to six round numbers between two; the number itself where both are the same."""
    if high <= low:
        return [low]
    rough = (high - low) / 4
    unit = 10.0 ** math.floor(math.log10(rough))
    step = next(nice * unit for nice in (1, 2, 5, 10) if nice * unit >= rough)
    return [round(i * step, 12) for i in range(math.ceil(low / step), math.floor(high / step) + 1)] or [low, high]
