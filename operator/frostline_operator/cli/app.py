"""The commands and their options; what they do is in a module each."""

from __future__ import annotations

import contextlib
import os
import sqlite3
import sys
from pathlib import Path
from typing import Annotated

import typer

from frostline_operator import __version__
from frostline_operator.api.problems import StudyError
from frostline_operator.cli.output import Form, OutputError, reason
from frostline_operator.kubernetes.client.errors import ApiError, NotReadableError
from frostline_operator.local.devices import DeclarationError
from frostline_operator.local.profile import ProfileError
from frostline_operator.local.session import SessionError

app = typer.Typer(
    name="frostline",
    help="Tune the hyperparameters of deep networks by training their last layers first.\n\n"
    "Start with [bold]frostline plan STUDY.yaml[/bold] to see what a study will do and cost, then "
    "[bold]frostline run STUDY.yaml[/bold].",
    no_args_is_help=True,
    add_completion=True,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

Study = Annotated[Path, typer.Argument(metavar="STUDY.yaml", help="An HPOStudy manifest.", show_default=False)]
Classes = Annotated[
    list[str] | None,
    typer.Option(
        "--class",
        metavar="NAME=MEMORY[*COUNT]",
        help="Declare a memory class instead of using this machine's devices, such as small=8Gi*2. May be repeated. "
        "On a CPU, trainers then keep to the declared memory and run out of it like a card would.",
    ),
]

NoPreflight = Annotated[
    bool,
    typer.Option("--no-preflight", metavar="", help="Do not open the data and build the network of each choice first."),
]


Plain = Annotated[bool, typer.Option("--plain", metavar="", help="Lines instead of a live view, for logs.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", metavar="", help="Say nothing but what goes wrong.")]
AsJson = Annotated[bool, typer.Option("--json", metavar="", help="Progress as JSON lines, for programs.")]


def _form(plain: bool, quiet: bool, as_json: bool) -> Form:
    if plain + quiet + as_json > 1:
        raise typer.BadParameter("give one of --plain, --quiet and --json")
    return "json" if as_json else "quiet" if quiet else "plain" if plain else "live"


@app.command()
def run(
    study: Study,
    folder: Annotated[
        Path | None,
        typer.Option(
            "--dir", help="Where state, checkpoints and the report go. Default: frostline-NAME.", show_default=False
        ),
    ] = None,
    classes: Classes = None,
    plain: Plain = False,
    quiet: Quiet = False,
    as_json: AsJson = False,
    no_preflight: NoPreflight = False,
) -> None:
    """Run a study on this machine, to its end; the same command continues one that was stopped or killed.

    Runs are processes on this machine's CUDA devices, or on its CPU if there are none. Ctrl-C stops them with
    checkpoints. Exit code: 0 the study ended well, 1 it failed, 2 the
    manifest or an option is wrong, 130 stopped.
    """
    from frostline_operator.cli.run import run_study

    form = _form(plain, quiet, as_json)
    raise typer.Exit(run_study(study, folder, classes or [], form, not no_preflight))


@app.command()
def train(
    best: Annotated[
        Path, typer.Option("--best", metavar="DIR", help="The --dir of a frostline run.", show_default=False)
    ],
    folder: Annotated[
        Path | None,
        typer.Option(
            "--dir", metavar="OUT", help="Where state, checkpoint and report go. Default: DIR-best.", show_default=False
        ),
    ] = None,
    classes: Classes = None,
    plain: Plain = False,
    quiet: Quiet = False,
    as_json: AsJson = False,
) -> None:
    """Train the best configuration of a study alone and in full: all layers, to the highest rung's tokens.

    It is a study of one trial, with the seed of the one that it comes from: the same command continues it, report and
    export read it. Its result is told beside the study's.
    """
    from frostline_operator.cli.train import train_best

    raise typer.Exit(train_best(best, folder, classes or [], _form(plain, quiet, as_json)))


@app.command()
def plan(
    study: Study,
    gpus: Annotated[
        list[str] | None,
        typer.Option("--gpu", metavar="MEMORY[*COUNT]", help="Plan for such GPUs, such as 8Gi*4. May be repeated."),
    ] = None,
    classes: Classes = None,
    nodes: Annotated[
        Path | None,
        typer.Option(
            "--nodes",
            help="Plan for the GPUs of these nodes: what kubectl get nodes -o yaml wrote.",
            show_default=False,
        ),
    ] = None,
    kubeconfig: Annotated[
        Path | None,
        typer.Option("--kubeconfig", help="Plan for the GPUs of this cluster.", show_default=False),
    ] = None,
    speeds: Annotated[
        list[str] | None,
        typer.Option(
            "--tflops",
            metavar="CLASS=NUMBER",
            help="What a card of a class sustains in training, such as 24Gi=40, to reckon time and money with. "
            "May be repeated.",
        ),
    ] = None,
    settings: Annotated[
        Path | None,
        typer.Option(
            "--settings",
            help="The operator's: its headroom, prices and pod template hold for studies that say none.",
            show_default=False,
        ),
    ] = None,
    no_preflight: NoPreflight = False,
) -> None:
    """Show what a study would do before anything is spent: its rungs, what they cost, and what doing without costs.

    With --gpu it also tells, without any GPU, what fits which card: layers, trials per run, predicted memory; and
    where a rung fits nowhere, what would make it fit. Exit code: 1 where a rung fits nowhere, not even with one layer.
    """
    from frostline_operator.cli.plan import show_plan

    code = show_plan(study, gpus or [], classes or [], nodes, kubeconfig, speeds or [], settings, not no_preflight)
    raise typer.Exit(code)


@app.command()
def report(
    folder: Annotated[
        Path | None, typer.Argument(metavar="[DIR]", help="The --dir of a frostline run.", show_default=False)
    ] = None,
    study: Annotated[
        str | None,
        typer.Option("--study", metavar="[NAMESPACE/]NAME", help="A study on a cluster instead.", show_default=False),
    ] = None,
    kubeconfig: Annotated[
        Path | None, typer.Option("--kubeconfig", help="With --study; by default your own.", show_default=False)
    ] = None,
    form: Annotated[str, typer.Option("--format", metavar="html|json|csv", help="What to write.")] = "html",
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            help="Where to, - for standard output. By default a page goes to DIR/report.html, or with --study to "
            "report-NAME.html in this folder; data goes to standard output.",
        ),
    ] = None,
) -> None:
    """Write the report of a study, finished or under way: one HTML page that needs nothing else, or its data."""
    if (folder is None) == (study is None):
        raise typer.BadParameter("give either the folder of a frostline run, or --study")
    if study is not None:
        from frostline_operator.cli.report import write_cluster_study

        raise typer.Exit(write_cluster_study(study, form, kubeconfig, output))
    assert folder is not None
    from frostline_operator.cli.report import write_report

    raise typer.Exit(write_report(folder, form, output))


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"frostline {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", metavar="", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    pass


def main() -> None:
    """Entry point: runs a command and turns what a person can mend into a message and exit code 2."""
    try:
        try:
            app()
        finally:
            sys.stdout.flush()
    except BrokenPipeError:  # `frostline report --format csv | head`: whoever read it has had enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        sys.exit(1)
    except (StudyError, SessionError, DeclarationError, ProfileError, OutputError, ApiError, NotReadableError) as error:
        _refuse(str(error))
    except sqlite3.Error as error:
        _refuse(f"the study's state cannot be kept: {error}; make room on its disk, and the same command continues")
    except OSError as error:
        _refuse(f"{error.filename}: {reason(error)}" if error.filename else reason(error))


def _refuse(message: str) -> None:
    print(message, file=sys.stderr)
    with contextlib.suppress(OSError):  # what is left in a pipe or on a disk that is full cannot be flushed
        sys.stdout.flush()
    sys.stderr.flush()
    sys.exit(2)
