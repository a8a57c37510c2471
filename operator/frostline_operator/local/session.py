"""A study and its folder: opened, locked, and made sure that they belong together."""

from __future__ import annotations

import errno
import json
import shutil
import sqlite3
import time
import uuid
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import pydantic

from frostline_operator.api.loader import validate_study
from frostline_operator.api.study import HPOStudy
from frostline_operator.crds.rules import changed_sections, fixed_part
from frostline_operator.engine.outcome import at_stake
from frostline_operator.engine.profiling import choices_document, profile_document
from frostline_operator.engine.state import Observation
from frostline_operator.local import devices, processes
from frostline_operator.local.cluster import LocalCluster
from frostline_operator.local.devices import Device
from frostline_operator.local.files import RunFiles, StudyFiles
from frostline_operator.local.profile import Memory, Preflight, check_study, memory_of, profile_model, where_of
from frostline_operator.local.store import SqliteStore
from frostline_operator.runtime.loop import StudyLoop
from frostline_trainer.contract import ModelProfile


class SessionError(Exception):
    """The folder cannot be used for this study; the message says why and what to do."""


@dataclass
class Session:
    """An opened study."""

    study: HPOStudy
    files: StudyFiles
    store: SqliteStore
    loop: StudyLoop
    devices: list[Device]
    resumed: bool
    """Whether the folder held an earlier part of the study."""

    def observe(self) -> Observation:
        """Where the study stands."""
        return self.loop.observe(self.study.spec)


@contextmanager
def open_session(
    study: HPOStudy,
    folder: Path,
    declared: list[str],
    code: Path,
    *,
    runs_as: HPOStudy | None = None,
    preflight: bool = True,
) -> Iterator[Session]:
    """Open a study's folder for running it.

    Args:
        study: as read from its manifest; this is what the folder keeps, and what a later manifest is held against.
        folder: made if it is not there.
        declared: memory classes instead of the machine's own, see `devices.discover`.
        code: folder in which a custom entrypoint's module is looked for first.
        runs_as: the study with absolute paths (`api.loader.rooted`), where it has relative ones.
        preflight: try out data and choices first.

    Raises:
        SessionError: another command runs it, or the folder holds another study.
        DeclarationError: `declared` is not understood.
        PreflightError: the data cannot be read, or a choice's network cannot be built.
        ProfileError: the model or the data cannot be built.
    """
    files = StudyFiles(folder.resolve())
    with ExitStack() as stack:
        with _usable(folder):
            _lock(stack, files, folder)
            store = SqliteStore(files.database)
            stack.callback(store.close)
            resumed = _claim(study, store, files, folder)
            store.set_fact("code", str(code.resolve()))
            over = store.fact("finished") is not None
        study = runs_as or study
        available = devices.discover(study.spec.search.parallelism, declared)
        uid = store.fact("uid")
        assert uid is not None
        cluster = LocalCluster(files, uid, available, code)
        check = Preflight(choices_document(study.spec), where_of(available)) if preflight and not over else None
        profile = _profile(study, store, memory_of(available), code, check, files.checkpoints)
        with _usable(folder):
            loop = StudyLoop(study.metadata.name, uid, profile, cluster, store, time.time)
        yield Session(study, files, store, loop, available, resumed)


def _lock(stack: ExitStack, files: StudyFiles, folder: Path) -> None:
    try:
        stack.enter_context(processes.exclusive(files.lock))
    except processes.LockedError as locked:
        raise SessionError(
            f"{folder} is in use by another frostline command (process {locked}); wait for it, stop it, or give "
            "another --dir"
        ) from None


def read_folder(folder: Path) -> tuple[HPOStudy, SqliteStore, Observation]:
    """A study's folder for looking only; a command may be running it meanwhile.

    Raises:
        SessionError: there is no study in it.
    """
    files = StudyFiles(folder.resolve())
    if not files.database.exists():
        raise SessionError(f"there is no study in {folder}; give the --dir of a frostline run")
    with _usable(folder):
        store = SqliteStore(files.database)
        manifest, kept = store.fact("manifest"), store.fact("profile")
        if manifest is None or kept is None:
            store.close()
            _not_emptied(files, folder, manifest)
            raise SessionError(f"the study in {folder} was not begun; run it first")
        study = validate_study(json.loads(manifest), str(folder))
        profile = ModelProfile.model_validate_json(kept)
        observation = Observation(study.metadata.name, study.spec, profile, (), store.load(), time.time())
        return study, store, observation


@contextmanager
def _usable(folder: Path) -> Iterator[None]:
    """What goes wrong with a study's folder within, as a `SessionError` with a remedy."""
    damaged = f"the state in {folder} is damaged: put back a copy of study.sqlite3, or give another --dir"
    try:
        yield
    except sqlite3.OperationalError as error:
        full = "full" in str(error) or "I/O error" in str(error)
        remedy = "make room on its disk; the same command continues" if full else "is its disk writable?"
        raise SessionError(f"the state in {folder} cannot be kept ({error}); {remedy}") from error
    except sqlite3.DatabaseError as error:
        raise SessionError(f"{damaged} ({error})") from error
    except (pydantic.ValidationError, json.JSONDecodeError) as error:
        raise SessionError(f"{damaged} ({type(error).__name__})") from error
    except (FileExistsError, NotADirectoryError) as error:
        raise SessionError(f"--dir {folder}: {error.filename} is a file, not a folder; give another --dir") from error
    except OSError as error:
        remedy = "make room on its disk, or give another --dir" if error.errno == errno.ENOSPC else "give another --dir"
        raise SessionError(f"--dir {folder}: {error.strerror or error}; {remedy}") from error


def _not_emptied(files: StudyFiles, folder: Path, manifest: str | None) -> None:
    """Refuse a database without a study beside runs of one: it was cut short or replaced."""
    if manifest is None and files.runs.is_dir() and any(files.runs.iterdir()):
        raise SessionError(
            f"the state in {folder} is gone, though it holds runs: study.sqlite3 was emptied or replaced; put back a "
            "copy of it, or give another --dir"
        )


def _claim(study: HPOStudy, store: SqliteStore, files: StudyFiles, folder: Path) -> bool:
    """Tie the folder to the study, or make sure that it is the same study; whether it goes on with what was there.

    Without results there is nothing to mix: a changed study begins anew, and so does one that failed for good, since
    what it lacked may be there by now.
    """
    document = study.model_dump(mode="json", by_alias=True, exclude_unset=True)
    manifest = store.fact("manifest")
    _not_emptied(files, folder, manifest)
    if manifest is not None:
        before = HPOStudy.model_validate_json(manifest)
        renamed = ["metadata.name"] if before.metadata.name != study.metadata.name else []
        changed = renamed + changed_sections(fixed_part(before.spec), study.spec)
        state = store.load()
        failed = state.finished is not None and state.finished.reason == "Failed"
        if (changed or failed) and not at_stake(state):
            _begin_anew(store, files)
            manifest = None
        elif changed:
            raise SessionError(
                f"{folder} holds the study {before.metadata.name!r}, which differs in "
                f"{', '.join(changed)}; results of different studies cannot be mixed. Give another --dir, or undo the "
                "change"
            )
    store.set_fact("manifest", json.dumps(document))
    if store.fact("uid") is None:
        store.set_fact("uid", str(uuid.uuid4()))
    return manifest is not None


def _begin_anew(store: SqliteStore, files: StudyFiles) -> None:
    """Remove all that a study without results left: its runs, those still alive included, and its checkpoints."""
    for folder in files.runs.iterdir() if files.runs.is_dir() else ():
        processes.kill(RunFiles(folder))
    shutil.rmtree(files.runs, ignore_errors=True)
    shutil.rmtree(files.checkpoints, ignore_errors=True)
    store.clear()


def _profile(
    study: HPOStudy, store: SqliteStore, memory: Memory, code: Path, preflight: Preflight | None, checkpoints: Path
) -> ModelProfile:
    """Computed once and kept; the preflight is made each time, since files come and go."""
    document = profile_document(study.spec)
    kept = store.fact("profile")
    if kept is not None and store.fact("profiledFor") == f"{memory} {document}":
        if preflight is not None:
            check_study(preflight, code, checkpoints)
        return ModelProfile.model_validate_json(kept)
    profile = profile_model(document, memory, code, preflight)
    store.set_fact("profile", profile.model_dump_json(by_alias=True))
    store.set_fact("profiledFor", f"{memory} {document}")
    return profile
