"""A study's record in every form that it is written in: one page, JSON, CSV, and its best configuration as YAML."""

from __future__ import annotations

import csv
import io

from frostline_operator.report.best import best_to_yaml
from frostline_operator.report.page import to_html
from frostline_operator.report.record import StudyRecord

FIXED_COLUMNS = (
    "trial", "index", "bracket", "trialState", "rung", "state", "value", "askedLayers", "layers", "tokens", "seconds",
    "peakBytes", "promoted", "run", "message", "checkpoint",
)  # fmt: skip
"""Columns that every CSV has; one for each hyperparameter follows, as `parameter.NAME`."""


def to_json(record: StudyRecord) -> str:
    """The whole record as JSON, indented; `StudyRecord.model_validate_json` reads it back."""
    return record.model_dump_json(by_alias=True, indent=2) + "\n"


def to_csv(record: StudyRecord) -> str:
    """One row for each trial and rung; a trial that no rung has a result of yet has one row without a rung."""
    parameters = [p.name for p in record.study.spec.parameters]
    best = record.best and (record.best.trial, record.best.rung)
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow([*FIXED_COLUMNS, *(f"parameter.{name}" for name in parameters)])
    for trial in record.trials:
        head = [trial.name, trial.index, trial.bracket, trial.state]
        settings = [_cell(trial.assignment.get(name)) for name in parameters]
        for r in trial.results:
            cells = [
                r.rung, r.state, r.value, r.asked_layers, r.layers, r.tokens, r.seconds, r.peak_bytes, r.promoted,
                r.run, r.message, record.checkpoint if best == (trial.name, r.rung) else "",
            ]  # fmt: skip
            writer.writerow([*map(_cell, [*head, *cells]), *settings])
        if not trial.results:
            writer.writerow([*head, *[""] * (len(FIXED_COLUMNS) - len(head)), *settings])
    return out.getvalue()


def _cell(value: object) -> object:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    return value


WRITERS = {"html": to_html, "json": to_json, "csv": to_csv, "yaml": best_to_yaml}
"""What writes a record, by the name of the form."""
