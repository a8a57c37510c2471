"""How to reach a Prometheus.

These are the operator's alone. A study says what it wants to know, never whom to ask or with which secret: otherwise
whoever may create a study could have the operator call addresses and read files that are not theirs.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Annotated
from urllib.parse import urlsplit

from pydantic import Field

from frostline_trainer.contract import FieldPath, Section

File = Annotated[str, Field(min_length=1, max_length=4096)]
LabelName = Annotated[str, Field(pattern=r"^[a-zA-Z_][a-zA-Z0-9_]*$", max_length=128)]
_HEADER_NAME = re.compile(r"^[A-Za-z0-9!#$%&'*+.^_`|~-]+$")
_OURS = ("authorization", "content-type", "content-length", "host")


class PrometheusSettings(Section):
    """The Prometheus (or Thanos, Mimir, VictoriaMetrics: whatever has its HTTP API) that scrapes the trainers."""

    url: Annotated[str, Field(max_length=2048)] | None = None
    """Its address without /api/v1, such as http://prometheus.monitoring:9090 or https://mimir.example.com/prometheus.
    Where it is set, studies take their scores from it unless they say otherwise."""
    bearer_token_file: File | None = None
    """A file with a token; read again for every query, since tokens are rotated."""
    username: Annotated[str, Field(min_length=1, max_length=256, pattern=r"^[^:]*$")] | None = None
    """For basic authentication."""
    password_file: File | None = None
    """A file with its password; read again for every query."""
    ca_file: File | None = None
    """Certificates (PEM) of the authorities that its own may be signed by, instead of the system's."""
    insecure_skip_verify: bool = False
    """Accept any certificate. Only for trying things out: whoever is in between can invent scores."""
    headers: Annotated[dict[str, str], Field(max_length=32)] = Field(default_factory=dict)
    """Sent with every query, such as X-Scope-OrgID: my-tenant for Mimir."""
    timeout_seconds: Annotated[float, Field(gt=0, le=300)] = 10.0
    """For one whole answer."""
    lookback_seconds: Annotated[float, Field(ge=30, le=86400)] = 300.0
    """How far back samples are looked for when an operator starts; later on it looks back to its last answer."""
    interval_seconds: Annotated[float, Field(gt=0, le=3600)] = 15.0
    """How often it scrapes trainers, for studies that do not say so in metrics.interval."""
    namespace_label: LabelName = "namespace"
    """The label by which it says in which namespace it has scraped a series: a study's are those of its own only."""
    pod_label: LabelName = "pod"
    """The label by which it says of which pod a series is: a run's values count from the pods of its Job only."""

    def problems(self) -> Iterator[tuple[FieldPath, str]]:
        """Settings that contradict each other, or do nothing."""
        if self.url is None:
            given = sorted(self.model_fields_set)
            if given:
                yield ("url",), "is missing; without it the other settings of prometheus do nothing"
            return
        yield from self._url_problems(self.url)
        if self.bearer_token_file and (self.username or self.password_file):
            yield (
                ("bearerTokenFile",),
                "and username with passwordFile are two ways to prove who one is; keep one of them",
            )
        if bool(self.username) != bool(self.password_file):
            missing = "passwordFile" if self.username else "username"
            yield (missing,), "is missing: basic authentication needs both username and passwordFile"
        if self.ca_file and self.insecure_skip_verify:
            yield ("insecureSkipVerify",), "makes caFile useless; remove one of them"
        if not self.url.startswith("https:") and (self.ca_file or self.insecure_skip_verify):
            name = "caFile" if self.ca_file else "insecureSkipVerify"
            yield (name,), "is for https, and url is not; change the url, or remove this"
        for name, value in self.headers.items():
            if not _HEADER_NAME.match(name):
                yield ("headers", name), "is no name of an HTTP header; correct it"
            elif name.lower() in _OURS:
                yield (
                    ("headers", name),
                    "is set by the operator; for credentials use bearerTokenFile or username",
                )
            if not value.isascii() or any(ord(c) < 32 or ord(c) == 127 for c in value):
                yield ("headers", name), "has characters that no header may have, such as line breaks; remove them"

    @staticmethod
    def _url_problems(url: str) -> Iterator[tuple[FieldPath, str]]:
        try:
            parts = urlsplit(url)
            port_is_right = parts.port is None or parts.port > 0
        except ValueError:
            parts, port_is_right = urlsplit(""), False
        if parts.scheme not in ("http", "https") or not parts.hostname or not port_is_right:
            yield ("url",), f"{url!r} is no http or https address; write one such as http://prometheus.monitoring:9090"
        elif parts.username is not None or parts.password is not None:
            yield ("url",), "has credentials in it, which end up in logs; use username and passwordFile"
        elif parts.query or parts.fragment:
            yield ("url",), "must end before any ? or #; for tenants use headers"
        elif parts.path.rstrip("/").endswith("/api/v1") or "/api/v1/" in parts.path:
            yield ("url",), "must end before /api/v1, which is added to it"
