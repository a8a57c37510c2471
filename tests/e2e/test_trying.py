"""What `make try` promises: a cluster with Frostline in it, and commands that work as they are printed."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from frostcluster import cluster
from frostcluster.client import Client
from frostcluster.cluster import Cluster
from tests.e2e.operating import ROOT

MAKE_TRY = [sys.executable, "-m", "tests.e2e.trying"]
PATHS = os.pathsep.join(str(ROOT / part) for part in (".", "operator", "trainer", "tests/cluster"))


@pytest.fixture
def tried(own_cluster: Client) -> Iterator[tuple[Cluster, str]]:
    """A cluster beside the tests' own, brought up as the command does; and what the command printed."""
    name = f"try-{os.getpid()}"
    environment = os.environ | {"PYTHONPATH": PATHS}
    try:
        done = subprocess.run(
            [*MAKE_TRY, name], cwd=ROOT, env=environment, capture_output=True, text=True, check=False, timeout=300
        )
        assert done.returncode == 0, done.stderr
        yield Cluster.attach(name), done.stdout
    finally:
        cluster.down(name)


def test_the_commands_that_it_prints_lead_to_a_finished_study_and_its_report(
    tried: tuple[Cluster, str], tmp_path: Path
) -> None:
    started, printed = tried
    lines = [shlex.split(line, comments=True) for line in printed.splitlines() if line.startswith("  ")]
    said = ""
    for words in lines:
        if words[0] == "kubectl" and "-w" not in words:
            said += started.kubectl(*(str(ROOT / w) if w.startswith("examples/") else w for w in words[1:]))
    assert "24576" in said and "condition met" in said

    report = next(words for words in lines if "report" in words)
    page = tmp_path / "report.html"
    command = [sys.executable, "-m", "frostline_operator.cli", *report[1:-1], str(page)]
    environment = os.environ | {"PYTHONPATH": PATHS, "KUBECONFIG": str(started.kubeconfig)}
    subprocess.run(command, env=environment, check=True, timeout=60)
    assert "mlp-breast-cancer" in page.read_text()
