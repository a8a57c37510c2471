"""A study's state in the API server: a journal of what changed, in ConfigMaps that go with the study.

Kubernetes has no transactions over several objects, so the truth is in one place and everything else (HPOTrials, the
study's status) shows it. Each tick that changes anything adds one record, by one write, all or nothing: the new values
of the trials and runs that changed. The state is what the records come to, read from first to last. More than an object
holds is written in parts, each of which leaves a state to go on from (`parts`).

A chunk that is full is squeezed: of each trial and run only the last value stays, compressed. So size grows with the
number of trials and runs alone, about 100 bytes each, and etcd's limit for an object is never near.

Chunks are numbered without gaps and say their format. A journal of which a part is missing, cannot be read, or was
written by a newer release is refused as a whole, by the chunk's name (`JournalError`): what is not known of a study
must not be trained, or paid for, again. Fields that this release does not know are kept as they are.
"""

from __future__ import annotations

import base64
import dataclasses
import gzip
import json
import zlib
from collections.abc import Iterator
from typing import Any

from pydantic import TypeAdapter

from frostline_operator.engine.state import Changes, Finished, Run, StudyState, Trial
from frostline_operator.kubernetes.client.api import CONFIG_MAPS, Api, ApiError, Manifest
from frostline_operator.kubernetes.client.errors import NotReadableError
from frostline_operator.kubernetes.objects import names
from frostline_operator.kubernetes.objects.jobs import StudyRef
from frostline_operator.scores.curves import Curves

CHUNK_BYTES = 256 * 1024
"""A chunk is full at this size; etcd takes 1.5 MB, a ConfigMap 1 MiB."""
_SQUEEZED = "records.json.gz"
_LARGEST_BYTES = 16 * 1024 * 1024
"""Of a chunk's records once they are unpacked."""
_NUMBER = f"{names.STUDY}-journal"
_FORMAT = f"{names.STUDY}-journal-format"
FORMAT = 1
"""Of the chunks that are written. Those without the label are of format 1, too."""
_TRIAL = TypeAdapter(Trial)
_RUN = TypeAdapter(Run)
_FINISHED = TypeAdapter(Finished)
_KNOWN = {kind: frozenset(f.name for f in dataclasses.fields(of)) for kind, of in (("trials", Trial), ("runs", Run))}
"""Fields of trials and runs that this release has."""

Record = dict[str, Any]


class StaleError(Exception):
    """Somebody else has written the journal: what is known here is no longer true and must be read again."""


class JournalError(NotReadableError):
    """A part of the journal is missing or cannot be read; the message names it and says what helps."""


class Journal:
    """The journal of one study.

    Args:
        api: where it is kept.
        study: whose it is.
        begun: there must be a journal, since the study's status tells of trials.
    """

    def __init__(self, api: Api, study: StudyRef, begun: bool = False) -> None:
        self._api = api
        self._study = study
        self._begun = begun
        self._unknown: dict[tuple[str, Any], Record] = {}
        """Fields of trials and runs that this release does not have, by kind and key."""
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

        Raises:
            JournalError: a chunk is missing, cannot be read, or is of a newer release.
            ApiError: the API server does not answer, or refuses.
        """
        self.curves = {} if with_curves else None
        selector = f"{names.STUDY_UID}={self._study.uid},{names.COMPONENT}=journal"
        listed, _ = self._api.list(CONFIG_MAPS, self._study.namespace, selector)
        chunks = [chunk for chunk in listed if names.is_of_study(chunk, self._study.namespace, self._study.uid)]
        chunks.sort(key=_number_of)
        self._check(chunks)
        state = StudyState()
        self._facts, self._unknown = {}, {}
        for chunk in chunks:
            try:
                for record in records_of(chunk):
                    self._apply(state, record)
            except (ValueError, TypeError, KeyError, AttributeError, RecursionError, zlib.error, EOFError) as error:
                said = f"{type(error).__name__}: {str(error)[:200]}"
                raise self._error(f"{chunk['metadata']['name']} cannot be read ({said})") from error
        self._chunk = chunks[-1] if chunks else None
        self._number = _number_of(self._chunk) if self._chunk else 0
        data = (self._chunk or {}).get("data") or {}
        self._size = sum(map(len, data.values()))
        self._records = len(data)
        self._saved = state.copy()
        self._begun = self._begun or bool(chunks)
        return state

    def _check(self, chunks: list[Manifest]) -> None:
        """Whether all chunks are there that must be, and of a format that is read."""
        if self._begun and not chunks:
            raise self._error("all of its ConfigMaps are missing, although the study has begun")
        for number, chunk in enumerate(chunks):
            name, own = chunk["metadata"]["name"], _number_of(chunk)
            if own > number:
                raise self._error(f"{names.journal(self._study.name, self._study.uid, number)} is missing")
            if own < number:
                raise self._error(f"{name} says that it is chunk {own}, as another one does")
            written = chunk["metadata"]["labels"].get(_FORMAT, "1")
            if written != str(FORMAT):
                raise JournalError(
                    f"the journal of {self._study.namespace}/{self._study.name} was written by another release: "
                    f"{name} has format {written[:20]}, this operator reads {FORMAT}; run the release that wrote it"
                )

    def _error(self, what: str) -> JournalError:
        study = self._study
        return JournalError(
            f"the journal of {study.namespace}/{study.name} is not whole: {what}; restore it from a backup, or delete "
            "the study, which works without it, and begin anew"
        )

    def fact(self, name: str) -> Any:
        """Something else that is known of the study, None where it was never set."""
        return self._facts.get(name)

    @property
    def begun(self) -> bool:
        """Whether the study has begun: from then on its results must not be mixed with those of another one."""
        return self._saved.started_at is not None or bool(self._saved.runs or self._saved.trials)

    def set_fact(self, name: str, value: Any) -> None:
        """Keep something else of the study. The same again writes nothing."""
        if self._facts.get(name) != value:
            self._append({"facts": {name: value}})
            self._facts[name] = value

    def save(self, state: StudyState, curves: dict[str, Curves] | None = None) -> None:
        """Write what changed since the last call: in one record, or in several where it is too much for one object.

        Args:
            state: of the study.
            curves: of runs that have ended since, by their names; they go with the record of the end.

        Raises:
            StaleError: somebody else wrote meanwhile; nothing is written.
            ApiError: the API server did not take it.
        """
        record = record_of(state.since(self._saved))
        for kind, key in (("trials", "index"), ("runs", "name")):
            for document in record.get(kind, ()):
                document.update(self._unknown.get((kind, document[key]), {}))
        if record and curves:
            record["curves"] = curves
        for part in parts(record):
            self._append(part)
            for document in part.get("trials", ()):
                self._saved.trials[document["index"]] = state.trials[document["index"]]
        if record:
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
        self._begun = True

    def _create(self, text: str) -> Manifest:
        self._size = self._records = 0
        labels = {**names.labels(self._study.name, self._study.uid, "journal")}
        labels |= {_NUMBER: str(self._number), _FORMAT: str(FORMAT)}
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
            self._keep_unknown("trials", trial.index, document)
        for document in record.get("runs", ()):
            run = _RUN.validate_python(document, strict=False)
            state.runs[run.name] = run
            self._keep_unknown("runs", run.name, document)
        if "startedAt" in record:
            state.started_at = float(record["startedAt"])
        if "finished" in record:
            state.finished = _FINISHED.validate_python(record["finished"])
        state.disagreements = int(record.get("disagreements", state.disagreements))
        self._facts.update(record.get("facts", {}))
        if self.curves is not None:
            self.curves.update(record.get("curves", {}))

    def _keep_unknown(self, kind: str, key: Any, document: Record) -> None:
        unknown = {name: value for name, value in document.items() if name not in _KNOWN[kind]}
        if unknown:
            self._unknown[(kind, key)] = unknown


def has_begun(body: Manifest) -> bool:
    """Whether a study's status tells of trials, so that there must be a journal of them."""
    return bool(((body.get("status") or {}).get("trials") or {}).get("total"))


def record_of(changes: Changes) -> Record:
    """The record of what changed; empty where nothing did."""
    record: Record = {}
    if changes.trials:
        record["trials"] = [_TRIAL.dump_python(trial, mode="json", exclude_defaults=True) for trial in changes.trials]
    if changes.runs:
        record["runs"] = [_RUN.dump_python(run, mode="json", exclude_defaults=True) for run in changes.runs]
    if changes.started_at is not None:
        record["startedAt"] = changes.started_at
    if changes.finished is not None:
        record["finished"] = _FINISHED.dump_python(changes.finished, mode="json")
    if changes.disagreements is not None:
        record["disagreements"] = changes.disagreements
    return record


def parts(record: Record) -> Iterator[Record]:
    """A record in parts that an object of the API server holds; nothing of an empty one.

    Only trials come by the thousand. What they have become goes before all that follows from it (runs, the study's
    end), so that a writer who dies between two parts leaves a state that the engine goes on from: a trial without its
    run is started, a result whose run is still open is booked with the run's end, which changes nothing any more.
    """
    part: list[Any] = []
    size = 0
    for document in record.get("trials", ()):
        length = len(json.dumps(document, separators=(",", ":")))
        if part and size + length > CHUNK_BYTES:
            yield {"trials": part}
            part, size = [], 0
        part.append(document)
        size += length + 1
    rest = {**record, "trials": part} if part else record
    if rest:
        yield rest


def condensed(records: list[Record]) -> list[Record]:
    """One record that comes to the same: of each trial and run the last value, in the order of their first."""
    trials: dict[int, Any] = {}
    runs: dict[str, Any] = {}
    rest: Record = {}
    for record in records:
        trials.update({document["index"]: document for document in record.get("trials", ())})
        runs.update({document["name"]: document for document in record.get("runs", ())})
        rest.update({key: record[key] for key in record.keys() - {"trials", "runs", "facts", "curves"}})
        for part in ("facts", "curves"):
            if part in record:
                rest[part] = {**rest.get(part, {}), **record[part]}
    return [{"trials": list(trials.values()), "runs": list(runs.values()), **rest}]


def records_of(chunk: Manifest) -> list[Record]:
    """The records of a chunk, oldest first.

    Raises:
        ValueError, zlib.error, RecursionError: it is none, or too large.
    """
    squeezed = _binary(chunk).get(_SQUEEZED)
    if squeezed is not None:
        unpack = zlib.decompressobj(wbits=zlib.MAX_WBITS | 16)
        text = unpack.decompress(base64.b64decode(squeezed), _LARGEST_BYTES + 1)
        if len(text) > _LARGEST_BYTES or not unpack.eof:
            raise ValueError(f"{_SQUEEZED} is cut off, or more than {_LARGEST_BYTES} bytes when unpacked")
        records: list[Record] = json.loads(text)
        return records
    data = chunk.get("data") or {}
    return [json.loads(data[key]) for key in sorted(data)]


def _number_of(chunk: Manifest) -> int:
    """Its place in the journal; -1 where its label is no number."""
    text = chunk["metadata"]["labels"].get(_NUMBER, "")
    return int(text) if text.isascii() and text.isdecimal() and len(text) < 10 else -1


def _binary(chunk: Manifest) -> dict[str, str]:
    return chunk.get("binaryData") or {}


def _key(number: int) -> str:
    return f"{number:06d}"
