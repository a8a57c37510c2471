"""`frostline export` and `frostline report --study`: a study on a cluster as files."""

from __future__ import annotations

import sys
import time
from pathlib import Path

from frostline_operator.cli.output import deliver
from frostline_operator.kubernetes.client.api import Api
from frostline_operator.report.cluster import best_to_yaml, read_cluster_record
from frostline_operator.report.export import to_csv, to_json
from frostline_operator.report.page import to_html

_WRITERS = {"yaml": best_to_yaml, "csv": to_csv, "json": to_json, "html": to_html}


def export_study(where: str, form: str, kubeconfig: Path | None, output: Path | None) -> int:
    """Write a study in some form. Returns the exit code."""
    writer = _WRITERS.get(form)
    if writer is None:
        print(f"--format {form}: give one of {', '.join(_WRITERS)}", file=sys.stderr)
        return 2
    api = Api.connect(None if kubeconfig is None else str(kubeconfig))
    deliver(writer(read_cluster_record(api, where, time.time())), output)
    return 0
