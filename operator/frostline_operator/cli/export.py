"""`frostline export`: a study on a cluster as files, its best configuration by default."""

from __future__ import annotations

from pathlib import Path

from frostline_operator.cli.report import write_cluster_study

EXPORT_FORMS = ("yaml", "csv", "json", "html")


def export_study(where: str, form: str, kubeconfig: Path | None, output: Path | None) -> int:
    """Write a study in some form. Returns the exit code."""
    return write_cluster_study(where, form, kubeconfig, output, EXPORT_FORMS)
