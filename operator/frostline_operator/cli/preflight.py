"""What a preflight found, in the words and with the lines of a wrong manifest."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

from frostline_operator.api.loader import located
from frostline_operator.api.study import HPOStudy
from frostline_operator.local.profile import Fault, PreflightError
from frostline_trainer.contract import FieldPath, ModelProfile


@contextlib.contextmanager
def faults_of(study: HPOStudy, manifest: Path) -> Iterator[None]:
    """A `PreflightError` within becomes a `StudyError`: file, line, field and remedy of everything that is wrong."""
    try:
        yield
    except PreflightError as error:
        raise located(manifest, [_placed(study, fault) for fault in error.faults]) from error


def check_budget(study: HPOStudy, profile: ModelProfile, manifest: Path) -> None:
    """Refuse a budget that does not reach for a single training step.

    Raises:
        StudyError: it does not.
    """
    tokens, step = study.spec.budget.tokens, profile.step_tokens
    if tokens is not None and tokens < step:
        text = f"{tokens:,} {profile.unit} are less than one training step, which takes {step:,}; raise it"
        raise located(manifest, [(("spec", "budget", "tokens"), text)])


def _placed(study: HPOStudy, fault: Fault) -> tuple[FieldPath, str]:
    name, _, value = fault.choice.partition(" = ")
    names = [parameter.name for parameter in study.spec.parameters]
    if name in names:
        return ("spec", "parameters", names.index(name)), f"with {value}: {fault.field or 'model'}: {fault.message}"
    return ("spec", *(fault.field or "model").split(".")), fault.message
