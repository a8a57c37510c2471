"""What the report's charts have in common.

Charts are Plotly figures in plain data. Colours are written as names (`$ink`, `$rung0`), which the page resolves from
its style sheet, so that one figure serves light, dark and print. Everything that comes from a study is escaped, because
Plotly reads texts as HTML.
"""

from __future__ import annotations

import html
from collections.abc import Sequence
from typing import Any

import numpy as np

from frostline_operator.report import numbers
from frostline_operator.report.record import StudyRecord, TrialRecord

Figure = dict[str, Any]

MOST_TRIALS = 300
"""So many trials are drawn at most: those that came furthest. All of them are in the CSV."""
COLOURS = 6
"""`$rung0` (cold) to `$rung5` (warm)."""


def rung_colour(rung: int, count: int) -> str:
    """A rung's colour: neighbours differ most where there are few."""
    few = {1: (4,), 2: (0, 4), 3: (0, 1, 4), 4: (0, 1, 3, 4), 5: (0, 1, 2, 3, 4)}
    if count in few:
        return f"$rung{few[count][min(rung, count - 1)]}"
    return f"$rung{min(COLOURS - 1, rung * COLOURS // max(1, count))}"


def drawn(record: StudyRecord) -> list[TrialRecord]:
    """The trials to draw, in their own order."""
    if len(record.trials) <= MOST_TRIALS:
        return list(record.trials)
    best = record.best.trial if record.best else None
    furthest = sorted(record.trials, key=lambda t: (t.name != best, -len(t.results), t.index))[:MOST_TRIALS]
    return sorted(furthest, key=lambda t: t.index)


def hover(trial: TrialRecord, *lines: str) -> str:
    """What one sees on pointing at something of a trial.

    The page puts the trial's configuration in place of the mark at the end: written once, however many points have it.
    """
    head = f"<b>{html.escape(trial.name)}</b>"
    return "<br>".join([head, *(html.escape(line) for line in lines), f"@{trial.index}"])


def settings_text(trial: TrialRecord) -> str:
    """A trial's configuration below its name, a line for each hyperparameter."""
    return "<br>".join(html.escape(f"{name} {numbers.scalar(setting)}") for name, setting in trial.assignment.items())


def layers_text(layers: int, depth: int) -> str:
    """How many layers train, in words."""
    if layers >= depth:
        return f"all {depth} layers"
    return "1 layer" if layers == 1 else f"{layers} layers"


def layout(**changes: Any) -> Figure:
    """A layout without clutter; `changes` are merged into it, one level deep."""
    axis = {"gridcolor": "$grid", "zeroline": False, "linecolor": "$line", "ticks": "outside", "tickcolor": "$line",
            "ticklen": 4, "automargin": True, "title": {"standoff": 10}}  # fmt: skip
    base: Figure = {
        "font": {"family": "$font", "size": 12, "color": "$ink"},
        "paper_bgcolor": "rgba(0,0,0,0)",
        "plot_bgcolor": "rgba(0,0,0,0)",
        "margin": {"l": 48, "r": 12, "t": 8, "b": 40},
        "hovermode": "closest",
        "hoverlabel": {"bgcolor": "$surface", "bordercolor": "$line", "align": "left",
                       "font": {"family": "$font", "size": 12, "color": "$ink"}},
        "showlegend": False,
        "xaxis": dict(axis),
        "yaxis": dict(axis),
    }  # fmt: skip
    for key, value in changes.items():
        base[key] = {**base[key], **value} if isinstance(base.get(key), dict) and isinstance(value, dict) else value
    return base


def titled(text: str, **more: Any) -> Figure:
    """Changes to an axis: its title, and whatever else is given."""
    return {"title": {"text": html.escape(text), "standoff": 10, "font": {"size": 12, "color": "$muted"}}, **more}


def value_range(values: Sequence[float], maximize: bool) -> Figure:
    """A range that a few outliers do not stretch so far that nothing else can be told apart."""
    if len(values) < 4:
        return {}
    low, high = min(values), max(values)
    near_low, near_high = (float(q) for q in np.quantile(values, [0.08, 0.92]))
    pad = 0.05
    if not maximize and high - low > 3 * (near_high - low) > 0:
        return {"range": [low - pad * (near_high - low), near_high + 4 * pad * (near_high - low)]}
    if maximize and high - low > 3 * (high - near_low) > 0:
        return {"range": [near_low - 4 * pad * (high - near_low), high + pad * (high - near_low)]}
    return {}
