"""The journal: what is read back is what was saved, whenever the writing stopped."""

import base64
import copy
import gzip
import json
import math
import random
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytest

from frostline_operator.engine.budget import charged
from frostline_operator.engine.reconcile import Sample
from frostline_operator.engine.state import Amounts, RunState, StudyState
from frostline_operator.kubernetes import journal as journal_module
from frostline_operator.kubernetes.client.api import Api, ApiError
from frostline_operator.kubernetes.journal import Journal, JournalError, StaleError, condensed, record_of, records_of
from frostline_operator.kubernetes.objects.jobs import StudyRef
from frostline_operator.kubernetes.status.events import Recorder
from frostline_operator.kubernetes.store import KubernetesStore
from frostline_operator.scores.curves import POINTS, samples_of
from tests.unit.engine.world import Trouble, World, study
from tests.unit.kubernetes.fakes import FakeApi

STUDY_LABEL = "hpo.frostline.dev/study"
STUDY = StudyRef("space", "s", "01234567-89ab-cdef", {})


def make(api: FakeApi) -> Journal:
    return Journal(cast(Api, api), STUDY)


def same(a: StudyState, b: StudyState) -> bool:
    """Equal, the order of trials and runs included: names and attempts are counted by it."""
    return (
        list(a.trials.items()) == list(b.trials.items())
        and list(a.runs.items()) == list(b.runs.items())
        and (a.started_at, a.finished, a.disagreements) == (b.started_at, b.finished, b.disagreements)
    )


def drive(seed: int, api: FakeApi, reload_each: int = 0, sampler: str = "Random") -> tuple[StudyState, World]:
    """A whole study in the engine's test world, saved at every step and read again every so often."""
    search = {"algorithm": "ASHA", "trials": 20, "parallelism": 4, "sampler": sampler}
    spec = study(search=search, parameters=[
        {"name": "lr", "type": "Float", "min": 1e-4, "max": 1e-1, "scale": "Log"},
        {"name": "batchSize", "type": "Categorical", "values": [5, 10]},
        {"name": "nesterov", "type": "Categorical", "values": [True, False], "bind": "training.optimizer.nesterov"},
        {"name": "optimizer", "type": "Constant", "value": "SGD", "bind": "training.optimizer.name"},
    ])  # fmt: skip
    world = World(spec, seed, Trouble(lost=0.2, stopped=0.2, diverging=frozenset({3}), unseen=0.5))
    kept = make(api)
    kept.load()
    for step in range(2000):
        world.tick()
        kept.save(world.state)
        if reload_each and step % reload_each == 0:
            kept = make(api)
            loaded = kept.load()
            assert same(loaded, world.state)
            world.state = loaded
        if world.state.finished and not world.state.active_runs and not world.state.awaiting_runs:
            break
        if world.state.awaiting_runs and step % 2:
            world.show_some()
            world.state.disagreements += 1
            kept.save(world.state)
        elif world.state.active_runs:
            world.end_one()
            kept.save(world.state)
    assert world.state.finished is not None
    return world.state, world


@pytest.mark.parametrize("seed", range(5))
def test_what_is_read_back_is_what_was_saved(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(journal_module, "CHUNK_BYTES", 4000)
    api = FakeApi()
    state, _ = drive(seed, api, reload_each=3)
    assert same(make(api).load(), state)
    chunks, _ = api.list(journal_module.CONFIG_MAPS, "space")
    assert len(chunks) > 3
    assert all(chunk["metadata"]["ownerReferences"][0]["uid"] == STUDY.uid for chunk in chunks)


@pytest.mark.parametrize("sampler", ["Random", "Model"])
def test_a_study_that_is_read_again_all_the_time_ends_like_one_that_is_not(sampler: str) -> None:
    calm, _ = drive(7, FakeApi(), sampler=sampler)
    restless, _ = drive(7, FakeApi(), reload_each=1, sampler=sampler)
    assert same(calm, restless)


def test_nothing_changed_nothing_written() -> None:
    api = FakeApi()
    state, _ = drive(1, api)
    kept = make(api)
    again = kept.load()
    written = len(api.writes)
    kept.save(again)
    kept.set_fact("spec", {"a": 1})
    kept.set_fact("spec", {"a": 1})
    assert len(api.writes) == written + 1
    assert make(api).load() is not state and kept.fact("spec") == {"a": 1}


def test_a_write_that_fails_leaves_the_last_state_and_may_be_repeated() -> None:
    api = FakeApi()
    kept = make(api)
    state = kept.load()
    state.started_at = 5.0
    kept.save(state)
    state.started_at = 6.0
    api.fail = ApiError(0, "Unreachable", "no answer")
    with pytest.raises(ApiError):
        kept.save(state)
    assert make(api).load().started_at == 5.0
    kept.save(state)
    assert make(api).load().started_at == 6.0


def test_two_writers_find_out() -> None:
    api = FakeApi()
    first, second = make(api), make(api)
    for kept in (first, second):
        kept.load()
    state = StudyState(started_at=1.0)
    first.save(state)
    with pytest.raises(StaleError):
        second.save(StudyState(started_at=2.0))
    second.load()
    first.set_fact("x", 1)
    with pytest.raises(StaleError):
        second.set_fact("y", 1)
    assert make(api).load().started_at == 1.0


def test_condensed_records_come_to_the_same_and_are_small() -> None:
    api = FakeApi()
    state, _ = drive(2, api)
    chunks, _ = api.list(journal_module.CONFIG_MAPS, "space")
    records = [record for chunk in chunks for record in journal_module.records_of(chunk)]
    [one] = condensed(records)
    assert len(one["trials"]) == len(state.trials) and len(one["runs"]) == len(state.runs)
    assert [run["name"] for run in one["runs"]] == list(state.runs)


def test_the_size_of_a_long_study(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two thousand trials take less than half a megabyte in all, no object of it more than the chunk's size."""
    api = FakeApi()
    kept = make(api)
    base, _ = drive(3, FakeApi())
    rng = random.Random(1)
    state = kept.load()
    trial, run = next(iter(base.trials.values())), next(iter(base.runs.values()))
    for index in range(2000):
        for _ in range(3):
            assignment = {**trial.assignment, "lr": rng.random()}
            state.trials[index] = replace(trial, index=index, name=f"s-{index:04d}", assignment=assignment)
            name = f"s-b0-r0-{index:03d}"
            state.runs[name] = replace(run, name=name, trials=(index,), seconds=rng.random())
            kept.save(state)
    chunks, _ = api.list(journal_module.CONFIG_MAPS, "space")
    sizes = [size_of(chunk) for chunk in chunks]
    assert max(sizes) < journal_module.CHUNK_BYTES + 2000
    assert sum(sizes) < 800_000
    assert same(make(api).load(), state)


def size_of(chunk: dict[str, Any]) -> int:
    return sum(len(v) for part in ("data", "binaryData") for v in (chunk.get(part) or {}).values())


def chunk(number: int) -> str:
    return f"s-01234567-journal-{number}"


def written(api: FakeApi, monkeypatch: pytest.MonkeyPatch) -> StudyState:
    """A study whose journal has several chunks."""
    monkeypatch.setattr(journal_module, "CHUNK_BYTES", 4000)
    state, _ = drive(1, api)
    assert len(api.list(journal_module.CONFIG_MAPS, "space")[0]) > 3
    return state


@pytest.mark.parametrize("number", [0, 1, 2])
def test_a_chunk_that_is_missing_is_named_and_nothing_is_begun_anew(
    number: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    api = FakeApi()
    written(api, monkeypatch)
    api.delete(journal_module.CONFIG_MAPS, "space", chunk(number))
    with pytest.raises(JournalError, match=f"{chunk(number)} is missing; restore it"):
        make(api).load()


def test_a_journal_of_which_nothing_is_left_is_not_that_of_a_new_study() -> None:
    api = FakeApi()
    assert make(api).load() == StudyState()
    with pytest.raises(JournalError, match="all of its ConfigMaps are missing"):
        Journal(cast(Api, api), STUDY, begun=True).load()
    journal = make(api)
    journal.set_fact("profile", 1)
    api.delete(journal_module.CONFIG_MAPS, "space", chunk(0))
    with pytest.raises(JournalError, match="all of its ConfigMaps are missing"):
        journal.load()


BOMB = base64.b64encode(gzip.compress(b"[" + b" " * 2**28 + b"]")).decode()


@pytest.mark.parametrize(
    "body",
    [
        {"data": {"000000": "{"}},
        {"data": {"000000": "[" * 100_000}},
        {"data": {"000000": '"text"'}},
        {"data": {"000000": '{"trials": [{"index": "x"}]}'}},
        {"data": {"000000": '{"runs": [{"name": "r", "state": "OfANewerRelease"}]}'}},
        {"data": None, "binaryData": {"records.json.gz": BOMB}},
        {"data": None, "binaryData": {"records.json.gz": "bm90IGd6aXA="}},
        {"data": None, "binaryData": {"records.json.gz": BOMB[:1000]}},
        {"data": None, "binaryData": {"records.json.gz": "not base64"}},
    ],
    ids=["cut", "nested", "text", "trial", "state", "bomb", "no-gzip", "cut-gzip", "no-base64"],
)
def test_a_chunk_that_cannot_be_read_is_named(body: dict[str, Any]) -> None:
    api = FakeApi()
    make(api).set_fact("profile", 1)
    api.patch(journal_module.CONFIG_MAPS, "space", chunk(0), body)
    with pytest.raises(JournalError, match=f"{chunk(0)} cannot be read"):
        make(api).load()


def test_a_chunk_without_a_format_is_of_the_first_and_one_of_a_newer_release_is_left_to_it() -> None:
    api = FakeApi()
    make(api).set_fact("profile", 1)
    label = f"{STUDY_LABEL}-journal-format"
    assert api.items[("configmaps", "space", chunk(0))]["metadata"]["labels"][label] == "1"
    api.patch(journal_module.CONFIG_MAPS, "space", chunk(0), {"metadata": {"labels": {label: None}}})
    journal = make(api)
    journal.load()
    assert journal.fact("profile") == 1
    api.patch(journal_module.CONFIG_MAPS, "space", chunk(0), {"metadata": {"labels": {label: "2"}}})
    with pytest.raises(JournalError, match="has format 2, this operator reads 1; run the release that wrote it"):
        make(api).load()


def test_a_journal_of_an_earlier_release_is_read_as_it_was_written() -> None:
    api = FakeApi()
    folder = Path(__file__).parent / "journals"
    for item in json.loads((folder / "format-1-without-label.json").read_text()):
        api.put(journal_module.CONFIG_MAPS, item)
    state = make(api).load()
    assert (len(state.trials), len(state.runs), state.disagreements) == (20, 60, 41)
    assert state.finished is not None and state.finished.best == 19
    best = state.trials[19]
    assert (best.results[-1].value, best.results[-1].source) == (0.2439493811122351, "Prometheus")
    assert charged(state) == Amounts(tokens=14400, gpu_seconds=1816.2471199054603, cost=0.0)


def test_what_a_newer_release_has_written_besides_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    api = FakeApi()
    world = World(study())
    world.tick()
    make(api).save(world.state)
    item = api.items[("configmaps", "space", chunk(0))]
    record = json.loads(item["data"]["000000"])
    record["trials"][0]["colour"] = "red"
    record["runs"][0]["weight"] = [1, 2]
    record["newPart"] = {"a": 1}
    api.patch(journal_module.CONFIG_MAPS, "space", chunk(0), {"data": {"000000": json.dumps(record)}})
    journal = make(api)
    state = journal.load()
    state.update_trial(0, rung=1)
    state.update_run(record["runs"][0]["name"], message="changed")
    monkeypatch.setattr(journal_module, "CHUNK_BYTES", 0)  # so that the first chunk is squeezed by the write
    journal.save(state)
    chunks = api.list(journal_module.CONFIG_MAPS, "space")[0]
    first, second = [*map(records_of, sorted(chunks, key=lambda c: str(c["metadata"]["name"])))]
    assert first[0]["newPart"] == {"a": 1} and first[0]["trials"][0]["colour"] == "red"
    assert (second[0]["trials"][0]["colour"], second[0]["trials"][0]["rung"]) == ("red", 1)
    assert second[0]["runs"][0]["weight"] == [1, 2]
    assert same(make(api).load(), state)


def test_somebody_elses_configmap_with_the_journals_labels_is_no_part_of_it() -> None:
    api = FakeApi()
    make(api).set_fact("profile", 1)
    forged = copy.deepcopy(api.items[("configmaps", "space", chunk(0))])
    forged["metadata"] |= {"name": "forged", "ownerReferences": []}
    forged["metadata"]["labels"][f"{STUDY_LABEL}-journal"] = "1"
    forged["data"] = {"000000": '{"facts": {"profile": 2}}'}
    api.put(journal_module.CONFIG_MAPS, forged)
    journal = make(api)
    journal.load()
    assert journal.fact("profile") == 1


def many(count: int) -> StudyState:
    """A study that begins with all of its trials at once."""
    world = World(study())
    world.tick()
    first = world.state.trials[0]
    trials = {i: replace(first, index=i, name=f"s-{i:06d}") for i in range(count)}
    return replace(world.state, trials=trials)


def limited(api: FakeApi) -> None:
    """As the API server does, refuse ConfigMaps of more than a MiB."""
    store = api._store

    def refuse(key: Any, item: dict[str, Any]) -> Any:
        if sum(map(len, (item.get("data") or {}).values())) > 2**20:
            raise ApiError(422, "Invalid", "Too long: may not be more than 1048576 bytes")
        return store(key, item)

    api._store = refuse  # type: ignore[method-assign]


def test_a_study_that_begins_with_ever_so_many_trials_is_written_in_parts() -> None:
    api = FakeApi()
    limited(api)
    state = many(12_000)
    make(api).save(state)
    assert same(make(api).load(), state)


def ended(world: World) -> dict[tuple[int, int], float | None]:
    """What came of a study that is driven to its end: values by trial and rung."""
    while world.state.finished is None or world.state.active_runs:
        world.tick()
        if world.state.active_runs:
            world.end_one()
    return {(t.index, result.rung): result.value for t in world.state.trials.values() for result in t.results}


@pytest.mark.parametrize("written_parts", [1, 2, 3])
def test_a_writer_who_dies_between_two_parts_leaves_a_state_that_ends_as_if_nothing_had_happened(
    written_parts: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(journal_module, "CHUNK_BYTES", 1000)
    spec = study(search={"algorithm": "SuccessiveHalving", "trials": 60, "parallelism": 4})
    world, api = World(spec), FakeApi()
    world.tick()
    journal = make(api)

    def die(verb: str, resource: Any, body: dict[str, Any]) -> None:
        if sum(1 for done, _, _ in api.writes if done == "create") > written_parts:
            raise ApiError(0, "Unreachable", "the API server does not answer")

    api.refuse = die
    with pytest.raises(ApiError):
        journal.save(world.state)
    api.refuse = lambda verb, resource, body: None

    left = make(api).load()
    assert 0 < len(left.trials) < 60 and left.runs == {}
    restarted = World(spec)
    restarted.state = left
    assert ended(restarted) == ended(World(spec))

    # The writer himself, once the API server is back, writes what is missing
    journal.save(world.state)
    assert same(make(api).load(), world.state)


def test_changes_are_told_by_identity() -> None:
    state, _ = drive(4, FakeApi())
    after = state.copy()
    assert record_of(after.since(state)) == {}
    index = next(iter(after.trials))
    after.update_trial(index, outcome="Stopped")
    assert [t["index"] for t in record_of(after.since(state))["trials"]] == [index]


def test_learning_curves_are_kept_thin_and_only_for_reports() -> None:
    api, world = FakeApi(), World(study(), 3)
    kept, recorder = make(api), Recorder(cast(Api, api), STUDY)
    store = KubernetesStore(kept, recorder)
    store.load()
    for _ in range(500):
        world.tick()
        for run in world.state.active_runs:
            names = [world.state.trials[index].name for index in run.trials]
            store.add_samples(
                run.name,
                [Sample(n, run.rung, step, 1 / step if step > 1 else math.nan) for n in names for step in range(1, 99)],
            )
        store.save(world.state)
        if not world.state.active_runs:
            break
        world.end_one()
    reader = make(api)
    state = reader.load(with_curves=True)
    assert reader.curves is not None and set(reader.curves) == set(state.runs)
    for name, run in state.runs.items():
        found = samples_of(run, state, reader.curves[name])
        for index in run.trials:
            own = [s for s in found if s.trial == state.trials[index].name]
            assert [own[0].tokens, own[-2].tokens] == [1, 98] and math.isnan(own[0].objective)
            result = state.trials[index].result_at(run.rung)
            assert result is not None and (own[-1].tokens, own[-1].objective) == (result.tokens, result.value)
            assert len(own) == POINTS + 1
    operator = make(api)
    operator.load()
    assert operator.curves is None


def test_a_run_that_nobody_watched_still_shows_where_it_came_out() -> None:
    api = FakeApi()
    _, world = drive(4, api)
    state = world.state
    done = next(run for run in state.runs.values() if run.state is RunState.SUCCEEDED)
    assert [s.tokens for s in samples_of(done, state, {})] == [
        r.tokens for i in done.trials if (r := state.trials[i].result_at(done.rung)) and r.value is not None
    ]
