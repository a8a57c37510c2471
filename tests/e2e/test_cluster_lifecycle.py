"""Clusters come and go: two at once, none when it is over, and nothing left on the machine however they ended."""

import contextlib
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from frostcluster import build, cgroups, nodeinit, processes, state
from frostcluster.client import Client
from frostcluster.cluster import Cluster, down, running, sweep, up
from frostcluster.errors import ClusterError
from frostcluster.network import links
from frostcluster.node import NodeSpec
from frostcluster.runtime import PythonRuntime
from frostcluster.workloads import SLEEP, Workloads, terminated

pytestmark = [pytest.mark.alone, pytest.mark.usefixtures("own_cluster")]

ONE_NODE = (NodeSpec("only", gpus=1),)
PACKAGE = str(Path(nodeinit.__file__).parents[1])


def traces() -> dict[str, set[str]]:
    """Return everything that a cluster adds to a machine, as it is now."""
    namespaces = set()
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit() and processes.start_time(int(folder.name)) is not None:
            with contextlib.suppress(OSError):
                namespaces |= {str((folder / "ns" / kind).readlink()) for kind in ("net", "mnt", "pid", "uts")}
    own = re.compile(rf"^({re.escape(str(build.cache_folder()))}/|/pause|unshare |nsenter )|{nodeinit.__file__}")
    return {
        "processes": {
            f"{folder.name} {words[:120]}"
            for folder in Path("/proc").iterdir()
            if folder.name.isdigit() and own.search(words := command_line(folder))
        },
        "namespaces": namespaces,
        "mounts": {line.split()[1] for line in Path("/proc/mounts").read_text().splitlines()},
        "links": set(links()),
        "routes": set(run("ip", "-4", "route", "show", "table", "all").splitlines()),
        "rules": {line for line in run("iptables-save").splitlines() if line.startswith((":", "-A"))},
        "cgroups": {str(path) for path in Path("/sys/fs/cgroup").glob("*/*") if path.is_dir()},
        "tunables": {f"{name}={Path('/proc/sys', name).read_text().strip()}" for name in TUNABLES},
        "states": {found.name for found in state.load_all()},
        "folders": {path for path in (*nodeinit.BOUND, *nodeinit.IN_MEMORY) if Path(path).exists()},
    }


NETWORK_TUNABLES = ("net/ipv4/ip_forward", "net/ipv4/conf/all/route_localnet", "net/netfilter/nf_conntrack_max")
TUNABLES = (*nodeinit.TUNABLES, *NETWORK_TUNABLES)


def command_line(process: Path) -> str:
    try:
        return (process / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
    except OSError:
        return ""


def run(*command: str) -> str:
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


@pytest.fixture
def leaves_nothing() -> Iterator[Callable[[], None]]:
    """Give a check that nothing has come to the machine since the test began."""
    before = traces()

    def check() -> None:
        left: dict[str, set[str]] = {}

        def clean() -> bool:
            now = traces()
            left.clear()
            left.update({kind: now[kind] - before[kind] for kind in now if now[kind] - before[kind]})
            return not left

        processes.eventually(clean, 5)  # the kernel takes network namespaces apart at its leisure
        assert left == {}

    yield check
    for name in ("side-a", "side-b", "crash"):
        down(name)


def runs_a_job(cluster: Client, runtime: PythonRuntime, name: str) -> None:
    workloads = Workloads(cluster, name, runtime)
    workloads.create()
    workloads.job("job", "open('/dev/termination-log', 'w').write('ran')")
    workloads.finished("job")
    assert terminated(workloads.pods_of("job")[0])["message"] == "ran"


@pytest.mark.slow
def test_two_clusters_run_side_by_side_and_leave_nothing(
    python_runtime: PythonRuntime, leaves_nothing: Callable[[], None]
) -> None:
    with running("side-b", ONE_NODE) as b:
        with running("side-a", ONE_NODE) as a:
            assert a.network.whole != b.network.whole
            runs_a_job(a, python_runtime, "in-a")
            runs_a_job(b, python_runtime, "in-b")
            assert "in-b" not in a.kubectl("get", "namespaces")
            assert "in-a" not in b.kubectl("get", "namespaces")
            Workloads(a, "in-a", python_runtime).pod("still-running", SLEEP)
            Workloads(a, "in-a", python_runtime).wait_phase("still-running", "Running")
            present = traces()
            assert {a.network.bridge, b.network.bridge} <= present["links"]
            assert cgroups.find(a.network.bridge)
        # What belonged to one is gone, the other does not notice
        assert a.network.bridge not in links()
        assert not cgroups.find(a.network.bridge)
        runs_a_job(b, python_runtime, "alone")
    leaves_nothing()


CHILD = """
import signal, sys
from frostcluster.cluster import running
from frostcluster.node import NodeSpec
print("starting", flush=True)
with running("crash", [NodeSpec("only", gpus=1)]):
    print("running", flush=True)
    signal.pause()
"""


@pytest.mark.slow
@pytest.mark.parametrize("moment", ["starting", "running"])
@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGINT, signal.SIGKILL])
def test_a_cluster_ends_with_its_owner(leaves_nothing: Callable[[], None], moment: str, how: signal.Signals) -> None:
    child = subprocess.Popen(
        [sys.executable, "-c", CHILD], stdout=subprocess.PIPE, text=True, env=os.environ | {"PYTHONPATH": PACKAGE}
    )
    assert child.stdout is not None
    while child.stdout.readline().strip() != moment:
        assert child.poll() is None
    if moment == "starting":  # well in the middle of it: there are processes, a bridge and nodes, and no API yet
        assert processes.eventually(lambda: any("kube-apiserver" in p for p in started("crash")), 20, 0.02)
    else:
        Cluster.attach("crash").kubectl("create", "deployment", "left", "--image=localhost/pause:1", "--replicas=3")
    child.send_signal(how)
    child.wait(30)
    child.stdout.close()

    if how == signal.SIGKILL:
        assert state.load("crash") is not None
        assert sweep() == ["crash"]
    assert state.load("crash") is None
    leaves_nothing()


@pytest.mark.slow
@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGINT])
def test_a_test_run_that_is_stopped_takes_its_cluster_down(
    leaves_nothing: Callable[[], None], tmp_path: Path, how: signal.Signals
) -> None:
    script = "from frostcluster.fixtures import cluster\n\n\ndef test_it(cluster):\n    import time; time.sleep(300)\n"
    (tmp_path / "test_it.py").write_text(script + "\n\ndef test_never(cluster):\n    print('not reached')\n")
    child = subprocess.Popen(
        [sys.executable, "-m", "pytest", "-q", "-s", "-p", "no:cacheprovider", "--rootdir", tmp_path, "test_it.py"],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": PACKAGE, "FROSTLINE_REQUIRE_E2E": "1"},
    )
    name = f"e2e-{child.pid}"
    assert processes.eventually(lambda: "gpu-large-gpu-plugin" in started(name), 60)
    assert child.poll() is None

    child.send_signal(how)
    output, _ = child.communicate(timeout=60)

    assert "KeyboardInterrupt" in output
    assert "not reached" not in output
    assert state.load(name) is None
    leaves_nothing()


def started(name: str) -> list[str]:
    found = state.load(name)
    return [record.name for record in found.processes] if found else []


def test_processes_that_were_not_recorded_are_ended_too(leaves_nothing: Callable[[], None]) -> None:
    with running("crash", ONE_NODE) as cluster:
        forgotten = [record for record in cluster.state.processes if record.name in ("etcd", "only-init")]
        cluster.state.processes = [record for record in cluster.state.processes if record not in forgotten]
        cluster.state.save()
        assert [processes.is_alive(record) for record in forgotten] == [True, True]
    assert [processes.is_alive(record) for record in forgotten] == [False, False]
    leaves_nothing()


def test_another_process_with_a_recorded_number_is_left_alone() -> None:
    bystander = subprocess.Popen(["sleep", "60"])
    try:
        record = processes.record_of("bystander", bystander.pid)
        record.started -= 1
        processes.end(record, signal.SIGKILL)
        assert bystander.poll() is None
    finally:
        bystander.kill()
        bystander.wait()


def test_down_does_nothing_where_nothing_is_and_up_refuses_what_is_up(own_cluster: Cluster) -> None:
    down("never-was")
    with pytest.raises(ClusterError, match="is up already"):
        up(own_cluster.name)
    assert own_cluster.ready_nodes() == set(own_cluster.nodes)


def test_the_fixtures_take_a_cluster_that_is_there_and_leave_it_as_it_was(own_cluster: Cluster) -> None:
    tests = Path(__file__).parent
    environment = os.environ | {"FROSTLINE_E2E_KUBECONFIG": str(own_cluster.kubeconfig), "PYTHONPATH": PACKAGE}
    environment.pop("FROSTLINE_E2E_IMAGE", None)
    done = subprocess.run(
        [
            *(sys.executable, "-m", "pytest", "-q", "-rs", "-p", "no:cacheprovider"),
            f"{tests / 'test_cluster.py'}::test_it_is_the_version_it_should_be",
            f"{tests / 'test_cluster.py'}::test_labels_of_nodes_can_be_changed",
        ],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert "1 passed, 1 skipped" in done.stdout, done.stdout + done.stderr
    assert "this one is not ours" in done.stdout
    assert own_cluster.ready_nodes() == set(own_cluster.nodes)
