"""Does a sampler that learns pay? python -m benchmarks.samplers --surrogates DIR

Frostline's own engine, with ASHA over tokens only, on learning curves that nobody here fitted (`surrogates`, skipped
where DIR or onnxruntime is not there) and on the project's look-up tables: the same searches with random configurations
and with `search.sampler: Model`. What is measured, with costs in full trainings:

- the cost from which on the incumbent stays within 1 % of what the best of 64 random configurations has (at the median
  over such draws; on a table, the best of the table);
- the cost at which Model has what Random has after 12 and after 24 full trainings, as a speed-up (matched quality);
- log10 of the incumbent's regret against the best there is, the mean over 1 to 24 full trainings.

Settings of the sampler were chosen on the tasks and seeds of `--selection`; reported are the others.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np

from benchmarks import lookup, measures, surrogates
from benchmarks.lookup import RESULTS, Family
from benchmarks.peers import frostline
from benchmarks.peers.session import Session, full_trainings

BUDGET = 24.0
SELECTION = 8
"""The first so many tasks, with seeds from SELECTION_SEED on, are where settings are chosen."""
SELECTION_SEED = 1000
SAMPLERS = ("Random", "Model")
OUT = RESULTS / "samplers.json"
_COSTS = measures.geometric(1, BUDGET, 60)
_FLOOR = 1e-3
"""Regrets below this are no longer told apart."""


def search(family: Family, sampler: str, seed: int, layers: float) -> dict[str, Any]:
    """One search: its incumbent over cost, in full trainings."""
    unit = full_trainings(family, "seconds", 1)
    session = Session(family, "seconds", BUDGET * unit)
    began = time.process_time()
    frostline.search(session, frostline.Variant(layers=layers, sampler=sampler), seed)
    return {
        "sampler": sampler,
        "family": family.name,
        "seed": seed,
        "trials": session.trials,
        "cpu": time.process_time() - began,
        "trace": [(at / unit, regret) for at, regret in session.trace],
    }


def figures(rows: Sequence[dict[str, Any]], scale: float = 1.0) -> dict[str, Any]:
    """What is reported of the searches of one family.

    Args:
        rows: searches of both samplers, each with the seeds of the other.
        scale: the loss that `trace` counts from, over the least there is.
    """
    traces = {s: [row["trace"] for row in rows if row["sampler"] == s] for s in SAMPLERS}
    reached = {s: [measures.cost_to_reach(trace, 0.01) for trace in traces[s]] for s in SAMPLERS}
    curves = {s: np.array([measures.anytime(trace, _COSTS) for trace in traces[s]]) for s in SAMPLERS}
    log_regret = {s: np.log10(np.maximum((1 + c) * scale - 1, _FLOOR)) for s, c in curves.items()}
    median = {s: measures.median_curve(traces[s], _COSTS)[0] for s in SAMPLERS}
    return {
        "cost": {s: [None if np.isinf(c) else c for c in reached[s]] for s in SAMPLERS},
        "speedUp": {str(at): _speed_up(median["Random"], median["Model"], at) for at in (12, 24)},
        "logRegret": {s: float(np.nanmean(log_regret[s])) for s in SAMPLERS},
        "endLogRegret": {s: np.nanmean(log_regret[s][:, -1]).item() for s in SAMPLERS},
    }


def _speed_up(random: measures.Array, model: measures.Array, at: float) -> float:
    """How many times as little Model needs for the median that Random has after `at` full trainings."""
    costs = np.array(_COSTS)
    wanted = random[costs <= at * (1 + 1e-9)][-1]
    reached = np.flatnonzero(model <= wanted)
    return float(at / costs[reached[0]]) if len(reached) else float("nan")


def on_surrogates(folder: Path, seeds: Sequence[int], tasks: slice) -> dict[str, Any]:
    """All searches on the surrogates' tasks."""
    surrogate = surrogates.Surrogate(folder)
    result: dict[str, Any] = {}
    for name in surrogate.tasks[tasks]:
        task = surrogates.Task(surrogate, name)
        # The space is the same for all tasks: with the same seeds they would share their first configurations.
        own = [100 * (1 + surrogate.tasks.index(name)) + seed for seed in seeds]
        rows = [search(cast(Family, task), s, seed, 0) for seed in own for s in SAMPLERS]
        result[name] = {**figures(rows, task.best / task.least), **_totals(rows)}
        print(f"{name}: {_line(result[name])}", flush=True)
    print(json.dumps(overall(list(result.values()))))
    return result


def on_tables(seeds: Sequence[int]) -> dict[str, Any]:
    """All searches on the look-up tables, over tokens only and from half of the layers."""
    result: dict[str, Any] = {}
    for family in lookup.load().values():
        for title, layers in (("tokens only", 0.0), ("from half of the layers", 0.5)):
            rows = [search(family, s, seed, layers) for seed in seeds for s in SAMPLERS]
            result[f"{family.name}, {title}"] = {**figures(rows), **_totals(rows)}
            print(f"{family.name}, {title}: {_line(result[f'{family.name}, {title}'])}", flush=True)
    return result


def overall(results: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Medians over families of each one's median, and means, with 95 % of a bootstrap over families."""
    cost = {s: np.array([_median(r["cost"][s]) for r in results]) for s in SAMPLERS}
    summary: dict[str, Any] = {
        "cost": {s: _or_none(float(np.quantile(cost[s], 0.5, method="lower"))) for s in SAMPLERS},
        "reached": {s: float(np.mean([c is not None for r in results for c in r["cost"][s]])) for s in SAMPLERS},
    }
    for at in ("12", "24"):
        speeds = np.log([r["speedUp"][at] for r in results])
        estimate = measures.bootstrap(len(results), lambda i, v=speeds: float(np.exp(np.nanmean(v[i]))))  # type: ignore[misc]
        summary[f"speedUp{at}"] = [estimate.value, estimate.low, estimate.high]
    for key in ("logRegret", "endLogRegret"):
        by = {s: np.array([r[key][s] for r in results]) for s in SAMPLERS}
        difference = measures.bootstrap(len(results), lambda i, b=by: float((b["Model"] - b["Random"])[i].mean()))  # type: ignore[misc]
        summary[key] = {
            **{s: float(by[s].mean()) for s in SAMPLERS},
            "difference": [difference.value, difference.low, difference.high],
        }
    return summary


def _or_none(value: float) -> float | None:
    return None if np.isinf(value) else value


def _totals(rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    return {
        "trials": {s: int(np.median([r["trials"] for r in rows if r["sampler"] == s])) for s in SAMPLERS},
        "cpu": {s: sum(r["cpu"] for r in rows if r["sampler"] == s) / (len(rows) / 2) for s in SAMPLERS},
    }


def _line(figures: dict[str, Any]) -> str:
    costs = [f"{s} {_median(figures['cost'][s]):.1f}" for s in SAMPLERS]
    speed = figures["speedUp"]
    regrets = [f"{s} {figures['logRegret'][s]:.2f}" for s in SAMPLERS]
    return f"to 1 %: {', '.join(costs)}; speed-up at 12: {speed['12']:.1f}, 24: {speed['24']:.1f}; {', '.join(regrets)}"


def _median(costs: Sequence[float | None]) -> float:
    return float(np.quantile([float("inf") if c is None else c for c in costs], 0.5, method="lower"))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--surrogates", type=Path, help="folder of YAHPO Gym's lcbench: model.onnx and its two JSON files"
    )
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--table-seeds", type=int, default=40)
    parser.add_argument("--selection", action="store_true", help="the tasks and seeds on which settings are chosen")
    arguments = parser.parse_args()
    first = SELECTION_SEED if arguments.selection else 0
    why = "no --surrogates given" if arguments.surrogates is None else surrogates.missing(arguments.surrogates)
    document: dict[str, Any] = json.loads(OUT.read_text()) if OUT.exists() else {}
    if why is None:
        tasks = slice(0, SELECTION) if arguments.selection else slice(SELECTION, None)
        document["surrogates"] = on_surrogates(arguments.surrogates, range(first, first + arguments.seeds), tasks)
    else:
        print(f"the surrogates are skipped: {why}")
    if arguments.selection:
        return
    document["tables"] = on_tables(range(arguments.table_seeds))
    OUT.write_text(json.dumps(document, indent=1))
    print(f"written to {OUT}")


if __name__ == "__main__":
    main()
