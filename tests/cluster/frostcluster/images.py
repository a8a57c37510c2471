"""Container images without a registry: an archive made from files, which containerd imports.

`hostroot` is an image of a few kilobytes whose /bin, /lib, ... point into /usr. With the host's /usr mounted read-only
(see `runtime.py`), the host's programs run in the pod, and no gigabytes have to be packed and imported.
"""

import hashlib
import io
import json
import platform
import tarfile
from dataclasses import dataclass, field
from pathlib import Path

PAUSE = "localhost/pause:1"
HOSTROOT = "localhost/hostroot:1"

_ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}
_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


@dataclass
class Image:
    """The content of an image of one layer."""

    reference: str
    command: list[str] = field(default_factory=list)
    entrypoint: list[str] = field(default_factory=list)
    variables: dict[str, str] = field(default_factory=dict)
    folders: dict[str, int] = field(default_factory=dict)  # path -> mode
    links: dict[str, str] = field(default_factory=dict)  # path -> target
    files: dict[str, Path] = field(default_factory=dict)  # path -> file on this machine

    def archive(self, target: Path) -> Path:
        """Write the image as an archive in docker's format."""
        layer = self._layer()
        config = {
            "architecture": _ARCHITECTURES.get(platform.machine(), platform.machine()),
            "os": "linux",
            "config": {
                "Env": [f"{name}={value}" for name, value in {"PATH": _PATH, **self.variables}.items()],
                "Entrypoint": self.entrypoint or None,
                "Cmd": self.command or None,
            },
            "rootfs": {"type": "layers", "diff_ids": [f"sha256:{hashlib.sha256(layer).hexdigest()}"]},
            "history": [{"created_by": "frostcluster"}],
        }
        manifest = [{"Config": "config.json", "RepoTags": [self.reference], "Layers": ["layer.tar"]}]
        with tarfile.open(target, "w") as tar:
            for name, data in (
                ("manifest.json", json.dumps(manifest).encode()),
                ("config.json", json.dumps(config).encode()),
                ("layer.tar", layer),
            ):
                entry = tarfile.TarInfo(name)
                entry.size = len(data)
                tar.addfile(entry, io.BytesIO(data))
        return target

    def _layer(self) -> bytes:
        buffer = io.BytesIO()
        with tarfile.open(fileobj=buffer, mode="w") as tar:
            for path, mode in self.folders.items():
                entry = tarfile.TarInfo(path)
                entry.type, entry.mode = tarfile.DIRTYPE, mode
                tar.addfile(entry)
            for path, target in self.links.items():
                entry = tarfile.TarInfo(path)
                entry.type, entry.linkname = tarfile.SYMTYPE, target
                tar.addfile(entry)
            for path, source in self.files.items():
                entry = tarfile.TarInfo(path)
                entry.size, entry.mode = source.stat().st_size, source.stat().st_mode & 0o755
                with source.open("rb") as content:
                    tar.addfile(entry, content)
        return buffer.getvalue()


def pause_image(program: Path) -> Image:
    """Return the image of the process that holds a pod's namespaces."""
    return Image(PAUSE, command=["/pause"], files={"pause": program})


def hostroot_image() -> Image:
    """Return the image that is filled by mounting the host's /usr."""
    names = ("usr", "etc", "etc/ssl", "etc/ssl/certs", "root", "proc", "sys", "dev", "var", "run", "opt")
    folders = dict.fromkeys(names, 0o755)
    folders["tmp"] = 0o1777
    # On an older layout, without merged /usr, /lib is a folder of its own; then only what is in /usr is offered.
    links = {name: f"usr/{name}" for name in ("bin", "sbin", "lib", "lib64") if Path("/usr", name).exists()}
    wanted = ("etc/ld.so.cache", "etc/passwd", "etc/group", "etc/nsswitch.conf", "etc/ssl/certs/ca-certificates.crt")
    files = {name: Path("/", name) for name in wanted if Path("/", name).is_file()}
    return Image(HOSTROOT, command=["/bin/sh"], folders=folders, links=links, files=files)
