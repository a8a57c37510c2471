"""What one sees of a study while it runs: a live picture in a terminal, lines elsewhere."""

from __future__ import annotations

import time
from types import TracebackType
from typing import Protocol

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from frostline_operator.api.quantity import parse_duration
from frostline_operator.cli.progress import ProgressMeter, share_done
from frostline_operator.cli.tables import Fitting, print_whole
from frostline_operator.engine.remaining import seconds_left
from frostline_operator.engine.summary import Summary, summarize
from frostline_operator.local.session import Session
from frostline_operator.report import numbers


class View(Protocol):
    """Shows a study while it runs."""

    def __enter__(self) -> View: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool | None: ...

    def update(self) -> None:
        """Show where the study stands now."""

    def say(self, message: str) -> None:
        """Show a message."""


class LiveView:
    """A picture that is redrawn in place, with the study's events passing above it."""

    def __init__(self, session: Session, console: Console) -> None:
        self._session = session
        self._live = Live(console=console, refresh_per_second=4, transient=True)
        self._events = _Events(session)
        self._meter = ProgressMeter(session)

    def __enter__(self) -> LiveView:
        self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._live.stop()

    def update(self) -> None:
        """Redraw."""
        for line in self._events.new():
            self._live.console.print(line, highlight=False, style="dim")
        self._live.update(_picture(self._session, self._meter))

    def say(self, message: str) -> None:
        """Above the picture."""
        self._live.console.print(message, highlight=False)


class PlainView:
    """Events, and every so often a line on progress."""

    def __init__(self, session: Session, console: Console, every_seconds: float = 15.0) -> None:
        self._session = session
        self._console = console
        self._events = _Events(session)
        self._meter = ProgressMeter(session)
        self._every = every_seconds
        self._last = time.monotonic()

    def __enter__(self) -> PlainView:
        return self

    def __exit__(self, *_: object) -> None:
        self.update()

    def update(self) -> None:
        """Print what is new."""
        for line in self._events.new():
            self.say(line)
        self._meter.read()  # at each look, so that it knows when a run was started
        if time.monotonic() - self._last >= self._every:
            self._last = time.monotonic()
            self.say(f"{time.strftime('%H:%M:%S')} {_progress_line(self._session, self._meter)}")

    def say(self, message: str) -> None:
        """A line."""
        self._console.print(message, highlight=False, soft_wrap=True)


class _Events:
    def __init__(self, session: Session) -> None:
        self._store = session.store
        self._shown = len(self._store.events())

    def new(self) -> list[str]:
        events = self._store.events()
        fresh, self._shown = events[self._shown :], len(events)
        return [f"{time.strftime('%H:%M:%S', time.localtime(at))} {message}" for at, _, message in fresh]


def _picture(session: Session, meter: ProgressMeter) -> RenderableType:
    seen = session.observe()
    summary = summarize(seen)
    table = rung_table(summary, session)
    parts: list[RenderableType] = [Fitting(table, _in_words(table)), _runs(session)]
    parts.append(Text.from_markup(_best_line(summary, session)))
    parts += [Text(line) for line in _budget_lines(summary, session)]
    parts += [Text(f"{c.type}: {c.message}", style="yellow") for c in summary.conditions]
    if session.loop.waiting_for:
        parts.append(Text(f"waiting: {session.loop.waiting_for}", style="yellow"))
    left = seconds_left(seen, summary, meter.read())
    parts.append(Text(f"about {numbers.duration(left)} left" if left is not None else "time left: not known yet"))
    return Group(*parts)


def rung_table(summary: Summary, session: Session) -> Table:
    """The rungs: fidelity, how many trials are where, and how well neighbours agree."""
    unit = session.loop.profile.unit
    several = len({row.bracket for row in summary.rungs}) > 1
    table = Table(box=None, padding=(0, 1, 0, 1))
    running = any(row.running for row in summary.rungs)
    columns = ["bracket"] if several else []
    columns += ["rung", "layers", unit, "trials", *(["running"] if running else [])]
    for column in [*columns, "done", "failed", "promoted", "best", "agreement"]:
        table.add_column(column, justify="right", no_wrap=True)
    for row in summary.rungs:
        cells = [str(row.bracket)] if several else []
        cells.append(str(row.rung))
        cells.append(f"{row.layers}" if row.layers == row.asked_layers else f"{row.layers} of {row.asked_layers}")
        cells += [f"{row.tokens:,}", f"{row.entered}/{max(row.entered, row.planned)}"]
        if running:
            cells.append(str(row.running or "–"))
        cells += [str(count or "–") for count in (row.finished, row.failed, row.promoted)]
        cells += [numbers.value(row.best), "–" if row.spearman is None else f"{row.spearman:.2f}"]
        table.add_row(*cells)
    return table


def _in_words(table: Table) -> Text:
    """The rows of a table as lines that wrap: each cell after its column's name."""
    names = [str(column.header) for column in table.columns]
    rows = zip(*(column.cells for column in table.columns), strict=True)
    return Text("\n".join(", ".join(f"{name} {cell}" for name, cell in zip(names, row, strict=True)) for row in rows))


def _runs(session: Session) -> RenderableType:
    table = Table(box=None, show_header=False, padding=(0, 2, 0, 0))
    for _ in range(5):
        table.add_column(no_wrap=True)
    lines = []
    for run in session.loop.state.active_runs:
        done = share_done(session, run)
        names = f"{len(run.trials)} trial{'s' if len(run.trials) > 1 else ''}, {run.layers} layers, {run.memory_class}"
        table.add_row(run.name, names, run.state.lower(), ProgressBar(1.0, done, width=24), f"{done:.0%}")
        lines.append(f"{run.name}: {done:.0%}, {run.state.lower()}, {names}")
    return Fitting(table, Text("\n".join(lines)))


def _best_line(summary: Summary, session: Session) -> str:
    if summary.best is None:
        return "best so far: none yet"
    trial = session.loop.state.trials[summary.best.trial]
    metric = session.study.spec.objective.metric
    return (
        f"[bold]best so far[/bold]: {trial.name} with {metric} {numbers.value(summary.best.value)} at rung "
        f"{summary.best_rung}  {numbers.assignment(trial.assignment)}"
    )


def _budget_lines(summary: Summary, session: Session) -> list[str]:
    budget, spent = session.study.spec.budget, summary.spent
    found = []
    if budget.tokens is not None:
        found.append(f"{numbers.amount(spent.tokens)} of {numbers.amount(budget.tokens)} {session.loop.profile.unit}")
    if budget.gpu_seconds is not None:
        found.append(f"{numbers.duration(spent.gpu_seconds)} of {numbers.duration(budget.gpu_seconds)} on devices")
    if budget.cost is not None:
        found.append(f"{spent.cost:.2f} of {budget.cost:.2f} in cost")
    if budget.wall_clock is not None and session.loop.state.started_at is not None:
        elapsed = time.time() - session.loop.state.started_at
        found.append(
            f"{numbers.duration(elapsed)} of {numbers.duration(parse_duration(budget.wall_clock))} by the clock"
        )
    return [f"budget: {', '.join(found)} (reservations counted)"] if found else []


def _progress_line(session: Session, meter: ProgressMeter) -> str:
    seen = session.observe()
    summary = summarize(seen)
    runs = ", ".join(f"{run.name} {share_done(session, run):.0%}" for run in session.loop.state.active_runs)
    left = seconds_left(seen, summary, meter.read())
    about = "" if left is None else f"; about {numbers.duration(left)} left"
    return f"{summary.decided}/{summary.trials} trials decided; running: {runs or 'nothing'}{about}"


def show_outcome(session: Session, console: Console) -> None:
    """What came of it: the table, the best configuration, and what it saved."""
    loop = session.loop
    summary = summarize(session.observe())
    finished = loop.state.finished
    console.print()
    print_whole(console, rung_table(summary, session))
    if finished is not None and finished.reason != "Completed":
        console.print(f"[bold]{finished.reason}[/bold]: {finished.message}", highlight=False)
    if summary.best is not None:
        console.print(_best_line(summary, session).replace("best so far", "best"), highlight=False)
    for condition in summary.conditions:
        console.print(f"[yellow]{condition.type}[/yellow]: {condition.message}", highlight=False)
    saved = summary.savings
    console.print(
        f"{numbers.flops(saved.flops)} in {numbers.duration(_elapsed(session))}. The trials that ran would take "
        f"{numbers.times(saved.full, saved.flops)} as much in full, to the same {loop.profile.unit} with all layers "
        f"{numbers.times(saved.tokens_only, saved.flops)}.",
        highlight=False,
    )


def _elapsed(session: Session) -> float:
    """Seconds from the study's start to its end, or to now."""
    started = session.loop.state.started_at
    ended = [at for at, reason, _ in session.store.events() if reason == "Finish"]
    return 0.0 if started is None else (ended[-1] if ended else time.time()) - started
