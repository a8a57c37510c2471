"""`frostline crds`: the custom resource definitions and their reference, as files or for a pipe."""

from __future__ import annotations

from pathlib import Path

from rich.console import Console

from frostline_operator.api.status import HPOStudyStatus
from frostline_operator.api.study import HPOStudySpec
from frostline_operator.api.trial import HPOTrialSpec, HPOTrialStatus
from frostline_operator.cli.output import OutputError, reason, write_file
from frostline_operator.crds.manifests import crd_texts, write_crds
from frostline_operator.crds.reference import reference
from frostline_operator.crds.schema import structural
from frostline_operator.kubernetes.settings import OperatorSettings

_INTRODUCTION = """\
# Reference

Every field of the two custom resources and of the operator's settings, generated from the models by
`frostline crds --reference`. Below each table stand the rules that the API server (or `frostline plan`) holds a
manifest to, in its words. `kubectl explain hpostudy.spec.fidelity` shows the same in a terminal.
"""


def show_crds(output: Path | None) -> int:
    """Write the definitions into a folder, or print them. Returns the exit code."""
    if output is None:
        print("---\n".join(crd_texts().values()), end="")
        return 0
    _make(output)
    for path in write_crds(output):
        Console(stderr=True).print(f"wrote {path}", highlight=False)
    return 0


def show_reference(output: Path | None) -> int:
    """Write the reference into a folder, or print it. Returns the exit code."""
    if output is None:
        print(reference_page(), end="")
        return 0
    _make(output)
    path = output / "reference.md"
    write_file(path, reference_page())
    Console(stderr=True).print(f"wrote {path}", highlight=False)
    return 0


def _make(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"--output {folder}: {reason(error)}") from error


def reference_page() -> str:
    """The whole page."""
    parts = [
        reference("HPOStudy: `spec`", structural(HPOStudySpec), "spec", 2),
        reference("HPOStudy: `status`", structural(HPOStudyStatus), "status", 2),
        reference("HPOTrial: `spec`", structural(HPOTrialSpec), "spec", 2),
        reference("HPOTrial: `status`", structural(HPOTrialStatus), "status", 2),
        reference("Settings of the operator", structural(OperatorSettings), "settings", 2),
    ]
    return "\n".join([_INTRODUCTION, *parts])
