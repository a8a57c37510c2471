"""Records as studies leave them: a whole one, one under way, one that failed, one with nothing in it."""

from __future__ import annotations

import math
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from frostline_operator.api.loader import load_study, parse_study
from frostline_operator.engine.schedule import Rung, halving, rungs
from frostline_operator.engine.space import assignments
from frostline_operator.report.analysis import spearman, value_at
from frostline_operator.report.record import (
    Best,
    CurvePoint,
    Notice,
    RungRecord,
    RunRecord,
    StudyRecord,
    Totals,
    TrialRecord,
    TrialRung,
)

EXAMPLES = Path(__file__).parents[3] / "examples"
_PINNED = (
    (EXAMPLES / "gpt2-python-docs.yaml")
    .read_text(encoding="utf-8")
    .replace("layers: {min: 2, max: All}", "layers: {min: 1, max: All}")
    .replace("tokens: {max: 196608, min: 24576}", "tokens: {max: 262144, min: 32768}")
)
"""The demo's study with rungs of its own, so that tuning the demo does not change what is expected here."""
LAYERS = 10
START = datetime(2030, 1, 31, 9, 12, tzinfo=UTC)
FULL_FLOPS = 3e6


def _loss(assignment: dict[str, Any], z: int, tokens: float) -> float:
    """A made-up surface: an optimum in the learning rate, a little of the rest, better with tokens and layers."""
    lr = math.log10(assignment["lr"])
    quality = 0.9 * (lr + 2.3) ** 2 + 0.15 * abs(math.log10(assignment["weightDecay"]) + 1)
    quality += {0.95: 0.0, 0.99: 0.03, 0.999: 0.2}[assignment["beta2"]] + 0.3 * abs(assignment["warmup"] - 0.08)
    wobble = 0.05 * math.sin(37 * lr + 3 * z)
    return 1.55 + 0.35 / z + quality * (0.6 + 0.4 * z / LAYERS) + wobble + 3.1 * (tokens / 8192) ** -0.55


def whole(trials: int = 16) -> StudyRecord:
    """gpt2-python-docs from its start to its end; one trial diverged at rung 0, another at rung 1."""
    study = parse_study(_PINNED)
    steps = rungs(study.spec.fidelity, 2, LAYERS)
    sizes = halving(trials, 2, len(steps))
    configurations = assignments(study.spec.parameters, study.spec.search, trials)
    results: dict[int, list[TrialRung]] = {i: [] for i in range(trials)}
    climbing = list(range(trials))
    for step in steps:
        for index in climbing:
            results[index].append(_result(configurations[index], index, step, steps, trials))
        sound = [i for i in climbing if results[i][-1].value is not None]
        ordered = sorted(sound, key=lambda i: results[i][-1].value or 0.0)
        climbing = ordered[: sizes[step.index + 1]] if step.index + 1 < len(steps) else []
        for index in climbing:
            results[index][-1] = results[index][-1].model_copy(update={"promoted": True})
    made = tuple(
        TrialRecord(
            index=i,
            name=f"gpt2-python-docs-{i}",
            state="Completed" if len(r) == len(steps) else "Failed" if r[-1].value is None else "Dropped",
            assignment=configurations[i],
            results=tuple(r),
        )
        for i, r in results.items()
    )
    winner = min((t for t in made if len(t.results) == len(steps)), key=lambda t: t.results[-1].value or 99.0)
    rows = tuple(_row(made, step, len(steps), sizes[step.index]) for step in steps)
    spent = sum(row.flops for row in rows)
    return StudyRecord(
        study=study,
        layers=LAYERS,
        outcome="Completed",
        started=START,
        ended=START + timedelta(minutes=3, seconds=51),
        written=START + timedelta(minutes=4),
        rungs=rows,
        trials=made,
        runs=_runs(made, steps),
        totals=Totals(
            flops=spent,
            seconds=sum(row.seconds for row in rows),
            tokens=sum(t.results[-1].tokens for t in made),
            full_flops=trials * FULL_FLOPS * steps[-1].tokens,
            tokens_only_flops=sum(t.results[-1].tokens for t in made) * FULL_FLOPS,
        ),
        best=Best(
            trial=winner.name,
            value=winner.results[-1].value,
            rung=len(steps) - 1,
            layers=LAYERS,
            tokens=steps[-1].tokens,
            assignment=winner.assignment,
        ),
    )


def _result(assignment: dict[str, Any], index: int, step: Rung, steps: tuple[Rung, ...], trials: int) -> TrialRung:
    first = 0 if step.index == 0 else steps[step.index - 1].tokens
    broken = (index, step.index) in ((trials - 3, 0), (1, 1))
    points = []
    for part in range(1, 5):
        seen = first + (step.tokens - first) * part // 4
        value = _loss(assignment, step.layers, seen)
        points.append(CurvePoint(tokens=seen, value=value, loss=value))
    if broken:
        points = [*points[:2], CurvePoint(tokens=points[2].tokens, value=float("nan"), loss=float("nan"))]
    return TrialRung(
        rung=step.index,
        state="Diverged" if broken else "Completed",
        value=None if broken else points[-1].value,
        layers=step.layers,
        asked_layers=step.layers,
        tokens=step.tokens,
        seconds=2.5 * (step.index + 1),
        run=f"gpt2-python-docs-r{step.index}-0",
        peak_bytes=(40 + 30 * step.layers) * 2**20,
        message="the loss was not finite after 24,576 tokens" if broken else "",
        curve=tuple(points),
    )


def _row(trials: tuple[TrialRecord, ...], step: Rung, count: int, size: int) -> RungRecord:
    here = [r for t in trials for r in t.results if r.rung == step.index]
    values = [r.value for r in here if r.value is not None]
    pairs = [
        (a, b)
        for t in trials
        if (a := value_at(t, step.index)) is not None and (b := value_at(t, step.index + 1)) is not None
    ]
    new = step.tokens if step.index == 0 else step.tokens // 2
    return RungRecord(
        rung=step.index,
        asked_layers=step.layers,
        layers=step.layers,
        tokens=step.tokens,
        size=size,
        entered=len(here),
        finished=len(values),
        promoted=sum(r.promoted for r in here),
        failed=len(here) - len(values),
        best=min(values, default=None),
        flops=len(here) * new * FULL_FLOPS * (0.12 + 0.88 * (step.layers / LAYERS) ** 1.2),
        seconds=sum(r.seconds for r in here),
        rank_correlation=spearman([p[0] for p in pairs], [p[1] for p in pairs]) if step.index < count - 1 else None,
    )


def _runs(trials: tuple[TrialRecord, ...], steps: tuple[Rung, ...]) -> tuple[RunRecord, ...]:
    made = []
    for step in steps:
        names = tuple(t.name for t in trials if len(t.results) > step.index)
        peak = (40 + 30 * step.layers) * 2**20
        made.append(
            RunRecord(
                name=f"gpt2-python-docs-r{step.index}-0",
                rung=step.index,
                layers=step.layers,
                tokens=step.tokens,
                trials=names,
                state="Succeeded",
                device="cpu",
                seconds=2.5 * len(names),
                predicted_bytes=int(peak * (1.03 - 0.01 * step.index)),
                peak_bytes=peak,
            )
        )
    return tuple(made)


def under_way() -> StudyRecord:
    """The same study in its second rung: some trials running, some waiting, a notice."""
    record = whole()
    trials = []
    for t in record.trials:
        results = [r.model_copy(update={"promoted": r.promoted and r.rung < 1}) for r in t.results if r.rung < 2]
        state = "Dropped" if len(results) == 1 else "Waiting"
        if len(results) == 2 and t.index % 2:
            results[1] = results[1].model_copy(
                update={"state": "Running", "value": None, "curve": results[1].curve[:2]}
            )
            state = "Running"
        trials.append(t.model_copy(update={"results": tuple(results), "state": state}))
    rows = list(record.rungs)
    rows[1] = rows[1].model_copy(update={"running": 4, "finished": 4, "promoted": 0, "rank_correlation": None})
    for place in (2, 3):
        rows[place] = RungRecord(
            rung=place, asked_layers=rows[place].layers, layers=3 if place == 2 else 6, tokens=rows[place].tokens,
            size=rows[place].size,
        )  # fmt: skip
    front = min((t for t in trials if value_at(t, 1) is not None), key=lambda t: value_at(t, 1) or 0.0)
    return record.model_copy(
        update={
            "outcome": "Running",
            "ended": None,
            "trials": tuple(trials),
            "rungs": tuple(rows),
            "totals": record.totals.model_copy(update={"flops": sum(row.flops for row in rows)}),
            "best": Best(
                trial=front.name, value=value_at(front, 1), rung=1, layers=2, tokens=rows[1].tokens,
                assignment=front.assignment,
            ),
            "notices": (
                Notice(
                    type="FidelityReduced",
                    message="Rung 3 asks for 10 layers, but the largest class holds 6; use a smaller batch.",
                ),
            ),
        }
    )  # fmt: skip


def empty() -> StudyRecord:
    """A study that has only just begun."""
    record = whole()
    rows = tuple(
        RungRecord(rung=r.rung, asked_layers=r.layers, layers=r.layers, tokens=r.tokens, size=r.size)
        for r in record.rungs
    )
    return StudyRecord(study=record.study, layers=LAYERS, outcome="Running", rungs=rows, written=START)


def single() -> StudyRecord:
    """One trial, one rung, one value."""
    record = whole()
    trial = record.trials[0].model_copy(update={"results": record.trials[0].results[:1], "state": "Completed"})
    return record.model_copy(
        update={
            "trials": (trial,),
            "rungs": (record.rungs[0].model_copy(update={"entered": 1, "finished": 1, "failed": 0, "promoted": 0}),),
            "runs": (),
            "best": Best(trial=trial.name, value=2.5, rung=0, layers=1, tokens=32768, assignment=trial.assignment),
        }
    )


def failed() -> StudyRecord:
    """Every trial diverged."""
    record = whole()
    trials = tuple(
        t.model_copy(
            update={
                "state": "Failed",
                "results": (
                    t.results[0].model_copy(
                        update={"state": "Diverged", "value": None, "curve": (), "message": "the loss was not finite"}
                    ),
                ),
            }
        )
        for t in record.trials
    )
    rows = (record.rungs[0].model_copy(update={"finished": 0, "failed": 16, "best": None, "promoted": 0}),)
    return record.model_copy(
        update={"outcome": "Failed", "message": "Every trial diverged.", "trials": trials, "rungs": rows, "best": None}
    )


HOSTILE = "</script><script>alert(1)</script><img src=x onerror=alert(2)>"


def hostile() -> StudyRecord:
    """Texts from a study that would be markup if they were not escaped."""
    record = whole()
    study = parse_study((EXAMPLES / "custom-entrypoint.yaml").read_text())
    parameter = {"name": "c", "type": "Categorical", "values": [HOSTILE, "b"]}
    changed = study.model_dump(mode="json", by_alias=True)
    changed["spec"]["parameters"] = [parameter]
    changed["spec"]["search"]["trials"] = 2
    changed["spec"]["objective"] = {"metric": HOSTILE[:60]}
    trials = tuple(
        t.model_copy(update={"assignment": {"c": (HOSTILE, "b")[t.index % 2]}, "name": f"{HOSTILE}{t.index}"})
        for t in record.trials
    )
    assert record.best is not None
    return record.model_copy(
        update={
            "study": type(study).model_validate(changed),
            "trials": trials,
            "message": HOSTILE,
            "best": record.best.model_copy(update={"trial": trials[3].name, "assignment": {"c": HOSTILE}}),
            "notices": (Notice(type=HOSTILE, message=HOSTILE),),
        }
    )


def hyperband() -> StudyRecord:
    """Two brackets: the second starts at rung 1."""
    record = whole()
    second = tuple(
        t.model_copy(update={"bracket": 1, "index": 100 + t.index, "name": f"hb-{t.index}", "results": t.results[1:]})
        for t in record.trials
        if len(t.results) > 1
    )
    rows = tuple(row.model_copy(update={"bracket": 1, "entered": 8}) for row in record.rungs[1:])
    return record.model_copy(update={"trials": record.trials + second, "rungs": record.rungs + rows})


def accuracy() -> StudyRecord:
    """resnet-digits, where more is better, in samples, with conditional hyperparameters."""
    study = load_study(EXAMPLES / "resnet-digits.yaml")
    steps = rungs(study.spec.fidelity, 2, LAYERS)
    configurations = assignments(study.spec.parameters, study.spec.search, 12)
    trials = []
    for i, assignment in enumerate(configurations):
        level = 0.99 - 0.12 * abs(math.log10(float(assignment.get("lrAdamW", assignment.get("lrSGD", 0.1)))) + 2.2)
        results = tuple(
            TrialRung(
                rung=s.index, state="Completed", value=level - 0.1 / (s.index + 1), layers=s.layers,
                asked_layers=s.layers, tokens=s.tokens, promoted=s.index < min(3, 3 - i // 3),
            )
            for s in steps[: max(1, 4 - i // 3)]
        )  # fmt: skip
        name = f"resnet-digits-{i}"
        trials.append(TrialRecord(index=i, name=name, state="Dropped", assignment=assignment, results=results))
    top = max((t for t in trials if len(t.results) == 4), key=lambda t: t.results[-1].value or 0.0)
    return StudyRecord(
        study=study,
        layers=LAYERS,
        unit="samples",
        outcome="GoalReached",
        started=START,
        ended=START + timedelta(hours=2, minutes=5),
        rungs=tuple(
            RungRecord(
                rung=s.index, asked_layers=s.layers, layers=s.layers, tokens=s.tokens,
                entered=sum(len(t.results) > s.index for t in trials),
                promoted=sum(len(t.results) > s.index + 1 for t in trials), flops=1e12,
            )
            for s in steps
        ),
        trials=tuple(trials),
        totals=Totals(flops=4e12, full_flops=4e13, tokens_only_flops=1e13),
        best=Best(
            trial=top.name, value=top.results[-1].value, rung=3, layers=10, tokens=8000, assignment=top.assignment
        ),
    )  # fmt: skip


ALL = {
    "whole": whole, "under_way": under_way, "empty": empty, "single": single, "failed": failed, "hostile": hostile,
    "hyperband": hyperband, "accuracy": accuracy,
}  # fmt: skip
