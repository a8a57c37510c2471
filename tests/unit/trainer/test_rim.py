"""The rim of a run: its document, its metrics, its result."""

from __future__ import annotations

import json
import threading
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import pytest
import torch
from prometheus_client.parser import text_string_to_metric_families

from frostline_trainer.contract import (
    MAX_TRIALS_PER_RUN,
    RESULT_LIMIT_BYTES,
    ExitCode,
    ProfileSpec,
    RunResult,
    RunSpec,
    TrialResult,
    checkpoint_folder,
)
from frostline_trainer.errors import StudyFault
from frostline_trainer.profile.costs import profile, profile_hash
from frostline_trainer.reporting.metrics import MetricsServer, RunMetrics
from frostline_trainer.reporting.result import write_result
from frostline_trainer.run import read_spec
from frostline_trainer.training.prefix_cache import PrefixCache
from tests.unit.trainer.conftest import FAMILIES, run_spec, trial


def document(tmp_path: Path) -> dict[str, Any]:
    spec = run_spec("MLP", [trial("MLP", "a"), trial("MLP", "b")], 2, 4, tmp_path)
    return json.loads(spec.model_dump_json(by_alias=True, exclude_defaults=True))  # type: ignore[no-any-return]


def test_the_run_is_read_from_the_environment_or_a_file(tmp_path: Path) -> None:
    text = json.dumps(document(tmp_path))
    (tmp_path / "run.json").write_text(text)
    assert read_spec({"FROSTLINE_RUN": text}) == read_spec({"FROSTLINE_RUN": f"@{tmp_path}/run.json"})


def test_layers_may_be_bound_late(tmp_path: Path) -> None:
    text = json.dumps(document(tmp_path))
    assert read_spec({"FROSTLINE_RUN": text, "FROSTLINE_LAYERS": "1"}).layers == 1
    assert read_spec({"FROSTLINE_RUN": text, "FROSTLINE_LAYERS": ""}).layers == 2
    for wrong in ("0", "many"):
        with pytest.raises(StudyFault):
            read_spec({"FROSTLINE_RUN": text, "FROSTLINE_LAYERS": wrong})


def test_all_errors_of_a_document_are_named_at_once(tmp_path: Path) -> None:
    wrong = document(tmp_path)
    wrong["tokens"], wrong["colour"] = 0, "red"
    wrong["trials"][0]["training"]["optimizer"] = {"lr": "fast"}
    with pytest.raises(StudyFault) as caught:
        read_spec({"FROSTLINE_RUN": json.dumps(wrong)})
    assert all(name in str(caught.value) for name in ("tokens", "colour", "trials.0.training.optimizer.lr"))


@pytest.mark.parametrize("text", ["", "@/not/there", "{", "[]"])
def test_no_document_is_the_studys_fault(text: str) -> None:
    with pytest.raises(StudyFault, match="FROSTLINE_RUN"):
        read_spec({"FROSTLINE_RUN": text})


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


def test_a_result_replaces_the_old_one_whole(tmp_path: Path) -> None:
    path = tmp_path / "sub" / "result.json"
    for number in range(2):
        write_result(RunResult(run=f"run{number}", layers=1, exit_code=ExitCode.DONE, trials=[]), path)
        assert RunResult.model_validate_json(path.read_text()).run == f"run{number}"
    assert [p.name for p in path.parent.iterdir()] == ["result.json"]


def test_the_cache_keeps_its_bounds_and_what_it_was_given(tmp_path: Path) -> None:
    cpu = torch.device("cpu")
    cache = PrefixCache(memory_bytes=5000, disk_bytes=9000, folder=str(tmp_path))
    tensors = [torch.randn(10, 100, dtype=t) for t in (torch.float32, torch.float32, torch.float32, torch.bfloat16)]
    for i, tensor in enumerate(tensors):
        cache.put(("train", i), tensor, torch.tensor([i]), seconds=60.0)
    on_disk = [p.stat().st_size for p in tmp_path.rglob("train-*")]
    assert sorted(on_disk) == [2000, 4000, 4000][: len(on_disk)] or sum(on_disk) <= 9000
    hits = [cache.get(("train", i), cpu) for i in range(4)]
    for tensor, hit in zip(tensors, hits, strict=True):
        if hit is not None:
            assert torch.equal(hit[0], tensor) and hit[0].dtype == tensor.dtype
    assert hits[0] is not None and hits[1] is not None
    cache.close()
    assert list(tmp_path.iterdir()) == []


def spec_of(family: str) -> ProfileSpec:
    made = FAMILIES[family]
    return ProfileSpec.model_validate_json(json.dumps({k: made[k] for k in ("model", "data", "training")}))


@pytest.mark.parametrize(("family", "layers"), [("CausalLM", 5), ("Vision", 8), ("MLP", 4)])
def test_cost_grows_with_z_and_the_prefix_shrinks_to_nothing(family: str, layers: int) -> None:
    spec = spec_of(family)
    if family == "Vision":
        data = spec.data.model_copy(update={"image_size": 64})
        spec = spec.model_copy(update={"model": spec.model.model_copy(update={"name": "alexnet"}), "data": data})
    found = profile(spec)
    assert found.layers == layers and found.step_tokens == FAMILIES[family]["step"]
    assert found.parameters == sorted(found.parameters)
    assert found.suffix_flops == sorted(found.suffix_flops)
    assert found.prefix_flops == sorted(found.prefix_flops, reverse=True) and found.prefix_flops[-1] == 0
    totals = [p + s for p, s in zip(found.prefix_flops, found.suffix_flops, strict=True)]
    assert totals == sorted(totals)


def test_flops_of_an_mlp_are_those_of_its_matrices() -> None:
    found = profile(spec_of("MLP"))
    forward = [2 * 30 * 24, 2 * 24 * 24, 2 * 24 * 24, 2 * 24 * 2]
    assert found.prefix_flops == [sum(forward[:3]), sum(forward[:2]), forward[0], 0]
    # Backward: gradients of weights everywhere, of inputs everywhere but at the cut.
    assert found.suffix_flops[0] == 2 * forward[3]
    assert found.suffix_flops[1] == 2 * forward[2] + 3 * forward[3]
    assert found.parameters == [50, 650, 1250, 1994]


def test_a_profile_of_a_large_model_allocates_next_to_nothing() -> None:
    import resource

    config = {"model_type": "llama", "hidden_size": 8192, "num_hidden_layers": 2, "num_attention_heads": 64}
    text = {"model": {"family": "CausalLM", "config": config}, "data": {"kind": "Text", "builtin": "python-docs"}}
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    found = profile(ProfileSpec.model_validate_json(json.dumps(text)))
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024
    assert found.parameters[-1] > 10**9 and grown < 0.2 * 4 * found.parameters[-1]


def test_the_profiles_hash_tells_what_it_depends_on() -> None:
    one = spec_of("CausalLM")
    rate = one.model_copy(update={"training": one.training.model_copy(update={"label_smoothing": 0.1})})
    longer = one.model_copy(update={"training": one.training.model_copy(update={"sequence_length": 16})})
    assert profile_hash(one) == profile_hash(rate) != profile_hash(longer)


def test_the_foretold_gain_of_packing_is_its_cost_rule() -> None:
    found = profile(spec_of("MLP"))
    prefix, suffix = found.prefix_flops[0] * 16, found.suffix_flops[0] * 16 + 100 * 50
    assert found.packing_gain(1, 1) == 1
    assert found.packing_gain(1, 8) == pytest.approx((prefix + suffix) / (prefix / 8 + suffix))
    assert found.packing_gain(4, 8) == 1  # nothing is shared at full depth
    assert found.packing_gain(1, 8) > found.packing_gain(2, 8) > found.packing_gain(3, 8)


def test_the_result_of_the_largest_run_fits_a_termination_message() -> None:
    """With the longest names that a study can have, and figures of all digits."""
    study = "s" * 40
    run = f"{study}-b10-r10-1000"
    trials = [
        TrialResult(
            name=f"{study}-{1000 + number}", reason="Completed", objective=-1.2345678901234567e-100,
            tokens=10**10 + number,
            checkpoint=checkpoint_folder(f"{study}-{1000 + number}", 10, run),
        )
        for number in range(MAX_TRIALS_PER_RUN)
    ]  # fmt: skip
    whole = RunResult(
        run=run, layers=100, exit_code=ExitCode.STOPPED, trials=trials, peak_bytes=10**11, reserved_bytes=10**11,
        device_bytes=10**11, device="NVIDIA H200 NVL 141GB HBM3e", seconds=123456.789, train_seconds=123456.789,
        message="stopped by a signal; checkpoints are written",
    )  # fmt: skip
    text = whole.to_json()
    assert len(text.encode()) <= RESULT_LIMIT_BYTES
    assert RunResult.model_validate_json(text) == whole


def test_a_record_of_another_version_is_read_as_far_as_it_is_known() -> None:
    """Runs are under way while the operator is replaced by the next one."""
    trial = '{"name": "a", "reason": "Completed", "objective": 1.5, "tokens": 8, "checkpointBytes": 9}'
    result = RunResult.model_validate_json(f'{{"run": "r", "layers": 1, "exitCode": 0, "trials": [{trial}], "new": 1}}')
    assert result.trials[0].objective == 1.5
