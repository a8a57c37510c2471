"""The model's profile, computed by the trainer in a process of its own: this side has no torch."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import Literal

from frostline_operator.local.devices import Device
from frostline_trainer.contract import ModelProfile

Memory = Literal["cuda", "cpu", "none"]


_MISSING = re.compile(r"No module named '?([\w.]+)")
_OURS = {"frostline_trainer", "torch", "torchvision", "transformers", "safetensors", "numpy", "sklearn", "fsspec"}
"""Packages whose lack means that the trainer is not installed; others are a study's own."""


class ProfileError(Exception):
    """The trainer could not build the study's model or data; the message says what to change."""


def trainer_environment(code: Path) -> dict[str, str]:
    """This process's environment, with a folder put first where Python looks for modules."""
    paths = [str(code.resolve()), os.environ.get("PYTHONPATH", "")]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, paths))}


def memory_of(available: list[Device]) -> Memory:
    """Whose memory has to be foretold for runs on these devices."""
    if all(device.usable_bytes is None for device in available):
        return "none"
    return "cpu" if any(device.enforced for device in available) else "cuda"


def profile_model(document: str, memory: Memory, code: Path) -> ModelProfile:
    """The profile of a document made by `profile_document`.

    Args:
        document: made by `engine.profiling.profile_document`.
        memory: whose memory to foretell in `ModelProfile.memory`: `cuda` for GPUs, `cpu` for classes declared on a CPU,
            none to leave it out, which takes seconds less. Foretold once, it is read from the cache.
        code: folder in which a custom entrypoint's module is looked for first.

    Raises:
        ProfileError: with the trainer's message.
    """
    return ModelProfile.model_validate_json(_ask(["profile", document, "--format", "json", "--memory", memory], code))


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
        raise ProfileError(_message(answer.stdout + answer.stderr, answer.returncode))
    return answer.stdout.strip().splitlines()[-1]


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
