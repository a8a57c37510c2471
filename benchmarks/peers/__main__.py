"""Frostline beside its peers on the look-up benchmark: python -m benchmarks.peers (see `make bench-peers`).

Needs benchmarks/results/paper-grid.json, and the peers in the environment that runs it. Each tool searches in a process
of its own, so that its memory is its own. `real` trains for real instead, which takes a quarter of an hour.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from benchmarks import lookup
from benchmarks.peers import frostline, tools
from benchmarks.peers.session import Session, full_trainings

WORK = Path(__file__).parents[2] / ".bench" / "peers"
BUDGET = 24.0
"""In full trainings: what it costs to train so many configurations with all layers over all tokens."""
SEEDS = 12
REAL_SEEDS = 3
FEW_SEEDS = {"ray ASHA": 3, "syne-tune ASHA-CQR": 3}
"""These take seconds per trial, whatever the trial."""


def names() -> list[str]:
    return [*frostline.VARIANTS, *tools.TOOLS]


def search(name: str, seeds: int) -> dict[str, Any]:
    """All families, units and seeds of one tool, in this process."""
    tools.quiet()
    families = lookup.load()
    rows = []
    for family in families.values():
        for unit in ("seconds",) if name in tools.TOOLS else ("seconds", "flops"):
            for seed in range(min(seeds, FEW_SEEDS.get(name, seeds))):
                session = Session(family, unit, full_trainings(family, unit, BUDGET))  # type: ignore[arg-type]
                began, processor = time.perf_counter(), time.process_time()
                if name in tools.TOOLS:
                    tools.TOOLS[name](session, seed)
                else:
                    variant = frostline.VARIANTS[name]
                    if not known(family, variant):
                        continue
                    frostline.search(session, variant, seed)
                rows.append(
                    {
                        "family": family.name,
                        "unit": unit,
                        "seed": seed,
                        "trials": session.trials,
                        "evaluations": session.evaluations,
                        "trace": session.trace,
                        "wall": time.perf_counter() - began,
                        "cpu": time.process_time() - processor,
                    }
                )
    return {"tool": name, "rows": rows, "peak_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024}


def known(family: lookup.Family, variant: frostline.Variant) -> bool:
    """Whether the table tells what this variant would see: Continue depends on the whole way up."""
    if variant.promotion != "Continue":
        return True
    return str(variant.lowest(family.layers)) in family.document["continued"]


def path(name: str) -> Path:
    return WORK / (name.replace(" ", "-").replace(">=", "ge").replace("/", "-").replace(",", "") + ".json")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("step", nargs="?", choices=("all", "search", "report", "real"), default="all")
    parser.add_argument("--tool", choices=names(), help="search: only this one")
    parser.add_argument("--seeds", type=int, default=SEEDS)
    arguments = parser.parse_args()
    WORK.mkdir(parents=True, exist_ok=True)
    if arguments.step == "search":
        path(arguments.tool).write_text(json.dumps(search(arguments.tool, arguments.seeds)))
        return
    if arguments.step == "real":
        from benchmarks.peers import real

        real.main(REAL_SEEDS)
        return
    if arguments.step == "all":
        for name in names():
            began = time.monotonic()
            command = [sys.executable, "-m", "benchmarks.peers", "search", "--tool", name]
            done = subprocess.run([*command, "--seeds", str(arguments.seeds)], check=False)
            how = "done" if done.returncode == 0 else "FAILED"
            print(f"{name}: {how} in {time.monotonic() - began:.0f} s", flush=True)
    from benchmarks.peers import report

    report.write()


if __name__ == "__main__":
    main()
