"""The model's profile, computed by the trainer in a process of its own: this side has no torch."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from frostline_operator.local.devices import Device
from frostline_trainer.contract import ModelProfile

Memory = Literal["cuda", "cpu", "none"]
Where = Literal["gpu", "cpu", "elsewhere"]
"""Where runs will be: on this machine's GPUs or CPU, or elsewhere, with other files, packages and devices."""

_MISSING = re.compile(r"No module named '?([\w.]+)")
_OURS = {"frostline_trainer", "torch", "torchvision", "transformers", "safetensors", "numpy", "sklearn", "fsspec"}
"""Packages whose lack means that the trainer is not installed; others are a study's own."""


class ProfileError(Exception):
    """The trainer could not build the study's model or data; the message says what to change."""


@dataclass(frozen=True)
class Fault:
    """Something that a preflight found: no trial could get over it."""

    field: str
    """Below the study's spec, such as `data.path`; empty where no field is named."""
    message: str
    choice: str
    """The hyperparameter's value that it is a problem with, such as `n_head = 3`; empty where it is one with all."""


class PreflightError(ProfileError):
    """The data cannot be read, or the network of a choice cannot be built."""

    def __init__(self, faults: list[Fault]) -> None:
        self.faults = faults
        super().__init__("\n".join(f"{fault.field}: {fault.message}" for fault in faults))


def trainer_environment(code: Path) -> dict[str, str]:
    """This process's environment, with a folder put first where Python looks for modules."""
    paths = [str(code.resolve()), os.environ.get("PYTHONPATH", "")]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, paths))}


def memory_of(available: list[Device]) -> Memory:
    """Whose memory has to be foretold for runs on these devices."""
    if all(device.usable_bytes is None for device in available):
        return "none"
    return "cpu" if any(device.enforced for device in available) else "cuda"


def where_of(available: list[Device]) -> Where:
    """Where on this machine runs on these devices will be."""
    return "gpu" if any(device.environment.get("CUDA_VISIBLE_DEVICES") for device in available) else "cpu"


@dataclass(frozen=True)
class Preflight:
    """What is tried out before anything is spent."""

    document: str
    """Made by `engine.profiling.choices_document`."""
    where: Where


def check_study(preflight: Preflight, code: Path, checkpoints: Path) -> None:
    """Open the data and build the network of every choice; the data must be what the checkpoints were trained on.

    Raises:
        PreflightError: with everything that is wrong.
        ProfileError: the trainer failed otherwise.
    """
    _ask(["check", preflight.document, "--where", preflight.where, "--checkpoints", str(checkpoints)], code)


def profile_model(document: str, memory: Memory, code: Path, preflight: Preflight | None = None) -> ModelProfile:
    """The profile of a document made by `profile_document`.

    Args:
        document: made by `engine.profiling.profile_document`.
        memory: whose memory to foretell in `ModelProfile.memory`: `cuda` for GPUs, `cpu` for classes declared on a CPU,
            none to leave it out, which takes seconds less. Foretold once, it is read from the cache.
        code: folder in which a custom entrypoint's module is looked for first.
        preflight: what to try out first, in the same process; None for nothing.

    Raises:
        PreflightError: with everything that the preflight found.
        ProfileError: with the trainer's message.
    """
    arguments = ["profile", document, "--format", "json", "--memory", memory]
    if preflight is not None:
        arguments += ["--check", preflight.document, "--where", preflight.where]
    return ModelProfile.model_validate_json(_ask(arguments, code))


def export_trial(document: str, output: Path, code: Path) -> list[str]:
    """Write a trained trial as files of the library that its network comes from; their names.

    Args:
        document: made by `engine.runspec.winner_spec`, as JSON.
        output: folder to write to.
        code: folder in which a custom entrypoint's module is looked for first.

    Raises:
        ProfileError: with the trainer's message.
    """
    return [str(name) for name in json.loads(_ask(["export", document, "--out", str(output)], code))]


def compare_memory(document: str, layers: int, memory: Memory, code: Path) -> list[int | None]:
    """Peak bytes at z = `layers` of the document and of each of its variants, None for what the model does not support.

    Raises:
        ProfileError: with the trainer's message.
    """
    answers = json.loads(_ask(["compare", document, "--layers", str(layers), "--memory", memory], code))
    return [None if size is None else int(size) for size in answers]


def _ask(arguments: list[str], code: Path) -> str:
    """The last line that the trainer prints."""
    environment = trainer_environment(code)
    if '"family":"Custom"' not in "".join(arguments):  # a custom entrypoint may have to be measured on a GPU
        environment["CUDA_VISIBLE_DEVICES"] = ""
    command = [sys.executable, "-m", "frostline_trainer", *arguments]
    answer = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    if answer.returncode != 0:
        faults = list(_faults(answer.stdout))
        if faults:
            raise PreflightError(faults)
        raise ProfileError(_message(answer.stdout + answer.stderr, answer.returncode))
    return answer.stdout.strip().rpartition("\n")[2]


def _faults(output: str) -> Iterator[Fault]:
    for line in output.splitlines():
        if line.startswith("{") and '"problem"' in line:
            said = json.loads(line)
            yield Fault(said["field"], said["message"], said["choice"])


def _message(output: str, code: int) -> str:
    """The message of the trainer's last log line, or the end of what it printed and how it ended."""
    lines = output.strip().splitlines()
    missing = next((match[1] for line in lines if (match := _MISSING.search(line))), None)
    if missing is not None and missing.partition(".")[0] in _OURS:
        return f"the trainer is not installed here (no module {missing}); pip install 'frostline[all]'"
    for line in reversed(lines):
        if line.startswith("{"):
            try:
                return str(json.loads(line)["message"])
            except (ValueError, KeyError):
                continue
    return "\n".join([*lines[-5:], f"the trainer {_ending(code)} while it profiled the model"])


def _ending(code: int) -> str:
    if code >= 0:
        return f"ended with exit code {code}"
    try:
        name = signal.Signals(-code).name
    except ValueError:
        name = f"signal {-code}"
    remedy = "; did it run out of memory?" if name == "SIGKILL" else ""
    return f"was killed by {name}{remedy}"
