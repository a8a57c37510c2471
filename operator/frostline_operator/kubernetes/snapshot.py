"""Reading a cluster once, for commands: its memory classes, and a study with all that its journal knows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from frostline_operator.api.loader import validate_study
from frostline_operator.api.quantity import parse_bytes
from frostline_operator.api.study import HPOStudy, HPOStudySpec
from frostline_operator.engine.reconcile import Sample
from frostline_operator.engine.state import MemoryClass, Observation
from frostline_operator.kubernetes.acceptance import kept_defaults
from frostline_operator.kubernetes.client.api import NODES, SLICES, STUDIES, Api
from frostline_operator.kubernetes.client.errors import ApiError, NotReadableError
from frostline_operator.kubernetes.journal import Journal
from frostline_operator.kubernetes.objects import nodes
from frostline_operator.kubernetes.objects.classes import DeviceClass, memory_classes
from frostline_operator.kubernetes.objects.jobs import StudyRef, pod_template
from frostline_operator.kubernetes.objects.views import parse_time
from frostline_operator.kubernetes.settings import OperatorSettings
from frostline_operator.scores.curves import Curves, samples_of
from frostline_trainer.contract import ModelProfile


@dataclass(frozen=True)
class ClusterStudy:
    """A study on a cluster at one moment."""

    study: HPOStudy
    observation: Observation
    ended_at: float | None
    curves: Mapping[str, Curves]
    """Points of the learning curves by run, as the journal keeps them."""

    def samples(self, run: str) -> list[Sample]:
        """What is known of a run's learning curves."""
        return samples_of(self.observation.state.runs[run], self.observation.state, self.curves.get(run, {}))


def read_classes(api: Api, spec: HPOStudySpec, settings: OperatorSettings) -> dict[str, DeviceClass]:
    """The memory classes that a study's pods could be scheduled to, whoever holds their devices now.

    Raises:
        ApiError: the nodes may not be read.
    """
    try:
        published = nodes.published_memory(api.list(SLICES)[0])
    except ApiError:
        published = {}
    return classes_of(api.list(NODES)[0], published, spec, settings)


def classes_of(
    listed: Sequence[Mapping[str, Any]], published: Mapping[str, int], spec: HPOStudySpec, settings: OperatorSettings
) -> dict[str, DeviceClass]:
    """The memory classes of these nodes that a study's pods could be scheduled to.

    Args:
        listed: nodes, as `kubectl get nodes -o yaml` has them.
        published: bytes per GPU by node, from ResourceSlices.
        spec: of the study.
        settings: of the operator.
    """
    template = pod_template(settings, spec.template)["spec"]
    tolerations, selector = template.get("tolerations") or [], template.get("nodeSelector") or {}
    devices = [
        devices
        for node in listed
        if nodes.available(node, tolerations, selector)
        for devices in nodes.devices(node, settings.time_slicing, published.get(node["metadata"]["name"]))[0]
    ]
    override = spec.placement.usable_memory
    return memory_classes(devices, None if override is None else parse_bytes(override))


def read_study(api: Api, where: str, now: float) -> ClusterStudy:
    """A study and where it stands.

    Args:
        api: to the cluster.
        where: `namespace/name`, or a name in the namespace `default`.
        now: seconds since the epoch.

    Raises:
        NotReadableError: there is no such study, or it has not begun.
        ApiError: the cluster does not answer, or refuses.
    """
    namespace, _, name = where.rpartition("/")
    namespace = namespace or "default"
    body = api.get(STUDIES, namespace, name)
    if body is None:
        raise NotReadableError(f"there is no study {name} in namespace {namespace}; see kubectl get studies -A")
    study = validate_study({key: body[key] for key in ("apiVersion", "kind", "metadata", "spec")}, name)
    reference = StudyRef(namespace, name, body["metadata"]["uid"], body["metadata"].get("labels") or {})
    journal = Journal(api, reference)
    state = journal.load(with_curves=True)
    defaults = kept_defaults(journal)
    if defaults is not None:
        study = study.model_copy(update={"spec": defaults.complete(study.spec)})
    profile = journal.fact("profile")
    if profile is None:
        message = (body.get("status") or {}).get("message", "no operator has looked at it yet")
        raise NotReadableError(f"{namespace}/{name} has not begun: {message}")
    try:
        classes_here = read_classes(api, study.spec, OperatorSettings())
    except ApiError:
        classes_here = {}  # who may read a study need not be allowed to read nodes
    classes = tuple(MemoryClass(c.name, c.usable_bytes, c.total) for c in classes_here.values())
    if not classes:
        names = sorted({run.memory_class for run in state.runs.values()})
        classes = tuple(MemoryClass(name, None, 1) for name in names)
    observation = Observation(name, study.spec, ModelProfile.model_validate(profile), classes, state, now)
    ended_at = parse_time((body.get("status") or {}).get("completionTime"))
    return ClusterStudy(study, observation, ended_at, journal.curves or {})
