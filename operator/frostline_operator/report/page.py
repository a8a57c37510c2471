"""The report as one HTML page that needs nothing else: no server, no network."""

from __future__ import annotations

import base64
import functools
import gzip
import json
from dataclasses import asdict, dataclass
from datetime import datetime
from importlib import resources
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from frostline_operator.api.yaml import study_to_yaml
from frostline_operator.report import headline, numbers
from frostline_operator.report.analysis import MIN_TRIALS, agreements, fullest_rung, importances, tuned, value_at
from frostline_operator.report.best import best_yaml
from frostline_operator.report.chart import MOST_TRIALS, Figure, drawn, layers_text, rung_colour, settings_text
from frostline_operator.report.figures import agreement, learning_curves, promotions
from frostline_operator.report.figures_settings import parallel, slice_of
from frostline_operator.report.record import RunRecord, StudyRecord

_MOST_CELLS = 32
"""Deeper networks are drawn as a proportional bar instead of one cell for each layer."""
_MOST_ROWS = 500


@dataclass(frozen=True)
class Chart:
    """One figure on the page."""

    id: str
    label: str
    """For those who cannot see it: what it shows."""
    title: str = ""
    height: int = 300


def to_html(record: StudyRecord) -> str:
    """The whole page. The same record gives the same page, byte for byte."""
    charts = _Charts(record)
    template = _environment().get_template("report.html.j2")
    return template.render(
        record=record,
        spec=record.study.spec,
        n=numbers,
        layers_text=layers_text,
        charts=charts,
        figures=charts.packed(),
        plotly=_plotly(),
        status=headline.status(record),
        subtitle=headline.subtitle(record),
        savings=headline.savings(record),
        cost=_cost_bars(record),
        best_yaml=best_yaml(record),
        rungs=_rung_rows(record),
        importance=[asdict(one) for one in charts.importance],
        min_trials=MIN_TRIALS,
        most_trials=MOST_TRIALS,
        trials=_trial_rows(record),
        runs=_run_rows(record),
        memory=_memory(record),
        manifest=study_to_yaml(record.study),
        most_rows=_MOST_ROWS,
        parameters=[p.name for p in record.study.spec.parameters],
        elapsed=headline.elapsed(record),
    )


def _sentence(text: str) -> str:
    """The text with a capital letter and a full stop."""
    return text[:1].upper() + text[1:] + ("" if text.endswith((".", "!", "?")) else ".") if text else ""


class _Charts:
    """The page's figures; those without data are None, and their section says so."""

    def __init__(self, record: StudyRecord) -> None:
        self._figures: dict[str, Figure] = {}
        self._record = record
        metric = record.study.spec.objective.metric
        self.rung = fullest_rung(record)
        self.importance = importances(record, self.rung)
        best = ""
        if record.best is not None:
            best = f" The best is {record.best.trial} with {metric} {numbers.value(record.best.value)}."
        self.curves = self._add(
            "curves",
            learning_curves(record),
            f"Learning curves of {len(record.trials)} trials: {metric} over {record.unit} seen, by rung.{best}",
            height=420,
        )
        brackets = sorted({row.bracket for row in record.rungs})
        self.promotions = [
            chart
            for bracket in brackets
            if (
                chart := self._add(
                    f"promotions-{bracket}",
                    promotions(record, bracket),
                    _promotion_label(record, bracket),
                    title=f"Bracket {bracket}" if len(brackets) > 1 else "",
                    height=max(260, min(460, 120 + 18 * max(row.entered for row in record.rungs))),
                )
            )
        ]
        self.agreements = [
            (chart, pair)
            for pair in agreements(record)
            if (
                chart := self._add(
                    f"agreement-{pair.low}",
                    agreement(record, pair),
                    f"{metric} at rung {pair.low} against rung {pair.high} for {len(pair.points)} trials.",
                    title=f"Rung {pair.low} to {pair.high}",
                    height=250,
                )
            )
        ]
        order = {one.name: place for place, one in enumerate(self.importance)}
        self.slices = [
            chart
            for place, parameter in enumerate(sorted(tuned(record), key=lambda p: order[p.name]))
            if (
                chart := self._add(
                    f"slice-{place}",
                    slice_of(record, parameter, self.rung),
                    f"{metric} at rung {self.rung} over {parameter.name}.",
                    title=parameter.name,
                    height=230,
                )
            )
        ]
        label = f"Whole configurations and their {metric} at rung {self.rung}, as parallel coordinates."
        self.parallel = self._add("parallel", parallel(record, self.rung), label, height=360)

    def _add(self, name: str, figure: Figure | None, label: str, **more: Any) -> Chart | None:
        if figure is None:
            return None
        self._figures[name] = figure
        return Chart(name, label, **more)

    def packed(self) -> str:
        """All figures and the configurations that their points name, as compressed JSON in base64."""
        document = {"figures": self._figures, "settings": {t.index: settings_text(t) for t in drawn(self._record)}}
        text = json.dumps(_rounded(document), allow_nan=False, separators=(",", ":"))
        return base64.b64encode(gzip.compress(text.encode(), mtime=0)).decode()


def _promotion_label(record: StudyRecord, bracket: int) -> str:
    rows = [row for row in record.rungs if row.bracket == bracket]
    return "Places of the trials at each rung. " + " ".join(
        f"Rung {row.rung}: {row.entered} entered, {row.promoted} promoted." for row in rows
    )


@functools.cache
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("frostline_operator.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["when"] = _when
    environment.filters["sentence"] = _sentence
    return environment


def _rounded(node: Any) -> Any:
    """The same data with numbers to seven digits, which is more than a screen shows."""
    if isinstance(node, float):
        return float(f"{node:.7g}")
    if isinstance(node, dict):
        return {key: _rounded(value) for key, value in node.items()}
    return [_rounded(value) for value in node] if isinstance(node, list) else node


@functools.cache
def _plotly() -> str:
    """Plotly's basic bundle, compressed: the browser unpacks it."""
    packed = resources.files("frostline_operator.report").joinpath("vendor/plotly-basic.min.js.gz").read_bytes()
    return base64.b64encode(packed).decode()


def _when(moment: datetime | None) -> str:
    return "" if moment is None else moment.strftime("%-d %B %Y, %H:%M UTC")


def _cost_bars(record: StudyRecord) -> list[dict[str, Any]]:
    """This study's FLOPs by rung, and those of the two baselines, as shares of the widest."""
    totals = record.totals
    full = 0.0 if record.under_way else totals.full_flops
    widest = max(totals.flops, full, totals.tokens_only_flops)
    if widest <= 0:
        return []
    count = record.top_rung + 1
    by_rung: dict[int, float] = {}
    for row in record.rungs:
        by_rung[row.rung] = by_rung.get(row.rung, 0.0) + row.flops
    parts = [
        {"width": 100 * amount / widest, "colour": _css(rung_colour(rung, count)),
         "title": f"rung {rung}: {numbers.flops(amount)}"}
        for rung, amount in sorted(by_rung.items())
        if amount > 0
    ]  # fmt: skip
    if not parts:
        parts = [{"width": 100 * totals.flops / widest, "colour": "var(--accent)", "title": ""}]
    bars: list[dict[str, Any]] = [{"name": "This study", "flops": totals.flops, "parts": parts, "own": True}]
    for name, amount in (
        (f"The same trials to the same {record.unit}, all layers at every rung", totals.tokens_only_flops),
        (f"The {headline.trials_that_ran(record)} trials that ran, in full", full),
    ):
        if amount > 0:
            part = {"width": 100 * amount / widest, "colour": "var(--dim)", "title": ""}
            bars.append({"name": name, "flops": amount, "parts": [part], "own": False})
    return bars


def _css(colour: str) -> str:
    return f"var(--{colour.removeprefix('$')})"


def _rung_rows(record: StudyRecord) -> list[dict[str, Any]]:
    count = record.top_rung + 1
    rows = []
    for row in record.rungs:
        cells = None
        if record.layers <= _MOST_CELLS:
            cells = [layer >= record.layers - row.layers for layer in range(record.layers)]
        rows.append(
            {
                "row": row,
                "colour": _css(rung_colour(row.rung, count)),
                "cells": cells,
                "share": 100 * row.layers / max(1, record.layers),
                "layers": layers_text(row.layers, record.layers),
            }
        )
    return rows


def _trial_rows(record: StudyRecord) -> list[dict[str, Any]]:
    sign = -1.0 if record.maximize else 1.0

    def key(row: dict[str, Any]) -> tuple[int, float, int]:
        value = row["value"]
        return (-row["rung"], sign * value if value is not None else float("inf"), row["trial"].index)

    rows = []
    for trial in record.trials:
        reached = max((r.rung for r in trial.results if r.value is not None), default=-1)
        messages = [r.message for r in trial.results if r.message]
        rows.append(
            {
                "trial": trial,
                "rung": reached,
                "value": value_at(trial, reached),
                "seconds": sum(r.seconds for r in trial.results),
                "message": messages[-1] if messages else "",
                "best": record.best is not None and record.best.trial == trial.name,
            }
        )
    return sorted(rows, key=key)[:_MOST_ROWS]


def _run_rows(record: StudyRecord) -> list[RunRecord]:
    return list(record.runs[-_MOST_ROWS:])


def _memory(record: StudyRecord) -> str:
    """How well memory was predicted, in a sentence; empty where nothing was both predicted and measured."""
    errors = sorted(
        abs(run.predicted_bytes - run.peak_bytes) / run.peak_bytes
        for run in record.runs
        if run.predicted_bytes and run.peak_bytes
    )
    if not errors:
        return ""
    middle, worst = errors[len(errors) // 2], errors[-1]
    runs = f"{len(errors)} run{'s' if len(errors) > 1 else ''}"
    return f"Predicted peak memory was off by {middle:.1%} at the median of {runs}, {worst:.1%} at worst."
