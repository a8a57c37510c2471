"""The API server as this package uses it: plain JSON documents over the official client's connection.

Typed models cost more than they give here: pods come by the thousand, are looked at in a few fields, and are dropped.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

import urllib3
from kubernetes import client as official
from kubernetes import config
from prometheus_client import Counter

from frostline_operator.api.study import GROUP, VERSION
from frostline_operator.kubernetes.client.errors import ApiError

__all__ = ["Api", "ApiError", "Manifest", "Resource"]

Manifest = dict[str, Any]

_MERGE = "application/merge-patch+json"
_PAGE = 500
_LOG_BYTES = 4 * 1024 * 1024
_METHODS = {
    "get": "GET", "list": "GET", "watch": "GET",
    "create": "POST", "update": "PUT", "patch": "PATCH", "delete": "DELETE",
}  # fmt: skip
"""HTTP's, by Kubernetes' verbs."""


@dataclass(frozen=True)
class Resource:
    """A kind of object, and where it is served."""

    prefix: str
    plural: str
    namespaced: bool = True

    def path(self, namespace: str | None = None, name: str | None = None, part: str | None = None) -> str:
        """The path of one object or of a collection; without a namespace, of all namespaces."""
        steps = [self.prefix]
        if self.namespaced and namespace is not None:
            steps += ["namespaces", namespace]
        steps += [self.plural]
        steps += [step for step in (name, part) if step is not None]
        return "/".join(steps)


STUDIES = Resource(f"/apis/{GROUP}/{VERSION}", "hpostudies")
TRIALS = Resource(f"/apis/{GROUP}/{VERSION}", "hpotrials")
JOBS = Resource("/apis/batch/v1", "jobs")
PODS = Resource("/api/v1", "pods")
NODES = Resource("/api/v1", "nodes", namespaced=False)
EVENTS = Resource("/api/v1", "events")
"""As others' events are read: only this form can be watched by the kind of object that they are about."""
RECORDED_EVENTS = Resource("/apis/events.k8s.io/v1", "events")
CONFIG_MAPS = Resource("/api/v1", "configmaps")
LEASES = Resource("/apis/coordination.k8s.io/v1", "leases")
SLICES = Resource("/apis/resource.k8s.io/v1", "resourceslices", namespaced=False)


class Api:
    """Requests to one API server. May be used from several threads.

    Args:
        client: the official client, which knows the server and the credentials.
        timeout: seconds for one request.
    """

    def __init__(self, client: official.ApiClient, timeout: float = 15.0) -> None:
        self._client = client
        self._timeout = timeout
        self.requests = Counter(
            "frostline_operator_api_requests",
            "Requests to the API server",
            ["verb", "resource", "code"],
            registry=None,
        )
        """Requests made so far, watches included; of those without an answer the code is "none"."""
        self.guard: Callable[[], None] | None = None
        """Asked before each write; it raises ApiError where the write must not be."""
        self._here = threading.local()

    @classmethod
    def connect(cls, kubeconfig: str | None = None, context: str | None = None, timeout: float = 15.0) -> Api:
        """With a kubeconfig (by default the user's), or inside a pod with its service account.

        Raises:
            ApiError: there are no credentials to be found.
        """
        configuration = official.Configuration()
        configuration.connection_pool_maxsize = 32
        try:
            if kubeconfig is None and context is None:
                try:
                    config.load_incluster_config(client_configuration=configuration)  # type: ignore[no-untyped-call]
                except config.ConfigException:
                    config.load_kube_config(client_configuration=configuration)  # type: ignore[no-untyped-call]
            else:
                config.load_kube_config(kubeconfig, context, client_configuration=configuration)  # type: ignore[no-untyped-call]
        except (config.ConfigException, OSError) as error:
            raise ApiError(0, "NoCredentials", f"no cluster is configured: {error}; give --kubeconfig") from error
        return cls(official.ApiClient(configuration), timeout)

    @property
    def configuration(self) -> official.Configuration:
        """Where the server is, and how it is trusted."""
        settings: official.Configuration = self._client.configuration
        return settings

    @property
    def waited(self) -> float:
        """Seconds that the calling thread has waited for answers so far, watches left out."""
        seconds: float = getattr(self._here, "waited", 0.0)
        return seconds

    def authorization(self) -> str | None:
        """The current value of the Authorization header, if there is one; tokens are renewed when it is asked for."""
        settings = self._client.configuration.auth_settings().values()
        return next((s["value"] for s in settings if s["in"] == "header" and s["value"]), None)

    def get(self, resource: Resource, namespace: str | None, name: str) -> Manifest | None:
        """One object, None where there is none."""
        try:
            return self._json("get", resource, resource.path(namespace, name))
        except ApiError as error:
            if error.status == 404:
                return None
            raise

    def list(
        self, resource: Resource, namespace: str | None = None, labels: str = "", fields: str = ""
    ) -> tuple[list[Manifest], str]:
        """All objects of a kind, page by page, and the version to watch from."""
        items: list[Manifest] = []
        query = {"limit": str(_PAGE), "labelSelector": labels, "fieldSelector": fields, "continue": ""}
        while True:
            page = self._json("list", resource, resource.path(namespace), query=query)
            items += page.get("items") or []
            query["continue"] = page["metadata"].get("continue", "")
            if not query["continue"]:
                return items, page["metadata"]["resourceVersion"]

    def create(self, resource: Resource, namespace: str | None, body: Manifest) -> Manifest:
        """Make an object."""
        return self._json("create", resource, resource.path(namespace), body)

    def replace(self, resource: Resource, namespace: str | None, body: Manifest) -> Manifest:
        """Put an object in the place of one that has the same resourceVersion."""
        return self._json("update", resource, resource.path(namespace, body["metadata"]["name"]), body)

    def patch(
        self, resource: Resource, namespace: str | None, name: str, body: Manifest, part: str | None = None
    ) -> Manifest:
        """Merge into an object; null removes, and a resourceVersion in it must be the current one."""
        return self._json("patch", resource, resource.path(namespace, name, part), body, kind=_MERGE)

    def delete(self, resource: Resource, namespace: str | None, name: str, propagation: str = "Background") -> bool:
        """Remove an object; False where there was none."""
        try:
            self._json("delete", resource, resource.path(namespace, name), {"propagationPolicy": propagation})
        except ApiError as error:
            if error.status == 404:
                return False
            raise
        return True

    def logs(self, namespace: str, pod: str, container: str) -> str:
        """The last of what a container has printed: 500 lines and 4 MiB at most."""
        query = {"container": container, "tailLines": "500", "limitBytes": str(_LOG_BYTES)}
        response = self._send("get", PODS, PODS.path(namespace, pod, "log"), query=query)
        return response.data.decode(errors="replace")

    def watch(
        self,
        resource: Resource,
        namespace: str | None,
        version: str,
        labels: str = "",
        fields: str = "",
        seconds: int = 240,
    ) -> Iterator[Manifest]:
        """Changes after a version, until the server ends the stream (it does, after `seconds`).

        Raises:
            ApiError: among others with status 410 where the version is too old: list again.
        """
        query = {
            "watch": "true",
            "allowWatchBookmarks": "true",
            "resourceVersion": version,
            "labelSelector": labels,
            "fieldSelector": fields,
            "timeoutSeconds": str(seconds),
        }
        response = self._send(
            "watch",
            resource,
            resource.path(namespace),
            query=query,
            stream=True,
            timeout=urllib3.Timeout(connect=10, read=seconds),
        )
        try:
            rest = b""
            for part in response.stream(65536):
                *lines, rest = (rest + part).split(b"\n")
                for line in lines:
                    if line.strip():
                        event = json.loads(line)
                        if event["type"] == "ERROR":
                            _refuse(event["object"], event["object"].get("code", 500))
                        yield event
        except (urllib3.exceptions.HTTPError, OSError) as error:
            raise ApiError(0, "Disconnected", str(error)) from error
        finally:
            response.close()

    def _json(
        self,
        verb: str,
        resource: Resource,
        path: str,
        body: Manifest | None = None,
        query: Mapping[str, str] | None = None,
        kind: str = "application/json",
    ) -> Manifest:
        answer: Manifest = json.loads(self._send(verb, resource, path, body, query, kind).data)
        return answer

    def _send(
        self,
        verb: str,
        resource: Resource,
        path: str,
        body: Manifest | None = None,
        query: Mapping[str, str] | None = None,
        kind: str = "application/json",
        stream: bool = False,
        timeout: float | urllib3.Timeout | None = None,
    ) -> urllib3.BaseHTTPResponse:
        if self.guard is not None and _METHODS[verb] != "GET":
            self.guard()
        configuration = self._client.configuration
        headers = {"Accept": "application/json", "User-Agent": "frostline-operator"}
        authorization = self.authorization()
        if authorization is not None:
            headers["Authorization"] = authorization
        given = {key: value for key, value in (query or {}).items() if value}
        url = f"{configuration.host}{path}" + (f"?{urlencode(given)}" if given else "")
        if body is not None:
            headers["Content-Type"] = kind
        began = time.monotonic()
        try:
            response: urllib3.BaseHTTPResponse = self._client.rest_client.pool_manager.request(
                _METHODS[verb],
                url,
                body=None if body is None else json.dumps(body),
                headers=headers,
                timeout=timeout or self._timeout,
                retries=False,
                preload_content=not stream,
            )
        except (urllib3.exceptions.HTTPError, OSError) as error:
            self.requests.labels(verb, resource.plural, "none").inc()
            raise ApiError(0, "Unreachable", f"the API server does not answer: {error}") from error
        finally:
            self._here.waited = self.waited + time.monotonic() - began
        self.requests.labels(verb, resource.plural, str(response.status)).inc()
        if response.status >= 400:
            _refuse(_status_of(response), response.status)
        return response


def _status_of(response: urllib3.BaseHTTPResponse) -> Manifest:
    try:
        status: Manifest = json.loads(response.data)
    except ValueError:
        return {"message": response.data.decode(errors="replace")[:500]}
    return status


def _refuse(status: Manifest, code: int) -> None:
    raise ApiError(code, str(status.get("reason", "")), str(status.get("message", "") or f"HTTP {code}"))
