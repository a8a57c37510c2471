"""`frostline plan`: what a study would do, before anything is spent."""

from __future__ import annotations

import math
import time
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from frostline_operator.api.loader import load_study, rooted
from frostline_operator.api.problems import listed
from frostline_operator.api.quantity import format_bytes
from frostline_operator.api.study import HPOStudySpec
from frostline_operator.cli.preflight import check_budget, faults_of
from frostline_operator.cli.remedies import remedies
from frostline_operator.cli.tables import print_whole
from frostline_operator.engine.forecast import Forecast, forecast
from frostline_operator.engine.placement import placement
from frostline_operator.engine.profiling import choices_document, profile_document
from frostline_operator.engine.state import Observation, StudyState
from frostline_operator.kubernetes.settings import OperatorSettings, SettingsError, load_settings
from frostline_operator.local import devices
from frostline_operator.local.profile import Memory, Preflight, Where, memory_of, profile_model, where_of
from frostline_operator.report import numbers
from frostline_trainer.contract import MAX_TRIALS_PER_RUN, ModelProfile


def show_plan(
    manifest: Path,
    gpus: list[str],
    declared: list[str],
    nodes: Path | None,
    kubeconfig: Path | None,
    speeds: list[str],
    operators: Path | None,
    preflight: bool,
) -> int:
    """Print the plan of a study. Returns the exit code."""
    console = Console()
    written = load_study(manifest)
    study = rooted(written, manifest)
    settings = _settings(operators)
    spec = settings.defaults.complete(study.spec)
    available = _devices(spec, gpus, declared, nodes, kubeconfig, settings)
    known = _speeds(speeds, [c.name for c in devices.classes(available)])
    where: Where = "elsewhere" if gpus or nodes or kubeconfig else where_of(available)
    check = Preflight(choices_document(spec), where) if preflight else None
    with faults_of(written, manifest):
        profile = profile_model(profile_document(spec), memory_of(available), manifest.parent, check)
    check_budget(written, profile, manifest)
    seen = Observation(study.metadata.name, spec, profile, devices.classes(available), StudyState(), time.time())
    found = forecast(seen, known)
    console.print(
        f"[bold]{study.metadata.name}[/bold]: {study.spec.search.algorithm}, {found.plan.trials:,} trials over "
        f"{profile.layers} layers, on {devices.describe(available)}",
        highlight=False,
        soft_wrap=True,
    )
    print_whole(console, _table(found, profile))
    for line in _comparison(found, profile) + _total(found, bool(known), spec):
        console.print(line, highlight=False)
    for note in profile.notes:
        console.print(f"Note: {note}", highlight=False, soft_wrap=True)
    if profile.memory is not None:
        console.print()
        print_whole(console, _fits(seen, found))
        _explain_misfits(seen, found, console, memory_of(available), manifest.parent)
        for line in idle(seen, found):
            console.print(line, highlight=False, soft_wrap=True)
    return 0 if all(rung.layers for rung in found.rungs) else 1


def idle(seen: Observation, found: Forecast) -> list[str]:
    """The classes that no rung runs on, and what the smallest rung would need there."""
    used = {rung.memory_class for rung in found.rungs}
    rules = placement(seen, seen.state)
    needs = [need for rung in found.rungs if (need := rules.need(rung.asked_layers, 1, seen.classes[0])) is not None]
    lines = []
    for memory_class in seen.classes:
        if memory_class.name in used or memory_class.usable_bytes is None:
            continue
        fits = any(rules.fits(memory_class, rung.layers, 1) for rung in found.rungs if rung.layers)
        why = (
            "smaller ones are taken first; placement.overflow: true lets runs take these when those are full"
            if fits
            else f"the smallest rung needs {format_bytes(min(needs) * (1 + seen.spec.placement.margin))}"
            if needs
            else "nothing fits"
        )
        usable = format_bytes(memory_class.usable_bytes)
        lines.append(f"Idle: {memory_class.slots} x {memory_class.name} ({usable} usable): {why}.")
    return lines


def _settings(path: Path | None) -> OperatorSettings:
    try:
        return load_settings(path)
    except SettingsError as error:
        raise devices.DeclarationError(f"--settings {path}: {error}") from error


def _devices(
    spec: HPOStudySpec,
    gpus: list[str],
    declared: list[str],
    nodes: Path | None,
    kubeconfig: Path | None,
    settings: OperatorSettings,
) -> list[devices.Device]:
    """What to plan for: GPUs as described, a cluster's, a saved list of nodes, or this machine."""
    if gpus:
        return devices.cards(gpus)
    if nodes is None and kubeconfig is None:
        return devices.discover(spec.search.parallelism, declared)
    from frostline_operator.kubernetes.client.api import Api
    from frostline_operator.kubernetes.snapshot import classes_of, read_classes

    if nodes is not None:
        found = classes_of(_saved_nodes(nodes), {}, spec, settings)
    else:
        found = read_classes(Api.connect(str(kubeconfig)), spec, settings)
    if not found:
        raise devices.DeclarationError("there are no GPUs that the study's pods could use; plan with --gpu")
    return [devices.Device(c.name, c.usable_bytes, {}, False) for c in found.values() for _ in range(c.total)]


def _speeds(given: list[str], classes: list[str]) -> dict[str, float]:
    """FLOP/s by memory class, from texts such as `24Gi=40` (TFLOP/s)."""
    found = {}
    for text_ in given:
        name, _, number = text_.partition("=")
        try:
            found[name] = float(number) * 1e12
        except ValueError:
            found[name] = 0.0
        if not name or not 0 < found[name] < math.inf:
            raise devices.DeclarationError(f"--tflops {text_}: write CLASS=NUMBER, such as 24Gi=40")
        if name not in classes:
            raise devices.DeclarationError(
                f"--tflops {text_}: no device here is of class {name}; give {listed(classes)}"
            )
    return found


def _saved_nodes(path: Path) -> list[dict[str, Any]]:
    """The nodes in a file that `kubectl get nodes -o yaml` (or json) wrote."""
    try:
        document = YAML(typ="safe").load(path.read_text(encoding="utf-8"))
        listed = document["items"] if document.get("kind", "").endswith("List") else [document]
        return [node for node in listed if node["kind"] == "Node"]
    except (OSError, YAMLError, AttributeError, KeyError, TypeError) as error:
        raise devices.DeclarationError(
            f"--nodes {path}: not a list of nodes ({error}); write it with: kubectl get nodes -o yaml"
        ) from error


def _table(found: Forecast, profile: ModelProfile) -> Table:
    """What each rung does."""
    table = Table(box=None, padding=(0, 2, 0, 0))
    several = len(found.plan.brackets) > 1
    memory = any(row.required_bytes is not None for row in found.rungs)
    columns = ["rung", "layers", profile.unit, "trials", "per run", "parameters", "compute"]
    timed = any(row.seconds is not None for row in found.rungs)
    columns += ["runs on", "needs"] if memory else []
    columns += ["device time"] if timed else []
    for column in (["bracket"] if several else []) + columns:
        table.add_column(column, justify="right", no_wrap=True)
    for row in found.rungs:
        layers = f"{row.layers}" if row.layers == row.asked_layers else f"{row.layers} of {row.asked_layers}"
        cells = [str(row.bracket)] if several else []
        cells += [str(row.rung), layers, numbers.amount(row.tokens), f"{row.trials:,}", str(row.together)]
        cells += [numbers.amount(row.parameters), numbers.flops(row.flops)]
        if memory:
            need = "–" if row.required_bytes is None else format_bytes(row.required_bytes)
            cells += [row.memory_class or "fits nowhere", need]
        if timed:
            cells.append("–" if row.seconds is None else numbers.duration(row.seconds))
        table.add_row(*cells)
    return table


def _comparison(found: Forecast, profile: ModelProfile) -> list[str]:
    if found.plan.open_ended:
        return ["Open-ended: it draws configurations until the budget is spent; the table shows one at a time."]
    rows = [
        ("this study", found.flops, ""),
        (f"halving over {profile.unit} alone", found.tokens_only, numbers.times(found.tokens_only, found.flops)),
        ("every trial in full", found.full, numbers.times(found.full, found.flops)),
    ]
    return [f"{name:<28} {numbers.flops(amount):>12}  {ratio}" for name, amount, ratio in rows]


def _total(found: Forecast, timed: bool, spec: HPOStudySpec) -> list[str]:
    """Device time and money, where the speed of the classes is given and their price."""
    if spec.budget.unpriced:
        return [
            "budget.cost holds by the prices of the operator that runs the study: see it with the operator's "
            "--settings, or with budget.prices (frostline run needs these)."
        ]
    if not timed:
        if spec.budget.prices:
            return ["What it costs in money depends on the speed of the cards: give it with --tflops CLASS=NUMBER."]
        return []
    if found.seconds is None:
        return ["Device time is not known: a rung runs on a class without --tflops, or nowhere."]
    lines = [f"{'device time':<28} {numbers.duration(found.seconds):>12}"]
    if found.cost is not None:
        lines.append(f"{'cost':<28} {found.cost:>12,.2f}  by budget.prices")
    elif spec.budget.prices:
        lines.append("The cost is not known: a rung runs on a class without a price in budget.prices.")
    return lines


def _fits(seen: Observation, found: Forecast) -> Table:
    """What fits each memory class: the most layers, and how many trials could share a run at each rung."""
    rules = placement(seen, seen.state)
    table = Table(
        box=None,
        padding=(0, 2, 0, 0),
        title="What fits each class: the most layers, and how many trials at once at each rung's z",
        title_justify="left",
    )
    table.add_column("class")
    table.add_column("devices", justify="right")
    table.add_column("usable", justify="right")
    table.add_column("most layers", justify="right")
    rungs = found.plan.rungs
    for rung in rungs:
        table.add_column(f"z = {rung.layers}", justify="right")
    for memory_class in sorted(seen.classes, key=lambda c: c.usable_bytes or 0):
        most = max((z for z in range(1, seen.profile.layers + 1) if rules.fits(memory_class, z, 1)), default=0)
        cells = [memory_class.name, str(memory_class.slots), format_bytes(memory_class.usable_bytes or 0)]
        cells.append(f"{most} of {seen.profile.layers}")
        for rung in rungs:
            together = [k for k in range(1, MAX_TRIALS_PER_RUN + 1) if rules.fits(memory_class, rung.layers, k)]
            cells.append(str(max(together)) if together else "–")
        table.add_row(*cells)
    return table


def _explain_misfits(seen: Observation, found: Forecast, console: Console, memory: Memory, code: Path) -> None:
    """For the highest rung that no class fits as asked: what would make it fit."""
    short = [rung for rung in found.rungs if rung.layers < rung.asked_layers]
    if not short or seen.memory is None:
        return
    rung = short[-1]
    limit = max(memory_class.usable_bytes or 0 for memory_class in seen.classes)
    allowed = int(limit / (1 + seen.spec.placement.margin))
    instead = f"it would train {rung.layers}" if rung.layers else "and not even one layer fits"
    console.print(
        f"\nRung {rung.rung} fits nowhere: {rung.asked_layers} layers need "
        f"{format_bytes(seen.memory.required(rung.asked_layers))}, the largest class holds {format_bytes(allowed)}; "
        f"{instead}. Trying what would make it fit …",
        highlight=False,
    )
    helped = False
    for words in remedies(seen.spec, seen.memory, rung.asked_layers, allowed, memory, code):
        console.print(f"  {words}", highlight=False)
        helped = True
    if not helped:
        console.print("  nothing that was tried; it takes a larger GPU or a smaller model", highlight=False)
