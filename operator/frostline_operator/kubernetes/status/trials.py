"""`HPOTrial` objects: what the journal says of each trial, for people and for other programs to read."""

from __future__ import annotations

import logging
import threading

from frostline_operator.api.study import API_VERSION
from frostline_operator.api.trial import HPOTrialSpec, HPOTrialStatus, TrialRungResult, assignment_list
from frostline_operator.engine.calibration import ratio
from frostline_operator.engine.leftovers import keeps_checkpoint
from frostline_operator.engine.plan import Plan
from frostline_operator.engine.state import RungResult, StudyState, Trial
from frostline_operator.engine.summary import trial_state
from frostline_operator.kubernetes.client.api import TRIALS, Api, ApiError, Manifest
from frostline_operator.kubernetes.objects import names
from frostline_operator.kubernetes.objects.jobs import StudyRef

log = logging.getLogger(__name__)

_MOST_WRITES = 25
"""Of one study at a time; then it is another one's turn."""


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
        self._written: dict[int, Manifest] | None = None
        """Status as it is in the API server, by trial; None before the first look."""
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

    def _read(self) -> dict[int, Manifest]:
        return {int(item["spec"]["index"]): item.get("status") or {} for item in self._list()}

    def _write(self, trial: Trial, status: Manifest, written: dict[int, Manifest]) -> None:
        namespace, name = self._study.namespace, trial.name
        if trial.index not in written:
            try:
                self._api.create(TRIALS, namespace, trial_manifest(self._study, trial))
            except ApiError as error:
                if error.status != 409:
                    raise
                other = self._api.get(TRIALS, namespace, name)
                if other is not None and not self._is_ours(other):
                    log.warning(
                        "%s/%s is not of this study but of an earlier one, which kept its trials: it is left as it is; "
                        "delete it to see this study's", namespace, name,
                    )  # fmt: skip
                    return
            written[trial.index] = {}
        known = written[trial.index]
        patch: Manifest = {key: value for key, value in status.items() if known.get(key) != value}
        patch |= {key: None for key in known if key not in status}
        if not patch:
            return
        try:
            self._api.patch(TRIALS, namespace, name, {"status": patch}, part="status")
        except ApiError as error:
            if error.status != 404:
                raise
            del written[trial.index]  # somebody deleted it: made again when the trial next changes
            return
        written[trial.index] = status


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
    """How far a trial has come, as its object shows it; its checkpoint only while it is kept."""
    results = sorted(trial.results, key=lambda result: result.rung)
    best = next((r.value for r in reversed(results) if r.state == "Completed"), None)
    status = HPOTrialStatus(
        state=trial_state(trial, busy),
        rung=trial.rung,
        value=best,
        rung_results=[_result(trial, result, state, plan) for result in results],
        checkpoint=trial.checkpoint if kept else None,
    )
    return status.model_dump(mode="json", by_alias=True, exclude_none=True)


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
