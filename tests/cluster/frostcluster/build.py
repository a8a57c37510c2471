"""Builds the cluster's programs from public Go modules, once: each component is cached under a hash of its recipe."""

import fcntl
import hashlib
import os
import platform
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from frostcluster.errors import ClusterError
from frostcluster.requirements import require_go

GO_MODULES = Path(__file__).resolve().parent.parent / "go"
KUBERNETES_VERSION = "v1.36.3"


@dataclass(frozen=True)
class Component:
    """One Go module to build, and what comes out of it."""

    name: str
    packages: tuple[str, ...]
    programs: tuple[str, ...]
    cold: str  # how long a cold build takes on two cores, for the progress line
    link: str = ""
    tags: str = ""
    # Other names for the program, which acts by the name it is called by: (name, program)
    links: tuple[tuple[str, str], ...] = ()
    # Folders of a dependency that are needed at run time: (module, folder in it, name in the output)
    data: tuple[tuple[str, str, str], ...] = ()

    @property
    def module(self) -> Path:
        """The folder with the component's go.mod."""
        return GO_MODULES / self.name

    def _recipe(self) -> tuple[object, ...]:
        return self.packages, self.link, self.tags, self.links, self.data, platform.machine()

    def fingerprint(self) -> str:
        """Hash everything that decides what is built, so that a changed recipe never meets an old binary."""
        digest = hashlib.sha256(repr(self._recipe()).encode())
        for file in sorted(self.module.iterdir()):
            digest.update(f"\0{file.name}\0".encode() + file.read_bytes())
        return digest.hexdigest()[:12]


def _version(variable: str, value: str) -> str:
    return f"-X k8s.io/component-base/version.{variable}={value}"


_KWOK = "sigs.k8s.io/kwok"
CORE = (
    Component("pause", (".",), ("pause",), "seconds"),
    Component(
        "cni",
        tuple(
            f"github.com/containernetworking/plugins/plugins/{p}"
            for p in ("main/ptp", "main/loopback", "ipam/host-local")
        ),
        ("ptp", "loopback", "host-local"),
        "20 s",
    ),
    Component(
        "containerd",
        tuple(f"github.com/containerd/containerd/v2/cmd/{p}" for p in ("containerd", "containerd-shim-runc-v2", "ctr")),
        ("containerd", "containerd-shim-runc-v2", "ctr"),
        "1 min",
        link="-X github.com/containerd/containerd/v2/version.Version=2.3.7",
        tags="no_btrfs,no_zfs,no_devmapper,no_tracing",
    ),
    Component("coredns", (".",), ("coredns",), "1 min"),
    Component(
        "kube",
        (".",),
        ("kube",),
        "5 min",
        # Without these the API server calls itself v0.0.0 and clients that ask for a minimum refuse it.
        link=" ".join(
            [_version("gitVersion", KUBERNETES_VERSION), _version("gitMajor", "1"), _version("gitMinor", "36")]
        ),
        links=(("kubectl", "kube"),),
    ),
)
EXTRAS = (
    Component(
        "kwok",
        (f"{_KWOK}/cmd/kwok",),
        ("kwok",),
        "90 s",
        data=tuple(
            (_KWOK, f"kustomize/stage/{stage}", f"stages/{stage}")
            for stage in ("node/fast", "node/heartbeat-with-lease", "pod/fast")
        ),
    ),
    Component("helm", ("helm.sh/helm/v4/cmd/helm",), ("helm",), "65 s"),
    Component(
        "prometheus",
        tuple(f"github.com/prometheus/prometheus/cmd/{p}" for p in ("prometheus", "promtool")),
        ("prometheus", "promtool"),
        "140 s",
        tags="remove_all_sd,enable_kubernetes_sd,netgo",
    ),
)
COMPONENTS = {component.name: component for component in CORE + EXTRAS}
CORE_NAMES = tuple(component.name for component in CORE)


def cache_folder() -> Path:
    """Return where built programs are kept: FROSTLINE_CLUSTER_CACHE, or a folder in the user's cache."""
    configured = os.environ.get("FROSTLINE_CLUSTER_CACHE")
    if configured:
        return Path(configured).resolve()
    user_cache = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(user_cache) / "frostline" / "cluster"


def output_folder(name: str) -> Path:
    """Return the folder that holds (or will hold) a component's programs."""
    component = COMPONENTS[name]
    return cache_folder() / f"{name}-{component.fingerprint()}"


def is_built(name: str) -> bool:
    """Say whether a component is in the cache. Folders appear there whole or not at all."""
    return output_folder(name).is_dir()


def program(component: str, name: str | None = None) -> Path:
    """Return the path of a built program, building its component first where needed."""
    build([component])
    return output_folder(component) / (name or component)


def build(names: Sequence[str] = CORE_NAMES) -> None:
    """Build what is not in the cache yet, one after the other, telling how it goes."""
    for name in names:
        if name not in COMPONENTS:
            raise ClusterError(f"no component {name!r}; there are {', '.join(COMPONENTS)}")
    todo = [name for name in names if not is_built(name)]
    for number, name in enumerate(todo, 1):
        component = COMPONENTS[name]
        with _locked(name):
            if is_built(name):  # another process did it while we waited for the lock
                continue
            _say(f"building {name} ({number}/{len(todo)}), about {component.cold} when nothing is cached ...")
            started = time.monotonic()
            _build_one(component)
            _say(f"built {name} in {time.monotonic() - started:.0f} s")


def _build_one(component: Component) -> None:
    # The lock is ours, so whatever partial build of this component there is, nobody is at it any more
    for old in cache_folder().glob(f"{component.name}-*.partial"):
        shutil.rmtree(old)
    partial = cache_folder() / f"{component.name}-{component.fingerprint()}.partial"
    partial.mkdir()
    environment = os.environ | {
        "CGO_ENABLED": "0",  # static: the same binary runs in a pod without a C library
        "GOFLAGS": "-mod=readonly -buildvcs=false -trimpath",
        "GOWORK": "off",
    }
    go = require_go()
    command = ["nice", "-n", "10", go, "build", "-ldflags", f"-s -w {component.link}".strip(), "-tags", component.tags]
    command += ["-o", f"{partial}/", *component.packages]
    done = subprocess.run(command, cwd=component.module, env=environment, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        tail = "\n".join(done.stderr.strip().splitlines()[-15:])
        raise ClusterError(f"building {component.name} failed:\n{tail}")
    missing = [name for name in component.programs if not (partial / name).is_file()]
    if missing:
        raise ClusterError(f"the build of {component.name} gave no {', '.join(missing)}")
    for module, folder, name in component.data:
        where = subprocess.run(
            [go, "list", "-m", "-f", "{{.Dir}}", module],
            cwd=component.module,
            env=environment,
            capture_output=True,
            text=True,
            check=True,
        ).stdout.strip()
        # copyfile: the module cache is read-only, its modes must not come along
        shutil.copytree(Path(where) / folder, partial / name, copy_function=shutil.copyfile)
    for name, target_program in component.links:
        (partial / name).symlink_to(target_program)
    partial.rename(output_folder(component.name))


@contextmanager
def _locked(name: str) -> Iterator[None]:
    """Keep two processes from building the same component at once."""
    cache_folder().mkdir(parents=True, exist_ok=True)
    with (cache_folder() / f".{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
