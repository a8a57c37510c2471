"""Does training few layers find the right hyperparameters? Everything that docs/does-it-work.md measures of it.

    python -m benchmarks.paper                  # train what is missing, calibrate, table, report
    python -m benchmarks.paper grid gpt2        # one step, one family
    python -m benchmarks.paper --scale paper --data /data   # on a GPU, at the paper's scale

Stop it whenever you like: what was trained is kept in .bench/, and the same command goes on.
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path

import torch

from benchmarks.paper import report, table
from benchmarks.paper.cases import cases
from benchmarks.paper.work import STEPS, train_families


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("step", nargs="?", choices=("all", "grid", "warm", "costs", "table", "report"), default="all")
    parser.add_argument("families", nargs="*")
    parser.add_argument("--scale", choices=("small", "paper"), default="small")
    parser.add_argument("--data", type=Path, help="folder with the data of the paper's scale")
    parser.add_argument(
        "--workers", type=int, help="families that are trained at once (default: one per CPU core; 1 on a GPU)"
    )
    arguments = parser.parse_args()
    known = cases(arguments.scale, arguments.data)
    chosen = [known[name] for name in arguments.families or known]
    torch.set_num_threads(1)
    steps = tuple(step for step in STEPS if arguments.step in ("all", step))
    workers = arguments.workers or (1 if torch.cuda.is_available() else os.cpu_count() or 1)
    if steps:
        train_families([case.name for case in chosen], steps, workers, arguments.scale, arguments.data)
    if arguments.step == "costs":
        for case in chosen:
            table.costs(case, arguments.scale, again=True)
    if arguments.step in ("all", "table"):
        table.write({case.name: case for case in chosen}, arguments.scale)
    if arguments.step in ("all", "report"):
        report.write(arguments.scale)


if __name__ == "__main__":
    main()
