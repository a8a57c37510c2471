"""The images, built from their Dockerfiles by buildah, and the operator's run as it is, with nothing mounted into it.

No registry is reached: the base is made from Debian's packages, which put the same Python at another path.
"""

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from frostcluster.cluster import Cluster
from frostcluster.workloads import Workloads
from tests.e2e.charting import REGISTRY, Helm, import_images, shelves, values
from tests.e2e.operating import ROOT, OperatorProcess, Studies, small
from tests.e2e.test_chart import shared_folder, write

BASE = "localhost/python:3.11-slim-bookworm"
PACKAGES = ("ca-certificates", "python3", "python3-pip", "python3-venv")

pytestmark = pytest.mark.long


class Buildah:
    """buildah, with a store of its own."""

    def __init__(self, folder: Path) -> None:
        self._where = ["--root", str(folder / "store"), "--runroot", str(folder / "run")]
        self._environment = {**os.environ, "BUILDAH_ISOLATION": "chroot", "STORAGE_DRIVER": "overlay"}

    def run(self, *arguments: str) -> str:
        done = subprocess.run(
            ["buildah", *self._where, *arguments],
            env=self._environment,
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
        return done.stdout.strip()

    def base(self, folder: Path) -> None:
        """Make an image of Debian with Python, by the name that the Dockerfiles' base has."""
        root = folder / "base"
        command = ["debootstrap", "--variant=minbase", f"--include={','.join(PACKAGES)}", "bookworm", str(root)]
        subprocess.run(command, check=True, capture_output=True)
        (root / "usr/local/bin/python").symlink_to("/usr/bin/python3")
        container = self.run("from", "scratch")
        self.run("add", "--quiet", container, str(root), "/")
        self.run("commit", "--quiet", "--rm", container, BASE)
        shutil.rmtree(root)

    def build(self, part: str, tag: str) -> str:
        """Build an image from its Dockerfile as it stands; only how packages are fetched is this machine's."""
        name = f"{REGISTRY}/{part}:{tag}"
        network = ["--network", "host", "--volume", "/etc/ssl/certs:/etc/ssl/certs:ro"]
        if Path("/etc/pip.conf").exists():
            network += ["--volume", "/etc/pip.conf:/etc/pip.conf:ro"]
        self.run("bud", *network, "--build-arg", f"PYTHON_IMAGE={BASE}", "-f", f"images/{part}/Dockerfile", "-t", name)
        return name


@pytest.fixture(scope="module")
def buildah(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Buildah]:
    missing = [name for name in ("buildah", "debootstrap") if shutil.which(name) is None]
    if missing:
        pytest.skip(f"apt-get install {' '.join(missing)}")
    folder = tmp_path_factory.mktemp("buildah")
    made = Buildah(folder)
    made.base(folder)
    yield made
    made.run("rmi", "--all", "--force")


@pytest.mark.timeout(3000)
def test_the_operator_runs_from_its_image_with_nothing_mounted_into_it(
    buildah: Buildah, own_cluster: Cluster, operator: OperatorProcess, workloads: Workloads, tmp_path: Path
) -> None:
    if operator.running:
        operator.stop()
    name = buildah.build("operator", "built")
    found = buildah.run("inspect", "--type", "image", "--format", "{{.OCIv1.Config}}", name)
    assert "10001:10001" in found and "org.opencontainers.image.licenses:Apache-2.0" in found
    archive = tmp_path / "operator.tar"
    buildah.run("push", "--quiet", name, f"docker-archive:{archive}:{name}")
    for node in own_cluster.nodes.values():
        node.ctr("images", "import", archive)
    archive.unlink()
    import_images(own_cluster)

    own_cluster.kubectl("label", "namespace", workloads.namespace, "pod-security.kubernetes.io/enforce=restricted")
    volumes, mounts = shelves(own_cluster, workloads.namespace, shared_folder(tmp_path))
    given = values(volumes, mounts, namespaces=[workloads.namespace], operator={})
    given["image"]["tag"] = "built"
    helm, studies = Helm(own_cluster, workloads.namespace), Studies(workloads)
    helm.install(write(tmp_path, given))
    try:
        assert not [v for v in helm.pod()["spec"]["volumes"] if "persistentVolumeClaim" in v]
        listed = workloads.kubectl("exec", "deploy/frostline", "--", "frostline", "--version")
        assert listed.startswith("frostline ")
        for module in ("torch", "pip"):
            done = own_cluster.try_kubectl(
                "-n", workloads.namespace, "exec", "deploy/frostline", "--",
                "/opt/frostline/bin/python", "-Ic", f"import {module}",
            )  # fmt: skip
            assert "ModuleNotFoundError" in done.stderr, done
        studies.apply("imaged", small(search={"trials": 2}))
        assert studies.complete("imaged", 400)["reason"] == "Completed"
    finally:
        workloads.kubectl("delete", "hpostudies", "--all", "--timeout=90s")
        helm.run("uninstall", "frostline", "--wait")
        own_cluster.kubectl("delete", "pv", "-l", f"frostline.test/namespace={workloads.namespace}", "--wait=false")


@pytest.mark.timeout(3000)
def test_the_trainers_image_builds_and_its_trainer_starts(buildah: Buildah) -> None:
    name = buildah.build("trainer", "built")
    container = buildah.run("from", name)
    try:
        said = buildah.run(
            "run", "--user", "10001:10001", container, "--", "python", "-m", "frostline_trainer", "--help"
        )
        assert "profile" in said
        version = buildah.run("run", container, "--", "python", "-c", "import torch; print(torch.version.cuda)")
        assert version != "None"  # CUDA's libraries are in it, although no GPU is here
    finally:
        buildah.run("rm", container)
