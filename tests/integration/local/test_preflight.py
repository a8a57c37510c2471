"""A study that cannot work is refused before anything is spent, and goes on once it is put right."""

from __future__ import annotations

import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

from .conftest import Study, command, environment, frostline
from .test_run import load

ROWS = "x,target\n" + "".join(f"{i},{i % 2}\n" for i in range(200))


def test_supplying_a_file_or_correcting_a_path_is_all_that_a_refused_study_needs(
    study: Study, write: Callable[[Study], Path], tmp_path: Path
) -> None:
    folder, table = tmp_path / "out", tmp_path / "table.csv"
    study["spec"]["search"]["trials"] = 1
    study["spec"]["data"] = {"kind": "Table", "path": "table.csv"}
    missing = frostline("run", write(study), "--dir", folder)
    assert missing.returncode == 2 and "study.yaml:" in missing.stderr and "spec.data.path: " in missing.stderr
    table.write_text(ROWS.replace("target", "price"), encoding="utf-8")
    wrong = frostline("run", write(study), "--dir", folder)
    assert wrong.returncode == 2 and "spec.data.targetColumn: " in wrong.stderr, wrong.stderr
    study["spec"]["data"]["targetColumn"] = "price"
    done = frostline("run", write(study), "--dir", folder)
    assert done.returncode == 0, done.stdout + done.stderr


def test_a_study_without_a_result_may_be_changed_and_one_with_results_may_not(
    study: Study, write: Callable[[Study], Path], tmp_path: Path
) -> None:
    folder = tmp_path / "out"
    code = tmp_path / "mine.py"
    code.write_text("def train(trial):\n    raise ValueError('not yet')\n", encoding="utf-8")
    study["spec"] |= {"model": {"family": "Custom", "entrypoint": "mine:train"}, "data": {"kind": "None"}}
    study["spec"]["parameters"] = study["spec"]["parameters"][:1]
    study["spec"]["search"] |= {"trials": 2, "parallelism": 1}
    study["spec"]["fidelity"] = {"rungs": [{"layers": 1, "tokens": 4}]}
    study["spec"].pop("training")
    refused = frostline("run", write(study), "--dir", folder)
    assert refused.returncode == 2 and "mine.py, line 2" in refused.stderr
    code.write_text(ENTRYPOINT, encoding="utf-8")
    study["spec"]["search"]["trials"] = 1
    done = frostline("run", write(study), "--dir", folder)
    assert done.returncode == 0, done.stdout + done.stderr
    study["spec"]["search"]["trials"] = 2
    refused = frostline("run", write(study), "--dir", folder)
    assert refused.returncode == 2 and "differs in spec.search.trials" in refused.stderr
    assert len(load(folder).trials) == 1


def test_data_that_changed_while_a_study_was_stopped_is_noticed_and_put_back_it_goes_on(
    study: Study, write: Callable[[Study], Path], tmp_path: Path
) -> None:
    folder, table = tmp_path / "out", tmp_path / "table.csv"
    table.write_text(ROWS, encoding="utf-8")
    study["spec"]["data"] = {"kind": "Table", "path": "table.csv"}
    study["spec"]["search"] |= {"trials": 4, "parallelism": 1}
    manifest = write(study)
    process = subprocess.Popen(command("run", manifest, "--dir", folder), stdout=subprocess.DEVNULL, env=environment())
    until = time.monotonic() + 120
    while not any(folder.glob("checkpoints/*/*/state.json")) and time.monotonic() < until:
        time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    assert process.wait(60) == 130
    table.write_text(ROWS.replace("7,1", "7,0"), encoding="utf-8")
    changed = frostline("run", manifest, "--dir", folder)
    assert changed.returncode == 2, changed.stdout
    assert "spec.data.path: " in changed.stderr
    assert "table.csv is not the data that the study began with" in " ".join(changed.stderr.split())
    table.write_text(ROWS, encoding="utf-8")
    done = frostline("run", manifest, "--dir", folder)
    assert done.returncode == 0, done.stdout + done.stderr


ENTRYPOINT = """\
import torch

def train(trial):
    prefix, suffix = trial.freeze([torch.nn.Linear(2, 2), torch.nn.Linear(2, 1)])
    optimizer = trial.resume(torch.optim.SGD(suffix.parameters(), lr=trial.hyperparameters["lr"]))
    for step in range(trial.start_tokens, trial.tokens):
        loss = suffix(prefix(torch.ones(1, 2, device=trial.device))).square().mean()
        loss.backward()
        optimizer.step()
        trial.report(tokens=step + 1)
    trial.report(tokens=trial.tokens, loss=float(loss))
"""
