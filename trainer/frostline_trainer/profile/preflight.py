"""A study tried out before anything is spent: its data opened, and the network of every choice built and called once.

Networks have tensors with a size and no content (`hollow`), so the largest takes a second and no memory.
"""

from __future__ import annotations

import contextlib
import importlib.util
import itertools
import json
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from torch.nn.attention import SDPBackend, sdpa_kernel

from frostline_trainer.contract import ProfileSpec
from frostline_trainer.custom.entrypoint import load_entrypoint
from frostline_trainer.data.fingerprint import check_unchanged, fingerprint
from frostline_trainer.data.open import profiled_shape
from frostline_trainer.data.preview import preview
from frostline_trainer.data.shape import DataShape
from frostline_trainer.data.source import blank
from frostline_trainer.errors import StudyFault
from frostline_trainer.logs import log
from frostline_trainer.models.build import build_network
from frostline_trainer.models.cut import run_prefix
from frostline_trainer.profile.pretend import content_free
from frostline_trainer.training.objective import objective_of

Where = Literal["gpu", "cpu", "elsewhere"]
"""Where runs will be: on a GPU or the CPU of this machine, or elsewhere, with other files, packages and devices."""

MOST_CHECKPOINTS = 1000
"""Checkpoints of a study whose data is asked for."""

_FIELD = re.compile(r"^((?:data|model|training|objective)(?:\.\w+)*): (.*)$", re.DOTALL)


@dataclass(frozen=True)
class Problem:
    """Something that no trial could get over."""

    field: str
    """Below the study's spec, such as `data.path`; empty where no field is named."""
    message: str
    choice: str = ""
    """The hyperparameters it is a problem with, such as `n_head = 3`; empty where it is one with all."""


def preflight(spec: ProfileSpec, where: Where) -> list[Problem]:
    """Everything that is found wrong.

    Args:
        spec: its variants are the choices to try.
        where: runs will be. Elsewhere, data that is not here, and packages that are not, are passed over.
    """
    if spec.model.family == "Custom":
        assert spec.model.entrypoint is not None
        return list(_tried(lambda: load_entrypoint(spec.model.entrypoint or "")))
    problems: list[Problem] = []
    shape = _shape(spec, where, problems)
    candidates = [(spec.vary(variant), variant.label) for variant in spec.variants] or [(spec, "")]
    if where != "elsewhere":
        problems += _of_choices(candidates, lambda one: one.training.optimizer.name, lambda one: _optimizer(one, where))
    if shape is not None:
        problems += _of_choices(candidates, _network_key, lambda one: _network(one, shape))
    return _without_repeats(problems, {label for _, label in candidates})


def _of_choices(
    candidates: Sequence[tuple[ProfileSpec, str]],
    key: Callable[[ProfileSpec], str],
    attempt: Callable[[ProfileSpec], None],
) -> Iterator[Problem]:
    """What is wrong with choices: one is at fault where it suits none of the companies that it is tried in.

    Candidates of equal keys are tried once.
    """
    outcomes: dict[str, list[Problem]] = {}
    failed: dict[str, list[Problem]] = {}
    for candidate, label in candidates:
        name = key(candidate)
        if name not in outcomes:
            outcomes[name] = list(_tried(lambda candidate=candidate: attempt(candidate)))  # type: ignore[misc]
        failed.setdefault(label, outcomes[name])
        failed[label] = failed[label] and outcomes[name]
    for label, problems in failed.items():
        for problem in problems:
            yield Problem(problem.field, problem.message, label)


def _network_key(spec: ProfileSpec) -> str:
    return f"{spec.model.model_dump_json()} {spec.training.sequence_length}"


def _without_repeats(problems: list[Problem], labels: set[str]) -> list[Problem]:
    """Each once; what is a problem with every choice is one with none in particular."""
    choices: dict[tuple[str, str], list[str]] = {}
    for problem in problems:
        choices.setdefault((problem.field, problem.message), []).append(problem.choice)
    return [
        Problem(field, message, "" if "" in with_ or labels <= set(with_) else with_[0])
        for (field, message), with_ in choices.items()
    ]


def _shape(spec: ProfileSpec, where: Where, problems: list[Problem]) -> DataShape | None:
    """The data's shape, where it can be had; what is wrong with the data is added to `problems`."""
    shapes: list[DataShape] = []
    own = list(_tried(lambda: shapes.append(preview(spec.data, spec.training))))
    missing = all(p.message.startswith("there is no") or p.field == "data.tokenizer" for p in own)
    if where != "elsewhere" or not missing:
        problems += own
    if not shapes:
        list(_tried(lambda: shapes.append(profiled_shape(spec)[0])))
    return shapes[0] if shapes else None


def _network(spec: ProfileSpec, shape: DataShape) -> None:
    """Build the network and call it once, backwards too, at full depth."""
    if shape.kind == "Text":
        shape = DataShape("Text", (spec.training.sequence_length,), shape.classes)
    with content_free(), sdpa_kernel(SDPBackend.MATH):
        network = build_network(spec.model, shape, 0, weights=False)
        split = network.split(network.layers)
        x, y = blank(shape, 2)
        try:
            suffix = split.suffixes[0].train()
            objective_of(shape).loss(suffix(run_prefix(split.prefix, x)), y, 0.0).backward()  # type: ignore[no-untyped-call]
        except (ValueError, RuntimeError, TypeError, ArithmeticError, IndexError, AttributeError) as error:
            words = " ".join(str(error).split())[:300]
            raise StudyFault(f"model: the network cannot be run ({type(error).__name__}: {words})") from error


def _optimizer(spec: ProfileSpec, where: Where) -> None:
    if spec.training.optimizer.name != "AdamW8bit":
        return
    if importlib.util.find_spec("bitsandbytes") is None:
        raise StudyFault(
            "training.optimizer.name: AdamW8bit needs bitsandbytes, which is not installed here; "
            "pip install bitsandbytes, or use AdamW or Adafactor"
        )
    if where != "gpu":
        raise StudyFault("training.optimizer.name: AdamW8bit needs a GPU, and there is none here; use AdamW")


def _tried(attempt: Callable[[], object]) -> Iterator[Problem]:
    try:
        attempt()
    except (StudyFault, OSError) as fault:
        match = _FIELD.match(str(fault))
        field, message = (match[1], match[2]) if match else ("", str(fault))
        yield Problem(field, message)


def report(problems: list[Problem]) -> int:
    """Log each problem; returns the exit code."""
    for problem in problems:
        log("problem", field=problem.field, message=problem.message, choice=problem.choice)
    return 43 if problems else 0


def changed_data(spec: ProfileSpec, checkpoints: Path) -> list[Problem]:
    """Whether the data is another than what a study's checkpoints, those in a folder on this machine, came from."""
    now = fingerprint(spec.data)
    problems: list[Problem] = []
    for state in itertools.islice(checkpoints.glob("*/*/state.json"), MOST_CHECKPOINTS):
        before: dict[str, Any] = {}
        with contextlib.suppress(OSError, ValueError, AttributeError):  # damaged: the run that needs it says so
            before = json.loads(state.read_text()).get("data", {})
        problems += _tried(lambda before=before: check_unchanged(spec.data, before, now))  # type: ignore[misc]
    return _without_repeats(problems, set())


def main(document: str, where: Where, checkpoints: str | None = None) -> int:
    """The command `check`; returns the exit code."""
    spec = ProfileSpec.model_validate(json.loads(document))
    problems = preflight(spec, where)
    if checkpoints is not None and not problems:
        problems = changed_data(spec, Path(checkpoints))
    return report(problems)
