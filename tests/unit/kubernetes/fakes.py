"""An API server in memory: objects by path, versions, selectors, merge patches, watches. Nothing acts by itself."""

from __future__ import annotations

import copy
import itertools
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from typing import Any

from frostline_operator.kubernetes.client.api import ApiError, Manifest, Resource


class FakeApi:
    """What of `Api` the operator uses."""

    def __init__(self) -> None:
        self.items: dict[tuple[str, str | None, str], Manifest] = {}
        self.writes: list[tuple[str, str, str]] = []
        self.fail: ApiError | None = None
        """Raised by the next write."""
        self.refuse: Callable[[str, Resource, Manifest], None] = lambda verb, resource, body: None
        """Asked before each write, as admission is: it raises ApiError to refuse it."""
        self.printed: dict[str, str] = {}
        """What containers have printed, by pod."""
        self.lists: list[str] = []
        """Kinds that were listed, one entry for each list."""
        self._versions = itertools.count(1)
        self._version = 0
        self._events: list[tuple[int, tuple[str, str | None, str], Manifest | None, Manifest]] = []
        """Version, key, the object before and after; of one that was deleted both are the same."""
        self._changed = threading.Condition()
        self._closed = False

    def close(self) -> None:
        """End all watches."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def put(self, resource: Resource, item: Manifest) -> Manifest:
        """What somebody else than the operator writes: noted nowhere, refused never."""
        return self._store((resource.plural, item["metadata"].get("namespace"), item["metadata"]["name"]), item)

    def get(self, resource: Resource, namespace: str | None, name: str) -> Manifest | None:
        return copy.deepcopy(self.items.get((resource.plural, namespace, name)))

    def list(
        self, resource: Resource, namespace: str | None = None, labels: str = "", fields: str = ""
    ) -> tuple[list[Manifest], str]:
        self.lists.append(resource.plural)
        with self._changed:
            items = list(self.items.items())
        found = [
            copy.deepcopy(item)
            for (plural, place, _), item in items
            if plural == resource.plural and namespace in (None, place) and selected(item, labels, fields)
        ]
        return found, str(self._version)

    def watch(
        self,
        resource: Resource,
        namespace: str | None,
        version: str,
        labels: str = "",
        fields: str = "",
        seconds: int = 240,
    ) -> Iterator[Manifest]:
        """Changes after a version until `close`, as a server tells them: what is selected no more is deleted."""
        told = int(version)
        while True:
            with self._changed:
                fresh = [event for event in self._events if event[0] > told]
                if not fresh:
                    if self._closed or not self._changed.wait(10):
                        return
                    continue
            for number, (plural, place, _), before, item in fresh:
                told = number
                if plural != resource.plural or namespace not in (None, place):
                    continue
                was = before is not None and selected(before, labels, fields)
                fits = item is not before and selected(item, labels, fields)
                if was or fits:
                    kind = "DELETED" if not fits else "MODIFIED" if was else "ADDED"
                    yield {"type": kind, "object": copy.deepcopy(item)}

    def create(self, resource: Resource, namespace: str | None, body: Manifest) -> Manifest:
        key = (resource.plural, namespace, body["metadata"]["name"])
        self._note("create", key)
        self.refuse("create", resource, body)
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
        self.refuse("patch", resource, body)
        self._check(key, body.get("metadata", {}).get("resourceVersion"))
        return self._store(key, merge(self.items[key], body))

    def delete(self, resource: Resource, namespace: str | None, name: str, propagation: str = "Background") -> bool:
        key = (resource.plural, namespace, name)
        self._note("delete", key)
        with self._changed:
            item = self.items.pop(key, None)
            if item is not None:
                self._tell(key, item, item)
        return item is not None

    def logs(self, namespace: str, pod: str, container: str) -> str:
        return self.printed.get(pod, "")

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
        with self._changed:
            item["metadata"].setdefault("uid", str(uuid.uuid4()))
            if key[1] is not None:
                item["metadata"].setdefault("namespace", key[1])
            before = self.items.get(key)
            self.items[key] = item
            self._tell(key, before, item)
        return copy.deepcopy(item)

    def _tell(self, key: tuple[str, str | None, str], before: Manifest | None, item: Manifest) -> None:
        self._version = next(self._versions)
        item["metadata"]["resourceVersion"] = str(self._version)
        after = copy.deepcopy(item)
        self._events.append((self._version, key, after if before is item else before, after))
        self._changed.notify_all()


def selected(item: Manifest, labels: str, fields: str) -> bool:
    """Whether label and field selectors choose an object."""
    own = item["metadata"].get("labels") or {}
    return all(_holds(one, own.get) for one in labels.split(",") if one) and all(
        _holds(one, lambda path: _field(item, path)) for one in fields.split(",") if one
    )


def _holds(term: str, value: Callable[[str], Any]) -> bool:
    if "!=" in term:
        name, _, unwanted = term.partition("!=")
        return bool((value(name) or "") != unwanted)
    if "=" in term:
        name, _, wanted = term.partition("=")
        return bool(value(name) == wanted)
    return value(term[1:]) is None if term.startswith("!") else value(term) is not None


def _field(item: Any, path: str) -> Any:
    for step in path.split("."):
        item = (item or {}).get(step)
    return item


def eventually(holds: Callable[[], bool], seconds: float = 10.0) -> None:
    """Wait until something holds that a thread is about to do."""
    until = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < until, "it has not come to hold"
        time.sleep(0.005)


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
