"""What of the test cluster can be tested without one: builds, refusals, addresses, images and the command line."""

import ipaddress
import json
import os
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest
from frostcluster import build, cluster, images, nodeinit, requirements, state
from frostcluster.__main__ import main
from frostcluster.build import COMPONENTS, Component
from frostcluster.certs import Authority
from frostcluster.errors import ClusterError, MissingRequirement
from frostcluster.network import Network
from frostcluster.node import NodeSpec
from frostcluster.runtime import python_runtime_mounts

needs_go = pytest.mark.skipif(requirements.find_program("go") is None, reason="builds need Go")


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("FROSTLINE_CLUSTER_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@needs_go
def test_a_component_is_built_once_and_again_when_its_recipe_changes(
    cache: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    first = build.program("pause")
    assert os.access(first, os.X_OK)
    assert capsys.readouterr().err.startswith("building pause (1/1), about ")
    assert build.program("pause") == first
    assert capsys.readouterr().err == ""

    changed = Component("pause", (".",), ("pause",), "seconds", link="-X main.version=2")
    monkeypatch.setitem(COMPONENTS, "pause", changed)
    second = build.program("pause")
    assert second != first
    assert first.exists()


@needs_go
def test_a_build_that_fails_says_why_and_leaves_nothing_that_looks_built(
    cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(COMPONENTS, "pause", Component("pause", ("./nowhere",), ("pause",), "seconds"))
    with pytest.raises(ClusterError, match=r"building pause failed:(?s:.)*nowhere"):
        build.build(["pause"])
    assert not build.is_built("pause")


def test_a_build_without_go_says_so_in_one_line(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(requirements, "_SYSTEM_FOLDERS", str(tmp_path))
    assert main(["build", "pause"]) == 1
    assert capsys.readouterr().err.splitlines()[-1].startswith("frostcluster: building the test cluster needs Go")


def test_an_unknown_component_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["build", "kubernetes"]) == 1
    assert "no component 'kubernetes'; there are pause, cni," in capsys.readouterr().err


@pytest.mark.parametrize("command", ["up", "down", "status", "env"])
def test_without_root_every_command_says_so_in_one_line(
    command: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert main([command]) == 1
    [line] = capsys.readouterr().err.splitlines()
    assert line.startswith("frostcluster: the test cluster needs root")


def test_on_another_system_it_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "darwin")
    with pytest.raises(MissingRequirement, match="needs Linux, this is darwin"):
        requirements.require_platform()


def fixture_outcome(tmp_path: Path, **environment: str) -> str:
    """Run a test that wants a cluster, on a machine where nothing is built and there is no Go."""
    (tmp_path / "test_it.py").write_text(
        "from frostcluster.fixtures import cluster\n\ndef test_it(cluster):\n    raise AssertionError('not reached')\n"
    )
    package = str(Path(build.__file__).parents[1])
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-rs", "-p", "no:cacheprovider", "--rootdir", tmp_path, "test_it.py"],
        cwd=tmp_path,
        env={
            "PATH": str(tmp_path),
            "PYTHONPATH": package,
            "HOME": str(tmp_path),
            "FROSTLINE_CLUSTER_CACHE": str(tmp_path / "none"),
            **environment,
        },
        capture_output=True,
        text=True,
        check=False,
    )
    return done.stdout


def test_the_fixture_skips_where_no_cluster_can_run(tmp_path: Path) -> None:
    assert "1 skipped" in fixture_outcome(tmp_path)


def test_the_fixture_fails_where_a_cluster_is_required(tmp_path: Path) -> None:
    outcome = fixture_outcome(tmp_path, FROSTLINE_REQUIRE_E2E="1")
    assert "1 error" in outcome or "1 failed" in outcome
    assert "the test cluster needs" in outcome


def test_clusters_share_no_address() -> None:
    one, other = Network(0), Network(1)
    for network in (one, other):
        whole = ipaddress.IPv4Network(network.whole)
        parts = [ipaddress.IPv4Network(part) for part in (network.pods, network.services, f"{network.host_address}/32")]
        assert all(part.subnet_of(whole) for part in parts)
        assert not any(a.overlaps(b) for a in parts for b in parts if a is not b)
        nodes = [ipaddress.IPv4Network(network.node_pods(number)) for number in range(8)]
        assert len(set(nodes)) == 8
        assert all(node.subnet_of(parts[0]) for node in nodes)
        assert ipaddress.ip_address(network.api_service) in parts[1]
        assert len(network.node_link(99)) <= 15
    assert not ipaddress.IPv4Network(one.whole).overlaps(ipaddress.IPv4Network(other.whole))


def test_folders_made_for_mounts_go_with_the_last_cluster_and_others_stay(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FROSTLINE_CLUSTER_STATE", str(tmp_path / "state"))
    was_there, used_later, ours = tmp_path / "there", tmp_path / "later", tmp_path / "new" / "deep"
    was_there.mkdir()
    (tmp_path / "state").mkdir()
    monkeypatch.setattr(nodeinit, "BOUND", (str(was_there), str(used_later), str(ours)))
    monkeypatch.setattr(nodeinit, "IN_MEMORY", ())

    for _ in range(2):  # a second cluster finds them there, and must not take that for "always were"
        cluster._make_mount_points()
    (used_later / "file").touch()
    assert ours.is_dir()
    cluster.down("nothing")

    assert sorted(path.name for path in tmp_path.iterdir()) == ["later", "there"]


def test_names_that_could_leave_the_folder_are_refused() -> None:
    for name in ("", "../etc", "a/b", "Upper", "-dash", "a" * 32):
        with pytest.raises(ClusterError, match="name"):
            state.check_name(name)


def test_a_node_is_given_on_the_command_line(capsys: pytest.CaptureFixture[str]) -> None:
    from frostcluster.__main__ import _node

    assert _node("big:8:81920:NVIDIA-A100") == NodeSpec("big", 8, 81920, "NVIDIA-A100")
    with pytest.raises(SystemExit):
        main(["up", "--node", "big:many"])
    assert "GPUS and MIB are numbers" in capsys.readouterr().err


def test_a_node_without_gpus_has_no_gpu_labels() -> None:
    assert NodeSpec("plain", gpus=0, labels={"zone": "a"}).all_labels() == {"zone": "a"}
    assert NodeSpec("gpu").all_labels()["nvidia.com/gpu.memory"] == "8192"


def test_an_image_is_an_archive_that_a_runtime_can_import(tmp_path: Path) -> None:
    archive = images.hostroot_image().archive(tmp_path / "image.tar")
    with tarfile.open(archive) as tar:
        [manifest] = json.load(tar.extractfile("manifest.json"))  # type: ignore[arg-type]
        config = json.load(tar.extractfile(manifest["Config"]))  # type: ignore[arg-type]
        with tarfile.open(fileobj=tar.extractfile(manifest["Layers"][0])) as layer:
            entries = {entry.name: entry for entry in layer}
    assert manifest["RepoTags"] == [images.HOSTROOT]
    assert config["rootfs"]["diff_ids"][0].startswith("sha256:")
    assert entries["bin"].linkname == "usr/bin"
    assert entries["tmp"].mode == 0o1777
    assert archive.stat().st_size < 1_000_000


def test_pods_get_the_environment_that_the_tests_run_in() -> None:
    runtime = python_runtime_mounts(Path(sys.prefix), [Path(__file__).parent])
    mounted = [mount["mountPath"] for mount in runtime.mounts]
    assert {"/usr", "/tmp", str(Path(__file__).parent)} <= set(mounted)
    assert any(Path(sys.prefix).is_relative_to(path) for path in mounted)
    assert any(Path(sys.base_prefix).is_relative_to(path) for path in mounted)
    assert {mount["name"] for mount in runtime.mounts} == {volume["name"] for volume in runtime.volumes}
    container = runtime.container("main", "-c", "pass", env=[{"name": "X", "value": "1"}])
    assert container["env"][-1] == {"name": "X", "value": "1"}
    assert all(mount["readOnly"] for mount in container["volumeMounts"] if mount["mountPath"] != "/tmp")


def test_certificates_are_signed_for_what_they_are_for(tmp_path: Path) -> None:
    authority = Authority(tmp_path / "pki")
    certificate, key = authority.issue("server", "/O=system:nodes/CN=system:node:x", ["DNS:x", "IP:10.0.0.1"])

    def openssl(*words: str | Path) -> str:
        return subprocess.run(["openssl", *map(str, words)], capture_output=True, text=True, check=True).stdout

    assert openssl("verify", "-CAfile", authority.certificate, "-purpose", "sslserver", certificate).endswith("OK\n")
    assert "IP Address:10.0.0.1" in openssl("x509", "-in", certificate, "-noout", "-text")
    config = json.loads(authority.kubeconfig(tmp_path / "config", "https://x:6443", certificate, key).read_text())
    assert config["clusters"][0]["cluster"]["server"] == "https://x:6443"
    assert (tmp_path / "config").stat().st_mode & 0o077 == 0
