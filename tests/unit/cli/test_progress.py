"""How far runs are, as somebody sees who looks again and again."""

from __future__ import annotations

import time
from types import SimpleNamespace
from typing import cast

import pytest

from frostline_operator.cli.progress import ProgressMeter
from frostline_operator.engine.reconcile import Sample
from frostline_operator.local.session import Session
from tests.unit.engine.world import World, study


def test_a_run_is_timed_from_its_start_and_one_that_was_met_on_its_way_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    world, trained, clock = World(study()), {}, [100.0]
    monkeypatch.setattr(time, "monotonic", lambda: clock[0])
    world.tick()
    first, second, *_ = world.state.active_runs
    trained[second.name] = second.tokens // 2

    def samples(name: str) -> list[Sample]:
        return [Sample("t", 0, trained[name], 1.0, 1.0)] if name in trained else []

    parts = {"loop": SimpleNamespace(state=world.state), "store": SimpleNamespace(samples=samples)}
    meter = ProgressMeter(cast(Session, SimpleNamespace(**parts)))
    assert (meter.read()[first.name].share, meter.read()[second.name].share) == (0.0, 0.5)
    clock[0], trained[first.name] = 107.0, first.tokens // 4
    read = meter.read()
    assert (read[first.name].share, read[first.name].seconds) == (0.25, 7.0)
    assert read[second.name].seconds is None
