"""Does a learning rate that is raised where few layers train make low rungs rank? python -m benchmarks.depth_transfer

AdamW moves every weight by about its learning rate, whatever the gradient, so what one step changes of the network's
output grows with the number of units that it moves. To move the output as full training does, z of L units need L / z
times the rate. (SGD's steps shrink and grow with the gradient, and its rate is left alone.) Two things are measured, by
the product's own trainer, as Spearman correlations with full training at the trial's own rate:

- `pretrained`: a byte-level GPT-2 of 8 blocks of 64 (L = 10) that has read Python's documentation and is fine-tuned on
  programs (files of the standard library); 24 configurations, rates times 1 to 16 and times L / z;
- the families of `benchmarks.paper` from random weights, whose full trainings are in paper-grid.json: times L / z.

The rule was written down before it was measured, and nothing in it is fitted. Resumable; ten minutes of one core.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sysconfig
import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from benchmarks import lookup, measures
from benchmarks.lookup import RESULTS
from benchmarks.measures import Value
from benchmarks.pages import fill, markdown
from benchmarks.paper.cases import PACK, WORK, Case, cases
from benchmarks.paper.grid import Leg, build, memory_folder, run_spec, trained
from benchmarks.samplers import PAGE, rounded
from frostline_trainer.contract import RunSpec
from frostline_trainer.data.open import open_data
from frostline_trainer.models.build import build_network
from frostline_trainer.training.loop import train_step

OUT = RESULTS / "depth-transfer.json"
RAW = WORK / "depth-transfer.jsonl"
FACTORS = {1: (1, 4, 8, 16), 2: (1, 4, 8, 16), 5: (1, 4)}
"""By z, what the rates of the pretrained network are multiplied by; L / z comes on top."""
EVALUATIONS = 4
_PRETRAINING_STEPS = 1200
_SOURCES = 150


def pretrained_case() -> Case:
    """The fine-tuning task; pretrained the first time."""
    base = cases()["gpt2"]
    weights, programs = WORK / "depth-transfer" / "weights", WORK / "depth-transfer" / "programs"
    model = {"family": "CausalLM", "config": {**base.model["config"], "n_layer": 8}}
    if not programs.exists():
        programs.mkdir(parents=True)
        files = sorted(Path(sysconfig.get_paths()["stdlib"]).glob("*.py"))[:_SOURCES]
        for file in files:
            shutil.copy(file, programs / file.name)
    case = replace(
        base, name="pretrained", title="GPT-2, 8 blocks of width 64, from English to programs", layers=10,
        depths=(10, 1, 2, 5), configurations=24, tokens=20_480,
        model={"family": "CausalLM", "pretrained": str(weights)},
        data={"kind": "Text", "path": str(programs), "validationLimit": 8192},
    )  # fmt: skip
    if not weights.exists():
        pretrain(replace(case, model=model, data=base.data), weights)
    return case


def pretrain(case: Case, folder: Path) -> None:
    """Train the whole network on English at one good setting, and save it."""
    tokens = _PRETRAINING_STEPS * 256
    with tempfile.TemporaryDirectory() as work:
        spec = run_spec(case, Leg(case.layers, tokens), [0], 0, work)
        training = spec.trials[0].training
        good = training.model_copy(
            update={
                "optimizer": training.optimizer.model_copy(update={"name": "AdamW", "lr": 2e-3, "weight_decay": 0.01}),
                "gradient_clipping": 1.0,
                "label_smoothing": 0.0,
            }
        )
        trial = spec.trials[0].model_copy(update={"training": good})
        pack = build(case, spec.model_copy(update={"trials": [trial], "horizon": tokens}))
        for step in range(pack.last_step):
            train_step(pack, step, pack.members)
        weights = {n: t.detach().clone() for n, t in pack.members[0].suffix.state().items()}
    network = build_network(case.study().model, open_data(spec.data, good, 0).shape, 0).module()
    network.load_state_dict(weights, strict=False)
    network.save_pretrained(folder)  # type: ignore[operator]


def scaled(spec: RunSpec, factor: float) -> RunSpec:
    """The run with every rate times the factor."""
    trials = []
    for trial in spec.trials:
        optimizer = trial.training.optimizer
        rate = optimizer.model_copy(update={"lr": optimizer.lr * factor})
        trials.append(trial.model_copy(update={"training": trial.training.model_copy(update={"optimizer": rate})}))
    return spec.model_copy(update={"trials": trials})


class Raw:
    """Losses by case, z, factor and configuration, in a file of JSON lines."""

    def __init__(self) -> None:
        self.values: dict[tuple[str, int, float], dict[int, list[Value]]] = {}
        for line in RAW.read_text().splitlines() if RAW.exists() else ():
            row = json.loads(line)
            self.values.setdefault((row["case"], row["z"], row["factor"]), {})[row["configuration"]] = row["values"]

    def train(self, case: Case, z: int, factor: float, members: Sequence[int]) -> None:
        """Train what is missing of these configurations."""
        known = self.values.setdefault((case.name, z, factor), {})
        missing = [i for i in members if i not in known]
        for first in range(0, len(missing), PACK):
            together, began = missing[first : first + PACK], time.monotonic()
            with tempfile.TemporaryDirectory(dir=memory_folder()) as folder:
                spec = run_spec(case, Leg(z, case.tokens, evaluations=EVALUATIONS), together, 0, folder)
                spec = scaled(spec, factor)
                values = trained(build(case, spec), spec)
            with RAW.open("a") as file:
                for index in together:
                    known[index] = values[f"c{index}"]
                    row = {"case": case.name, "z": z, "factor": factor, "configuration": index, "values": known[index]}
                    file.write(json.dumps(row) + "\n")
            print(
                f"{case.name} z={z} times {factor:g}: {len(together)} in {time.monotonic() - began:.0f} s", flush=True
            )


def adaptive(case: Case) -> list[int]:
    """The configurations whose optimizer is AdamW."""
    return [i for i, a in enumerate(case.assignments()) if a["optimizer"] == "AdamW"]


def agreement(low: Sequence[Value], full: Sequence[Value], members: Sequence[int]) -> dict[str, Any]:
    """Spearman's rho with full training: all, AdamW's alone, SGD's alone, and the better half of all."""
    half = measures.better_half(full)
    groups = {
        "all": list(range(len(full))),
        "adaptive": list(members),
        "sgd": [i for i in range(len(full)) if i not in set(members)],
        "betterHalf": half,
    }
    result: dict[str, Any] = {}
    for name, group in groups.items():
        estimate = measures.spearman_estimate([low[i] for i in group], [full[i] for i in group])
        result[name] = [estimate.value, estimate.low, estimate.high]
    chosen = min(range(len(full)), key=lambda i: float("inf") if low[i] is None else float(low[i] or 0.0))
    result["regretOfFirst"] = measures.regret(full[chosen], min(v for v in full if v is not None))
    return result


def measure_pretrained(raw: Raw) -> dict[str, Any]:
    case = pretrained_case()
    members, everything = adaptive(case), list(range(case.configurations))
    raw.train(case, case.layers, 1, everything)
    full = [raw.values[case.name, case.layers, 1][i][-1] for i in everything]
    result = {}
    for z in case.depths[1:]:
        raw.train(case, z, 1, everything)
        for factor in sorted({*FACTORS[z], case.layers / z}):
            raw.train(case, z, factor, members)
            for part in (1, EVALUATIONS):
                low = [raw.values[case.name, z, factor if i in members else 1][i][part - 1] for i in everything]
                short = "" if part == EVALUATIONS else f", tokens 1/{EVALUATIONS}"
                result[f"z={z}, times {factor:g}{short}"] = agreement(low, full, members)
    return {"title": case.title, "layers": case.layers, "adaptive": len(members), "agreement": result}


def measure_family(raw: Raw, name: str, depths: Sequence[int]) -> dict[str, Any]:
    """A family from random weights: factor 1 and full training from the table."""
    case, family = cases()[name], lookup.load()[name]
    members, full = adaptive(case), family.full
    result = {}
    for z in depths:
        plain = family.measured(z, family.fractions)
        result[f"z={z}, times 1"] = agreement(plain, full, members)
        factor = case.layers / z
        raw.train(case, z, factor, members)
        tried = raw.values[case.name, z, factor]
        low = [tried[i][-1] if i in tried else plain[i] for i in range(len(full))]
        result[f"z={z}, times {factor:g}"] = agreement(low, full, members)
    return {"title": case.title, "layers": case.layers, "adaptive": len(members), "agreement": result}


def write(document: dict[str, Any]) -> None:
    """The file of results, and the table of docs/does-it-work.md."""
    OUT.write_text(json.dumps(rounded(document), indent=1) + "\n")
    rows = [
        [name, fidelity, *(_shown(found[group]) for group in ("all", "adaptive", "sgd", "betterHalf"))]
        for name, part in document.items()
        for fidelity, found in part["agreement"].items()
        if "tokens" not in fidelity
    ]
    header = ["network", "layers, rate", "all", "AdamW's alone", "SGD's alone", "better half"]
    fill(PAGE, "depth-transfer", markdown(header, rows))


def _shown(estimate: Sequence[float]) -> str:
    return f"{estimate[0]:.2f} [{estimate[1]:.2f}, {estimate[2]:.2f}]"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.parse_args()
    torch.set_num_threads(1)
    RAW.parent.mkdir(parents=True, exist_ok=True)
    raw = Raw()
    document: dict[str, Any] = {}
    jobs: list[tuple[str, Any]] = [
        ("pretrained", lambda: measure_pretrained(raw)),
        ("gpt2", lambda: measure_family(raw, "gpt2", (1, 2))),
        ("mlp", lambda: measure_family(raw, "mlp", (1, 2))),
        ("resnet", lambda: measure_family(raw, "resnet", (1, 2))),
    ]
    for name, measure in jobs:
        document[name] = measure()
        for fidelity, found in document[name]["agreement"].items():
            print(
                f"{name} {fidelity}: " + ", ".join(f"{k} {v[0]:.2f}" for k, v in found.items() if isinstance(v, list))
            )
    write(document)


if __name__ == "__main__":
    main()
