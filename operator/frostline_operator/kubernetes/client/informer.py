"""A local copy of a kind of objects, kept by a list and a watch: a tick looks at the cluster without asking it.

Kopf's indices hold the objects that its handlers watch, and these take no label or field selectors: the operator would
be sent, and would parse, every pod and event of the cluster. `kubernetes.informer` of the official client has
selectors, but keeps each object whole as a typed model, knows no groups, and forgets what is gone. Here objects are
trimmed before they are kept (pods come by the thousand), and the last state of one that is gone is remembered, since
the record of its run is in it.
"""

from __future__ import annotations

import collections
import logging
import threading
import time
from collections.abc import Callable, Hashable
from typing import Any

from frostline_operator.kubernetes.client.api import Api, ApiError, Resource
from frostline_operator.runtime.backoff import Backoff

Manifest = dict[str, Any]
Key = tuple[str, str]

log = logging.getLogger(__name__)

_SHORT_SECONDS = 1.0
"""A watch that ends sooner, having told nothing, is no good one: the next one waits."""
_REMEMBERED = 2000
"""Objects that are gone of which the last state is kept."""


def key_of(item: Manifest) -> Key:
    """Namespace and name."""
    return str(item["metadata"].get("namespace", "")), str(item["metadata"]["name"])


class Informer:
    """A thread that keeps a copy up to date.

    Args:
        api: to ask.
        resource: what to watch.
        namespace: where; None everywhere.
        labels: which, by label selector.
        fields: which, by field selector.
        index: groups objects for `of`; None leaves an object out of the copy.
        trim: keeps what is needed of an object.
        changed: called with the group of an object that changed.
        digest: what must differ for `changed` to be called.
    """

    def __init__(
        self,
        api: Api,
        resource: Resource,
        namespace: str | None = None,
        labels: str = "",
        fields: str = "",
        index: Callable[[Manifest], Hashable | None] = key_of,
        trim: Callable[[Manifest], Manifest] = lambda item: item,
        changed: Callable[[Any], None] = lambda group: None,
        digest: Callable[[Manifest], object] | None = None,
    ) -> None:
        self._api, self._resource, self._namespace = api, resource, namespace
        self._labels, self._fields = labels, fields
        self._index, self._trim, self._changed, self._digest = index, trim, changed, digest
        self._lock = threading.Lock()
        self._items: dict[Key, Manifest] = {}
        self._groups: dict[Hashable, dict[Key, Manifest]] = {}
        self._gone: collections.OrderedDict[Key, Manifest] = collections.OrderedDict()
        self._stopped = threading.Event()
        self.synced = threading.Event()
        """Set once the first list is in."""
        self.version = 0
        """Grows with every change."""
        self.refused: ApiError | None = None
        """Why the copy cannot be kept, such as missing permission."""

    def start(self) -> None:
        """Begin, in a thread that ends with the process."""
        threading.Thread(target=self._run, name=f"watch-{self._resource.plural}", daemon=True).start()

    def stop(self) -> None:
        """End at the next occasion."""
        self._stopped.set()

    def all(self) -> list[Manifest]:
        """All objects."""
        with self._lock:
            return list(self._items.values())

    def of(self, group: Hashable) -> list[Manifest]:
        """The objects of one group."""
        with self._lock:
            return list(self._groups.get(group, {}).values())

    def get(self, key: Key) -> Manifest | None:
        """One object."""
        with self._lock:
            return self._items.get(key)

    def gone(self, key: Key) -> Manifest | None:
        """The last state of an object that is no more."""
        with self._lock:
            return self._gone.get(key)

    def put(self, item: Manifest) -> None:
        """Take in what a create has answered, before the watch tells; nothing where the watch was first, or told
        already that this very object is gone."""
        with self._lock:
            key = key_of(item)
            gone = self._gone.get(key)
            if key not in self._items and (gone is None or gone["metadata"].get("uid") != item["metadata"].get("uid")):
                self._set(item)

    def _run(self) -> None:
        backoff = Backoff(0.5, 30.0)
        while not self._stopped.is_set():
            try:
                self._follow(self._fetch(), backoff)
            except ApiError as error:
                expired, first = error.status == 410, backoff.failures == 0
                self.refused = error if error.status in (401, 403, 404) else None
                pause = backoff.next()
                if not (expired and first):  # a version expires now and then: the first time it is listed again at once
                    log.warning("watching %s: %s; trying again in %.1f s", self._resource.plural, error, pause)
                    self._stopped.wait(pause)
            except Exception:
                log.exception("watching %s", self._resource.plural)
                self._stopped.wait(backoff.next())

    def _fetch(self) -> str:
        items, version = self._api.list(self._resource, self._namespace, self._labels, self._fields)
        with self._lock:
            kept = {key_of(item): item for item in items}
            lost = [old for key, old in self._items.items() if key not in kept]
            for old in lost:
                self._remove(old)
            for item in items:
                self._set(item)
        self.refused = None
        self.synced.set()
        for old in lost:
            self._changed(self._index(old))
        return version

    def _follow(self, version: str, backoff: Backoff) -> None:
        while not self._stopped.is_set():
            began = time.monotonic()
            events = self._api.watch(self._resource, self._namespace, version, self._labels, self._fields)
            for event in events:
                backoff.reset()
                item = event["object"]
                version = item["metadata"]["resourceVersion"]
                if event["type"] != "BOOKMARK":
                    self._take(event["type"], item)
                if self._stopped.is_set():
                    return
            if time.monotonic() - began >= _SHORT_SECONDS:
                backoff.reset()
            else:
                self._stopped.wait(backoff.next())

    def _take(self, kind: str, item: Manifest) -> None:
        with self._lock:
            old = self._items.get(key_of(item))
            if kind == "DELETED":
                self._remove(item)
            else:
                self._set(item)
        group = self._index(item)
        alike = old is not None and self._digest is not None and self._digest(old) == self._digest(item)
        if group is not None and (kind == "DELETED" or not alike):
            self._changed(group)

    def _set(self, item: Manifest) -> None:
        key = key_of(item)
        old = self._items.get(key)
        before = None if old is None else self._index(old)
        group = self._index(item)
        kept = self._trim(item) if group is not None else None
        if old is None and kept is None:
            return
        self.version += kept != old
        if before is not None and before != group:
            self._drop(before, key)
        if group is None or kept is None:
            self._items.pop(key, None)
            return
        self._items[key] = kept
        self._groups.setdefault(group, {})[key] = kept

    def _remove(self, item: Manifest) -> None:
        key = key_of(item)
        old = self._items.pop(key, None)
        if old is None:
            return
        self.version += 1
        group = self._index(old)
        if group is not None:
            self._drop(group, key)
        self._gone[key] = self._trim(item)
        while len(self._gone) > _REMEMBERED:
            self._gone.popitem(last=False)

    def _drop(self, group: Hashable, key: Key) -> None:
        members = self._groups.get(group)
        if members is not None:
            members.pop(key, None)
            if not members:
                del self._groups[group]
