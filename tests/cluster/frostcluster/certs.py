"""Certificates: a CA of the cluster's own, and one certificate per client and server. Made by the openssl program."""

import base64
import json
import subprocess
from pathlib import Path

from frostcluster.errors import ClusterError

_DAYS = "30"
# Elliptic keys: made in milliseconds, where RSA keys would take most of the start's time.
_KEY = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]


class Authority:
    """The cluster's certificate authority, in a folder of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.certificate = folder / "ca.crt"
        self._key = folder / "ca.key"
        if not self.certificate.exists():
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            files: list[str | Path] = ["-keyout", self._key, "-out", self.certificate]
            _openssl("req", "-x509", *_KEY, *files, "-subj", "/CN=frostline-test-ca")

    def signing_key(self, name: str) -> Path:
        """Make a bare key pair (for service-account tokens); return its file."""
        key = self.folder / f"{name}.key"
        if not key.exists():
            _openssl("ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out", key)
        return key

    def issue(self, name: str, subject: str, alternative_names: list[str] | None = None) -> tuple[Path, Path]:
        """Issue a certificate for a client and, with alternative names, for a server too; return (certificate, key)."""
        certificate, key = self.folder / f"{name}.crt", self.folder / f"{name}.key"
        if certificate.exists():
            return certificate, key
        usage = "clientAuth" + (",serverAuth" if alternative_names else "")
        extensions: list[str | Path] = [
            "-addext",
            f"extendedKeyUsage={usage}",
            "-addext",
            "basicConstraints=critical,CA:FALSE",
        ]
        if alternative_names:
            extensions += ["-addext", f"subjectAltName={','.join(alternative_names)}"]
        signer: list[str | Path] = ["-CA", self.certificate, "-CAkey", self._key]
        _openssl("req", "-x509", *_KEY, *signer, "-keyout", key, "-out", certificate, "-subj", subject, *extensions)
        return certificate, key

    def kubeconfig(self, path: Path, server: str, certificate: Path, key: Path) -> Path:
        """Write a kubeconfig that holds all it needs, so that it can be copied or mounted. JSON is YAML."""
        config = {
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": "frostline",
            "clusters": [
                {
                    "name": "frostline",
                    "cluster": {"server": server, "certificate-authority-data": _base64(self.certificate)},
                }
            ],
            "users": [
                {
                    "name": "user",
                    "user": {"client-certificate-data": _base64(certificate), "client-key-data": _base64(key)},
                }
            ],
            "contexts": [{"name": "frostline", "context": {"cluster": "frostline", "user": "user"}}],
        }
        path.touch(mode=0o600)
        path.write_text(json.dumps(config, indent=1))
        return path


def _base64(path: Path) -> str:
    return base64.b64encode(path.read_bytes()).decode()


def _openssl(command: str, *arguments: str | Path) -> None:
    words = ["openssl", command, *map(str, arguments)]
    if command == "req":
        words += ["-days", _DAYS]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise ClusterError(f"openssl {command} failed: {done.stderr.strip()[-500:]}")
