"""What /metrics says, over HTTP."""

from __future__ import annotations

import json
import threading
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from frostline_trainer.contract import (
    RunSpec,
)
from frostline_trainer.reporting.metrics import MetricsServer, RunMetrics
from tests.unit.trainer.conftest import run_spec, trial


def document(tmp_path: Path) -> dict[str, Any]:
    spec = run_spec("MLP", [trial("MLP", "a"), trial("MLP", "b")], 2, 4, tmp_path)
    return json.loads(spec.model_dump_json(by_alias=True, exclude_defaults=True))  # type: ignore[no-any-return]


def scrape(port: int) -> dict[tuple[str, str], float]:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5) as answer:
        text = answer.read().decode()
    return {(s.name, s.labels["trial"]): s.value for f in text_string_to_metric_families(text) for s in f.samples}


def test_metrics_have_the_contracts_names_and_labels(tmp_path: Path) -> None:
    spec = RunSpec.model_validate_json(json.dumps(document(tmp_path)))
    metrics = RunMetrics(spec, 2)
    server = MetricsServer(metrics, 0)
    try:
        assert ("frostline_trial_objective", "a") not in scrape(server.port)
        metrics.update("a", objective=0.5, tokens=64, step=4, loss=0.7, step_seconds=0.1)
        seen = scrape(server.port)
        expected = {
            "objective": 0.5, "tokens_total": 64, "step": 4, "loss": 0.7, "step_seconds": 0.1, "trainable_layers": 2,
            "finished": 0, "gpu_memory_peak_bytes": 0,
        }  # fmt: skip
        assert {name: seen[f"frostline_trial_{name}", "a"] for name in expected} == expected
        assert seen["frostline_trial_tokens_total", "b"] == 0
        with urllib.request.urlopen(f"http://127.0.0.1:{server.port}/healthz", timeout=5) as answer:
            assert answer.status == 200
        with pytest.raises(urllib.error.HTTPError):
            urllib.request.urlopen(f"http://127.0.0.1:{server.port}/other", timeout=5)
    finally:
        server.close()


def test_objective_and_tokens_of_one_evaluation_are_never_seen_apart(tmp_path: Path) -> None:
    """The objective is always twice the tokens; a thread changes both as fast as it can while they are read."""
    metrics = RunMetrics(RunSpec.model_validate_json(json.dumps(document(tmp_path))), 2)
    done = threading.Event()

    def change() -> None:
        tokens = 0
        while not done.is_set():
            tokens += 1
            metrics.update("a", objective=2.0 * tokens, tokens=tokens)

    thread = threading.Thread(target=change)
    metrics.update("a", objective=0.0, tokens=0)
    thread.start()
    try:
        for _ in range(300):
            found = {s.name: s.value for f in metrics.collect() for s in f.samples if s.labels["trial"] == "a"}
            assert found["frostline_trial_objective"] == 2 * found["frostline_trial_tokens_total"]
    finally:
        done.set()
        thread.join()
