"""Does training few layers find the right hyperparameters? Everything that docs/does-it-work.md measures of it.

    python -m benchmarks.paper                  # train what is missing, calibrate, table, report
    python -m benchmarks.paper grid gpt2        # one step, one family
    python -m benchmarks.paper --scale paper --data /data   # on a GPU, at the paper's scale

Stop it whenever you like: what was trained is kept in .bench/, and the same command goes on.
"""

from __future__ import annotations

import argparse
import itertools
from pathlib import Path

import torch

from benchmarks.paper import grid, report, table, warm
from benchmarks.paper.cases import cases


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("step", nargs="?", choices=("all", "grid", "warm", "costs", "table", "report"), default="all")
    parser.add_argument("families", nargs="*")
    parser.add_argument("--scale", choices=("small", "paper"), default="small")
    parser.add_argument("--data", type=Path, help="folder with the data of the paper's scale")
    arguments = parser.parse_args()
    known = cases(arguments.scale, arguments.data)
    chosen = [known[name] for name in arguments.families or known]
    torch.set_num_threads(1)
    for step, compute in {"grid": grid.compute, "warm": warm.compute}.items():
        if arguments.step in ("all", step):
            for line in itertools.chain.from_iterable(compute(case, arguments.scale) for case in chosen):
                print(line, flush=True)
    if arguments.step == "costs":
        for case in chosen:
            table.costs(case, arguments.scale, again=True)
    if arguments.step in ("all", "table"):
        table.write({case.name: case for case in chosen}, arguments.scale)
    if arguments.step in ("all", "report"):
        report.write(arguments.scale)


if __name__ == "__main__":
    main()
