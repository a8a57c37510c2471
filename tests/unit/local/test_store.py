"""A study's store in a folder."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from frostline_operator.engine.reconcile import Sample
from frostline_operator.engine.state import StudyState, Trial
from frostline_operator.local.store import SqliteStore, is_full
from tests.unit.engine.world import Trouble, World, study


def test_the_store_gives_back_what_was_saved_whenever_it_is_opened_again(tmp_path: Path) -> None:
    world = World(study(), seed=4, trouble=Trouble(lost=0.2, stopped=0.2, diverging=frozenset({1})))
    for _ in range(200):
        store = SqliteStore(tmp_path / "s.sqlite3")
        assert store.load() == world.state
        world.tick()
        if world.state.active_runs:
            world.end_one()
        world.state.disagreements += 1
        store.save(world.state)
        store.close()
        if world.state.finished and not world.state.active_runs:
            break
    store = SqliteStore(tmp_path / "s.sqlite3")
    assert store.load() == world.state and world.state.finished is not None
    assert list(store.load().runs) == list(world.state.runs), "the order of runs is part of the state"


def test_samples_are_kept_once_however_often_they_are_seen(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path / "s.sqlite3")
    for _ in range(2):
        store.add_samples("r", [Sample("a", 0, 10, 1.5, 1.0), Sample("a", 0, 20, float("nan"))])
    kept = store.samples("r")
    assert [s.tokens for s in kept] == [10, 20] and kept[0] == Sample("a", 0, 10, 1.5, 1.0)
    assert kept[1].objective != kept[1].objective


def test_what_could_not_be_saved_on_a_full_disk_is_saved_once_there_is_room(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path / "study.sqlite3")
    pages = store._connection.execute("PRAGMA page_count").fetchone()[0]
    store._connection.execute(f"PRAGMA max_page_count={pages}")  # SQLite's own way to be full
    state = StudyState({n: Trial(n, f"s-{n:04d}", 0, {"lr": 0.1}, 0) for n in range(1000)}, {}, 1.0)
    for _ in range(2):
        with pytest.raises(sqlite3.OperationalError) as caught:
            store.save(state)
        assert is_full(caught.value, tmp_path)
    store._connection.execute("PRAGMA max_page_count=100000")
    store.save(state)
    store.close()
    again = SqliteStore(tmp_path / "study.sqlite3")
    assert again.load() == state
    again.close()


def test_another_error_of_the_database_is_no_full_disk(tmp_path: Path) -> None:
    assert not is_full(sqlite3.OperationalError("no such table: trials"), tmp_path)
    assert not is_full(PermissionError(13, "Permission denied"), tmp_path)
