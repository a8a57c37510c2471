"""Every command of docs/quickstart.md, as it stands there, in a cluster of one node without a GPU."""

import json
import os
import re
import stat
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from frostcluster import build
from frostcluster.cluster import Cluster, running
from frostcluster.node import NodeSpec
from tests.e2e.charting import import_images, shelves
from tests.e2e.operating import ROOT

TEXT = (ROOT / "docs" / "quickstart.md").read_text(encoding="utf-8")
# What makes the cluster, and images in it: here the test cluster is there already.
REPLACED = (
    "kind create cluster --name frostline",
    "make images IMAGE_PREFIX=localhost/frostline TAG=dev "
    'BUILD_ARGS="--build-arg TORCH_INDEX=https://download.pytorch.org/whl/cpu"',
    "kind load docker-image localhost/frostline/operator:dev localhost/frostline/trainer:dev --name frostline",
    "kind delete cluster --name frostline",
)


def blocks() -> Iterator[tuple[str, str]]:
    """Each command with the output that is shown below it, if any."""
    found = re.findall(r"```(sh|text)\n(.*?)```", TEXT, re.S)
    for (kind, body), (after, shown) in zip(found, [*found[1:], ("", "")], strict=True):
        if kind == "sh":
            commands = body.replace("\\\n", "").strip().splitlines()
            yield from ((" ".join(command.split()), "") for command in commands[:-1])
            yield " ".join(commands[-1].split()), shown if after == "text" else ""


@pytest.fixture(scope="module")
def bare(cluster: object) -> Iterator[Cluster]:
    """Have a cluster like kind's: one node, no GPU."""
    if not isinstance(cluster, Cluster):
        pytest.skip("it needs a cluster of its own")
    with running(f"quick-{os.getpid()}", [NodeSpec("kind", gpus=0)]) as made:
        import_images(made)
        yield made


@pytest.fixture
def environment(bare: Cluster, tmp_path: Path) -> dict[str, str]:
    """kubectl and helm of this cluster; what the images would contain, and the volume, is there."""
    bare.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "frostline"}})
    folder = tmp_path / "checkpoints"
    folder.mkdir(mode=0o777)
    folder.chmod(0o777)
    volumes, mounts = shelves(bare, "frostline", folder)
    # kind has a provisioner; here the volume that it would make is made beforehand
    volume = {"capacity": {"storage": "1Gi"}, "accessModes": ["ReadWriteOnce"], "hostPath": {"path": str(folder)}}
    volume["claimRef"] = {"namespace": "frostline", "name": "frostline-checkpoints"}
    bare.apply({"apiVersion": "v1", "kind": "PersistentVolume", "metadata": {"name": "made"}, "spec": volume})
    threads = [{"name": "OMP_NUM_THREADS", "value": "1"}]
    trainer = {"volumes": volumes, "volumeMounts": mounts, "env": threads}
    operator = {"extraVolumes": volumes, "extraVolumeMounts": mounts}
    extra = tmp_path / "mounts.json"
    extra.write_text(json.dumps({"operator": operator, "trainer": trainer}))
    helm, kube = build.program("helm"), build.program("kube")
    _script(tmp_path / "helm", f'[ "$1" = install ] && set -- "$@" --values {extra}\nexec {helm} "$@"')
    _script(tmp_path / "kubectl", f'exec {kube} kubectl "$@"')
    path = f"{tmp_path}:{os.environ['PATH']}"
    return {**os.environ, "PATH": path, "KUBECONFIG": str(bare.kubeconfig), "HOME": str(tmp_path)}


def _script(file: Path, body: str) -> None:
    file.write_text(f"#!/bin/sh\n{body}\n")
    file.chmod(file.stat().st_mode | stat.S_IXUSR)


@pytest.mark.long
def test_every_command_of_the_quickstart_does_what_it_says(environment: dict[str, str], tmp_path: Path) -> None:
    left = list(REPLACED)
    said = ""
    for number, (command, shown) in enumerate(blocks()):
        if command in left:
            left.remove(command)
            continue
        done = subprocess.run(
            ["bash", "-c", command], env=environment, cwd=ROOT, capture_output=True, text=True, check=False, timeout=700
        )
        said = done.stdout
        (tmp_path / f"output-{number}.txt").write_text(f"$ {command}\n{said}{done.stderr}")
        assert done.returncode == 0, f"{command}\n{said}{done.stderr}\n{_state(environment)}"
        if shown:  # the same columns, or fields, as in the docs
            assert said.split("\n")[0].split() == shown.split("\n")[0].split()
            assert _fields(shown) <= _fields(said), _fields(shown) - _fields(said)
            assert _tokens(said) == _tokens(shown), "what the schedule costs is the same everywhere"
    assert left == []
    assert "mlp-breast-cancer" in said and "Complete" in said  # what `get studies` says after the uninstall


def _fields(text: str) -> set[str]:
    """The names of a described object's fields and sections."""
    return {found[1] for line in text.splitlines() if (found := re.match(r"^([A-Z][A-Za-z ]+):(?: |$)", line))}


def _tokens(text: str) -> list[str]:
    """What a described study has spent in tokens."""
    return re.findall(r"Name: +tokens\n +Reserved: +0\n +Spent: +(\d+)", text)


def _state(environment: dict[str, str]) -> str:
    shown = ""
    for words in ("get pods,studies,pvc --all-namespaces", "describe pods -n frostline", "describe studies -A"):
        done = subprocess.run(["kubectl", *words.split()], env=environment, capture_output=True, text=True, check=False)
        shown += done.stdout[-3000:]
    return shown
