"""One instant query over HTTP, and in plain words what is wrong where it cannot be answered."""

from __future__ import annotations

import hashlib
import json
import ssl
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import httpx

from frostline_operator.scores.settings import PrometheusSettings

LARGEST_ANSWER_BYTES = 64 * 1024 * 1024
"""An answer larger than this is none: nobody's study has so many series, and the operator has other studies."""
_SNIPPET = 160

Reason = Literal[
    "Unreachable", "Timeout", "CertificateRefused", "Unauthorized", "Credentials", "Redirected", "NotFound",
    "NotPrometheus", "InvalidQuery", "Overloaded", "ServerError", "TooLarge",
]  # fmt: skip


class QueryError(Exception):
    """A query without a usable answer.

    Args:
        reason: one word for conditions and counters.
        message: what is wrong, and after a semicolon what helps.
    """

    def __init__(self, reason: Reason, message: str) -> None:
        super().__init__(message)
        self.reason: Reason = reason


@dataclass(frozen=True)
class Series:
    """One series of an answer: labels, and (timestamp, value) pairs; an instant vector has one pair."""

    labels: dict[str, str]
    points: tuple[tuple[float, float], ...]


@dataclass(frozen=True)
class Answer:
    """What a query came to."""

    kind: str
    """`vector`, `matrix`, `scalar` or `string`."""
    series: tuple[Series, ...] = ()
    warnings: tuple[str, ...] = field(default=())

    @property
    def partial(self) -> bool:
        """Whether something may be missing in it: Thanos, Mimir and others answer with what they could reach.

        Prometheus's own remarks on a query begin with PromQL; they are about style, and nothing is missing.
        """
        return any(not warning.startswith("PromQL ") for warning in self.warnings)


class PrometheusClient:
    """Asks one Prometheus. Safe to use from several threads.

    Args:
        settings: how to reach it; files named in it are read for each query, since secrets and certificates rotate.
    """

    def __init__(self, settings: PrometheusSettings) -> None:
        if settings.url is None:
            raise ValueError("prometheus.url is not set")
        self._settings = settings
        self._endpoint = settings.url.rstrip("/") + "/api/v1/query"
        self._client: httpx.Client | None = None
        self._authorities = ""

    def close(self) -> None:
        """Close connections."""
        if self._client is not None:
            self._client.close()

    def check_files(self) -> None:
        """Read every file that the settings name.

        Raises:
            QueryError: one cannot be read, or does not hold what it should.
        """
        self._credentials()
        self._http()

    def query(self, expression: str) -> Answer:
        """Evaluate an expression now, by the server's own clock.

        Raises:
            QueryError: no answer that can be used; the message says why and what helps.
        """
        # No time is given: the server's own clock is the one that its samples are by
        form = {"query": expression, "timeout": f"{self._settings.timeout_seconds:g}"}
        status, headers, body = self._post(form)
        document = _document(body)
        if 300 <= status < 400:
            raise QueryError(
                "Redirected",
                f"{self._endpoint} redirects to {headers.get('location', 'somewhere')}, which is not followed because "
                "credentials go with each query; set prometheus.url to the final address",
            )
        if document is None or document.get("status") not in ("success", "error"):
            raise self._without_document(status, headers, body)
        if document["status"] == "error" or status >= 400:
            raise self._refused(status, document)
        return _answer(document)

    def _post(self, form: dict[str, str]) -> tuple[int, httpx.Headers, bytes]:
        """One request within its time, however slowly the answer comes."""
        seconds = self._settings.timeout_seconds
        until = time.monotonic() + seconds
        try:
            with self._http().stream("POST", self._endpoint, data=form, **self._credentials()) as answer:
                body = bytearray()
                for chunk in answer.iter_bytes():
                    body += chunk
                    if len(body) > LARGEST_ANSWER_BYTES:
                        raise QueryError("TooLarge", "the answer is too large; make the query return fewer series")
                    if time.monotonic() > until:
                        raise httpx.ReadTimeout("the answer trickles")
                return answer.status_code, answer.headers, bytes(body)
        except httpx.TimeoutException as error:
            raise QueryError(
                "Timeout", f"{self._endpoint} did not answer within {seconds:g} s; see to it, or raise timeoutSeconds"
            ) from error
        except httpx.HTTPError as error:
            if "certificate" in str(error).lower() or "ssl" in str(error).lower():
                raise QueryError(
                    "CertificateRefused", f"{self._endpoint}: {error}; set prometheus.caFile to who signed it"
                ) from error
            raise QueryError(
                "Unreachable", f"{self._endpoint} cannot be reached ({error}); is it up, and prometheus.url right?"
            ) from error

    def _credentials(self) -> dict[str, Any]:
        settings = self._settings
        headers = dict(settings.headers)
        if settings.bearer_token_file is not None:
            headers["Authorization"] = f"Bearer {_secret('bearerTokenFile', settings.bearer_token_file)}"
        if settings.username is not None and settings.password_file is not None:
            auth = httpx.BasicAuth(settings.username, _secret("passwordFile", settings.password_file))
            return {"headers": headers, "auth": auth}
        return {"headers": headers}

    def _http(self) -> httpx.Client:
        """The connections; new ones where the file of certificates has changed."""
        authorities = ""
        if self._settings.ca_file is not None:
            authorities = _read("caFile", self._settings.ca_file)
        digest = hashlib.sha256(authorities.encode()).hexdigest()
        if self._client is None or digest != self._authorities:
            # A query under way keeps the old connections, which go with it
            self._client = httpx.Client(
                timeout=self._settings.timeout_seconds,
                verify=self._verification(authorities),
                follow_redirects=False,
                trust_env=False,
            )
            self._authorities = digest
        return self._client

    def _verification(self, authorities: str) -> ssl.SSLContext | bool:
        if self._settings.insecure_skip_verify:
            return False
        if not authorities:
            return ssl.create_default_context()
        try:
            return ssl.create_default_context(cadata=authorities)
        except ssl.SSLError as error:
            raise QueryError(
                "Credentials", f"prometheus.caFile: {self._settings.ca_file} holds no certificates in PEM ({error})"
            ) from error

    def _without_document(self, status: int, headers: httpx.Headers, body: bytes) -> QueryError:
        """An answer that is not of Prometheus's API: somebody in between, or another address."""
        if status in (401, 403):
            return _unauthorized(self._endpoint, status)
        if status == 404:
            return QueryError(
                "NotFound", f"there is no {self._endpoint} (404); set prometheus.url to where /api/v1/query is below"
            )
        if status in (429, 503):
            return QueryError("Overloaded", f"{self._endpoint} answers {status}; it will be asked again, more rarely")
        if status >= 500:
            return QueryError("ServerError", f"{self._endpoint} answers {status}: {_snippet(body)}")
        kind = headers.get("content-type", "something").split(";")[0]
        return QueryError(
            "NotPrometheus",
            f"{self._endpoint} answers {status} with {kind}, which is no answer of Prometheus ({_snippet(body)}); is "
            "prometheus.url right, or is a login page in between?",
        )

    def _refused(self, status: int, document: dict[str, Any]) -> QueryError:
        kind, text = str(document.get("errorType", "error")), str(document.get("error", ""))[:500]
        if status in (401, 403):
            return _unauthorized(self._endpoint, status)
        if kind in ("timeout", "canceled"):
            return QueryError(
                "Timeout", f"Prometheus gave the query up ({text}); make it cheaper, or raise timeoutSeconds"
            )
        if kind in ("bad_data", "execution"):
            return QueryError("InvalidQuery", f"Prometheus refuses the query: {text}; correct metrics.query")
        if status in (429, 503) or kind in ("unavailable", "too_many_requests"):
            return QueryError("Overloaded", f"Prometheus answers {status} ({kind}: {text}); it will be asked again")
        return QueryError("ServerError", f"Prometheus answers {status} ({kind}: {text})")


def _document(body: bytes) -> dict[str, Any] | None:
    try:
        document = json.loads(body)
    except ValueError:
        return None
    return document if isinstance(document, dict) else None


def _answer(document: dict[str, Any]) -> Answer:
    try:
        data = document["data"]
        kind = str(data["resultType"])
        series = tuple(_series(entry) for entry in data["result"]) if kind in ("vector", "matrix") else ()
        return Answer(kind, series, tuple(map(str, document.get("warnings") or ())))
    except (KeyError, TypeError, ValueError) as error:
        raise QueryError("NotPrometheus", f"the answer has not the form of Prometheus's API ({error!r})") from error


def _series(entry: dict[str, Any]) -> Series:
    # Native histograms come under other keys: no numbers, so no points
    pairs = entry["values"] if "values" in entry else [entry["value"]] if "value" in entry else []
    labels = {str(name): str(value) for name, value in entry["metric"].items()}
    return Series(labels, tuple((float(at), float(value)) for at, value in pairs))


def _secret(name: str, path: str) -> str:
    text = _read(name, path).strip()
    if not text or not text.isprintable():
        raise QueryError("Credentials", f"prometheus.{name}: {path} must hold one line of text; correct the secret")
    return text


def _read(name: str, path: str) -> str:
    try:
        return Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise QueryError("Credentials", f"prometheus.{name}: {error}; mount the secret there") from error


def _unauthorized(endpoint: str, status: int) -> QueryError:
    return QueryError(
        "Unauthorized", f"{endpoint} answers {status}; correct bearerTokenFile, or username with passwordFile"
    )


def _snippet(body: bytes) -> str:
    text = " ".join(body[: 4 * _SNIPPET].decode(errors="replace").split())
    return repr(text[:_SNIPPET])
