"""`frostline run`: a study on this machine, from its manifest to its report."""

from __future__ import annotations

import signal
import sqlite3
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from types import FrameType

from rich.console import Console

from frostline_operator.api.loader import load_study, rooted
from frostline_operator.api.study import HPOStudy
from frostline_operator.cli.json_view import JsonView, write_outcome
from frostline_operator.cli.output import Form, OutputError, write_file
from frostline_operator.cli.preflight import check_budget, faults_of
from frostline_operator.cli.view import LiveView, PlainView, View, show_outcome
from frostline_operator.engine.summary import summarize
from frostline_operator.local import devices
from frostline_operator.local.session import Session, open_session
from frostline_operator.local.store import is_full
from frostline_operator.report import numbers
from frostline_operator.report.local import read_record
from frostline_operator.report.page import to_html
from frostline_operator.runtime.backoff import Backoff

TICK_SECONDS = 0.25
"""Between two rounds: short against a run, and each round is a few file look-ups."""


@dataclass(frozen=True)
class Reference:
    """The result that a run is to be held against."""

    trial: str
    metric: str
    value: float
    layers: int
    tokens: int


def run_study(manifest: Path, folder: Path | None, declared: list[str], form: Form, preflight: bool) -> int:
    """Run the study of a manifest to its end, or until it is told to stop. Returns the exit code."""
    study = load_study(manifest, alone=True)
    folder = folder or Path(f"frostline-{study.metadata.name}")
    return conduct(study, rooted(study, manifest), manifest, folder, declared, form, preflight)


def conduct(
    study: HPOStudy,
    runs_as: HPOStudy,
    manifest: Path,
    folder: Path,
    declared: list[str],
    form: Form,
    preflight: bool = True,
    reference: Reference | None = None,
) -> int:
    """Run a study to its end, or until it is told to stop. Returns the exit code.

    Args:
        study: as its manifest says it.
        runs_as: the study with absolute paths.
        manifest: that problems are told by; code and relative paths are looked for in its folder.
        folder: of the study's state.
        declared: memory classes, see `open_session`.
        form: how progress is told.
        preflight: try out data and model first.
        reference: an earlier result of the same configuration, told beside this one.
    """
    console = _console(form)
    stop = _StopOnSignal()
    console.print(f"[bold]{study.metadata.name}[/bold]: trying out the data and the model …", highlight=False)
    with (
        faults_of(study, manifest),
        open_session(study, folder, declared, manifest.parent, runs_as=runs_as, preflight=preflight) as session,
    ):
        check_budget(study, session.loop.profile, manifest)
        if session.loop.done:
            console.print(f"The study in {folder} is finished; another --dir runs it again.", highlight=False)
        else:
            words = "continues" if session.resumed else "begins"
            where = devices.describe(session.devices)
            console.print(f"The study {words} in {folder} on {where}.", highlight=False)
            if study.spec.metrics.source == "Prometheus":
                console.print("On one machine the trainers are read directly, without Prometheus.", highlight=False)
        with _view(session, console, form) as view:
            interrupted = _drive(session, view, stop)
        if interrupted:
            console.print("\nStopped with checkpoints. The same command continues.")
            return 130
        show_outcome(session, console)
        if reference is not None:
            console.print(_beside(reference, session), highlight=False, soft_wrap=True)
        _write_report(folder, session.files.report, console)
        if form == "json":
            write_outcome(session, session.files.report, None if reference is None else asdict(reference))
        finished = session.loop.state.finished
        if finished is not None and finished.reason != "Failed":
            return 0
        if form == "quiet" and finished is not None:
            print(f"{folder}: {finished.message}", file=sys.stderr)
        return 1


def _console(form: Form) -> Console:
    return Console(quiet=form in ("quiet", "json"))


def _beside(reference: Reference, session: Session) -> str:
    """This study's best result and the one that it repeats."""
    best, unit = summarize(session.observe()).best, session.loop.profile.unit
    whole = session.loop.profile.layers
    alone = "no usable result" if best is None else f"{reference.metric} {numbers.value(best.value)}"
    layers = f" and {best.layers} of {whole} layers" if best is not None and best.layers < whole else ", in full"
    return (
        f"Alone{layers}: {alone}. In the study, {reference.trial} came to {reference.metric} "
        f"{numbers.value(reference.value)} with {reference.layers} of {whole} layers and {reference.tokens:,} {unit}."
    )


def _view(session: Session, console: Console, form: Form) -> View:
    if form == "json":
        return JsonView(session)
    if form == "live" and console.is_terminal and not console.is_dumb_terminal:  # one that cannot redraw shows nothing
        return LiveView(session, console)
    return PlainView(session, console)


def _write_report(folder: Path, path: Path, console: Console) -> None:
    """The page beside the state; where there is no room for it, the study is none the worse."""
    try:
        write_file(path, to_html(read_record(folder)))
    except OutputError as error:
        console.print(f"no report: {error}; or give another path with frostline report {folder} -o", highlight=False)
        return
    console.print(f"report: {path}", highlight=False, soft_wrap=True)


class _StopOnSignal:
    """The first SIGINT or SIGTERM asks to stop with checkpoints, a third one gives up waiting."""

    def __init__(self) -> None:
        self.count = 0
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self._count)

    def _count(self, _number: int, _frame: FrameType | None) -> None:
        self.count += 1
        if self.count >= 3:
            raise KeyboardInterrupt


def _drive(session: Session, view: View, stop: _StopOnSignal) -> bool:
    """Tick until the study is over; True if it was interrupted before."""
    loop, spec = session.loop, session.study.spec
    told = False
    full = Backoff(1.0, 30.0)
    while not loop.done:
        try:
            if stop.count:
                if not told:
                    view.say("stopping the runs; they write their checkpoints (Ctrl-C twice more leaves them behind)")
                    told = True
                loop.interrupt(spec)
                while loop.state.active_runs:
                    time.sleep(TICK_SECONDS)
                    loop.book_only(spec)
                return loop.state.finished is None
            loop.tick(spec)
        except (OSError, sqlite3.OperationalError) as error:
            if not is_full(error, session.files.folder):
                raise
            # What was not saved was not done, and is decided or saved again by the next round
            seconds = full.next()
            view.say(
                f"paused: the disk of {session.files.folder} is full ({error}); make room, the study goes on by "
                f"itself. Next attempt in {seconds:.0f} s"
            )
            _sleep(seconds, stop)
            continue
        full.reset()
        view.update()
        if not loop.done:
            time.sleep(TICK_SECONDS)
    return False


def _sleep(seconds: float, stop: _StopOnSignal) -> None:
    """Sleep, but no longer than until the next signal."""
    until, count = time.monotonic() + seconds, stop.count
    while time.monotonic() < until and stop.count == count:
        time.sleep(TICK_SECONDS)
