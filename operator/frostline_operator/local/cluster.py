"""`Cluster` on this machine: runs are processes, devices are its cards or cores."""

from __future__ import annotations

import re
import shutil
import signal
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path

import pydantic

from frostline_operator.api.study import HPOStudySpec
from frostline_operator.engine.state import MemoryClass, Run, StudyState
from frostline_operator.local import devices, processes
from frostline_operator.local.devices import Device
from frostline_operator.local.files import StudyFiles
from frostline_operator.local.profile import trainer_environment
from frostline_operator.runtime.protocol import ClusterView, RunSettings, RunView, Trouble
from frostline_operator.scores.scrape import Exposition, release, scrape
from frostline_trainer.contract import CHECKPOINT_FOLDER, RESULT_ENV, RUN_ENV, ExitCode, RunResult, RunSpec

LINGER_SECONDS = 30.0
"""How long a trainer waits to be read; it is released as soon as it was, so this matters only while nobody watches."""
KILL_AFTER_SECONDS = 60.0
"""A trainer that was told to stop and has not gone by then is killed."""


class LocalCluster:
    """Processes on this machine.

    Args:
        files: of the study.
        study_uid: whose metrics to read.
        available: devices, each for one run at a time.
        code: folder in which a custom entrypoint's module is looked for first.
        scrape_seconds: between two looks at a trainer's metrics.
    """

    def __init__(
        self, files: StudyFiles, study_uid: str, available: list[Device], code: Path, scrape_seconds: float = 1.0
    ) -> None:
        self._files = files
        self._uid = study_uid
        self._devices = available
        self._code = code
        self._interval = scrape_seconds
        self._children: dict[str, subprocess.Popen[bytes]] = {}
        self._exit_codes: dict[str, int] = {}
        self._held: dict[str, int] = {}
        self._scraped: dict[str, float] = {}
        self._told: dict[str, float] = {}
        self._swept: list[str] = []

    def classes(self, spec: HPOStudySpec, state: StudyState) -> tuple[MemoryClass, ...]:
        """The memory classes of this machine's devices."""
        return devices.classes(self._devices)

    def observe(self, spec: HPOStudySpec, state: StudyState) -> ClusterView:
        """Processes by their locks, values over HTTP, results from their files.

        A run's record counts at once: trainers on this machine are read directly, whatever the study's source.
        """
        return ClusterView(tuple(self._look_at(run) for run in state.active_runs))

    def _look_at(self, run: Run) -> RunView:
        files = self._files.run(run.name)
        life = processes.life(files)
        result = self._result(run)
        held = processes.age(files, time.time())
        self._reap(run.name)
        if life == "Absent":
            return RunView(run.name, "Absent")
        if life == "Alive":
            self._device_of(run)
            exposition = self._shown(run, result is not None)
            return RunView(run.name, "Running", exposition.samples, exposition.saved, result, held)
        self._held.pop(run.name, None)
        message = "" if result is not None else processes.last_lines(files.log)
        ended_after = result.seconds if result is not None else held
        no_space = result is None and self._exit_codes.get(run.name) == ExitCode.NO_SPACE
        return RunView(run.name, "Ended", result=result, held_seconds=ended_after, message=message, no_space=no_space)

    def _reap(self, name: str) -> None:
        child = self._children.get(name)
        if child is not None and child.poll() is not None:
            self._exit_codes[name] = child.returncode
            del self._children[name]

    def _shown(self, run: Run, final: bool) -> Exposition:
        now = time.monotonic()
        if not final and now - self._scraped.get(run.name, 0.0) < self._interval:
            return Exposition()
        self._scraped[run.name] = now
        address = self._address(run)
        exposition = None if address is None else scrape(address, self._uid)
        return exposition or Exposition()

    def _address(self, run: Run) -> str | None:
        try:
            return self._files.run(run.name).metrics.read_text().strip() or None
        except OSError:
            return None

    def _result(self, run: Run) -> RunResult | None:
        try:
            return RunResult.model_validate_json(self._files.run(run.name).result.read_text())
        except (OSError, pydantic.ValidationError):
            return None

    def run_settings(self, spec: HPOStudySpec, run: Run) -> RunSettings:
        """Checkpoints in the study's folder, metrics on a port of the system's choice."""
        device = self._device_of(run)
        return RunSettings(
            checkpoint=str(self._files.checkpoints),
            metrics_port=0,
            linger_seconds=LINGER_SECONDS,
            metrics_file=str(self._files.run(run.name).metrics),
            memory_limit=device.usable_bytes if device.enforced else None,
        )

    def start(self, spec: HPOStudySpec, run: Run, document: RunSpec) -> Trouble | None:
        """Start the trainer's process unless it was started before."""
        files = self._files.run(run.name)
        if processes.life(files) != "Absent":
            return None
        device = self._device_of(run)
        files.folder.mkdir(parents=True, exist_ok=True)
        files.device.write_text(str(self._held[run.name]))
        files.spec.write_text(document.model_dump_json(by_alias=True, exclude_none=True, indent=1))
        environment = {
            **trainer_environment(self._code),
            "PYTHONUNBUFFERED": "1",
            **device.environment,
            RUN_ENV: f"@{files.spec}",
            RESULT_ENV: str(files.result),
        }
        self._children[run.name] = processes.start(files, ["-m", "frostline_trainer", "run"], environment)
        return None

    def _device_of(self, run: Run) -> Device:
        """The device that the run was given, or else one of its class that no other run holds."""
        if run.name not in self._held:
            given = self._given(run)
            self._held[run.name] = self._free_device(run) if given is None else min(given, len(self._devices) - 1)
        return self._devices[self._held[run.name]]

    def _given(self, run: Run) -> int | None:
        """From an earlier start, perhaps by a command that was killed since."""
        try:
            return int(self._files.run(run.name).device.read_text())
        except (OSError, ValueError):
            return None

    def _free_device(self, run: Run) -> int:
        taken = set(self._held.values())
        alike = [i for i, device in enumerate(self._devices) if device.memory_class == run.memory_class]
        return next((i for i in alike if i not in taken), alike[0] if alike else 0)

    def stop(self, run: Run) -> None:
        """SIGTERM at first, SIGKILL if that was long ago."""
        files = self._files.run(run.name)
        told = self._told.setdefault(run.name, time.monotonic())
        overdue = time.monotonic() - told > KILL_AFTER_SECONDS
        processes.send(files, signal.SIGKILL if overdue else signal.SIGTERM)

    def sweep(self, spec: HPOStudySpec, folders: Sequence[str], over: bool) -> bool:
        """Remove their folders."""
        if self._swept != folders:
            for folder in (name for name in folders if re.fullmatch(CHECKPOINT_FOLDER, name)):
                shutil.rmtree(self._files.checkpoints / folder, ignore_errors=True)
            self._swept = list(folders)
        return True

    def release(self, run: Run) -> None:
        """POST /release."""
        address = self._address(run)
        if address is not None:
            release(address)
