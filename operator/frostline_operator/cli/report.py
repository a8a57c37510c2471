"""`frostline report` and `frostline export`: a study as files, from a folder of `frostline run` or from a cluster."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from pathlib import Path

from frostline_operator.cli.output import OutputError, deliver
from frostline_operator.report.record import StudyRecord

REPORT_FORMS = ("html", "json", "csv")


def write_report(folder: Path, form: str, output: Path | None) -> int:
    """Write the report of a study that ran on this machine. Returns the exit code.

    Raises:
        SessionError: there is no study in the folder.
        OutputError: there is no such form, or the file cannot be written.
    """
    from frostline_operator.report.local import read_record

    _check(form, REPORT_FORMS)
    write_record(read_record(folder), form, output, folder / "report.html")
    return 0


def write_cluster_study(
    where: str, form: str, kubeconfig: Path | None, output: Path | None, forms: Sequence[str] = REPORT_FORMS
) -> int:
    """Write a study on a cluster in some form. Returns the exit code.

    Args:
        where: `namespace/name`, or a name in the default namespace.
        form: one of `forms`.
        kubeconfig: None for the person's own.
        output: file to write to. None for standard output; a page then goes to `report-NAME.html` in this folder.
        forms: those that the command offers.

    Raises:
        NotReadableError: there is no such study, or it has not begun.
        ApiError: the cluster does not answer, or refuses.
        OutputError: there is no such form, or the file cannot be written.
    """
    from frostline_operator.kubernetes.client.api import Api
    from frostline_operator.report.cluster import read_cluster_record

    _check(form, forms)
    api = Api.connect(None if kubeconfig is None else str(kubeconfig))
    record = read_cluster_record(api, where, time.time())
    write_record(record, form, output, Path(f"report-{record.study.metadata.name}.html"))
    return 0


def _check(form: str, forms: Sequence[str]) -> None:
    if form not in forms:
        raise OutputError(f"--format {form}: give {', '.join(forms[:-1])} or {forms[-1]}")


def write_record(record: StudyRecord, form: str, output: Path | None, page: Path) -> None:
    """Write a record in one of its forms. A page is for a browser: without an output it goes to the file `page`.

    Raises:
        OutputError: the file cannot be written.
    """
    from frostline_operator.report.export import WRITERS

    content = WRITERS[form](record)
    if output == Path("-"):
        sys.stdout.write(content)
    else:
        deliver(content, page if output is None and form == "html" else output)
