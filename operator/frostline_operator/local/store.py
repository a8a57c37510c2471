"""A study's state in one SQLite file, transactional: a kill at any moment leaves the last saved state."""

from __future__ import annotations

import errno
import shutil
import sqlite3
from collections.abc import Sequence
from pathlib import Path

from pydantic import TypeAdapter

from frostline_operator.engine.reconcile import Sample
from frostline_operator.engine.state import Finished, Run, StudyState, Trial

_SCHEMA = """
CREATE TABLE IF NOT EXISTS facts (name TEXT PRIMARY KEY, value TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS trials (number INTEGER PRIMARY KEY, document TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS runs (position INTEGER PRIMARY KEY, name TEXT UNIQUE NOT NULL, document TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS samples (
    run TEXT NOT NULL, trial TEXT NOT NULL, rung INTEGER NOT NULL, tokens INTEGER NOT NULL,
    objective REAL, loss REAL, PRIMARY KEY (run, trial, tokens)
);
CREATE TABLE IF NOT EXISTS events (at REAL NOT NULL, reason TEXT NOT NULL, message TEXT NOT NULL);
"""
_SCARCE_BYTES = 2**20
"""With less room an I/O error is put down to it."""
_TRIAL = TypeAdapter(Trial)
_RUN = TypeAdapter(Run)
_FINISHED = TypeAdapter(Finished)


class SqliteStore:
    """The `Store` of a study on this machine.

    Args:
        path: of the database; it is made if it is not there.
    """

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._connection = sqlite3.connect(path, isolation_level=None)
        self._connection.execute("PRAGMA journal_mode=WAL")
        self._connection.execute("PRAGMA synchronous=NORMAL")
        self._connection.executescript(_SCHEMA)
        self._saved = StudyState()

    def close(self) -> None:
        """Close the file."""
        self._connection.close()

    def fact(self, name: str) -> str | None:
        """A named text, None where it was never set."""
        row = self._connection.execute("SELECT value FROM facts WHERE name = ?", (name,)).fetchone()
        return None if row is None else str(row[0])

    def set_fact(self, name: str, value: str) -> None:
        """Set a named text."""
        self._connection.execute("INSERT OR REPLACE INTO facts VALUES (?, ?)", (name, value))

    def clear(self) -> None:
        """Forget everything, all or nothing."""
        with self._transaction() as connection:
            for table in ("facts", "trials", "runs", "samples", "events"):
                connection.execute(f"DELETE FROM {table}")
        self._saved = StudyState()

    def load(self) -> StudyState:
        """The state as it was last saved."""
        state = StudyState()
        for (document,) in self._connection.execute("SELECT document FROM trials ORDER BY number"):
            trial = _TRIAL.validate_json(document)
            state.trials[trial.index] = trial
        for (document,) in self._connection.execute("SELECT document FROM runs ORDER BY position"):
            run = _RUN.validate_json(document)
            state.runs[run.name] = run
        started = self.fact("startedAt")
        state.started_at = None if started is None else float(started)
        finished = self.fact("finished")
        state.finished = None if finished is None else _FINISHED.validate_json(finished)
        state.disagreements = int(self.fact("disagreements") or 0)
        self._saved = state.copy()
        return state

    def save(self, state: StudyState) -> None:
        """Write what changed since the last call, in one transaction."""
        changes = state.since(self._saved)
        if not changes:
            return
        facts = {}
        if changes.started_at is not None:
            facts["startedAt"] = repr(changes.started_at)
        if changes.finished is not None:
            facts["finished"] = _FINISHED.dump_json(changes.finished).decode()
        if changes.disagreements is not None:
            facts["disagreements"] = str(changes.disagreements)
        positions = {name: position for position, name in enumerate(state.runs)}
        with self._transaction() as connection:
            connection.executemany(
                "INSERT OR REPLACE INTO trials VALUES (?, ?)",
                [(t.index, _TRIAL.dump_json(t).decode()) for t in changes.trials],
            )
            connection.executemany(
                "INSERT OR REPLACE INTO runs VALUES (?, ?, ?)",
                [(positions[r.name], r.name, _RUN.dump_json(r).decode()) for r in changes.runs],
            )
            connection.executemany("INSERT OR REPLACE INTO facts VALUES (?, ?)", list(facts.items()))
        self._saved = state.copy()

    def add_samples(self, run: str, samples: Sequence[Sample]) -> None:
        """Keep observed values; NaN is kept as NULL, which SQLite makes of it anyway."""
        if samples:
            with self._transaction() as connection:
                connection.executemany(
                    "INSERT OR REPLACE INTO samples VALUES (?, ?, ?, ?, ?, ?)",
                    [(run, s.trial, s.rung, s.tokens, s.objective, s.loss) for s in samples],
                )

    def samples(self, run: str) -> list[Sample]:
        """The values observed of a run, in order of tokens."""
        rows = self._connection.execute(
            "SELECT trial, rung, tokens, objective, loss FROM samples WHERE run = ? ORDER BY trial, tokens", (run,)
        )
        return [Sample(trial, rung, tokens, _number(value), loss) for trial, rung, tokens, value, loss in rows]

    def add_event(self, at: float, reason: str, message: str) -> None:
        """Keep a line for people."""
        self._connection.execute("INSERT INTO events VALUES (?, ?, ?)", (at, reason, message))

    def events(self, last: int | None = None) -> list[tuple[float, str, str]]:
        """The last events, oldest first."""
        query = "SELECT at, reason, message FROM events ORDER BY rowid DESC LIMIT ?"
        rows = self._connection.execute(query, (-1 if last is None else last,)).fetchall()
        return [(float(at), str(reason), str(message)) for at, reason, message in reversed(rows)]

    def _transaction(self) -> _Transaction:
        return _Transaction(self._connection)


def is_full(error: Exception, folder: Path) -> bool:
    """Whether writing to the folder failed since its disk, or the user's share of it, is full."""
    if isinstance(error, OSError):
        return error.errno in (errno.ENOSPC, errno.EDQUOT)
    if not isinstance(error, sqlite3.OperationalError):
        return False
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF  # what Python's module itself raises has none
    # What SQLite maps into memory cannot grow on a full disk, which it calls an I/O error
    return code == sqlite3.SQLITE_FULL or (
        code == sqlite3.SQLITE_IOERR and shutil.disk_usage(folder).free < _SCARCE_BYTES
    )


class _Transaction:
    """All or nothing, also when the process dies within."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    def __enter__(self) -> sqlite3.Connection:
        self._connection.execute("BEGIN IMMEDIATE")
        return self._connection

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        try:
            if kind is None:
                self._connection.execute("COMMIT")
        finally:
            if self._connection.in_transaction:  # on a full disk a commit fails, and what was begun is still open
                self._connection.execute("ROLLBACK")


def _number(value: float | None) -> float:
    return float("nan") if value is None else float(value)
