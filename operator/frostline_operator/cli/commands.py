"""The commands for clusters and their options; what they do is in a module each."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from frostline_operator.cli.app import app

Kubeconfig = Annotated[
    Path | None,
    typer.Option("--kubeconfig", help="Default: the service account in a pod, else your own.", show_default=False),
]


@app.command()
def crds(
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Folder to write to. Default: standard output.")
    ] = None,
    reference: Annotated[
        bool,
        typer.Option(
            "--reference", metavar="", help="Every field of a study and of the operator's settings, as Markdown."
        ),
    ] = False,
) -> None:
    """Write the custom resource definitions: frostline crds | kubectl apply --server-side -f -."""
    from frostline_operator.cli.crds import show_crds, show_reference

    raise typer.Exit(show_reference(output) if reference else show_crds(output))


@app.command()
def operator(
    settings: Annotated[
        Path | None, typer.Option("--settings", help="YAML file of operator settings.", show_default=False)
    ] = None,
    kubeconfig: Kubeconfig = None,
    namespace: Annotated[
        list[str] | None, typer.Option("--namespace", "-n", help="Look after this one only. May be repeated.")
    ] = None,
    image: Annotated[str | None, typer.Option("--image", help="Of the trainer.", show_default=False)] = None,
    cpu_slots: Annotated[
        int | None,
        typer.Option("--cpu-slots", help="Runs at a time in a cluster without GPUs.", show_default=False),
    ] = None,
    checkpoints: Annotated[
        str | None,
        typer.Option("--checkpoints", help="Folder in the trainer's pod, or fsspec URL.", show_default=False),
    ] = None,
    prometheus_url: Annotated[
        str | None,
        typer.Option(
            "--prometheus-url",
            help="Studies take their scores from this Prometheus, unless they say otherwise.",
            show_default=False,
        ),
    ] = None,
    port: Annotated[int, typer.Option("--port", help="Of /healthz and /metrics; 0 for any.")] = 8080,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", metavar="")] = False,
) -> None:
    """Run the controller, in a cluster or beside one, until it is stopped. Runs go on without it."""
    from frostline_operator.cli.operator import run_operator

    raise typer.Exit(
        run_operator(
            settings, kubeconfig, namespace or [], image, cpu_slots, checkpoints, prometheus_url, port, verbose
        )
    )


@app.command()
def export(
    where: Annotated[
        str | None,
        typer.Argument(
            metavar="[[NAMESPACE/]STUDY|DIR]",
            help="A study on a cluster; with --best, a --dir of a run.",
            show_default=False,
        ),
    ] = None,
    best: Annotated[
        Path | None,
        typer.Option("--best", metavar="OUT", help="Write the best trial's network there.", show_default=False),
    ] = None,
    study: Annotated[
        str | None,
        typer.Option("--study", metavar="[NAMESPACE/]NAME", help="A study on a cluster.", show_default=False),
    ] = None,
    checkpoints: Annotated[
        str | None,
        typer.Option(
            "--checkpoints",
            metavar="FOLDER|URL",
            help="With --best and --study: where this machine has the operator's checkpoints.",
            show_default="the operator's own, if it is here",
        ),
    ] = None,
    form: Annotated[
        str, typer.Option("--format", metavar="yaml|csv|json|html", help="yaml: the best configuration; csv: history.")
    ] = "yaml",
    kubeconfig: Kubeconfig = None,
    output: Annotated[Path | None, typer.Option("--output", "-o", help="Default: standard output.")] = None,
) -> None:
    """Take what a study has come to: its best network, or the results of one on a cluster.

    With --best: a folder that transformers loads (CausalLM), safetensors with a config.json that says how to build and
    feed the network (Vision, MLP), or safetensors in the names of your own model (Custom).
    """
    from frostline_operator.cli.export import export_best, export_cluster_best, export_study

    if (where is None) == (study is None):
        raise typer.BadParameter("give either a study or folder, or --study")
    if checkpoints is not None and (best is None or study is None):
        raise typer.BadParameter("--checkpoints goes with --best and --study")
    if best is not None and study is not None:
        raise typer.Exit(export_cluster_best(study, best, kubeconfig, checkpoints))
    if best is not None and where is not None:
        raise typer.Exit(export_best(Path(where), best))
    raise typer.Exit(export_study(study or where or "", form, kubeconfig, output))
