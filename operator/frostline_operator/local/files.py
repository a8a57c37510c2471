"""What lies where in a study's folder."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class RunFiles:
    """The files of one run."""

    folder: Path

    @property
    def spec(self) -> Path:
        """The RunSpec that it was started with."""
        return self.folder / "run.json"

    @property
    def result(self) -> Path:
        """The RunResult that it leaves."""
        return self.folder / "result.json"

    @property
    def lock(self) -> Path:
        """Locked as long as the run's process lives, whoever its parent is now."""
        return self.folder / "lock"

    @property
    def pid(self) -> Path:
        """Its process id, written by itself before anything else: so it was started."""
        return self.folder / "pid"

    @property
    def device(self) -> Path:
        """Which of this machine's devices it was given."""
        return self.folder / "device"

    @property
    def metrics(self) -> Path:
        """`host:port` of its /metrics."""
        return self.folder / "metrics"

    @property
    def log(self) -> Path:
        """What it prints."""
        return self.folder / "log.jsonl"


@dataclass(frozen=True)
class StudyFiles:
    """The files of one study."""

    folder: Path

    @property
    def database(self) -> Path:
        """The state."""
        return self.folder / "study.sqlite3"

    @property
    def lock(self) -> Path:
        """Locked by the command that runs the study."""
        return self.folder / "lock"

    @property
    def checkpoints(self) -> Path:
        """Checkpoints of all trials."""
        return self.folder / "checkpoints"

    @property
    def report(self) -> Path:
        """The report."""
        return self.folder / "report.html"

    @property
    def runs(self) -> Path:
        """A folder for each run."""
        return self.folder / "runs"

    def run(self, name: str) -> RunFiles:
        """The files of one run."""
        return RunFiles(self.runs / name)
