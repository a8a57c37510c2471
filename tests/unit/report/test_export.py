"""The record as JSON, as CSV, and as a table in a terminal."""

from __future__ import annotations

import csv
import io
import json

import pytest

from frostline_operator.report.export import FIXED_COLUMNS, to_csv, to_json
from frostline_operator.report.record import StudyRecord

from . import records


@pytest.mark.parametrize("name", list(records.ALL))
def test_json_reads_back_as_the_same_record(name: str) -> None:
    record = records.ALL[name]()
    text = to_json(record)
    assert StudyRecord.model_validate_json(text) == record
    json.loads(text, parse_constant=lambda constant: pytest.fail(f"{constant} is no JSON"))


def test_json_is_camel_case() -> None:
    document = json.loads(to_json(records.whole()))
    assert document["totals"]["tokensOnlyFlops"] > 0
    assert document["study"]["spec"]["fidelity"]["tokens"]["max"] == 262144


def rows(record: StudyRecord) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(to_csv(record))))


def test_csv_has_one_row_for_each_trial_and_rung() -> None:
    record = records.whole()
    found = rows(record)
    assert len(found) == sum(len(t.results) for t in record.trials) == 16 + 8 + 4 + 2
    first = found[0]
    assert (first["trial"], first["rung"], first["layers"], first["tokens"]) == (
        "gpt2-python-docs-0",
        "0",
        "1",
        "32768",
    )
    assert float(first["value"]) == record.trials[0].results[0].value
    assert first["parameter.lr"] == "0.001"


def test_csv_of_failures_and_absent_settings() -> None:
    diverged = [row for row in rows(records.whole()) if row["state"] == "Diverged"]
    assert len(diverged) == 2
    assert diverged[0]["value"] == ""
    adam = next(row for row in rows(records.accuracy()) if row["parameter.optimizer"] == "AdamW")
    assert adam["parameter.momentum"] == ""


def test_csv_of_a_trial_without_results() -> None:
    record = records.whole()
    waiting = record.trials[0].model_copy(update={"results": (), "state": "Pending"})
    only = rows(record.model_copy(update={"trials": (waiting,)}))
    assert [(row["trial"], row["trialState"], row["rung"]) for row in only] == [("gpt2-python-docs-0", "Pending", "")]


def test_csv_of_nothing_is_its_header() -> None:
    header = to_csv(records.empty()).strip().split(",")
    assert tuple(header[: len(FIXED_COLUMNS)]) == FIXED_COLUMNS


def test_where_the_best_checkpoint_lies_is_in_json_and_in_the_best_row_of_the_csv() -> None:
    record = records.whole()
    assert record.best is not None
    best = record.best.model_copy(update={"checkpoint": "trials/s-5/r3"})
    kept = record.model_copy(update={"best": best, "checkpoints": "/data/s"})
    document = json.loads(to_json(kept))
    assert (document["checkpoints"], document["best"]["checkpoint"]) == ("/data/s", "trials/s-5/r3")
    marked = {(row["trial"], row["rung"]): row["checkpoint"] for row in rows(kept) if row["checkpoint"]}
    assert marked == {(best.trial, str(best.rung)): "/data/s/trials/s-5/r3"}
