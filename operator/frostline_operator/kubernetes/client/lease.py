"""One operator at a time: a coordination.k8s.io Lease that is held before anything is written, and while it is.

Kopf has peering for this, which is not used: operators of one priority freeze each other until a person decides, one
that was killed is waited for by the clocks of two machines, and it needs custom resources of its own. Nor is
`kubernetes.leaderelection` of the official client: it has no fence on writes. Its holder learns at a renewal that it
holds the lock no more, while other threads go on writing; here every write asks `check` first.

How it works, as in Kubernetes' own controllers:
- The holder renews the Lease every fifth of its length. Whoever waits looks at whether the Lease *changes*, by a clock
  of its own, and takes it once it has stood still for its whole length: clocks of different machines are not compared.
- Every write is a compare-and-swap by resourceVersion, so that of two takers one succeeds.
- A holder stops writing when 7/10 of the length have gone by since it last knew that the Lease was its own, well before
  anybody else can have it: `check` is asked before each write. A process that was frozen and wakes up too late is
  refused by that; one that finds the Lease taken ends.
- What was sent in time and arrives late is refused by the journal, whose writes are compare-and-swaps too.
"""

from __future__ import annotations

import datetime
import logging
import os
import socket
import threading
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass

from frostline_operator.kubernetes.client.api import LEASES, Api, ApiError, Manifest
from frostline_operator.kubernetes.settings import LeaseSettings

log = logging.getLogger(__name__)

_RENEW_SHARE, _TRUST_SHARE, _ASK_SHARE = 0.2, 0.7, 0.1
"""Of the Lease's length: between two renewals, how long a renewal is relied on, between two looks of who waits."""


def clock() -> float:
    """Seconds that also go on while the machine sleeps, where the system has such a clock."""
    return time.clock_gettime(time.CLOCK_BOOTTIME) if hasattr(time, "CLOCK_BOOTTIME") else time.monotonic()


def identity() -> str:
    """Who holds a Lease. A pod's host name is its own: its container, started again, goes on with the same Lease."""
    name = socket.gethostname()
    return name if "KUBERNETES_SERVICE_HOST" in os.environ else f"{name}-{os.getpid()}-{uuid.uuid4().hex[:6]}"


@dataclass(frozen=True)
class _Seen:
    """The Lease as it was when it last changed."""

    version: str
    since: float


class Lease:
    """A Lease, and whether it is held.

    Args:
        api: where it is kept.
        settings: which one, and for how long at a time.
        holder: who wants it.
        now: a clock in seconds that never jumps.
    """

    def __init__(
        self, api: Api, settings: LeaseSettings, holder: str | None = None, now: Callable[[], float] = clock
    ) -> None:
        self.holder = holder or identity()
        self.other = ""
        """Who holds it instead, as of the last look."""
        self._api, self._settings, self._now = api, settings, now
        self._seen: _Seen | None = None
        self._known: Manifest | None = None
        self._renewed: float | None = None
        self._stopped = threading.Event()
        self._taking = threading.Lock()

    @property
    def held(self) -> bool:
        """Whether nobody else can have it now."""
        renewed = self._renewed
        return renewed is not None and self._now() - renewed < self._settings.seconds * _TRUST_SHARE

    def check(self) -> None:
        """Asked before each write.

        Raises:
            ApiError: it is not held; a passing one, since it may be held again in a moment.
        """
        if not self.held:
            raise ApiError(0, "NotHolder", f"the lease {self._where} is not held at the moment; nothing is written")

    def take(self) -> bool:
        """Try once to get it, or to keep it. Returns whether it is ours now.

        Raises:
            ApiError: the API server does not answer, or does not let us.
        """
        with self._taking:
            return not self._stopped.is_set() and self._take()

    def _take(self) -> bool:
        asked = self._now()
        current = self._api.get(LEASES, self._settings.namespace, self._settings.name)
        try:
            if current is None:
                self._known = self._api.create(LEASES, self._settings.namespace, self._body(None))
            elif self._free(current):
                self._known = self._api.replace(LEASES, self._settings.namespace, self._body(current))
            else:
                self._renewed = None
                return False
        except ApiError as error:
            if error.status in (404, 409):  # somebody was faster, or removed it: look again
                return False
            raise
        self._renewed = asked
        return True

    def wait(self, stopped: Callable[[], bool] = lambda: False) -> bool:
        """Wait until it is ours; False where we were told to stop before."""
        said = None
        while not stopped():
            try:
                if self.take():
                    log.info("holding the lease %s as %s", self._where, self.holder)
                    return True
                if self.other != said:
                    said = self.other
                    log.info("standing by: the lease %s is held by %s", self._where, said or "nobody yet")
            except ApiError as error:
                log.warning("the lease %s: %s", self._where, error)
            time.sleep(self._settings.seconds * _ASK_SHARE)
        return False

    def keep(self, lost: Callable[[str], None]) -> None:
        """Renew it in a thread. `lost` is called, once, with the new holder's name where somebody else has it."""
        threading.Thread(target=self._keep, args=(lost,), name="lease", daemon=True).start()

    def release(self) -> None:
        """Let it go, so that the next one need not wait. Call it when nothing more will be written."""
        self._stopped.set()
        with self._taking:
            renewed, self._renewed = self._renewed, None
            if renewed is None or self._known is None:
                return
            body = self._body(self._known)
            body["spec"] |= {"holderIdentity": "", "leaseDurationSeconds": 1}
            try:
                self._api.replace(LEASES, self._settings.namespace, body)
            except ApiError as error:
                log.info("the lease %s was not given back: %s", self._where, error)

    def _keep(self, lost: Callable[[str], None]) -> None:
        while not self._stopped.wait(self._settings.seconds * _RENEW_SHARE):
            try:
                if not self.take() and self.other not in ("", self.holder):
                    lost(self.other)
                    return
            except ApiError as error:
                # Nobody can take it while the API server is away; what is written meanwhile is refused by `check`.
                log.warning("the lease %s cannot be renewed: %s", self._where, error)

    def _free(self, current: Manifest) -> bool:
        """Whether it may be taken: ours, nobody's, or not renewed for its whole length."""
        version, spec = str(current["metadata"]["resourceVersion"]), current.get("spec") or {}
        self.other = str(spec.get("holderIdentity") or "")
        if self._seen is None or self._seen.version != version:
            self._seen = _Seen(version, self._now())
        if self.other in ("", self.holder):
            return True
        return self._now() - self._seen.since > float(spec.get("leaseDurationSeconds") or self._settings.seconds)

    def _body(self, current: Manifest | None) -> Manifest:
        old = {} if current is None else current.get("spec") or {}
        mine = old.get("holderIdentity") == self.holder
        at = datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        metadata: Manifest = {"name": self._settings.name}
        if current is not None:
            metadata = {key: current["metadata"][key] for key in ("name", "resourceVersion", "labels", "annotations")
                        if key in current["metadata"]}  # fmt: skip
        return {
            "apiVersion": "coordination.k8s.io/v1",
            "kind": "Lease",
            "metadata": metadata,
            "spec": {
                "holderIdentity": self.holder,
                "leaseDurationSeconds": self._settings.seconds,
                "acquireTime": old.get("acquireTime", at) if mine else at,
                "renewTime": at,
                "leaseTransitions": int(old.get("leaseTransitions") or 0) + (0 if mine or not old else 1),
            },
        }

    @property
    def _where(self) -> str:
        return f"{self._settings.namespace}/{self._settings.name}"
