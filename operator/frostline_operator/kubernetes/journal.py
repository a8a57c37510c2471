"""A study's state in the API server: a journal of what changed, in ConfigMaps that go with the study.

Kubernetes has no transactions over several objects, so the truth is in one place and everything else (HPOTrials, the
study's status) shows it. Each tick that changes anything adds one record, by one write, all or nothing: the new values
of the trials and runs that changed. The state is what the records come to, read from first to last.

A chunk that is full is squeezed: of each trial and run only the last value stays, compressed. So size grows with the
number of trials and runs alone, about 100 bytes each, and etcd's limit for an object is never near.
"""

from __future__ import annotations

import base64
import gzip
import json
from typing import Any

from pydantic import TypeAdapter

from frostline_operator.engine.state import Finished, Run, StudyState, Trial
from frostline_operator.kubernetes.client.api import CONFIG_MAPS, Api, ApiError, Manifest
from frostline_operator.kubernetes.objects import names
from frostline_operator.kubernetes.objects.jobs import StudyRef
from frostline_operator.scores.curves import Curves

CHUNK_BYTES = 256 * 1024
"""A chunk is full at this size; etcd takes 1.5 MB, a ConfigMap 1 MiB."""
_SQUEEZED = "records.json.gz"
_NUMBER = f"{names.STUDY}-journal"
_TRIAL = TypeAdapter(Trial)
_RUN = TypeAdapter(Run)
_FINISHED = TypeAdapter(Finished)

Record = dict[str, Any]


class StaleError(Exception):
    """Somebody else has written the journal: what is known here is no longer true and must be read again."""


class Journal:
    """The journal of one study.

    Args:
        api: where it is kept.
        study: whose it is.
    """

    def __init__(self, api: Api, study: StudyRef) -> None:
        self._api = api
        self._study = study
        self._saved = StudyState()
        self._facts: dict[str, Any] = {}
        self.curves: dict[str, Curves] | None = None
        """Learning curves by run, where `load` was asked for them."""
        self._chunk: Manifest | None = None
        self._number = 0
        self._size = 0
        self._records = 0

    def load(self, with_curves: bool = False) -> StudyState:
        """The state that all records come to.

        Args:
            with_curves: keep the learning curves too, for a report.
        """
        self.curves = {} if with_curves else None
        selector = f"{names.STUDY_UID}={self._study.uid},{names.COMPONENT}=journal"
        listed, _ = self._api.list(CONFIG_MAPS, self._study.namespace, selector)
        chunks = [chunk for chunk in listed if names.is_of_study(chunk, self._study.namespace, self._study.uid)]
        chunks.sort(key=lambda chunk: int(chunk["metadata"]["labels"][_NUMBER]))
        state = StudyState()
        self._facts = {}
        for chunk in chunks:
            for record in records_of(chunk):
                self._apply(state, record)
        self._chunk = chunks[-1] if chunks else None
        self._number = int(self._chunk["metadata"]["labels"][_NUMBER]) if self._chunk else 0
        data = (self._chunk or {}).get("data") or {}
        self._size = sum(map(len, data.values()))
        self._records = len(data)
        self._saved = state.copy()
        return state

    def fact(self, name: str) -> Any:
        """Something else that is known of the study, None where it was never set."""
        return self._facts.get(name)

    def set_fact(self, name: str, value: Any) -> None:
        """Keep something else of the study. The same again writes nothing."""
        if self._facts.get(name) != value:
            self._append({"facts": {name: value}})
            self._facts[name] = value

    def save(self, state: StudyState, curves: dict[str, Curves] | None = None) -> None:
        """Write what changed since the last call, in one record.

        Args:
            state: of the study.
            curves: of runs that have ended since, by their names; they go with the record of the end.

        Raises:
            StaleError: somebody else wrote meanwhile; nothing is written.
            ApiError: the API server did not take it.
        """
        record = changes(self._saved, state)
        if record and curves:
            record["curves"] = curves
        if record:
            self._append(record)
            self._saved = state.copy()

    def _append(self, record: Record) -> None:
        text = json.dumps(record, separators=(",", ":"))
        if self._chunk is not None and (self._size + len(text) > CHUNK_BYTES or _SQUEEZED in _binary(self._chunk)):
            self._squeeze()
            self._chunk = None
            self._number += 1
        try:
            self._chunk = self._create(text) if self._chunk is None else self._extend(text)
        except ApiError as error:
            if error.status in (404, 409):
                raise StaleError(str(error)) from error
            raise
        self._size += len(text)
        self._records += 1

    def _create(self, text: str) -> Manifest:
        self._size = self._records = 0
        labels = {**names.labels(self._study.name, self._study.uid, "journal"), _NUMBER: str(self._number)}
        body = {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {
                "name": names.journal(self._study.name, self._study.uid, self._number),
                "labels": labels,
                "ownerReferences": [names.owner(self._study.name, self._study.uid)],
            },
            "data": {_key(0): text},
        }
        return self._api.create(CONFIG_MAPS, self._study.namespace, body)

    def _extend(self, text: str) -> Manifest:
        assert self._chunk is not None
        metadata = self._chunk["metadata"]
        body = {"metadata": {"resourceVersion": metadata["resourceVersion"]}, "data": {_key(self._records): text}}
        return self._api.patch(CONFIG_MAPS, self._study.namespace, metadata["name"], body)

    def _squeeze(self) -> None:
        assert self._chunk is not None
        if _SQUEEZED in _binary(self._chunk):
            return
        squeezed = gzip.compress(json.dumps(condensed(records_of(self._chunk))).encode(), 6)
        metadata = self._chunk["metadata"]
        body: Manifest = {
            "metadata": {"resourceVersion": metadata["resourceVersion"]},
            "data": None,
            "binaryData": {_SQUEEZED: base64.b64encode(squeezed).decode()},
        }
        try:
            self._api.patch(CONFIG_MAPS, self._study.namespace, metadata["name"], body)
        except ApiError as error:
            if error.status in (404, 409):
                raise StaleError(str(error)) from error
            raise

    def _apply(self, state: StudyState, record: Record) -> None:
        for document in record.get("trials", ()):
            trial = _TRIAL.validate_python(document, strict=False)
            state.trials[trial.index] = trial
        for document in record.get("runs", ()):
            run = _RUN.validate_python(document, strict=False)
            state.runs[run.name] = run
        if "startedAt" in record:
            state.started_at = float(record["startedAt"])
        if "finished" in record:
            state.finished = _FINISHED.validate_python(record["finished"])
        state.disagreements = int(record.get("disagreements", state.disagreements))
        self._facts.update(record.get("facts", {}))
        if self.curves is not None:
            self.curves.update(record.get("curves", {}))


def changes(before: StudyState, after: StudyState) -> Record:
    """The record of what changed; empty where nothing did. Entries are immutable, so identity tells."""
    record: Record = {}
    trials = [trial for trial in after.trials.values() if before.trials.get(trial.index) is not trial]
    runs = [run for run in after.runs.values() if before.runs.get(run.name) is not run]
    if trials:
        record["trials"] = [_TRIAL.dump_python(trial, mode="json", exclude_defaults=True) for trial in trials]
    if runs:
        record["runs"] = [_RUN.dump_python(run, mode="json", exclude_defaults=True) for run in runs]
    if after.started_at is not None and after.started_at != before.started_at:
        record["startedAt"] = after.started_at
    if after.finished is not None and after.finished != before.finished:
        record["finished"] = _FINISHED.dump_python(after.finished, mode="json")
    if after.disagreements != before.disagreements:
        record["disagreements"] = after.disagreements
    return record


def condensed(records: list[Record]) -> list[Record]:
    """One record that comes to the same: of each trial and run the last value, in the order of their first."""
    trials: dict[int, Any] = {}
    runs: dict[str, Any] = {}
    rest: Record = {}
    for record in records:
        trials.update({document["index"]: document for document in record.get("trials", ())})
        runs.update({document["name"]: document for document in record.get("runs", ())})
        rest.update({key: record[key] for key in ("startedAt", "finished", "disagreements") if key in record})
        for part in ("facts", "curves"):
            if part in record:
                rest[part] = {**rest.get(part, {}), **record[part]}
    return [{"trials": list(trials.values()), "runs": list(runs.values()), **rest}]


def records_of(chunk: Manifest) -> list[Record]:
    """The records of a chunk, oldest first."""
    squeezed = _binary(chunk).get(_SQUEEZED)
    if squeezed is not None:
        found: list[Record] = json.loads(gzip.decompress(base64.b64decode(squeezed)))
        return found
    data = chunk.get("data") or {}
    return [json.loads(data[key]) for key in sorted(data)]


def _binary(chunk: Manifest) -> dict[str, str]:
    return chunk.get("binaryData") or {}


def _key(number: int) -> str:
    return f"{number:06d}"
