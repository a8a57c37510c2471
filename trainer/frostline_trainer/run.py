"""One run from its document to its exit code: the rim around the training loop."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import threading
import time
import traceback
from collections.abc import Mapping
from pathlib import Path
from types import FrameType

import pydantic
import torch

from frostline_trainer.checkpoints.store import Store, write_atomically
from frostline_trainer.contract import LAYERS_ENV, RUN_ENV, ExitCode, Reason, RunResult, RunSpec, TrialResult
from frostline_trainer.device.failures import is_device_failure, is_no_space, is_out_of_memory
from frostline_trainer.device.memory import DeviceMemory
from frostline_trainer.errors import CheckpointsLost, InfrastructureFault, StudyFault, located
from frostline_trainer.logs import log
from frostline_trainer.reporting.metrics import MetricsServer, RunMetrics
from frostline_trainer.reporting.result import write_result
from frostline_trainer.training.loop import train
from frostline_trainer.training.pack import build_pack


def read_spec(environment: Mapping[str, str]) -> RunSpec:
    """The run's document from `FROSTLINE_RUN` (JSON, or `@` and a file's path), with `FROSTLINE_LAYERS` applied.

    Raises:
        StudyFault: no document, or one with errors; all of them are named.
    """
    text = environment.get(RUN_ENV, "")
    if not text:
        raise StudyFault(
            f"{RUN_ENV} is not set; give the run's JSON document, or @ and the path of a file that holds it"
        )
    if text.startswith("@"):
        try:
            text = Path(text[1:]).read_text(encoding="utf-8")
        except OSError as error:
            raise StudyFault(f"{RUN_ENV}: {error}") from error
    try:
        spec = RunSpec.model_validate_json(text)
        layers = environment.get(LAYERS_ENV)
        if layers:
            spec = RunSpec.model_validate_json(
                spec.model_copy(update={"layers": int(layers)}).model_dump_json(by_alias=True)
            )
    except pydantic.ValidationError as error:
        raise StudyFault(f"{RUN_ENV}: {describe(error)}") from error
    except ValueError as error:
        raise StudyFault(f"{LAYERS_ENV}: {error}") from error
    return spec


def describe(error: pydantic.ValidationError) -> str:
    """All errors of a document in one line: field, what is wrong, what was given."""
    lines = []
    for problem in error.errors(include_url=False):
        given = repr(problem["input"])
        lines.append(f"{'.'.join(map(str, problem['loc'])) or 'document'}: {problem['msg']} (given: {given[:60]})")
    return "; ".join(lines)


class StopFlag:
    """Set by SIGTERM and SIGINT; the loop looks at it between steps."""

    def __init__(self) -> None:
        self.event = threading.Event()

    def __call__(self) -> bool:
        """Whether to stop."""
        return self.event.is_set()

    def install(self) -> None:
        """Take both signals over, which only works in the main thread."""
        signal.signal(signal.SIGTERM, self._set)
        signal.signal(signal.SIGINT, self._set)

    def _set(self, number: int, _frame: FrameType | None) -> None:
        self.event.set()


def main() -> int:
    """Evaluate the run in the environment; returns the exit code, the result is written by then."""
    began = time.monotonic() - _process_age()
    stopped = StopFlag()
    stopped.install()
    try:
        spec = read_spec(os.environ)
    except StudyFault as fault:
        log("fault", message=str(fault))
        write_result(RunResult(run="", layers=1, exit_code=ExitCode.STUDY_FAULT, trials=[], message=str(fault)[:1024]))
        return int(ExitCode.STUDY_FAULT)

    server: MetricsServer | None = None
    try:
        device = choose_device(spec.device)
        metrics = RunMetrics(spec, spec.layers)
        server = _serve(metrics, spec)
        log(
            "run",
            study=spec.study,
            run=spec.run,
            rung=spec.rung,
            layers=spec.layers,
            tokens=spec.tokens,
            device=str(device),
            trials=[trial.name for trial in spec.trials],
            metrics_port=server.port if server else None,
        )
        if server and spec.metrics_file:
            write_atomically(Path(spec.metrics_file), f"{_address()}:{server.port}".encode())
        result = evaluate_run(spec, device, metrics, stopped, DeviceMemory(device, spec.memory_limit), began)
    except Exception as error:  # noqa: BLE001 - whatever it is, the operator is to have a record of it
        result = _record(spec, error, began)
    written = write_result(result)
    if server:
        if written and result.exit_code == ExitCode.DONE:
            _linger(server, spec.linger_seconds, stopped)
        server.close()
    return int(ExitCode.NO_SPACE if result.no_space or not written else result.exit_code)


def evaluate_run(
    spec: RunSpec, device: torch.device, metrics: RunMetrics, stopped: StopFlag, memory: DeviceMemory, began: float
) -> RunResult:
    """Train the run's trials and turn whatever happens into a result."""
    training_since: float | None = None
    try:
        store = Store(spec.checkpoint)
        if spec.model.family == "Custom":
            from frostline_trainer.custom.entrypoint import run_custom

            training_since = time.monotonic()
            with memory.enforced(()):
                trials = run_custom(spec, device, store, metrics, stopped)
        else:
            pack = build_pack(spec, device, store)
            training_since = time.monotonic()
            try:
                with memory.enforced(pack.tensors()):
                    trials = train(pack, store, metrics, stopped)
            finally:
                pack.batches.close()
        interrupted = [trial for trial in trials if trial.reason == "Stopped"]
        result = RunResult(
            run=spec.run,
            layers=spec.layers,
            exit_code=ExitCode.STOPPED if interrupted else ExitCode.DONE,
            trials=trials,
            message=_stopped(interrupted) if interrupted else "",
            seconds=round(time.monotonic() - began, 3),
        )
    except Exception as error:  # noqa: BLE001 - whatever it is, the operator is to have a record of it
        result = _record(spec, error, began)
    measured = {
        "peak_bytes": memory.peak_bytes(),
        "reserved_bytes": memory.reserved_bytes(),
        "device_bytes": memory.device_bytes(),
        "device": memory.name(),
        "train_seconds": 0.0 if training_since is None else round(time.monotonic() - training_since, 3),
    }
    return result.model_copy(update=measured)


def _stopped(trials: list[TrialResult]) -> str:
    unsaved = [trial.name for trial in trials if trial.checkpoint is None]
    if not unsaved:
        return "stopped by a signal; checkpoints are written"
    return f"stopped by a signal; no checkpoint is written of {', '.join(unsaved)}"


def _record(spec: RunSpec, error: Exception, began: float) -> RunResult:
    """The record of a run that failed: whose fault it was, and what would help."""
    reason: Reason = "Fault"
    lost: tuple[str, ...] = ()
    no_space = False
    if isinstance(error, StudyFault):
        code, message = ExitCode.STUDY_FAULT, str(error)
    elif is_out_of_memory(error):
        code, reason = ExitCode.OUT_OF_MEMORY, "OutOfMemory"
        message = f"out of memory with {spec.layers} trainable layers and {len(spec.trials)} trials in the run: {error}"
    else:
        code = ExitCode.INFRASTRUCTURE
        if is_no_space(error):
            no_space = True
            message = f"no space is left to write to: {located(error)}"
        elif isinstance(error, InfrastructureFault):
            message = str(error)
            lost = error.trials if isinstance(error, CheckpointsLost) else ()
        else:
            with contextlib.suppress(OSError):
                traceback.print_exc()
            who = "the device" if is_device_failure(error) else "the trainer"
            message = f"{who} failed: {located(error)}"
    log("ended", exit_code=int(code), message=message)
    trials = [
        TrialResult(
            name=trial.name,
            reason=reason,
            tokens=trial.parent.tokens if trial.parent else 0,
            checkpoint_lost=trial.name in lost,
        )
        for trial in spec.trials
    ]
    return RunResult(
        run=spec.run,
        layers=spec.layers,
        exit_code=code,
        trials=trials,
        seconds=round(time.monotonic() - began, 3),
        no_space=no_space,
        message=message[:1024],
    )


def choose_device(promised: str | None = None) -> torch.device:
    """The first accelerator this process may see, else the CPU.

    Args:
        promised: cuda or cpu, where the run was promised one of the two.

    Raises:
        InfrastructureFault: an accelerator was promised and there is none.
    """
    if promised == "cpu":
        return torch.device("cpu")
    if torch.cuda.is_available():
        return torch.device("cuda", 0)
    if promised == "cuda":
        visible = os.environ.get("CUDA_VISIBLE_DEVICES")
        raise InfrastructureFault(
            f"a GPU was promised to this run and PyTorch {torch.__version__} sees none "
            f"(CUDA_VISIBLE_DEVICES is {'unset' if visible is None else repr(visible)}); look at the node's driver and "
            "device plugin, and whether the image's PyTorch is built for CUDA"
        )
    return torch.device("cpu")


def _serve(metrics: RunMetrics, spec: RunSpec) -> MetricsServer | None:
    """The server of /metrics; without one where its port is taken, which is said."""
    try:
        return MetricsServer(metrics, spec.metrics_port)
    except OSError as error:
        log("metrics-not-served", port=spec.metrics_port, error=str(error))
        return None


def _linger(server: MetricsServer, seconds: float, stopped: StopFlag) -> None:
    """Keep /metrics up until the time is over, somebody releases the run, or a signal asks to go."""
    until = time.monotonic() + seconds
    while time.monotonic() < until and not server.released.wait(0.05) and not stopped():
        pass


def _address() -> str:
    return os.environ.get("POD_IP") or (
        "127.0.0.1" if not os.environ.get("KUBERNETES_SERVICE_HOST") else socket.gethostname()
    )


def _process_age() -> float:
    """Seconds since the process started, imports included; 0 where the system does not tell."""
    try:
        started = int(Path("/proc/self/stat").read_text().rsplit(")", 1)[1].split()[19]) / os.sysconf("SC_CLK_TCK")
        return max(0.0, float(Path("/proc/uptime").read_text().split()[0]) - started)
    except (OSError, ValueError, IndexError):
        return 0.0
