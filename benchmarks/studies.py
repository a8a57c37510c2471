"""One study run three ways, one after the other: joint over layers and tokens with packing, without, and tokens only.

What it answers: does the joint study find as good a configuration as classic halving, for how much less compute and
time, and how much of that is packing? The winners are also trained in full from the start, side by side: what a study
with another `promotion` says of its winner may be that of a network whose first layers trained last.
`python benchmarks/studies.py` prints the table and writes benchmarks/results/studies.json. About a quarter of an hour
on two CPU cores.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from frostline_operator.api.loader import load_study
from frostline_operator.api.yaml import to_yaml
from frostline_operator.report.local import read_record

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "benchmarks" / "results" / "studies.json"


def variants() -> dict[str, dict[str, Any]]:
    joint = load_study(ROOT / "examples" / "gpt2-python-docs.yaml").model_dump(
        mode="json", by_alias=True, exclude_unset=True
    )
    tokens = load_study(ROOT / "examples" / "tokens-only.yaml").model_dump(
        mode="json", by_alias=True, exclude_unset=True
    )
    search = {**joint["spec"]["search"], "maxTrialsPerRun": 1}
    alone = {**joint, "spec": {**joint["spec"], "search": search}}
    return {"joint, packed": joint, "joint, a run for each trial": alone, "tokens only": tokens}


def measure(name: str, document: dict[str, Any], folder: Path) -> dict[str, Any]:
    folder.mkdir(parents=True)
    manifest = folder / "study.yaml"
    manifest.write_text(to_yaml(document), encoding="utf-8")
    command = [sys.executable, "-c", "from frostline_operator.cli import main; main()", "run", str(manifest)]
    began = time.monotonic()
    subprocess.run([*command, "--dir", str(folder / "run"), "--plain"], check=True, stdout=subprocess.DEVNULL)
    wall = time.monotonic() - began
    record = read_record(folder / "run")
    assert record.best is not None
    return {
        "study": name,
        "winner": record.best.trial,
        "loss": record.best.value,
        "assignment": record.best.assignment,
        "teraflops": record.totals.flops / 1e12,
        "wall_seconds": round(wall, 1),
        "device_seconds": round(record.totals.seconds, 1),
        "runs": len(record.runs),
        "rank_agreement": [row.rank_correlation for row in record.rungs],
    }


def in_full(rows: list[dict[str, Any]], folder: Path) -> None:
    """Train each distinct winner with all layers from the start, and note what it comes to."""
    joint = variants()["joint, packed"]
    winners = {json.dumps(row["assignment"], sort_keys=True): row["assignment"] for row in rows}
    spec = {
        **joint["spec"],
        "search": {**joint["spec"]["search"], "initial": list(winners.values()), "trials": len(winners)},
        "fidelity": {"rungs": [{"layers": "All", "tokens": joint["spec"]["fidelity"]["tokens"]["max"]}]},
    }
    measure("in full", {**joint, "spec": spec}, folder)
    for trial in read_record(folder / "run").trials:
        for row in rows:
            if row["assignment"] == trial.assignment:
                row["loss_in_full"] = trial.results[-1].value


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, default=RESULTS)
    arguments = parser.parse_args()
    before = os.getloadavg()[0]
    with tempfile.TemporaryDirectory() as scratch:
        rows = []
        for position, (name, document) in enumerate(variants().items()):
            rows.append(measure(name, document, Path(scratch) / str(position)))
            print(json.dumps(rows[-1]), flush=True)
        in_full(rows, Path(scratch) / "full")
    first = rows[0]
    names = " ".join(f"{name:>8}" for name in ("loss", "in full", "TFLOP", "seconds"))
    print(f"\n{'study':<30} {names} {'runs':>5} {'x FLOP':>7} {'x time':>7}")
    for row in rows:
        flops, seconds = row["teraflops"], row["wall_seconds"]
        print(
            f"{row['study']:<30} {row['loss']:>8.4f} {row['loss_in_full']:>8.4f} {flops:>8.2f} {seconds:>8.0f} "
            f"{row['runs']:>5} {flops / first['teraflops']:>7.2f} {seconds / first['wall_seconds']:>7.2f}"
        )
    arguments.output.write_text(json.dumps({"load_before": before, "rows": rows}, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
