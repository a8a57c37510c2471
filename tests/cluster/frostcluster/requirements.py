"""What the machine must offer before a cluster is tried, so that what is missing is said in one line, at once."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

from frostcluster.errors import MissingRequirement

# Program -> the Debian package that has it.
PROGRAMS = {
    "runc": "runc",
    "iptables": "iptables",
    "ip": "iproute2",
    "openssl": "openssl",
    "unshare": "util-linux",
    "nsenter": "util-linux",
}
_SYSTEM_FOLDERS = os.pathsep.join(["/usr/local/sbin", "/usr/sbin", "/sbin"])


def find_program(name: str) -> str | None:
    """Return the path of a program, looking in the system folders too: a user's PATH often leaves them out."""
    return shutil.which(name, path=os.environ.get("PATH", os.defpath) + os.pathsep + _SYSTEM_FOLDERS)


def require_platform() -> None:
    """Refuse anything but root on Linux with cgroups: nodes are made of namespaces, mounts and cgroups."""
    if sys.platform != "linux":
        raise MissingRequirement(f"the test cluster needs Linux, this is {sys.platform}")
    if os.geteuid() != 0:
        raise MissingRequirement("the test cluster needs root (it makes namespaces, a bridge and cgroups)")
    if not Path("/sys/fs/cgroup").is_dir() or not any(Path("/sys/fs/cgroup").iterdir()):
        raise MissingRequirement("the test cluster needs cgroups mounted at /sys/fs/cgroup")


def require_programs() -> None:
    """See to the system's programs: install what is missing with apt-get where there is one, or say what is missing."""
    missing = [name for name in PROGRAMS if find_program(name) is None]
    if not missing:
        return
    packages = sorted({PROGRAMS[name] for name in missing})
    if shutil.which("apt-get") is None:
        raise MissingRequirement(f"the test cluster needs {', '.join(missing)}: install {' '.join(packages)}")
    print(f"installing {' '.join(packages)}", file=sys.stderr, flush=True)
    environment = os.environ | {"DEBIAN_FRONTEND": "noninteractive"}
    for command in (
        ["apt-get", "update", "-q"],
        ["apt-get", "install", "-q", "-y", "--no-install-recommends", *packages],
    ):
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            last_line = (done.stderr.strip() or done.stdout.strip()).splitlines()[-1:]
            raise MissingRequirement(f"{' '.join(command)} failed: {' '.join(last_line)}")


def require_go() -> str:
    """Return the path of the Go command; only a build needs it, a warm cache does not."""
    go = find_program("go")
    if go is None:
        raise MissingRequirement("building the test cluster needs Go 1.26 or newer on the PATH")
    return go
