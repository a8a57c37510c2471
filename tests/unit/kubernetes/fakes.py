"""An API server in memory: objects by path, versions, merge patches; no watching."""

from __future__ import annotations

import copy
import itertools
from typing import Any

from frostline_operator.kubernetes.client.api import ApiError, Manifest, Resource


class FakeApi:
    """What of `Api` stores and journals use."""

    def __init__(self) -> None:
        self.items: dict[tuple[str, str | None, str], Manifest] = {}
        self.writes: list[tuple[str, str, str]] = []
        self.fail: ApiError | None = None
        """Raised by the next write."""
        self._versions = itertools.count(1)

    def get(self, resource: Resource, namespace: str | None, name: str) -> Manifest | None:
        return copy.deepcopy(self.items.get((resource.plural, namespace, name)))

    def list(
        self, resource: Resource, namespace: str | None = None, labels: str = "", fields: str = ""
    ) -> tuple[list[Manifest], str]:
        wanted = dict(pair.split("=") for pair in labels.split(",") if pair)
        found = [
            copy.deepcopy(item)
            for (plural, place, _), item in self.items.items()
            if plural == resource.plural
            and namespace in (None, place)
            and wanted.items() <= item["metadata"].get("labels", {}).items()
        ]
        return found, "1"

    def create(self, resource: Resource, namespace: str | None, body: Manifest) -> Manifest:
        key = (resource.plural, namespace, body["metadata"]["name"])
        self._note("create", key)
        if key in self.items:
            raise ApiError(409, "AlreadyExists", f"{key} already exists")
        return self._store(key, copy.deepcopy(body))

    def replace(self, resource: Resource, namespace: str | None, body: Manifest) -> Manifest:
        key = (resource.plural, namespace, body["metadata"]["name"])
        self._note("replace", key)
        self._check(key, body["metadata"].get("resourceVersion"))
        return self._store(key, copy.deepcopy(body))

    def patch(
        self, resource: Resource, namespace: str | None, name: str, body: Manifest, part: str | None = None
    ) -> Manifest:
        key = (resource.plural, namespace, name)
        self._note("patch", key)
        self._check(key, body.get("metadata", {}).get("resourceVersion"))
        return self._store(key, merge(self.items[key], body))

    def delete(self, resource: Resource, namespace: str | None, name: str, propagation: str = "Background") -> bool:
        self._note("delete", (resource.plural, namespace, name))
        return self.items.pop((resource.plural, namespace, name), None) is not None

    def _note(self, verb: str, key: tuple[str, str | None, str]) -> None:
        if self.fail is not None:
            failure, self.fail = self.fail, None
            raise failure
        self.writes.append((verb, key[0], key[2]))

    def _check(self, key: tuple[str, str | None, str], version: str | None) -> None:
        if key not in self.items:
            raise ApiError(404, "NotFound", f"{key} not found")
        if version is not None and self.items[key]["metadata"]["resourceVersion"] != version:
            raise ApiError(409, "Conflict", "the object has been modified")

    def _store(self, key: tuple[str, str | None, str], item: Manifest) -> Manifest:
        item["metadata"]["resourceVersion"] = str(next(self._versions))
        self.items[key] = item
        return copy.deepcopy(item)


def merge(base: Any, patch: Any) -> Any:
    """RFC 7386."""
    if not isinstance(patch, dict):
        return copy.deepcopy(patch)
    made = dict(base) if isinstance(base, dict) else {}
    for key, value in patch.items():
        if value is None:
            made.pop(key, None)
        else:
            made[key] = merge(made.get(key), value)
    return made
