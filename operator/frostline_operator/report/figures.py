"""The report's charts of what happened: learning curves, promotions, and agreement between rungs."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from frostline_operator.engine.schedule import goes_on
from frostline_operator.report import numbers
from frostline_operator.report.analysis import Agreement, ranks, value_at
from frostline_operator.report.chart import Figure, drawn, hover, layers_text, layout, rung_colour, titled, value_range
from frostline_operator.report.record import CurvePoint, RungRecord, StudyRecord, TrialRecord, TrialRung

# --- learning curves --------------------------------------------------------------------------------------------------


def learning_curves(record: StudyRecord) -> Figure | None:
    """The objective over tokens, one line for each trial, coloured by rung; None where nothing was measured."""
    metric, count = record.study.spec.objective.metric, record.top_rung + 1
    trials = [t for t in drawn(record) if any(_points(r) for r in t.results)]
    if not trials:
        return None
    traces = []
    for rung in sorted({r.rung for t in trials for r in t.results}):
        xs: list[int | None] = []
        ys: list[float | None] = []
        texts: list[str] = []
        sizes: list[int] = []
        layers = next(r.layers for t in trials for r in t.results if r.rung == rung)
        for trial in trials:
            for x, y, text, size in _segment(record, trial, rung):
                xs.append(x)
                ys.append(y)
                texts.append(text)
                sizes.append(size)
        colour = rung_colour(rung, count)
        traces.append(
            {"type": "scatter", "mode": "lines+markers", "name": f"rung {rung}: {layers_text(layers, record.layers)}",
             "x": xs, "y": ys, "text": texts, "hoverinfo": "text", "opacity": 0.85, "connectgaps": False,
             "line": {"color": colour, "width": 1.6}, "marker": {"color": colour, "size": sizes, "line": {"width": 0}}}
        )  # fmt: skip
    best = next((t for t in trials if record.best and t.name == record.best.trial), None)
    if best is not None:
        path = [(p.tokens, p.value) for r in best.results for p in _points(r)]
        traces.append(
            {"type": "scatter", "mode": "lines", "name": "best trial", "x": [p[0] for p in path],
             "y": [p[1] for p in path], "hoverinfo": "skip", "line": {"color": "$ink", "width": 2.2}}
        )  # fmt: skip
    ends = [(t, r, _points(r)[-1]) for t in trials for r in t.results if r.state == "Diverged" and _points(r)]
    if ends:
        texts = [hover(t, f"rung {r.rung}: diverged", r.message) for t, r, _ in ends]
        traces.append(
            {"type": "scatter", "mode": "markers", "name": "diverged", "x": [p.tokens for _, _, p in ends],
             "y": [p.value for _, _, p in ends], "text": texts, "hoverinfo": "text",
             "marker": {"symbol": "x-thin", "size": 9, "line": {"width": 2, "color": "$bad"}}}
        )  # fmt: skip
    values = [p.value for t in trials for r in t.results for p in _points(r) if p.value is not None]
    xs_all = [p.tokens for t in trials for r in t.results for p in _points(r)]
    return {
        "data": traces,
        "layout": layout(
            showlegend=True,
            legend={"orientation": "h", "y": 1.02, "yanchor": "bottom", "x": 0, "font": {"color": "$ink"}},
            margin={"t": 40},
            xaxis=titled(record.unit + " seen", **_amount_axis(record, xs_all)),
            yaxis=titled(metric, **value_range(values, record.maximize)),
        ),
    }


def _points(result: TrialRung) -> list[CurvePoint]:
    """The finite points of a curve, the rung's result at its end (which a scraper may have missed)."""
    points = [p for p in result.curve if p.value is not None]
    if result.value is not None and (not points or points[-1].tokens < result.tokens):
        points.append(CurvePoint(tokens=result.tokens, value=result.value))
    return points


def _segment(record: StudyRecord, trial: TrialRecord, rung: int) -> Iterable[tuple[int | None, float | None, str, int]]:
    """One trial's line at one rung, joined to where the rung before ended, and a gap after it."""
    result = next((r for r in trial.results if r.rung == rung), None)
    points = _points(result) if result is not None else []
    if result is None or not points:
        return
    before = [r for r in trial.results if r.rung < rung and _points(r)]
    if before and goes_on(record.study.spec.promotion, before[-1].layers, result.layers):
        last = _points(before[-1])[-1]
        yield last.tokens, last.value, "", 0
    metric = record.study.spec.objective.metric
    for point in points:
        place = f"rung {rung}, {layers_text(result.layers, record.layers)}"
        line = f"{metric} {numbers.value(point.value)} at {numbers.count(point.tokens)} {record.unit}"
        yield point.tokens, point.value, hover(trial, place, line), 5
    yield None, None, "", 0


def _amount_axis(record: StudyRecord, amounts: Sequence[int]) -> Figure:
    """An axis with a mark at the end of each rung, logarithmic where rungs lie far apart."""
    marks = sorted({row.tokens for row in record.rungs if row.tokens <= 1.05 * max(amounts)}) or [max(amounts)]
    axis: Figure = {"tickvals": marks, "ticktext": [numbers.short(mark) for mark in marks]}
    if min(amounts) > 0 and marks[-1] >= 3 * marks[0]:
        return {"type": "log", **axis}
    return {"rangemode": "tozero", **axis}


# --- promotion --------------------------------------------------------------------------------------------------------


def promotions(record: StudyRecord, bracket: int) -> Figure | None:
    """Each trial's place at each rung; lines join those of promoted trials. None without results to compare."""
    rows = [row for row in record.rungs if row.bracket == bracket]
    places = {row.rung: ranks(record, row.rung, bracket) for row in rows}
    trials = [t for t in drawn(record) if t.bracket == bracket and any(t.name in places[r] for r in places)]
    if len(rows) < 2 or all(value_at(t, row.rung) is None for t in trials for row in rows):
        return None
    best = record.best.trial if record.best else None
    traces = []
    for group, colour, width in (("others", "$dim", 1.2), ("best", "$best", 3.0)):
        chosen = [t for t in trials if (t.name == best) == (group == "best")]
        xs, ys = _joined(chosen, places)
        traces.append(
            {"type": "scatter", "mode": "lines", "x": xs, "y": ys, "hoverinfo": "skip",
             "line": {"color": colour, "width": width, "shape": "spline", "smoothing": 0.6}}
        )  # fmt: skip
    for promoted in (False, True):
        dots = [(row.rung, places[row.rung][t.name], t) for row in rows for t in trials if t.name in places[row.rung]]
        dots = [d for d in dots if _went_on(d[2], d[0], record.top_rung) == promoted]
        traces.append(_dots(record, dots, filled=promoted))
    most = max((len(place) for place in places.values()), default=1)
    return {
        "data": traces,
        "layout": layout(
            xaxis=titled(
                "",
                tickvals=[row.rung for row in rows],
                ticktext=[_rung_label(row, record.layers) for row in rows],
                range=[rows[0].rung - 0.3, rows[-1].rung + 0.3],
                showgrid=False,
            ),
            yaxis=titled("place at the rung", range=[most + 0.7, 0.3], tickvals=_place_ticks(most), showgrid=False),
            margin={"b": 60, "r": 36},
        ),
    }  # fmt: skip


def _rung_label(row: RungRecord, depth: int) -> str:
    return f"rung {row.rung}<br>{layers_text(row.layers, depth)}<br>{numbers.short(row.tokens)}"


def _place_ticks(most: int) -> list[int]:
    step = next((nice for nice in (1, 2, 4, 5, 10, 20, 50, 100) if 6 * nice >= most), most)
    return sorted({1, *range(step, most + 1, step)})


def _went_on(trial: TrialRecord, rung: int, top: int) -> bool:
    result = next((r for r in trial.results if r.rung == rung), None)
    return bool(result and (result.promoted or (rung == top and result.value is not None)))


def _joined(
    trials: Iterable[TrialRecord], places: dict[int, dict[str, int]]
) -> tuple[list[int | None], list[int | None]]:
    xs: list[int | None] = []
    ys: list[int | None] = []
    for trial in trials:
        steps = [(rung, place[trial.name]) for rung, place in sorted(places.items()) if trial.name in place]
        if len(steps) > 1:
            xs += [*(s[0] for s in steps), None]
            ys += [*(s[1] for s in steps), None]
    return xs, ys


def _dots(record: StudyRecord, dots: Sequence[tuple[int, int, TrialRecord]], filled: bool) -> Figure:
    count = record.top_rung + 1
    metric = record.study.spec.objective.metric
    texts = []
    for rung, place, trial in dots:
        outcome = ("promoted" if rung < record.top_rung else "highest rung") if filled else "not promoted"
        reached = numbers.value(value_at(trial, rung))
        texts.append(hover(trial, f"rung {rung}: place {place}, {outcome}", f"{metric} {reached}"))
    colours = [rung_colour(d[0], count) for d in dots]
    marker: Figure = {"size": 9, "color": colours if filled else "$surface", "line": {"width": 1.5, "color": colours}}
    return {"type": "scatter", "mode": "markers", "x": [d[0] for d in dots], "y": [d[1] for d in dots], "text": texts,
            "hoverinfo": "text", "marker": marker}  # fmt: skip


# --- agreement between rungs ------------------------------------------------------------------------------------------


def agreement(record: StudyRecord, pair: Agreement) -> Figure:
    """Values at a rung against those at the next one, for the trials that reached both."""
    trials = {t.name: t for t in drawn(record)}
    points = [point for point in pair.points if point[0] in trials]
    metric = record.study.spec.objective.metric
    texts = [
        hover(trials[name], f"{metric} {numbers.value(a)} at rung {pair.low}, {numbers.value(b)} at {pair.high}")
        for name, a, b in points
    ]
    best = record.best.trial if record.best else None
    colours = ["$best" if p[0] == best else rung_colour(pair.high, record.top_rung + 1) for p in points]
    return {
        "data": [
            {"type": "scatter", "mode": "markers", "x": [p[1] for p in points], "y": [p[2] for p in points],
             "text": texts, "hoverinfo": "text",
             "marker": {"size": [13 if p[0] == best else 9 for p in points], "color": colours, "opacity": 1,
                        "line": {"width": 1, "color": "$surface"},
                        "symbol": ["star" if p[0] == best else "circle" for p in points]}}
        ],
        "layout": layout(
            xaxis=titled(f"{metric} at rung {pair.low}", nticks=5),
            yaxis=titled(f"{metric} at rung {pair.high}", nticks=5),
        ),
    }  # fmt: skip
