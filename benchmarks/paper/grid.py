"""Trains every configuration at every z, and along the joint schedule with promotion Continue.

By the product's own trainer. Resumable: each packed run appends its rows to a file of JSON lines and is skipped the
next time. Values do not depend on what else the machine does; seconds do, and are measured apart, in `calibrate`.
"""

from __future__ import annotations

import contextlib
import io
import json
import math
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.paper.cases import FRACTIONS, PACK, WORK, Case
from frostline_trainer.checkpoints.store import Store
from frostline_trainer.contract import CheckpointRef, RunSpec, TrialSpec
from frostline_trainer.data.open import open_data
from frostline_trainer.models.cut import Network
from frostline_trainer.reporting.metrics import RunMetrics
from frostline_trainer.run import choose_device
from frostline_trainer.training.loop import train
from frostline_trainer.training.pack import Pack, assemble


class Recording(RunMetrics):
    """The run's metrics, and every objective that was ever reported."""

    def __init__(self, spec: RunSpec):
        super().__init__(spec, spec.layers)
        self.objectives: dict[str, list[float]] = {trial.name: [] for trial in spec.trials}

    def update(self, trial: str, **changes: Any) -> None:
        if "objective" in changes:
            self.objectives[trial].append(changes["objective"])
        super().update(trial, **changes)


@dataclass(frozen=True)
class Leg:
    """One packed run: these configurations at z, up to so many tokens, from scratch or from the leg before."""

    layers: int
    tokens: int
    rung: int = 0
    starts: Mapping[str, CheckpointRef] = field(default_factory=dict)
    """Checkpoints to go on from, by trial."""
    evaluations: int = FRACTIONS


def run_spec(case: Case, leg: Leg, members: Sequence[int], seed: int, folder: str) -> RunSpec:
    """The document of a packed run."""
    drawn = case.assignments()
    study = case.study()
    trials = []
    for index in members:
        name = f"c{index}"
        trials.append(TrialSpec(name=name, training=case.bound(drawn[index]), parent=leg.starts.get(name)))
    return RunSpec(
        study="paper", study_uid="paper", run="run", rung=leg.rung, layers=leg.layers, tokens=leg.tokens,
        horizon=case.tokens, trials=trials, model=study.model, data=study.data, seed=seed,
        evaluations=leg.evaluations, checkpoint=folder, metrics_port=0, cache_bytes=1 << 30,
    )  # fmt: skip


def build(case: Case, spec: RunSpec, network: Network | None = None) -> Pack:
    """The product's pack, of the case's own network where it has one."""
    source = open_data(spec.data, spec.trials[0].training, spec.seed)
    if network is None:
        network = case.build(source.shape, spec.seed)
    return assemble(spec, choose_device(), Store(spec.checkpoint), source, network)


def trained(pack: Pack, spec: RunSpec) -> dict[str, list[float | None]]:
    """Objectives of each trial after each evaluation; None from where it diverged."""
    return followed(pack, spec)[0]


def followed(pack: Pack, spec: RunSpec) -> tuple[dict[str, list[float | None]], dict[str, CheckpointRef]]:
    """The same, and the checkpoints of those trials that did not diverge."""
    metrics = Recording(spec)
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            results = train(pack, Store(spec.checkpoint), metrics, lambda: False)
    finally:
        pack.batches.close()
    values = {name: padded(found, spec.evaluations) for name, found in metrics.objectives.items()}
    return values, {
        result.name: CheckpointRef(path=result.checkpoint, layers=spec.layers, tokens=result.tokens)
        for result in results
        if result.checkpoint is not None
    }


def padded(found: Sequence[float], count: int) -> list[float | None]:
    """Finite objectives as they are, None for every evaluation that a diverged trial did not reach."""
    kept: list[float | None] = [round(value, 6) if math.isfinite(value) else None for value in found[:count]]
    return kept + [None] * (count - len(kept))


# --- what there is to do ----------------------------------------------------------------------------------------------


def chain(case: Case, lowest: int) -> list[tuple[int, int]]:
    """(z, tokens) of the joint schedule with eta 2 and four rungs from `lowest` on."""
    return [(max(lowest, case.layers // 2**down), case.tokens // 2**down) for down in (3, 2, 1, 0)]


def packs(case: Case) -> list[list[int]]:
    """Configurations by packed run."""
    everything = list(range(case.configurations))
    return [everything[i : i + PACK] for i in range(0, len(everything), PACK)]


class Rows:
    """A file of JSON lines, appended to as results come; several processes may share the work of a family."""

    def __init__(self, path: Path):
        self._path = path
        path.parent.mkdir(parents=True, exist_ok=True)

    @property
    def rows(self) -> list[dict[str, Any]]:
        """What is there now. A line that was cut short by a kill is not."""
        if not self._path.exists():
            return []
        return [json.loads(line) for line in self._path.read_text().splitlines() if line.endswith("}")]

    def has(self, kind: str, seed: int, z: int, members: Sequence[int]) -> bool:
        """Whether all of these configurations are there."""
        done = {row["config"] for row in self.rows if (row["kind"], row["seed"], row["z"]) == (kind, seed, z)}
        return done.issuperset(members)

    def add(self, kind: str, seed: int, z: int, found: dict[str, list[float | None]]) -> None:
        """Keep the values of a run."""
        rows = [
            {"kind": kind, "seed": seed, "z": z, "config": int(name[1:]), "values": series}
            for name, series in found.items()
        ]
        with self._path.open("a") as file:
            file.write("".join(json.dumps(row) + "\n" for row in rows))


def rows_path(case: Case, scale: str) -> Path:
    return WORK / f"{scale}-{case.name}.jsonl"


def compute(case: Case, scale: str) -> Iterator[str]:
    """Everything that is not there yet, the most telling first; yields a line after each run."""
    rows = Rows(rows_path(case, scale))
    for z in case.depths[:5]:
        yield from _cells(case, rows, "grid", 0, z)
    yield from _continued(case, rows, case.starts[0])
    for z in case.depths[5:]:
        yield from _cells(case, rows, "grid", 0, z)
    yield from _cells(case, rows, "grid", 1, case.layers)  # how well full training agrees with itself
    for lowest in case.starts[1:]:
        yield from _continued(case, rows, lowest)


def _cells(case: Case, rows: Rows, kind: str, seed: int, z: int) -> Iterator[str]:
    for members in packs(case):
        if rows.has(kind, seed, z, members):
            continue
        with tempfile.TemporaryDirectory(dir=memory_folder()) as folder:
            spec = run_spec(case, Leg(z, case.tokens), members, seed, folder)
            found = trained(build(case, spec), spec)
        rows.add(kind, seed, z, found)
        yield f"{case.name} {kind} seed {seed} z={z} configurations {members[0]}-{members[-1]}"


def _continued(case: Case, rows: Rows, lowest: int) -> Iterator[str]:
    """All configurations through all rungs, each going on from its checkpoint: what Continue sees, nobody dropped."""
    kind = f"continue-{lowest}"
    for members in packs(case):
        if rows.has(kind, 0, case.layers, members):
            continue
        series: dict[str, list[float | None]] = {f"c{index}": [] for index in members}
        alive = list(members)
        before: dict[str, CheckpointRef] = {}
        with tempfile.TemporaryDirectory(dir=memory_folder()) as folder:
            for rung, (z, tokens) in enumerate(chain(case, lowest)):
                spec = run_spec(case, Leg(z, tokens, rung, before, evaluations=1), alive, 0, folder)
                found, before = followed(build(case, spec), spec)
                for name in series:
                    series[name].append(found[name][-1] if name in found else None)
                alive = [index for index in alive if series[f"c{index}"][-1] is not None]
                if not alive:
                    break
        rows.add(kind, 0, case.layers, {name: padded_rungs(found) for name, found in series.items()})
        yield f"{case.name} {kind} configurations {members[0]}-{members[-1]}"


def padded_rungs(found: list[float | None]) -> list[float | None]:
    return found + [None] * (4 - len(found))


def memory_folder() -> str | None:
    """Checkpoints of a measurement are read back once or never: in memory where the system has a place for that."""
    return "/dev/shm" if Path("/dev/shm").is_dir() else None
