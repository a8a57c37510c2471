"""Studies run to their end in real trainer pods, and come out as they do on one machine."""

from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML
from tests.e2e.operating import ROOT, Studies, run_locally, small

# The examples, made small enough for a test: what they are about stays.
SHRUNK: dict[str, dict[str, Any]] = {
    "gpt2-python-docs": {
        "search": {"trials": 4, "parallelism": 2},
        "fidelity": {"layers": {"min": 1, "max": "All"}, "tokens": {"max": 8192, "min": 2048}},
        "model": {"config": {"model_type": "gpt2", "n_layer": 3, "n_embd": 32, "n_head": 2}},
        "data": {"validationLimit": 2048},
        "training": {"batchSize": 4, "sequenceLength": 64},
    },
    "resnet-digits": {
        "objective": {"goal": None},
        "search": {"algorithm": "SuccessiveHalving", "trials": 4, "parallelism": 2},
        "fidelity": {"layers": {"min": 1}, "samples": {"max": 256, "min": 64}},
        "data": {"imageSize": 16},
        "training": {"batchSize": 16},
    },
    "mlp-breast-cancer": {"search": {"algorithm": "SuccessiveHalving", "trials": 4, "parallelism": 2}},
}


def shrunk(name: str) -> dict[str, Any]:
    spec: dict[str, Any] = YAML(typ="safe").load((ROOT / "examples" / f"{name}.yaml").read_text())["spec"]
    for section, changes in SHRUNK[name].items():
        merged = {**spec.get(section, {}), **changes}
        spec[section] = {key: value for key, value in merged.items() if value is not None}
    return spec


@pytest.mark.parametrize("name", list(SHRUNK))
def test_an_example_completes_with_the_values_that_one_machine_finds(
    studies: Studies, tmp_path: Path, name: str
) -> None:
    spec = shrunk(name)
    studies.apply(name, spec)
    expected = run_locally(name, spec, tmp_path)

    status = studies.complete(name)

    # Bit for bit: same seed, same code, one thread
    assert studies.results(name) == expected
    top = max(rung for _, rung in expected)
    values = {trial: value for (trial, rung), (value, _, _) in expected.items() if rung == top}
    pick = max if spec["objective"].get("direction") == "Maximize" else min
    best = pick(values, key=lambda trial: values[trial])
    assert status["best"]["trial"] == f"{name}-{best:04d}"
    assert status["best"]["value"] == values[best]
    assert status["phase"] == "Complete"
    assert status["reason"] == "Completed"
    assert status["rung"] == f"{top}/{top}"
    assert {trial["status"]["state"] for trial in studies.trials(name)} == {"Completed", "Dropped"}


def test_what_a_person_sees_with_kubectl(studies: Studies) -> None:
    studies.apply("seen", small(budget={"tokens": 20000}))
    studies.workloads.kubectl("wait", "--for=condition=Complete", "study/seen", "--timeout=240s")

    header, row = studies.workloads.kubectl("get", "studies").splitlines()
    assert header.split() == ["NAME", "PHASE", "RUNG", "TRIALS", "BEST", "BUDGET", "REASON", "AGE"]
    assert row.split()[:4] == ["seen", "Complete", "2/2", "4/4"]
    assert row.split()[5].endswith("%")
    header, *rows = studies.workloads.kubectl("get", "trials", "-l", "hpo.frostline.dev/study=seen").splitlines()
    assert header.split() == ["NAME", "STUDY", "STATE", "RUNG", "VALUE", "AGE"]
    assert len(rows) == 4
    described = studies.workloads.kubectl("describe", "study", "seen")
    for words in ("Promoted:", "the study is valid", "every trial has been decided", "Spent:", "Assignment:"):
        assert words in described, described
    assert "seen" in studies.workloads.kubectl("get", "frostline")
    # Nothing but what is wanted: results, and the Jobs of a while for their logs
    status = studies.status("seen")
    assert status["observedGeneration"] == 1
    conditions = {c["type"]: c["status"] for c in status["conditions"]}
    expected = {"Accepted": "True", "Profiled": "True", "Progressing": "False", "Complete": "True"}
    assert conditions.items() >= expected.items()


def test_pods_have_as_little_privilege_as_there_is(studies: Studies) -> None:
    studies.workloads.kubectl(
        "label", "namespace", studies.namespace, "pod-security.kubernetes.io/warn=restricted", "--overwrite"
    )
    studies.apply("restricted", small(search={"trials": 1}))
    studies.until("restricted", "a pod", lambda: bool(studies.pods("restricted")), 90)
    [pod, *_] = studies.pods("restricted")
    assert pod["spec"]["automountServiceAccountToken"] is False
    assert pod["spec"]["securityContext"]["runAsNonRoot"] is True
    [container] = pod["spec"]["containers"]
    assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}
    assert container["securityContext"]["readOnlyRootFilesystem"] is True
    assert container["resources"]["limits"] == {"nvidia.com/gpu": "1"}
    [job] = [j for j in studies.jobs("restricted") if j["metadata"]["name"] == pod["metadata"]["labels"]["job-name"]]
    assert job["spec"]["backoffLimit"] == 0
    assert job["metadata"]["ownerReferences"][0]["name"] == "restricted"
    studies.complete("restricted")
