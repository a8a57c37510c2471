"""The parts of the local cluster: devices, locks, the store, and reading metrics."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import pytest

from frostline_operator.engine.placement import usable_memory
from frostline_operator.engine.reconcile import Sample
from frostline_operator.engine.state import MemoryClass
from frostline_operator.local import devices, processes
from frostline_operator.local.files import StudyFiles
from frostline_operator.local.store import SqliteStore
from frostline_operator.scores.scrape import read
from tests.unit.engine.world import Trouble, World, study


def test_declared_classes_become_devices() -> None:
    declared = devices.discover(1, ["small=8Gi*2", "large=1.5Gi"])
    assert devices.classes(declared) == (MemoryClass("small", 8 * 2**30, 2), MemoryClass("large", 3 * 2**29, 1))
    assert all(device.enforced for device in declared)


@pytest.mark.parametrize("text", ["small", "small=", "=8Gi", "small=8Gb", "small=8Gi*0", "small=8Gi*x"])
def test_a_declaration_that_is_not_understood_says_how_to_write_it(text: str) -> None:
    with pytest.raises(devices.DeclarationError, match="--class"):
        devices.discover(1, [text])


def test_a_class_declared_twice_is_refused() -> None:
    with pytest.raises(devices.DeclarationError, match="twice"):
        devices.discover(1, ["a=1Gi", "a=2Gi"])


def test_cpu_slots_share_the_cores() -> None:
    cores = len(os.sched_getaffinity(0))
    slots = devices.discover(1000, [])
    if slots[0].memory_class == "cpu":
        assert len(slots) == cores
        assert slots[0].environment["OMP_NUM_THREADS"] == "1"
        assert devices.discover(1, [])[0].environment["OMP_NUM_THREADS"] == str(cores)


def test_usable_memory_leaves_room_for_the_context() -> None:
    gib = 2**30
    assert usable_memory(8 * gib) == int(0.97 * 8 * gib - gib)
    assert usable_memory(80 * gib) == int(0.9 * 80 * gib)


def test_a_process_is_known_by_its_lock_and_outlives_whoever_started_it(tmp_path: Path) -> None:
    files = StudyFiles(tmp_path).run("r")
    assert processes.life(files) == "Absent"
    child = processes.start(files, ["-c", "import time; time.sleep(60)"], {"PATH": os.environ["PATH"]})
    assert processes.life(files) == "Alive"
    _wait(lambda: files.pid.exists())
    assert int(files.pid.read_text()) == child.pid
    processes.send(files, signal.SIGTERM)
    child.wait(10)
    assert processes.life(files) == "Dead"
    files.pid.write_text(str(os.getpid()))
    processes.send(files, signal.SIGTERM)  # a recycled id must not be signalled: this test would die


def test_a_folder_is_locked_by_one_holder_at_a_time(tmp_path: Path) -> None:
    with (
        processes.exclusive(tmp_path / "lock"),
        pytest.raises(processes.LockedError, match=str(os.getpid())),
        processes.exclusive(tmp_path / "lock"),
    ):
        pass
    with processes.exclusive(tmp_path / "lock"):
        pass


def _wait(done: object, seconds: float = 10) -> None:
    assert callable(done)
    until = time.monotonic() + seconds
    while not done():
        assert time.monotonic() < until
        time.sleep(0.02)


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


EXPOSITION = """\
# TYPE frostline_trial_objective gauge
frostline_trial_objective{study="s",study_uid="mine",trial="a",rung="1"} 2.5
frostline_trial_objective{study="s",study_uid="other",trial="a",rung="1"} 0.1
# TYPE frostline_trial_tokens_total counter
frostline_trial_tokens_total{study="s",study_uid="mine",trial="a",rung="1"} 4096.0
frostline_trial_tokens_total{study="s",study_uid="mine",trial="b",rung="1"} 512.0
"""


def test_only_this_studys_series_are_read_and_only_with_a_value() -> None:
    assert read(EXPOSITION, "mine").samples == (Sample("a", 1, 4096, 2.5),)


def test_what_is_no_exposition_is_an_error() -> None:
    with pytest.raises(ValueError):
        read("<html>{", "mine")
