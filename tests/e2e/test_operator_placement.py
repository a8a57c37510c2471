"""Runs go where their memory is: hardware as a fidelity, on nodes of different size."""

from collections.abc import Callable, Iterator

import pytest
from frostcluster.cluster import Cluster
from tests.e2e.operating import Studies, small

from frostline_operator.engine.profiling import MOST_CORNERS

LABEL = "hpo.frostline.dev/usable-gpu-memory"
WIDE = {"model": {"hidden": [256, 256, 256, 256]}, "training": {"batchSize": 100}}
"""Needs 1.2 MB at one layer, 1.9 at two, 3.6 at all five: a CPU's count of live tensors."""

Sizes = Callable[[str, str], None]


@pytest.fixture
def usable(own_cluster: Cluster, studies: Studies) -> Iterator[Sizes]:
    """Declare how much of their GPUs the two nodes let a run use."""

    def declare(smaller: str, larger: str) -> None:
        own_cluster.label_node("gpu-small", {LABEL: smaller})
        own_cluster.label_node("gpu-large", {LABEL: larger})

    yield declare
    for node in ("gpu-small", "gpu-large"):
        own_cluster.label_node(node, {LABEL: None})


def nodes_by_rung(studies: Studies, name: str) -> dict[int, set[str]]:
    found: dict[int, set[str]] = {}
    for pod in studies.pods(name):
        found.setdefault(int(pod["metadata"]["labels"]["hpo.frostline.dev/rung"]), set()).add(pod["spec"]["nodeName"])
    return found


def test_low_rungs_on_small_cards_high_rungs_on_large_ones(usable: Sizes, studies: Studies) -> None:
    usable("2Mi", "16Mi")
    studies.apply("hardware", small(**WIDE))
    status = studies.complete("hardware")

    assert nodes_by_rung(studies, "hardware") == {0: {"gpu-small"}, 1: {"gpu-small"}, 2: {"gpu-large"}}
    assert [(row["askedLayers"], row["layers"]) for row in status["rungs"]] == [(1, 1), (2, 2), (5, 5)]
    predicted = [r for t in studies.trials("hardware") for r in t["status"]["rungResults"]]
    # What was foretold holds: measured peaks are the live tensors that the trainer counts
    assert all(0.5 < r["peakBytes"] / r["predictedBytes"] < 1.1 for r in predicted), predicted


def test_a_rung_that_fits_nowhere_says_so_and_trains_fewer_layers(usable: Sizes, studies: Studies) -> None:
    usable("2Mi", "2Mi")
    studies.apply("reduced", small(**WIDE, search={"trials": 2}, promotion="Restart"))
    reduced = studies.wait_condition("reduced", "FidelityReduced")
    assert "asks for 5 layers, but the largest class holds 2" in reduced["message"]
    status = studies.complete("reduced")
    assert (status["rungs"][-1]["askedLayers"], status["rungs"][-1]["layers"]) == (5, 2)
    assert any(event["reason"] == "NoClassFits" for event in studies.events("reduced"))


def test_a_run_out_of_memory_is_repeated_where_there_is_more(usable: Sizes, studies: Studies) -> None:
    usable("1Mi", "64Mi")
    # More choices than are tried beforehand: what the wide network needs shows only when it runs.
    widths = [*range(8, 8 + MOST_CORNERS), 4096, 32]
    spec = small(
        parameters=[{"name": "width", "type": "Categorical", "values": widths, "bind": "model.hidden.0"}],
        search={"trials": 2, "initial": [{"width": 32}, {"width": 4096}]},
        fidelity={"samples": None, "layers": {"min": "All"}, "rungs": None},
    )
    spec["fidelity"] = {"rungs": [{"layers": "All", "tokens": 500}]}
    studies.apply("exceeds", spec)
    status = studies.complete("exceeds")

    runs = studies.runs("exceeds").values()
    assert sorted(run["state"] for run in runs) == ["OutOfMemory", "Succeeded", "Succeeded"]
    [failed] = [run for run in runs if run["state"] == "OutOfMemory"]
    assert "out of memory" in failed["message"]
    [pod] = [p for p in studies.pods("exceeds") if p["metadata"]["labels"]["hpo.frostline.dev/run"] == failed["name"]]
    [container] = pod["status"]["containerStatuses"]
    assert container["state"]["terminated"]["exitCode"] == 42
    assert status["trials"]["failed"] == 0
    assert {t["status"]["state"] for t in studies.trials("exceeds")} <= {"Completed", "Dropped"}
    assert any(event["reason"] == "RunOutOfMemory" for event in studies.events("exceeds"))


@pytest.mark.long
def test_scarcity_is_said_and_stops_no_other_study(studies: Studies) -> None:
    broken = {"spec": {"containers": [{"name": "trainer", "image": "localhost/no-such-image:1"}]}}
    studies.apply("no-image", small(search={"trials": 1}, template=broken))
    studies.apply("fine", small(search={"trials": 1}))
    profiled = studies.wait_condition("no-image", "Profiled", "False", 60)
    studies.until(
        "no-image", "ImagePull", lambda: studies.condition("no-image", "Profiled").get("reason") == "ImagePull", 60
    )
    assert profiled
    assert "imagePullSecrets" in studies.condition("no-image", "Profiled")["message"]
    assert any(event["reason"] == "ImagePull" for event in studies.events("no-image"))
    studies.complete("fine")


@pytest.mark.long
def test_a_quota_is_named_and_the_study_goes_on_once_it_is_raised(studies: Studies) -> None:
    studies.apply("limited", small(search={"trials": 1}))
    studies.wait_condition("limited", "Profiled")
    quota = {
        "apiVersion": "v1",
        "kind": "ResourceQuota",
        "metadata": {"name": "tight"},
        "spec": {"hard": {"count/jobs.batch": "0", "pods": "0"}},
    }
    studies.patch("limited", {"suspend": True})
    studies.until("limited", "no pods", lambda: studies.status("limited")["phase"] == "Suspended", 60)
    studies.workloads.apply(quota)
    studies.patch("limited", {"suspend": False})
    blocked = studies.wait_condition("limited", "RunsBlocked", "True", 60)
    assert blocked["reason"] == "QuotaExceeded"
    assert "raise the quota" in blocked["message"]
    assert studies.condition("limited", "Progressing")["status"] == "False"
    studies.workloads.kubectl("delete", "resourcequota", "tight")
    studies.complete("limited")
    assert studies.condition("limited", "RunsBlocked")["status"] == "False"
