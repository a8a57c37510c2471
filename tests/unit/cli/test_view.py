"""The live picture of a study: whole in narrow terminals, and without colours."""

from __future__ import annotations

import io
from types import SimpleNamespace
from typing import Any, cast

import pytest
from rich.console import Console
from rich.text import Text

from frostline_operator.api.study import HPOStudy
from frostline_operator.cli.progress import ProgressMeter
from frostline_operator.cli.run import _view
from frostline_operator.cli.view import LiveView, PlainView, _picture
from frostline_operator.engine.reconcile import Sample
from frostline_operator.local.session import Session
from tests.unit.engine.world import PROFILE, World, study


@pytest.fixture
def session() -> Session:
    """A study in its middle; each of its runs is half done."""
    search = {"algorithm": "SuccessiveHalving", "trials": 8, "parallelism": 2, "maxTrialsPerRun": 1}
    world = World(study(search=search), 3)
    while not any(trial.rung == 1 for trial in world.state.trials.values()):
        world.tick()
        world.end_one()
    world.tick()
    assert world.state.active_runs

    def samples(name: str) -> list[Sample]:
        run = world.state.runs[name]
        return [Sample("t", run.rung, (run.start_tokens + run.tokens) // 2, 1.0, 1.0)]

    document = {
        "apiVersion": "hpo.frostline.dev/v1alpha1",
        "kind": "HPOStudy",
        "metadata": {"name": "s"},
        "spec": world.spec.model_dump(mode="json", by_alias=True, exclude_defaults=True, exclude_none=True),
    }
    parts: dict[str, Any] = {
        "loop": SimpleNamespace(profile=PROFILE, state=world.state, waiting_for=None),
        "store": SimpleNamespace(samples=samples, events=list),
        "study": HPOStudy.model_validate(document),
        "observe": world.observe,
    }
    return cast(Session, SimpleNamespace(**parts))


def drawn(session: Session, width: int) -> str:
    console = Console(file=io.StringIO(), force_terminal=True, no_color=True, width=width, legacy_windows=False)
    console.print(_picture(session, ProgressMeter(session)))
    return Text.from_ansi(cast(io.StringIO, console.file).getvalue()).plain


@pytest.mark.parametrize("width", [40, 60, 80, 200])
def test_no_column_is_cut_at_any_width(session: Session, width: int) -> None:
    text = drawn(session, width)
    assert "…" not in text
    assert max(map(len, text.splitlines())) <= width
    for column in ("rung", "layers", "tokens", "trials", "running", "done", "failed", "promoted", "best", "agreement"):
        assert column in text
    for run in session.loop.state.active_runs:
        assert run.name in text and "50%" in text


def test_it_is_a_table_where_there_is_room(session: Session) -> None:
    assert [line.split()[0] for line in drawn(session, 200).splitlines()[:2]] == ["rung", "0"]
    assert drawn(session, 60).startswith("rung 0, layers ")


def test_without_colours_it_is_still_redrawn(session: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    console = Console(file=io.StringIO(), force_terminal=True, width=120, legacy_windows=False)
    with LiveView(session, console) as view:
        view.update()
        view.update()
    text = cast(io.StringIO, console.file).getvalue()
    assert "50%" in text and "\x1b[2K" in text, "each picture takes the last one's place"
    assert "\x1b[3" not in text, "no colour"


@pytest.mark.parametrize(("term", "expected"), [("xterm", LiveView), ("dumb", PlainView)])
def test_a_terminal_that_cannot_redraw_gets_lines(
    session: Session, monkeypatch: pytest.MonkeyPatch, term: str, expected: type
) -> None:
    monkeypatch.setenv("TERM", term)
    console = Console(file=io.StringIO(), force_terminal=True, width=120, legacy_windows=False)
    assert type(_view(session, console, "live")) is expected
