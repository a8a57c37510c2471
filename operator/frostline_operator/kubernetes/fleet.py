"""The devices of a cluster and who may use them: shared by all studies of an operator."""

from __future__ import annotations

import json
import math
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from frostline_operator.api.quantity import parse_bytes
from frostline_operator.api.study import HPOStudySpec
from frostline_operator.engine.fairness import Claim, shares
from frostline_operator.engine.state import MemoryClass, StudyState
from frostline_operator.kubernetes.client.api import NODES, PODS, SLICES, Api, ApiError
from frostline_operator.kubernetes.client.informer import Informer, key_of
from frostline_operator.kubernetes.objects import nodes
from frostline_operator.kubernetes.objects.classes import DeviceClass, cpu_class, declared_classes, memory_classes
from frostline_operator.kubernetes.objects.jobs import pod_template
from frostline_operator.kubernetes.objects.nodes import Skipped
from frostline_operator.kubernetes.objects.views import parse_time
from frostline_operator.kubernetes.settings import OperatorSettings

Manifest = dict[str, Any]


_OFFER_SECONDS = 15.0
"""An offer that no round has answered by then has lapsed."""


@dataclass
class _Study:
    """What a study holds, and whether it would take more."""

    priority: int = 0
    held: Counter[str] = field(default_factory=Counter)
    offered: Counter[str] = field(default_factory=Counter)
    """Told to the study and not taken yet: nobody else is told meanwhile."""
    offered_at: float = -math.inf
    wanted: int = 0
    """Runs that it would start besides, had it the devices."""
    order: int = 0


@dataclass(frozen=True)
class ClassUse:
    """A memory class of the whole cluster, and who holds its devices now."""

    name: str
    usable_bytes: int | None
    devices: int
    held: int
    """By studies of this operator."""
    foreign: int
    """By other pods, whatever their labels say."""


class Fleet:
    """All GPUs, and what is left of them for each study.

    Args:
        api: to watch nodes and the pods of others.
        settings: of the operator.
        owns: whether a pod is of a study of this operator; what such pods hold is told by the studies' states.
        clock: in seconds, one that never jumps.
    """

    def __init__(
        self,
        api: Api,
        settings: OperatorSettings,
        owns: Callable[[Manifest], bool],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._api = api
        self._settings = settings
        self._owns, self._clock = owns, clock
        self._nodes = Informer(api, NODES, trim=_trimmed_node)
        self._users = Informer(
            api,
            PODS,
            fields="spec.nodeName!=,status.phase!=Succeeded,status.phase!=Failed",
            index=_device_user,
            trim=_trimmed_user,
        )
        self._lock = threading.Lock()
        self._studies: dict[str, _Study] = {}
        self._counter = 0
        self._classes: dict[str, tuple[tuple[int, ...], dict[str, DeviceClass], list[Skipped]]] = {}
        self._published: dict[str, int] = {}

    def start(self) -> None:
        """Begin to watch."""
        self._read_slices()
        self._nodes.start()
        self._users.start()

    def stop(self) -> None:
        """Watch no more."""
        self._nodes.stop()
        self._users.stop()

    @property
    def synced(self) -> bool:
        """Whether enough is known to decide anything."""
        return all(i.synced.is_set() or i.refused is not None for i in (self._nodes, self._users))

    def ready_nodes(self) -> dict[str, bool] | None:
        """Nodes, and whether they answer; None where they may not be read."""
        if self.unreadable is not None:
            return None
        return {node["metadata"]["name"]: nodes.is_ready(node) for node in self._nodes.all()}

    def silent_since(self, node: str) -> float | None:
        """Since when a node has not been ready, in seconds since the epoch; None while it is, or is not known."""
        copy = self._nodes.get(("", node))
        if copy is None or nodes.is_ready(copy):
            return None
        conditions = copy["status"]["conditions"]
        return parse_time(conditions[0].get("lastTransitionTime")) if conditions else None

    @property
    def unreadable(self) -> ApiError | None:
        """Why nodes cannot be read, None where they can."""
        return None if self._nodes.synced.is_set() else self._nodes.refused

    def no_devices(self, skipped: Sequence[Skipped]) -> str:
        """What to say to a study that no device could be found for, and what helps."""
        if self.unreadable is not None:
            return (
                f"the operator may not read nodes, so it cannot tell what GPUs there are ({self.unreadable}); let its "
                "ServiceAccount list and watch nodes by a ClusterRole, or tell the operator's settings: classes for "
                "GPUs, cpuSlots for CPUs"
            )
        return "; ".join(s.reason for s in skipped[:3]) or (
            "no node offers GPUs that its pods could use; add one, or let the operator use CPUs (cpuSlots)"
        )

    def classes(self, spec: HPOStudySpec) -> tuple[dict[str, DeviceClass], list[Skipped]]:
        """The memory classes that a study's pods could be scheduled to, and the nodes left out."""
        template = pod_template(self._settings, spec.template)["spec"]
        tolerations, selector = template.get("tolerations") or [], template.get("nodeSelector") or {}
        override = spec.placement.usable_memory
        key = json.dumps([tolerations, selector, override], sort_keys=True)
        version = (self._nodes.version, len(self._published))
        with self._lock:
            cached = self._classes.get(key)
        if cached is not None and cached[0] == version:
            return cached[1], cached[2]
        usable = None if override is None else parse_bytes(override)
        available: list[nodes.Devices] = []
        skipped: list[Skipped] = []
        for node in self._nodes.all():
            if nodes.available(node, tolerations, selector):
                published = self._published.get(node["metadata"]["name"])
                devices, left_out = nodes.devices(node, self._settings.time_slicing, published)
                available += devices
                skipped += [left_out] if left_out else []
        declared = self._settings.classes
        classes = declared_classes(declared, usable) if declared else memory_classes(available, usable)
        if not classes and self._settings.cpu_slots:
            classes = cpu_class(self._settings.cpu_slots, usable)
        with self._lock:
            self._classes[key] = (version, classes, skipped)
        return classes, skipped

    def use(self) -> list[ClassUse]:
        """Every class that studies could use if their pods tolerated all taints, and who holds its devices.

        From the local copies alone: it is asked at each scrape of /metrics.
        """
        available = [
            devices
            for node in self._nodes.all()
            if nodes.available(node, [{"operator": "Exists"}], {})
            for devices in nodes.devices(
                node, self._settings.time_slicing, self._published.get(node["metadata"]["name"])
            )[0]
        ]
        classes = memory_classes(available) or (cpu_class(self._settings.cpu_slots) if self._settings.cpu_slots else {})
        taken = self._taken_by_others()
        with self._lock:
            held = sum((study.held for study in self._studies.values()), Counter[str]())
        return [
            ClassUse(name, c.usable_bytes, c.total, held[name], _foreign(c, taken))
            for name, c in sorted(classes.items())
        ]

    def offer(self, uid: str, spec: HPOStudySpec, state: StudyState) -> tuple[MemoryClass, ...]:
        """The classes as one study may use them now: what it holds, and its fair part of what is free."""
        classes, _ = self.classes(spec)
        taken = self._taken_by_others()
        with self._lock:
            me = self._me(uid, spec)
            me.held = _held(state)
            me.offered, me.offered_at = Counter(), self._clock()
            me.wanted = max(0, spec.search.parallelism - len(state.active_runs))
            offered = []
            for each in classes.values():
                used = _foreign(each, taken)
                used += sum(s.held[each.name] + self._offered(s, each) for u, s in self._studies.items() if u != uid)
                free = max(0, each.total - used - me.held[each.name])
                part = self._part(uid, each.name, free)
                me.offered[each.name] = part
                offered.append(MemoryClass(each.name, each.usable_bytes, me.held[each.name] + part))
            return tuple(offered)

    def settle(self, uid: str, spec: HPOStudySpec, state: StudyState, paused: bool = False) -> None:
        """What a study has made of its offer; one that is paused, as for a full disk, leaves devices to others."""
        busy = state.busy()
        waiting = sum(1 for trial in state.trials.values() if trial.waiting and trial.index not in busy)
        going = state.finished is None and not spec.suspend and not paused
        with self._lock:
            me = self._me(uid, spec)
            me.held = _held(state)
            me.offered = Counter()
            me.wanted = min(waiting, spec.search.parallelism - len(state.active_runs)) if going else 0

    def forget(self, uid: str) -> None:
        """A study that is no more."""
        with self._lock:
            self._studies.pop(uid, None)

    def _me(self, uid: str, spec: HPOStudySpec) -> _Study:
        if uid not in self._studies:
            self._counter += 1
            self._studies[uid] = _Study(order=self._counter)
        me = self._studies[uid]
        me.priority = spec.priority  # it may be edited at any time
        return me

    def _lapsed(self, study: _Study) -> bool:
        """Whether an offer was never answered: rounds do so within a second or two, and one that failed never does."""
        return bool(study.offered) and self._clock() - study.offered_at >= _OFFER_SECONDS

    def _offered(self, study: _Study, device_class: DeviceClass) -> int:
        return 0 if self._lapsed(study) else study.offered[device_class.name]

    def _part(self, uid: str, name: str, free: int) -> int:
        claims = [
            Claim(other, study.priority, study.held[name], 0 if self._lapsed(study) else study.wanted, study.order)
            for other, study in self._studies.items()
        ]
        return shares(free, claims).get(uid, 0)

    def _taken_by_others(self) -> Counter[tuple[str, str | None]]:
        """Devices held by pods that are no study's, by node and resource."""
        taken: Counter[tuple[str, str | None]] = Counter()
        for pod in self._users.all():
            if self._owns(pod):
                continue
            for resource, count in pod["devices"].items():
                taken[(pod["spec"]["nodeName"], resource)] += count
        return taken

    def _read_slices(self) -> None:
        try:
            slices, _ = self._api.list(SLICES)
        except ApiError:
            return  # no DRA in this cluster, or no permission: the labels will do
        self._published = nodes.published_memory(slices)


def _foreign(device_class: DeviceClass, taken: Mapping[tuple[str, str | None], int]) -> int:
    """Devices of a class that pods of others hold."""
    return sum(min(count, taken.get((node, device_class.resource), 0)) for node, count in device_class.counts.items())


def _held(state: StudyState) -> Counter[str]:
    return Counter(run.memory_class for run in state.active_runs)


def _trimmed_node(node: Manifest) -> Manifest:
    metadata, status = node["metadata"], node.get("status", {})
    return {
        "metadata": {"name": metadata["name"], "labels": metadata.get("labels") or {}},
        "spec": {key: node.get("spec", {}).get(key) for key in ("unschedulable", "taints")},
        "status": {
            "allocatable": status.get("allocatable") or {},
            # Not when it last reported: every node would change every few seconds
            "conditions": [
                {"type": "Ready", "status": c.get("status"), "lastTransitionTime": c.get("lastTransitionTime")}
                for c in status.get("conditions") or []
                if c.get("type") == "Ready"
            ],
        },
    }


def _requests(pod: Mapping[str, Any]) -> dict[str, int]:
    """Devices that a pod asks for."""
    total: Counter[str] = Counter()
    for container in pod.get("spec", {}).get("containers") or []:
        for resource, amount in ((container.get("resources") or {}).get("limits") or {}).items():
            if resource in (nodes.NVIDIA, nodes.AMD) or resource.startswith("nvidia.com/mig-"):
                total[resource] += int(amount)
    return dict(total)


def _device_user(pod: Manifest) -> Any:
    """Only pods with devices are kept."""
    return key_of(pod) if pod.get("devices") or _requests(pod) else None


def _trimmed_user(pod: Manifest) -> Manifest:
    return {
        "metadata": {key: pod["metadata"].get(key) for key in ("name", "namespace", "ownerReferences")},
        "spec": {"nodeName": pod["spec"].get("nodeName", "")},
        "devices": pod.get("devices") or _requests(pod),
    }
