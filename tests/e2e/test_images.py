"""The images, built from their Dockerfiles by buildah, and a study that runs from them alone.

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
from tests.e2e.charting import REGISTRY, Helm, shelves, values
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

    def move(self, name: str, cluster: Cluster, node: str, folder: Path) -> None:
        """Take an image out of the store and into a node's containerd."""
        archive = folder / "image.tar"
        self.run("push", "--quiet", name, f"docker-archive:{archive}:{name}")
        self.run("rmi", name)
        cluster.nodes[node].ctr("images", "import", archive)
        archive.unlink()


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
def test_a_study_runs_from_the_images_with_nothing_mounted_but_its_checkpoints(
    buildah: Buildah, own_cluster: Cluster, operator: OperatorProcess, workloads: Workloads, tmp_path: Path
) -> None:
    if operator.running:
        operator.stop()
    node = "gpu-large"  # the trainer's image is large, and each node has a store of its own
    for part in ("operator", "trainer"):
        name = buildah.build(part, "built")
        found = buildah.run("inspect", "--type", "image", "--format", "{{.OCIv1.Config}}", name)
        assert "10001:10001" in found and "org.opencontainers.image.licenses:Apache-2.0" in found
        buildah.move(name, own_cluster, node, tmp_path)

    own_cluster.kubectl("label", "namespace", workloads.namespace, "pod-security.kubernetes.io/enforce=restricted")
    shelves(own_cluster, workloads.namespace, shared_folder(tmp_path))
    given = values([], [], namespaces=[workloads.namespace])
    for part, image in (("operator", given["image"]), ("trainer", given["trainer"]["image"])):
        image["tag"] = "built"
        given[part]["nodeSelector"] = {"kubernetes.io/hostname": node}
    helm, studies = Helm(own_cluster, workloads.namespace), Studies(workloads)
    helm.install(write(tmp_path, given))
    try:
        listed = workloads.kubectl("exec", "deploy/frostline", "--", "frostline", "--version")
        assert listed.startswith("frostline ")
        for module in ("torch", "pip"):
            done = own_cluster.try_kubectl(
                "-n", workloads.namespace, "exec", "deploy/frostline", "--",
                "/opt/frostline/bin/python", "-Ic", f"import {module}",
            )  # fmt: skip
            assert "ModuleNotFoundError" in done.stderr, done
        studies.apply("imaged", small(search={"trials": 2}))
        studies.until("imaged", "a trainer", lambda: bool(studies.running("imaged")), 400)
        for pod in (helm.pod(), studies.pods("imaged")[0]):
            assert not [v for v in pod["spec"]["volumes"] if "hostPath" in v or v["name"].startswith("host-")]
        trainer = studies.running("imaged")[0]
        version = workloads.kubectl("exec", trainer, "--", "python", "-c", "import torch; print(torch.version.cuda)")
        assert version.strip() != "None"  # CUDA's libraries are in it, although no GPU is here
        assert studies.complete("imaged", 400)["reason"] == "Completed"
    finally:
        workloads.kubectl("delete", "hpostudies", "--all", "--timeout=90s")
        helm.run("uninstall", "frostline", "--wait")
        own_cluster.kubectl("delete", "pv", "-l", f"frostline.test/namespace={workloads.namespace}", "--wait=false")
