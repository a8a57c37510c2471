"""Job manifests and the merging of templates."""

from typing import Any

from frostline_operator.api.study import PodTemplate
from frostline_operator.engine.state import Amounts, Run, RunState
from frostline_operator.kubernetes.objects.classes import DeviceClass, cpu_class
from frostline_operator.kubernetes.objects.jobs import (
    LARGEST_ENVIRONMENT,
    StudyRef,
    build_profile_job,
    build_run_document,
    build_run_job,
)
from frostline_operator.kubernetes.objects.merge import merged
from frostline_operator.kubernetes.objects.nodes import Term
from frostline_operator.kubernetes.settings import OperatorSettings
from frostline_trainer.contract import DataSpec, ModelSpec, RunSpec, TrialSpec

STUDY = StudyRef("space", "s", "uid-1", {"team": "a"})
CLASS = DeviceClass(
    "24Gi", 10, "nvidia.com/gpu", {"n": 2},
    frozenset({Term("nvidia.com/gpu.memory", "24576"), Term("nvidia.com/gpu.memory", "24564"), Term("vram", "24G")}),
)  # fmt: skip


def run(deadline: float | None = None) -> Run:
    charged = Amounts()
    return Run("s-b0-r1-000", 0, 1, 2, 100, 0, (0,), "24Gi", RunState.PENDING, charged, deadline_seconds=deadline)


def spec(trials: int = 1, text: str = "x") -> RunSpec:
    return RunSpec(
        study="s", study_uid="uid-1", run="s-b0-r1-000", rung=1, layers=2, tokens=100, horizon=100,
        trials=[TrialSpec(name=f"t{i}", hyperparameters={"a": text}) for i in range(trials)],
        model=ModelSpec(family="MLP", hidden=[4]), data=DataSpec(kind="Table", builtin="breast-cancer"),
        checkpoint="/checkpoints",
    )  # fmt: skip


def job(template: dict[str, Any] | None = None, /, **settings: Any) -> dict[str, Any]:
    chosen = settings.pop("chosen", CLASS)
    deadline = settings.pop("deadline", None)
    study = settings.pop("study", STUDY)
    made = PodTemplate.model_validate(template or {})
    return build_run_job(study, run(deadline), spec(), chosen, OperatorSettings(**settings), made)


def pod_of(made: dict[str, Any]) -> dict[str, Any]:
    spec: dict[str, Any] = made["spec"]["template"]["spec"]
    return spec


def test_one_attempt_and_no_more() -> None:
    made = job()
    assert made["spec"]["backoffLimit"] == 0
    assert pod_of(made)["restartPolicy"] == "Never"
    assert made["spec"]["podReplacementPolicy"] == "Failed"
    rules = made["spec"]["podFailurePolicy"]["rules"]
    assert [rule["action"] for rule in rules] == ["FailJob", "FailJob"]
    assert rules[1]["onExitCodes"] == {"containerName": "trainer", "operator": "In", "values": [42, 43]}
    assert made["metadata"]["ownerReferences"][0]["uid"] == "uid-1"


def test_nodes_are_asked_for_by_label_never_by_name() -> None:
    pod = pod_of(job())
    assert "nodeName" not in pod
    required = pod["affinity"]["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]
    assert required["nodeSelectorTerms"] == [
        {"matchExpressions": [{"key": "nvidia.com/gpu.memory", "operator": "In", "values": ["24564", "24576"]}]},
        {"matchExpressions": [{"key": "vram", "operator": "In", "values": ["24G"]}]},
    ]
    assert pod["containers"][0]["resources"]["limits"] == {"nvidia.com/gpu": 1}


def test_a_templates_own_affinity_must_hold_too() -> None:
    own = {"matchExpressions": [{"key": "zone", "operator": "In", "values": ["a"]}]}
    affinity = {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [own]}}}
    pod = pod_of(job({"spec": {"affinity": affinity}}))
    terms = pod["affinity"]["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]["nodeSelectorTerms"]
    assert [[e["key"] for e in term["matchExpressions"]] for term in terms] == [
        ["zone", "nvidia.com/gpu.memory"], ["zone", "vram"],
    ]  # fmt: skip


def test_cpu_runs_ask_for_no_device() -> None:
    pod = pod_of(job(chosen=cpu_class(2)["cpu"]))
    assert "affinity" not in pod and "resources" not in pod["containers"][0]


def test_mig_devices_and_amds_are_asked_for_by_their_own_names() -> None:
    for resource in ("nvidia.com/mig-2g.20gb", "amd.com/gpu"):
        chosen = DeviceClass("20Gi", 10, resource, {"n": 2}, frozenset({Term("memory", "20")}))
        assert pod_of(job(chosen=chosen))["containers"][0]["resources"]["limits"] == {resource: 1}


def test_the_runtime_class_is_for_pods_with_a_gpu_only() -> None:
    assert pod_of(job(runtime_class="nvidia"))["runtimeClassName"] == "nvidia"
    assert "runtimeClassName" not in pod_of(job(runtime_class="nvidia", chosen=cpu_class(2)["cpu"]))
    profile = build_profile_job(
        STUDY, "p", "{}", "cuda", OperatorSettings(runtime_class="nvidia"), PodTemplate.model_validate({})
    )
    assert "runtimeClassName" not in pod_of(profile)


def test_a_deadline_is_kept_by_the_kubelet_too() -> None:
    assert pod_of(job(deadline=99.5))["activeDeadlineSeconds"] == 220
    assert "activeDeadlineSeconds" not in pod_of(job())


def test_templates_are_merged_by_name() -> None:
    settings_template = PodTemplate(
        spec={"containers": [{"env": [{"name": "A", "value": "1"}, {"name": "B", "value": "1"}]}],
              "tolerations": [{"key": "x", "operator": "Exists"}]}
    )  # fmt: skip
    template = {
        "metadata": {"labels": {"team": "b"}, "annotations": {"note": "yes"}},
        "spec": {
            "priorityClassName": "low",
            "tolerations": [{"key": "y", "operator": "Exists"}],
            "containers": [
                {"name": "trainer", "image": "mine:1", "env": [{"name": "A", "value": "2"}],
                 "resources": {"limits": {"memory": "4Gi"}}},
                {"name": "sidecar", "image": "other"},
            ],
            "volumes": [{"name": "tmp", "emptyDir": {"sizeLimit": "1Gi"}}],
        },
    }  # fmt: skip
    made = job(template, template=settings_template)
    pod = pod_of(made)
    trainer, sidecar = pod["containers"]
    env = {e["name"]: e.get("value") for e in trainer["env"]}
    assert trainer["image"] == "mine:1" and (env["A"], env["B"]) == ("2", "1")
    assert "FROSTLINE_RUN" in env
    assert trainer["resources"]["limits"] == {"nvidia.com/gpu": 1, "memory": "4Gi"}
    assert sidecar["name"] == "sidecar"
    assert [t["key"] for t in pod["tolerations"]] == ["nvidia.com/gpu", "amd.com/gpu", "x", "y"]
    assert [v for v in pod["volumes"] if v["name"] == "tmp"] == [{"name": "tmp", "emptyDir": {"sizeLimit": "1Gi"}}]
    labels = made["spec"]["template"]["metadata"]["labels"]
    assert labels["team"] == "b" and labels["hpo.frostline.dev/run"] == "s-b0-r1-000"


def test_a_claim_for_checkpoints_is_mounted() -> None:
    pod = pod_of(job(checkpoint_claim="shared", checkpoints="/data"))
    assert {"name": "checkpoints", "persistentVolumeClaim": {"claimName": "shared"}} in pod["volumes"]
    assert {"name": "checkpoints", "mountPath": "/data"} in pod["containers"][0]["volumeMounts"]


def test_large_documents_go_into_a_config_map() -> None:
    large = spec(16, "x" * (LARGEST_ENVIRONMENT // 16))
    document = build_run_document(STUDY, run(), large)
    assert document is not None and RunSpec.model_validate_json(document["data"]["run.json"]) == large
    made = build_run_job(STUDY, run(), large, CLASS, OperatorSettings(), PodTemplate())
    container = pod_of(made)["containers"][0]
    [given] = [e["value"] for e in container["env"] if e["name"] == "FROSTLINE_RUN"]
    assert given == "@/etc/frostline/run.json"
    assert build_run_document(STUDY, run(), spec()) is None


def test_kueue_lets_jobs_go() -> None:
    labels = {"kueue.x-k8s.io/queue-name": "gpus", "team": "a"}
    made = job(study=StudyRef("space", "s", "uid-1", labels))
    assert made["spec"]["suspend"] is True
    assert made["metadata"]["labels"]["kueue.x-k8s.io/queue-name"] == "gpus"
    assert "team" not in made["metadata"]["labels"]
    assert "suspend" not in job()["spec"]


def test_a_custom_entrypoint_is_profiled_beside_a_gpu_of_the_class_that_is_chosen() -> None:
    made = build_profile_job(STUDY, "p", "{}", "cuda", OperatorSettings(runtime_class="nvidia"), PodTemplate(), CLASS)
    container = pod_of(made)["containers"][0]
    assert container["resources"] == {"limits": {"nvidia.com/gpu": 1}}
    assert "CUDA_VISIBLE_DEVICES" not in {variable["name"] for variable in container["env"]}
    assert pod_of(made)["runtimeClassName"] == "nvidia"
    assert pod_of(made)["affinity"] == pod_of(job())["affinity"]


def test_the_profile_needs_no_gpu() -> None:
    made = build_profile_job(STUDY, "s-profile", "{}", "cuda", OperatorSettings(image="i"), PodTemplate())
    container = pod_of(made)["containers"][0]
    assert container["command"][-6:] == ["profile", "{}", "--format", "json", "--memory", "cuda"]
    assert "resources" not in container
    assert made["metadata"]["labels"]["hpo.frostline.dev/component"] == "profile"


def test_a_volume_of_the_same_name_takes_the_others_place() -> None:
    pod = pod_of(job({"spec": {"volumes": [{"name": "tmp", "hostPath": {"path": "/scratch"}}]}}))
    assert [v for v in pod["volumes"] if v["name"] == "tmp"] == [{"name": "tmp", "hostPath": {"path": "/scratch"}}]


def test_merging_removes_with_null_and_changes_nothing_in_place() -> None:
    base = {"a": {"b": 1, "c": [1]}, "command": ["x"]}
    assert merged(base, {"a": {"b": None, "c": [2]}, "command": ["y"]}) == {"a": {"c": [1, 2]}, "command": ["y"]}
    assert base == {"a": {"b": 1, "c": [1]}, "command": ["x"]}
