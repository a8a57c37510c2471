"""The same question with real training: python -m benchmarks.peers real

One after the other in one run: Frostline's own command with one study, then each peer with twice the seconds that
Frostline took, training with the product's trainer in its own process (so it pays no start-up per run, as Frostline
does). The configuration that each chooses, and that a peer would have chosen after Frostline's seconds, is then
trained in full from scratch; that loss, on four times the held-out text, is what counts.
"""

from __future__ import annotations

import json
import math
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from benchmarks.lookup import RESULTS
from benchmarks.pages import fill, markdown
from benchmarks.paper.cases import CONSTANT, PARAMETERS, ROOT, gpt2
from benchmarks.peers import tools
from benchmarks.peers.session import BudgetSpent
from frostline_operator.api.bindings import bind
from frostline_operator.api.study import HPOStudySpec
from frostline_operator.api.yaml import to_yaml
from frostline_operator.report.local import read_record
from frostline_trainer.checkpoints.store import Store
from frostline_trainer.contract import RunSpec, TrialSpec
from frostline_trainer.data.open import open_data
from frostline_trainer.models.build import build_network
from frostline_trainer.training.loop import evaluate, train_step
from frostline_trainer.training.pack import Pack, assemble

TOKENS = 49_152
TRIALS = 32
HELD_OUT = 4096
LEAD = 2.0
"""Peers get so many times the seconds that Frostline took."""
PEERS = ("random search", "optuna TPE + Hyperband", "syne-tune ASHA")
Assignment = Mapping[str, Any]


def document(seed: int, held_out: int = HELD_OUT) -> dict[str, Any]:
    """The study: a byte-level GPT-2 on the text of Python's documentation."""
    return {
        "parameters": PARAMETERS,
        "search": {"algorithm": "SuccessiveHalving", "sampler": "Sobol", "trials": TRIALS, "seed": seed},
        "fidelity": {"tokens": {"max": TOKENS, "min": TOKENS // 8}},
        "model": gpt2(10, 64, 2),
        "data": {"kind": "Text", "builtin": "python-docs", "validationLimit": held_out},
        "training": {"batchSize": 4, "sequenceLength": 64, **CONSTANT},
    }


class _Space:
    """What a peer's search asks a table for; here every proposal stands for itself."""

    parameters = PARAMETERS
    tokens = TOKENS
    layers = 12

    @staticmethod
    def nearest(assignment: Assignment) -> str:
        return json.dumps(dict(assignment), sort_keys=True)


class RealSession:
    """The session of `benchmarks.peers.session` with real training and a real clock."""

    def __init__(self, seed: int, seconds: float, held_out: int = HELD_OUT) -> None:
        self.family = _Space()
        self.trials = 0
        self.spec = HPOStudySpec.model_validate(document(seed, held_out))
        self.source = open_data(self.spec.data, self.spec.training, seed)
        self.seed = seed
        self._packs: dict[str, Pack] = {}
        self._began = time.monotonic()
        self._until = self._began + seconds
        self.seen: list[tuple[float, int, float, str]] = []
        """Seconds, tokens, loss and configuration of each evaluation."""

    def train(self, configuration: str, before: float, until: float) -> float:
        """Loss of a configuration after `until` tokens; it goes on where it was."""
        if time.monotonic() >= self._until:
            raise BudgetSpent
        pack = self._packs.get(configuration) or self.build(configuration)
        self._packs[configuration] = pack
        (member,) = pack.members
        while member.step * pack.step_tokens < until:
            train_step(pack, member.step, pack.members)
            if member.step % 64 == 0 and time.monotonic() >= self._until:
                raise BudgetSpent
        loss = evaluate(pack, pack.members, lambda: False)[member]["loss"]
        self.seen.append((time.monotonic() - self._began, member.step * pack.step_tokens, loss, configuration))
        if until >= TOKENS:
            del self._packs[configuration]
        return loss if loss == loss else 1e3

    def build(self, configuration: str) -> Pack:
        training = bind(self.spec.parameters, self.spec.base, json.loads(configuration)).training
        spec = RunSpec(
            study="real", study_uid="real", run="r", rung=0, layers=self.family.layers, tokens=TOKENS, horizon=TOKENS,
            trials=[TrialSpec(name="t", training=training)], model=self.spec.model, data=self.spec.data,
            seed=self.seed, evaluations=1, checkpoint="", metrics_port=0,
        )  # fmt: skip
        network = build_network(spec.model, self.source.shape, spec.seed)
        return assemble(spec, torch.device("cpu"), Store(""), self.source, network)

    def chosen(self, within: float) -> str | None:
        """The best value at the most tokens seen so far, as everywhere in this comparison."""
        ranked = sorted((-tokens, loss, name) for at, tokens, loss, name in self.seen if at <= within)
        return ranked[0][2] if ranked else None


def in_full(seed: int, configuration: str) -> float:
    """A configuration's loss after full training from scratch."""
    return RealSession(seed, float("inf"), 4 * HELD_OUT).train(configuration, 0, TOKENS)


def run_frostline(seed: int) -> dict[str, Any]:
    """The product's command from start to exit."""
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        manifest = {
            "apiVersion": "hpo.frostline.dev/v1alpha1", "kind": "HPOStudy", "metadata": {"name": "real"},
            "spec": document(seed),
        }  # fmt: skip
        (folder / "study.yaml").write_text(to_yaml(manifest), encoding="utf-8")
        command = [sys.executable, "-m", "frostline_operator.cli", "run", str(folder / "study.yaml")]
        began = time.monotonic()
        subprocess.run([*command, "--dir", str(folder / "run"), "--plain"], check=True, stdout=subprocess.DEVNULL)
        wall = time.monotonic() - began
        record = read_record(folder / "run")
    assert record.best is not None
    return {
        "search": "frostline", "seed": seed, "wall": wall, "trials": len(record.trials), "runs": len(record.runs),
        "training": sum(run.seconds for run in record.runs),
        "chosen": json.dumps(record.best.assignment, sort_keys=True),
    }  # fmt: skip


def run_peer(name: str, seed: int, seconds: float) -> dict[str, Any]:
    """A peer's search until its time is up."""
    session = RealSession(seed, seconds)
    began = time.monotonic()
    tools.TOOLS[name](session, seed)  # type: ignore[arg-type]
    return {
        "search": name, "seed": seed, "wall": time.monotonic() - began, "trials": session.trials,
        "early": session.chosen(seconds / LEAD), "chosen": session.chosen(float("inf")),
    }  # fmt: skip


def main(seeds: int) -> None:
    """Frostline and each peer in turn, seed by seed; benchmarks/results/peers-real.json."""
    torch.set_num_threads(1)
    tools.quiet()
    rows = []
    for seed in range(seeds):
        load = os.getloadavg()[0]
        ours = run_frostline(seed)
        found = [ours, *[run_peer(name, seed, LEAD * ours["wall"]) for name in PEERS]]
        for row in found:
            row["load"] = round(load, 1)
            for loss, configuration in (("loss", "chosen"), ("earlyLoss", "early")):
                if (chosen := row.get(configuration)) is not None:
                    row[loss] = in_full(seed, chosen)
            print({key: value for key, value in row.items() if key not in ("chosen", "early")}, flush=True)
        rows += found
        (RESULTS / "peers-real.json").write_text(json.dumps(rows, indent=1) + "\n")
    summarise(rows)


def summarise(rows: Sequence[Mapping[str, Any]]) -> None:
    """The losses of what each chose, into the docs and onto the screen: median over seeds, then each seed's."""
    header = ["search", "seconds", "trials", "loss of the choice at Frostline's seconds", "at twice the seconds"]
    table = []
    for name in ("frostline", *PEERS):
        mine = [row for row in rows if row["search"] == name]
        early, late = ([row.get(key) for row in mine] for key in ("earlyLoss", "loss"))
        if name == "frostline":
            early, late = late, []
        wall, trials = (statistics.median(row[key] for row in mine) for key in ("wall", "trials"))
        table.append([name, f"{wall:.0f}", f"{trials:.0f}", _losses(early), _losses(late)])
    fill(ROOT / "docs" / "does-it-work.md", "real", markdown(header, table))
    for row in [header, *table]:
        print("  ".join(f"{cell:<30}" for cell in row))


def _losses(found: Sequence[float | None]) -> str:
    """A seed in which nothing was chosen yet counts as the worst."""
    if not found:
        return "–"
    middle = statistics.median(math.inf if loss is None else loss for loss in found)
    return f"{middle:.3f} ({', '.join('none' if loss is None else f'{loss:.3f}' for loss in found)})"
