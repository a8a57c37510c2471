"""Recordings of real studies: where each stood, by the clock, as a person would have observation it who watched.

One is made by `python -m tests.unit.engine.recorded.recording STUDY.yaml DIR OUT.json` while `frostline run STUDY.yaml
--dir DIR` is at work: it looks twice a second, keeps what changed, and ends with the study. Those kept here ran on
two cores: two with `paced:train`, two runs at a time, and one of an MLP on a table beside a test suite, whose equal
runs took from 8 to more than 60 seconds.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter

from frostline_operator.api.loader import load_study
from frostline_operator.api.study import HPOStudySpec
from frostline_operator.engine.remaining import Progress
from frostline_operator.engine.state import Finished, MemoryClass, Observation, Run, StudyState, Trial
from frostline_operator.local.session import SessionError, read_folder
from frostline_trainer.contract import ModelProfile

_TRIAL, _RUN, _FINISHED = TypeAdapter(Trial), TypeAdapter(Run), TypeAdapter(Finished)
_EVERY_SECONDS = 0.5


@dataclass(frozen=True)
class Moment:
    """Where a study stood."""

    observation: Observation
    progress: dict[str, Progress]
    """Of each active run, by its name."""


def moments(path: Path) -> Iterator[Moment]:
    """The moments of a recording, the study's end last."""
    kept = json.loads(path.read_text(encoding="utf-8"))
    spec, profile = HPOStudySpec.model_validate(kept["spec"]), ModelProfile.model_validate(kept["profile"])
    classes, state = (MemoryClass("cpu", None, kept["slots"]),), StudyState()
    state.started_at = kept["startedAt"]
    begun: dict[str, float] = {}
    for moment in kept["moments"]:
        state = state.copy()
        for document in moment.get("trials", ()):
            trial = _TRIAL.validate_python(document)
            state.trials[trial.index] = trial
        for document in moment.get("runs", ()):
            run = _RUN.validate_python(document)
            state.runs[run.name] = run
        if "finished" in moment:
            state.finished = _FINISHED.validate_python(moment["finished"])
        observation = Observation(path.stem, spec, profile, classes, state, moment["at"])
        shares: dict[str, float] = moment.get("progress", {})
        progress = {
            name: Progress(share, moment["at"] - begun.setdefault(name, moment["at"])) for name, share in shares.items()
        }
        yield Moment(observation, progress)


def record(manifest: Path, folder: Path) -> dict[str, Any]:
    """Watch a study to its end."""
    spec, before, told = load_study(manifest, alone=True).spec, StudyState(), []
    observation: Observation | None = None
    while observation is None or observation.state.finished is None:
        time.sleep(_EVERY_SECONDS)
        try:
            _, store, observation = read_folder(folder)
        except SessionError:
            continue
        state = observation.state
        progress = {}
        for run in state.active_runs:
            newest = max((s.tokens for s in store.samples(run.name)), default=run.start_tokens)
            progress[run.name] = round((newest - run.start_tokens) / (run.tokens - run.start_tokens), 4)
        store.close()
        moment: dict[str, Any] = {"at": round(observation.now, 3)}
        trials = [trial for trial in state.trials.values() if trial != before.trials.get(trial.index)]
        runs = [run for run in state.runs.values() if run != before.runs.get(run.name)]
        moment["trials"] = [_TRIAL.dump_python(trial, mode="json", exclude_defaults=True) for trial in trials]
        moment["runs"] = [_RUN.dump_python(run, mode="json", exclude_defaults=True) for run in runs]
        if state.finished is not None:
            moment["finished"] = _FINISHED.dump_python(state.finished, mode="json")
        if progress:
            moment["progress"] = progress
        told.append({key: value for key, value in moment.items() if value})
        before = state.copy()
    return {
        "spec": spec.model_dump(mode="json", by_alias=True, exclude_defaults=True),
        "profile": observation.profile.model_dump(mode="json", by_alias=True, exclude_defaults=True),
        "slots": spec.search.parallelism,
        "startedAt": observation.state.started_at,
        "moments": told,
    }


def main() -> None:
    """Write a recording."""
    manifest, folder, out = map(Path, sys.argv[1:])
    document = record(manifest, folder)
    lines = ",\n".join(json.dumps(moment) for moment in document.pop("moments"))
    out.write_text(f'{json.dumps(document)[:-1]}, "moments": [\n{lines}\n]}}\n', encoding="utf-8")


if __name__ == "__main__":
    main()
