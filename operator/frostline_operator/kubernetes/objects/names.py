"""Names, labels and annotations of what the operator makes. All of it can be told again from the study alone."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from frostline_operator.api.study import API_VERSION, GROUP

STUDY = f"{GROUP}/study"
STUDY_UID = f"{GROUP}/study-uid"
RUN = f"{GROUP}/run"
RUNG = f"{GROUP}/rung"
COMPONENT = f"{GROUP}/component"
"""trainer, profile, cleanup, journal, trial, or run: the document of a run that is too large for its environment."""
BOOKED = f"{GROUP}/booked"
"""On Jobs whose end is in the study's journal: nobody needs them any more but people who read logs."""
ATTEMPT = f"{GROUP}/attempt"
"""On a Job that is made again after it failed: the how-manieth it is, from 1."""
MANAGED_BY = ("app.kubernetes.io/managed-by", "frostline")
FINALIZER = f"{GROUP}/stop-runs"
KEEP_TRIALS = f"{GROUP}/keep-trials"
"""On a study: `true` leaves its HPOTrials behind when it is deleted."""
KEEP_CHECKPOINTS = f"{GROUP}/keep-checkpoints"
"""On a study: `true` leaves its checkpoints, all of them and also when it is deleted."""
USABLE_MEMORY = f"{GROUP}/usable-gpu-memory"
"""On a node: what runs may plan with on each of its GPUs, such as 20Gi, instead of what is discovered."""
PASSED_ON = ("kueue.x-k8s.io/queue-name", "kueue.x-k8s.io/priority-class")
"""Labels of a study that its Jobs get too. With a queue's name, Jobs start suspended: Kueue lets them go."""
QUEUE = PASSED_ON[0]

CONTAINER = "trainer"
CHECKPOINTS = "checkpoints"
"""Name of the volume that holds checkpoints."""


def labels(study: str, uid: str, component: str) -> dict[str, str]:
    """What everything made for a study carries."""
    return {MANAGED_BY[0]: MANAGED_BY[1], STUDY: study, STUDY_UID: uid, COMPONENT: component}


def owner(study: str, uid: str) -> dict[str, Any]:
    """The reference that makes a study's objects go with it."""
    return {
        "apiVersion": API_VERSION,
        "kind": "HPOStudy",
        "name": study,
        "uid": uid,
        "controller": True,
        "blockOwnerDeletion": True,
    }


class Controller(NamedTuple):
    """The object that controls another one."""

    kind: str
    name: str
    uid: str


def controller(item: Mapping[str, Any]) -> Controller | None:
    """What controls an object, None where nothing does.

    A label says what anybody who may create objects likes; so does this reference, but only within one namespace, where
    the garbage collector removes what refers to an owner that is not there. So whose an object is, is told by namespace
    and controller together, never by a label.
    """
    for owner in item["metadata"].get("ownerReferences") or ():
        if owner.get("controller"):
            return Controller(*(str(owner.get(key, "")) for key in Controller._fields))
    return None


def is_of_study(item: Mapping[str, Any], namespace: str, uid: str) -> bool:
    """Whether an object is controlled by a study, in the study's own namespace."""
    owner = controller(item)
    return (
        owner is not None
        and (owner.kind, owner.uid) == ("HPOStudy", uid)
        and item["metadata"].get("namespace") == namespace
    )


def journal(study: str, uid: str, number: int) -> str:
    """Name of a chunk of a study's journal."""
    return f"{study}-{uid[:8]}-journal-{number}"


def checkpoint_folder(root: str, namespace: str, study: str, uid: str) -> str:
    """Where a study's checkpoints go, below the operator's folder or URL."""
    return f"{root.rstrip('/')}/{namespace}/{study}-{uid[:8]}"
