"""`HPOTrial` objects: what the journal says of each trial, for people and for other programs to read.

They are written in threads of their own, so that no round of a study waits for them. A study's newest state is what
counts: however many changes come while a write is under way, each trial is written once.
"""

from __future__ import annotations

import logging
import threading
import time
from dataclasses import dataclass
from typing import Protocol

from frostline_operator.api.parameters import assignment_list
from frostline_operator.api.study import API_VERSION
from frostline_operator.api.trial import HPOTrialSpec, HPOTrialStatus, TrialRungResult
from frostline_operator.engine.leftovers import keeps_checkpoint
from frostline_operator.engine.placement import ratio
from frostline_operator.engine.plan import Plan
from frostline_operator.engine.state import RungResult, StudyState, Trial
from frostline_operator.engine.summary import trial_state
from frostline_operator.kubernetes.client.api import TRIALS, Api, ApiError, Manifest
from frostline_operator.kubernetes.objects import names
from frostline_operator.kubernetes.objects.jobs import StudyRef
from frostline_operator.kubernetes.status.conditions import Conditions
from frostline_operator.runtime.backoff import Backoff
from frostline_operator.runtime.poller import Poller

log = logging.getLogger(__name__)

_MOST_WRITES = 25
"""Of one study at a time; then it is another one's turn."""
_THREADS = 2
_PAUSE_SECONDS = 1.0
"""Between two goes at one study: changes come in bursts, and meanwhile they come together."""
_LONGEST_PAUSE = 30.0


class Page(Protocol):
    """Something to be written, a part at a time."""

    def __hash__(self) -> int: ...

    def write(self) -> bool:
        """Write a part of what has changed; True once nothing is left."""


class Publisher:
    """Threads that write pages, those that waited longest first."""

    def __init__(self) -> None:
        self._poller = Poller("publish", _THREADS)
        self._backoffs: dict[Page, Backoff] = {}

    def start(self) -> None:
        """Begin."""
        self._poller.start()

    def stop(self) -> None:
        """Write no more; what is left is written by the next operator."""
        self._poller.stop()

    def submit(self, page: Page, at_once: bool = False) -> None:
        """Have a page written soon, or without the pause that collects changes."""
        self._poller.schedule(page, lambda: self._write(page), 0.0 if at_once else _PAUSE_SECONDS)

    def _write(self, page: Page) -> float | None:
        try:
            left = not page.write()
        except ApiError as error:
            pause = self._backoffs.setdefault(page, Backoff(2 * _PAUSE_SECONDS, _LONGEST_PAUSE)).next()
            log.warning("trials cannot be written: %s; trying again in %.0f s", error, pause)
            return pause
        self._backoffs.pop(page, None)
        return 0.0 if left else None


@dataclass(frozen=True)
class _Object:
    """What the API server has of a trial."""

    generation: int
    status: Manifest


class TrialWriter:
    """Keeps a study's HPOTrials like its state. Shown by ticks, written by a publisher's thread.

    Args:
        api: where they are.
        study: whose.
    """

    def __init__(self, api: Api, study: StudyRef) -> None:
        self._api = api
        self._study = study
        self._wanted: tuple[StudyState, Plan, bool] | None = None
        self._shown: dict[int, tuple[Trial, bool, bool]] = {}
        """What was written of each trial: compared by identity, since trials are immutable."""
        self._written: dict[int, _Object] | None = None
        """By trial; None before the first look."""
        self._writing = threading.Lock()
        self._closed = False

    def show(self, state: StudyState, plan: Plan, swept: bool = True) -> bool:
        """What is to be written from now on; True if all of it is.

        Args:
            state, plan: of the study.
            swept: whether checkpoints that nobody needs are removed.
        """
        self._wanted = (state.copy(), plan, swept)
        return not self._changed(state, swept)

    def write(self) -> bool:
        """Write some of what changed; True once nothing is left to write."""
        with self._writing:
            if self._closed or self._wanted is None:
                return True
            state, plan, swept = self._wanted
            changed = self._changed(state, swept)
            if not changed:
                return True
            written = self._read() if self._written is None else self._written
            self._written = written
            for face in changed[:_MOST_WRITES]:
                trial, busy, kept = face
                self._write(trial, trial_status(trial, state, plan, busy, kept), written)
                self._shown[trial.index] = face
            return len(changed) <= _MOST_WRITES

    def _changed(self, state: StudyState, swept: bool) -> list[tuple[Trial, bool, bool]]:
        """Trials that are not shown as they are: with whether a run carries them, and whether they keep checkpoints."""
        busy = state.busy()
        faces = (
            (trial, trial.index in busy, not swept or keeps_checkpoint(state, trial)) for trial in state.trials.values()
        )
        unseen = (None, False, False)
        return [f for f in faces if (old := self._shown.get(f[0].index, unseen))[0] is not f[0] or old[1:] != f[1:]]

    def close(self) -> None:
        """Write no more: the study goes. Returns once nothing is being written."""
        with self._writing:
            self._closed = True

    def orphan(self) -> None:
        """Let the trials stay when the study goes."""
        for item in self._list():
            body = {"metadata": {"ownerReferences": None}}
            self._api.patch(TRIALS, self._study.namespace, item["metadata"]["name"], body)

    def _list(self) -> list[Manifest]:
        items, _ = self._api.list(TRIALS, self._study.namespace, f"{names.STUDY_UID}={self._study.uid}")
        return [item for item in items if self._is_ours(item)]

    def _is_ours(self, item: Manifest) -> bool:
        return names.is_of_study(item, self._study.namespace, self._study.uid)

    def _read(self) -> dict[int, _Object]:
        return {int(item["spec"]["index"]): _object(item) for item in self._list()}

    def _write(self, trial: Trial, status: Manifest, written: dict[int, _Object]) -> None:
        namespace, name = self._study.namespace, trial.name
        if trial.index not in written:
            created = self._create(trial)
            if created is None:
                return
            written[trial.index] = created
        current = written[trial.index]
        wanted = {
            **status,
            "observedGeneration": current.generation,
            "conditions": trial_conditions(status, current.status, current.generation, time.time()),
        }
        patch: Manifest = {key: value for key, value in wanted.items() if current.status.get(key) != value}
        patch |= {key: None for key in current.status if key not in wanted}
        if not patch:
            return
        try:
            self._api.patch(TRIALS, namespace, name, {"status": patch}, part="status")
        except ApiError as error:
            if error.status != 404:
                raise
            del written[trial.index]  # somebody deleted it: made again when the trial next changes
            return
        written[trial.index] = _Object(current.generation, wanted)

    def _create(self, trial: Trial) -> _Object | None:
        """The trial's object, None where one of its name is not this study's."""
        namespace, name = self._study.namespace, trial.name
        try:
            return _object(self._api.create(TRIALS, namespace, trial_manifest(self._study, trial)))
        except ApiError as error:
            if error.status != 409:
                raise
        others, _ = self._api.list(TRIALS, namespace, fields=f"metadata.name={name}")
        if others and not self._is_ours(others[0]):
            log.warning(
                "%s/%s is not of this study but of an earlier one, which kept its trials: it is left as it is; "
                "delete it to see this study's", namespace, name,
            )  # fmt: skip
            return None
        return _object(others[0] if others else {"metadata": {}})


def _object(item: Manifest) -> _Object:
    return _Object(int(item["metadata"].get("generation", 1)), item.get("status") or {})


def trial_manifest(study: StudyRef, trial: Trial) -> Manifest:
    """The object of a trial, without its status."""
    spec = HPOTrialSpec(
        study=study.name, index=trial.index, bracket=trial.bracket, assignment=assignment_list(trial.assignment)
    )
    owner = {**names.owner(study.name, study.uid)}
    return {
        "apiVersion": API_VERSION,
        "kind": "HPOTrial",
        "metadata": {
            "name": trial.name,
            "labels": names.labels(study.name, study.uid, "trial"),
            "ownerReferences": [owner],
        },
        "spec": spec.model_dump(mode="json", by_alias=True),
    }


def trial_status(trial: Trial, state: StudyState, plan: Plan, busy: bool, kept: bool) -> Manifest:
    """How far a trial has come, but for its conditions; its checkpoint only while it is kept."""
    results = sorted(trial.results, key=lambda result: result.rung)
    best = next((r.value for r in reversed(results) if r.state == "Completed"), None)
    status = HPOTrialStatus(
        state=trial_state(trial, busy),
        rung=trial.rung,
        value=None if best is None else float(f"{best:.5g}"),
        rung_results=[_result(trial, result, state, plan) for result in results],
        checkpoint=trial.checkpoint if kept else None,
    )
    unset = {"observed_generation", "conditions"}
    return status.model_dump(mode="json", by_alias=True, exclude_none=True, exclude=unset)


def trial_conditions(status: Manifest, current: Manifest, generation: int, now: float) -> list[Manifest]:
    """Complete: whether the trial is over, other than by failing. Failed, where it has.

    Args:
        status: as `trial_status` has it.
        current: status of the object in the API server, whose conditions keep their times.
        generation: of the object.
        now: seconds since the epoch.
    """
    conditions = Conditions(current.get("conditions") or [], generation)
    state, rung = status["state"], status["rung"]
    over = state in ("Completed", "Dropped", "Stopped")
    conditions.set("Complete", over, state, _MEANING[state].format(rung=rung), now)
    if state == "Failed":
        last = next((r for r in reversed(status["rungResults"]) if r["state"] in ("Failed", "Diverged")), None)
        reason = "Failed" if last is None else str(last["state"])
        message = (last or {}).get("message") or _MEANING[state].format(rung=rung)
        conditions.set("Failed", True, reason, message, now)
    return conditions.listed()


_MEANING = {
    "Pending": "no run of it has begun",
    "Running": "a run trains it at rung {rung}",
    "Waiting": "it has a result at rung {rung} and may be promoted",
    "Completed": "it has a result at the highest rung",
    "Dropped": "it has a result at rung {rung} and is not promoted",
    "Failed": "it failed at rung {rung}",
    "Stopped": "the study ended while it was at rung {rung}",
}
"""What each state of a trial says."""


def _result(trial: Trial, result: RungResult, state: StudyState, plan: Plan) -> TrialRungResult:
    run = state.runs.get(result.run)
    return TrialRungResult(
        rung=result.rung,
        state=result.state,
        value=result.value,
        layers=result.layers,
        asked_layers=plan.rungs[result.rung].layers,
        tokens=result.tokens,
        seconds=round(state.seconds_of(trial.index, result.rung), 3),
        peak_bytes=(run.peak_bytes or None) if run is not None else None,
        predicted_bytes=run.predicted_bytes if run is not None else None,
        memory_ratio=ratio(run.predicted_bytes, run.peak_bytes) if run is not None else None,
        run=result.run,
        source=result.source,
        message=result.message[:1024],
    )
