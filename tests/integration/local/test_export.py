"""The winner of a study, from the command that ran it to the library that loads it."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import cast

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from frostline_operator.cli.export import export_cluster_best
from frostline_operator.kubernetes.client.api import STUDIES, Api
from frostline_operator.kubernetes.journal import Journal
from frostline_operator.kubernetes.objects.jobs import StudyRef
from frostline_operator.kubernetes.objects.names import checkpoint_folder
from frostline_operator.local.files import StudyFiles
from frostline_operator.local.session import read_folder
from frostline_operator.report import numbers
from frostline_trainer.contract import DataSpec, TrainingSpec
from frostline_trainer.data.open import open_data
from frostline_trainer.training.objective import objective_of
from tests.unit.kubernetes.fakes import FakeApi

from .conftest import Study, frostline


def test_the_winner_is_exported_with_its_objective_and_the_progress_is_told_to_programs(
    study: Study, write: Callable[[Study], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, out = tmp_path / "out", tmp_path / "winner"
    study["spec"]["search"]["trials"] = 2
    done = frostline("run", write(study), "--dir", folder, "--json")
    assert done.returncode == 0, done.stdout + done.stderr
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    outcome = lines[-1]
    assert outcome["event"] == "outcome" and any(line["event"] == "progress" for line in lines)

    exported = frostline("export", folder, "--best", out)
    assert exported.returncode == 0, exported.stderr
    config = json.loads((out / "config.json").read_text(encoding="utf-8"))
    model = nn.Sequential(*(getattr(nn, kind)(*sizes) for kind, *sizes in config["layers"]))
    model.load_state_dict(load_file(out / "model.safetensors"))
    data = open_data(DataSpec.model_validate(study["spec"]["data"]), TrainingSpec(), study["spec"]["search"]["seed"])
    x, y = data.validation(0, data.valid_samples)
    with torch.no_grad():
        assert float(objective_of(data.shape).loss(model.eval()(x), y, 0.0)) == pytest.approx(
            outcome["best"]["value"], rel=1e-5
        )

    assert frostline("export", tmp_path / "nosuch", "--best", out).returncode == 2

    volume, copy = tmp_path / "volume", tmp_path / "from-the-cluster"
    server = on_a_cluster(folder, volume)
    monkeypatch.setattr(Api, "connect", lambda kubeconfig: server)
    assert export_cluster_best("space/small", copy, None, str(volume)) == 0
    assert (copy / "model.safetensors").read_bytes() == (out / "model.safetensors").read_bytes()


def on_a_cluster(folder: Path, volume: Path) -> FakeApi:
    """A study of this machine as one in a cluster would be: its state in a journal, its checkpoints on a volume."""
    study, store, observation = read_folder(folder)
    uid = store.fact("uid")
    store.close()
    assert uid is not None
    document = study.model_dump(mode="json", by_alias=True, exclude_defaults=True, exclude_none=True)
    head = {"apiVersion": study.api_version, "kind": study.kind}
    metadata = {"name": study.metadata.name, "namespace": "space", "uid": uid}
    server = FakeApi()
    server.put(STUDIES, {**document, **head, "metadata": metadata})
    journal = Journal(cast(Api, server), StudyRef("space", study.metadata.name, uid, {}))
    journal.load()
    journal.set_fact("profile", observation.profile.model_dump(mode="json", by_alias=True))
    journal.save(observation.state)
    shutil.copytree(StudyFiles(folder).checkpoints, checkpoint_folder(str(volume), "space", study.metadata.name, uid))
    return server


def test_the_winner_is_trained_alone_in_full_and_told_beside_the_studys_result(
    study: Study, write: Callable[[Study], Path], tmp_path: Path
) -> None:
    folder, out = tmp_path / "out", tmp_path / "alone"
    study["spec"]["search"]["trials"] = 2
    assert frostline("run", write(study), "--dir", folder, "--quiet").returncode == 0
    told = json.loads(frostline("report", folder, "--format", "json").stdout)

    done = frostline("train", "--best", folder, "--dir", out)
    assert done.returncode == 0, done.stdout + done.stderr
    alone = json.loads(frostline("report", out, "--format", "json").stdout)
    assert alone["best"]["assignment"] == told["best"]["assignment"]
    assert (alone["best"]["layers"], alone["best"]["tokens"]) == (told["layers"], told["best"]["tokens"])
    [line] = [line for line in done.stdout.splitlines() if line.startswith("Alone")]
    assert numbers.value(alone["best"]["value"]) in line and numbers.value(told["best"]["value"]) in line
    # The top rung thaws more than the one below, so there the winner started over: alone it is the same training.
    assert alone["best"]["value"] == pytest.approx(told["best"]["value"], rel=1e-6)

    again = frostline("train", "--best", folder, "--dir", out, "--json")
    assert again.returncode == 0 and json.loads(again.stdout.splitlines()[-1])["repeats"]["value"] == pytest.approx(
        told["best"]["value"]
    )
    assert frostline("export", out, "--best", tmp_path / "winner").returncode == 0
    assert frostline("train", "--best", tmp_path / "nosuch").returncode == 2
