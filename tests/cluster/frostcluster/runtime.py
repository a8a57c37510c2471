"""Running this machine's Python and a virtual environment in pods, without making an image of all its gigabytes."""

import json
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from frostcluster.images import HOSTROOT

# What a pod of the "restricted" security standard may do; the mounts below work under it.
RESTRICTED_POD: dict[str, Any] = {
    "runAsNonRoot": True,
    "runAsUser": 10001,
    "runAsGroup": 10001,
    "fsGroup": 10001,
    "seccompProfile": {"type": "RuntimeDefault"},
}
RESTRICTED_CONTAINER: dict[str, Any] = {
    "allowPrivilegeEscalation": False,
    "readOnlyRootFilesystem": True,
    "capabilities": {"drop": ["ALL"]},
}


@dataclass(frozen=True)
class PythonRuntime:
    """What a pod template needs for its containers to find Python: an image, volumes, mounts and variables."""

    python: str
    image: str
    volumes: list[dict[str, Any]]
    mounts: list[dict[str, Any]]
    env: list[dict[str, str]]

    def container(self, name: str, *arguments: str, **fields: Any) -> dict[str, Any]:
        """Return a container that runs Python with these arguments."""
        return {
            "name": name,
            "image": self.image,
            "imagePullPolicy": "IfNotPresent",
            "command": [self.python],
            "args": list(arguments),
            "securityContext": RESTRICTED_CONTAINER,
            **fields,
            "env": [*self.env, *fields.get("env", [])],
            "volumeMounts": [*self.mounts, *fields.get("volumeMounts", [])],
        }


def python_runtime_mounts(venv: Path, extra_folders: Sequence[Path] = ()) -> PythonRuntime:
    """Return what lets a pod run a virtual environment's Python, as any user, with a read-only root.

    Mounted read-only at their own paths: /usr, the Python installation below the environment, the environment, and
    `extra_folders` (where the environment's editable installs point to). /tmp is an empty folder of the pod's.
    """
    venv = venv.absolute()
    python = str(venv / "bin" / "python")
    ask = "import json, sys; print(json.dumps([sys.base_prefix, sys.prefix]))"
    answer = subprocess.run([python, "-I", "-c", ask], capture_output=True, text=True, check=True)
    prefixes: list[str] = json.loads(answer.stdout)
    folders = [Path("/usr")]
    for folder in [*map(Path, prefixes), *(extra.absolute() for extra in extra_folders)]:
        if not any(folder.is_relative_to(mounted) for mounted in folders):
            folders.append(folder)
    volumes: list[dict[str, Any]] = [
        {"name": f"host-{number}", "hostPath": {"path": str(folder), "type": "Directory"}}
        for number, folder in enumerate(folders)
    ]
    mounts: list[dict[str, Any]] = [
        {"name": f"host-{number}", "mountPath": str(folder), "readOnly": True} for number, folder in enumerate(folders)
    ]
    volumes.append({"name": "tmp", "emptyDir": {}})
    mounts.append({"name": "tmp", "mountPath": "/tmp"})
    variables = {
        "PATH": f"{venv / 'bin'}:/usr/local/bin:/usr/bin:/bin",
        "HOME": "/tmp",
        "USER": "frostline",  # the pod's user has no entry in /etc/passwd, and libraries ask for a name
        "PYTHONDONTWRITEBYTECODE": "1",
        "PYTHONUNBUFFERED": "1",
    }
    env = [{"name": name, "value": value} for name, value in variables.items()]
    return PythonRuntime(python=python, image=HOSTROOT, volumes=volumes, mounts=mounts, env=env)
