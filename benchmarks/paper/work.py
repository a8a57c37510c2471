"""All families' training, side by side: a process and a thread for each."""

from __future__ import annotations

import multiprocessing
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import torch

from benchmarks.paper import grid, warm
from benchmarks.paper.cases import cases

STEPS = {"grid": grid.compute, "warm": warm.compute}


def train_families(names: Sequence[str], steps: Sequence[str], workers: int, scale: str, data: Path | None) -> None:
    """Train what is missing, so many families at once; values do not depend on how many."""
    with ProcessPoolExecutor(min(workers, len(names)), multiprocessing.get_context("spawn")) as pool:
        for done in [pool.submit(train_family, name, steps, scale, data) for name in names]:
            done.result()


def train_family(name: str, steps: Sequence[str], scale: str, data: Path | None) -> None:
    """Train what one family lacks; a line for each run."""
    torch.set_num_threads(1)
    case = cases(scale, data)[name]
    for step in steps:
        for line in STEPS[step](case, scale):
            print(line, flush=True)
