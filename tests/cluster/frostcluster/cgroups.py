"""The cgroup folders of a cluster: made before its kubelets start, removed after everything in them has ended."""

import contextlib
from pathlib import Path

from frostcluster.errors import ClusterError
from frostcluster.processes import eventually

_ROOT = Path("/sys/fs/cgroup")


def _hierarchies() -> list[Path]:
    """Return the mounted hierarchies: one with cgroup v2; with v1 one per controller, some of them links to others."""
    if (_ROOT / "cgroup.controllers").exists():
        return [_ROOT]
    return [folder for folder in _ROOT.iterdir() if folder.is_dir() and not folder.is_symlink()]


def create(path: str) -> None:
    """Make a cgroup in every hierarchy; a kubelet refuses a root that is not there."""
    for hierarchy in _hierarchies():
        (hierarchy / path).mkdir(parents=True, exist_ok=True)


def find(path: str) -> list[Path]:
    """Return the folders of a cgroup that exist."""
    return [hierarchy / path for hierarchy in _hierarchies() if (hierarchy / path).is_dir()]


def remove(path: str) -> None:
    """Remove a cgroup and all below it. The kernel needs a moment after the last process has ended."""

    def gone() -> bool:
        for top in find(path):
            try:
                folders = [folder for folder in top.rglob("*") if folder.is_dir()]
            except FileNotFoundError:  # another process cleans up after the same cluster
                return False
            for folder in [*sorted(folders, key=lambda f: len(f.parts), reverse=True), top]:
                with contextlib.suppress(OSError):
                    folder.rmdir()
        return not find(path)

    if not eventually(gone, 10):
        raise ClusterError(f"cannot remove the cgroups {', '.join(map(str, find(path)))}: something still runs in them")
