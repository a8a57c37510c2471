"""Does a sampler that learns pay? python -m benchmarks.samplers --surrogates DIR

Frostline's own engine, with ASHA over tokens only, on learning curves that nobody here fitted (`surrogates`, skipped
where DIR or onnxruntime is not there) and on the project's look-up tables, as they are and interpolated: the same
searches with random configurations and with `search.sampler: Model`. What is measured, with costs in full trainings:

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
from benchmarks.continuous import Continuous
from benchmarks.lookup import RESULTS, Family
from benchmarks.pages import fill, markdown
from benchmarks.peers import frostline
from benchmarks.peers.session import Session, full_trainings
from frostline_operator.engine import proposals, space
from frostline_operator.engine.state import RungResult, StudyState, Trial

BUDGET = 24.0
SELECTION = 8
"""The first so many tasks, with seeds from SELECTION_SEED on, are where settings are chosen."""
SELECTION_SEED = 1000
SAMPLERS = ("Random", "Model")
OUT = RESULTS / "samplers.json"
PAGE = RESULTS.parents[1] / "docs" / "does-it-work.md"
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


def on_tables(seeds: Sequence[int], only: Sequence[str] | None = None) -> dict[str, Any]:
    """All searches on the look-up tables and between their cells, over tokens only and from half of the layers."""
    result: dict[str, Any] = {}
    for table in lookup.load().values():
        for family, scale in ((table, 1.0), (continuous := Continuous.of(table), continuous.best / continuous.least)):
            if only is not None and not family.name.startswith(tuple(only)):
                continue
            for title, layers in (("tokens only", 0.0), ("from half of the layers", 0.5)):
                rows = [search(family, s, seed, layers) for seed in seeds for s in SAMPLERS]
                name = f"{family.name}, {title}"
                result[name] = {**figures(rows, scale), **_totals(rows)}
                print(f"{name}: {_line(result[name])}", flush=True)
    return result


def overall(results: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Medians over families of each one's median, and means, with 95 % of a bootstrap over families."""
    cost = {s: np.array([_median(r["cost"][s]) for r in results]) for s in SAMPLERS}
    summary: dict[str, Any] = {
        "cost": {s: _finite(float(np.quantile(cost[s], 0.5, method="lower"))) for s in SAMPLERS},
        "reached": {s: float(np.mean([c is not None for r in results for c in r["cost"][s]])) for s in SAMPLERS},
    }
    for at in ("12", "24"):
        # Where Model never has what Random has, it is taken to need all of the budget and once again.
        known = [0.5 if r["speedUp"][at] is None or np.isnan(r["speedUp"][at]) else r["speedUp"][at] for r in results]
        logs = np.log(known)
        estimate = measures.bootstrap(len(results), lambda i, v=logs: float(np.exp(v[i].mean())))  # type: ignore[misc]
        summary[f"speedUp{at}"] = [estimate.value, estimate.low, estimate.high]
    for key in ("logRegret", "endLogRegret"):
        by = {s: np.array([r[key][s] for r in results]) for s in SAMPLERS}
        difference = measures.bootstrap(len(results), lambda i, b=by: float((b["Model"] - b["Random"])[i].mean()))  # type: ignore[misc]
        summary[key] = {
            **{s: float(by[s].mean()) for s in SAMPLERS},
            "difference": [difference.value, difference.low, difference.high],
        }
    return summary


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


def batch_seconds(trials: int = 1000) -> float:
    """Processor time of one batch of proposals in a study of so many trials, the median of five."""
    family = lookup.load()["gpt2"]
    spec = frostline.Variant(sampler="Model").study(family, 0)
    state = StudyState()
    for index, assignment in enumerate(space.assignments(spec.parameters, spec.search, trials)):
        configuration = family.nearest(assignment)
        rungs = 1 + next(r for r in range(4) if r == 3 or index % 2 ** (r + 1))
        values = [family.value(configuration, family.layers, family.tokens / 2 ** (3 - r)) for r in range(rungs)]
        results = [RungResult(r, "Completed" if v else "Diverged", v, 1, 1, "run") for r, v in enumerate(values)]
        state.trials[index] = Trial(index, f"t{index}", 0, assignment, rungs - 1, tuple(results))
    taken = []
    for _ in range(5):
        began = time.process_time()
        proposals.propose(spec, state, 3, proposals.BATCH)
        taken.append(time.process_time() - began)
    return float(np.median(taken))


def write(document: dict[str, Any]) -> None:
    """The file of results, and the tables of docs/does-it-work.md."""
    if "surrogates" in document:
        document["overall"] = overall(list(document["surrogates"].values()))
        whole, count = document["overall"], len(document["surrogates"])
        seeds = len(next(iter(document["surrogates"].values()))["cost"]["Random"])
        rows = [
            [s, _shown(whole["cost"][s]), f"{whole['reached'][s]:.0%}", f"{whole['logRegret'][s]:.2f}",
             f"{whole['endLogRegret'][s]:.2f}"]
            for s in SAMPLERS
        ]  # fmt: skip
        header = [f"{count} tasks, {seeds} seeds each", "cost to 1 %", "searches that get there", "mean log10 regret",
                  "log10 regret after 24"]  # fmt: skip
        fill(PAGE, "samplers", markdown(header, rows))
        speeds = [[f"after {at} full trainings", _interval(whole[f"speedUp{at}"])] for at in (12, 24)]
        gain = whole["logRegret"]["difference"]
        speeds.append(["difference of mean log10 regret", _interval(gain)])
        fill(
            PAGE, "samplers-quality", markdown(["Model against Random at matched quality", "[95 % over tasks]"], speeds)
        )
    rows = [
        [name, *(f"{_shown(_finite(_median(r['cost'][s])))} ({_share(r['cost'][s]):.0%})" for s in SAMPLERS),
         *(_times(r["speedUp"][at]) for at in ("12", "24")), *(f"{r['logRegret'][s]:.2f}" for s in SAMPLERS)]
        for name, r in document["tables"].items()
    ]  # fmt: skip
    header = ["table", "Random: cost to 1 %", "Model: cost to 1 %", "speed-up at 12", "at 24"]
    header += [f"{s}: mean log10 regret" for s in SAMPLERS]
    fill(PAGE, "samplers-tables", markdown(header, rows))
    OUT.write_text(json.dumps(rounded(document), indent=1) + "\n")


def rounded(document: Any) -> Any:
    """The same with four significant digits."""
    if isinstance(document, float):
        return None if not np.isfinite(document) else float(f"{document:.4g}")
    if isinstance(document, dict):
        return {key: rounded(value) for key, value in document.items()}
    return [rounded(value) for value in document] if isinstance(document, list) else document


def _share(costs: Sequence[float | None]) -> float:
    return float(np.mean([c is not None for c in costs]))


def _finite(value: float) -> float | None:
    return None if np.isinf(value) else value


def _shown(cost: float | None) -> str:
    return "never" if cost is None else f"{cost:.1f}"


def _times(speed: float | None) -> str:
    return "–" if speed is None or np.isnan(speed) else f"{speed:.1f} ×"


def _interval(estimate: Sequence[float]) -> str:
    return f"{estimate[0]:.2f} [{estimate[1]:.2f}, {estimate[2]:.2f}]"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--surrogates", type=Path, help="folder of YAHPO Gym's lcbench: model.onnx and its two JSON files"
    )
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--table-seeds", type=int, default=40)
    parser.add_argument("--tables", nargs="*", help="only the tables whose names begin so; none at all: leave them")
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
    document.setdefault("tables", {}).update(on_tables(range(arguments.table_seeds), arguments.tables))
    document["batchSeconds"] = batch_seconds()
    write(document)
    print(f"written to {OUT} and {PAGE}")


if __name__ == "__main__":
    main()
