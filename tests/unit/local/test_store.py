"""A study's store in a folder."""

from __future__ import annotations

from pathlib import Path

from frostline_operator.engine.reconcile import Sample
from frostline_operator.local.store import SqliteStore
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
