"""Checkpoints are removed by Jobs, in batches, and nothing ever waits for a Job that cannot run."""

import json
from typing import Any, cast

from frostline_operator.api.study import PodTemplate
from frostline_operator.kubernetes.caches import Caches
from frostline_operator.kubernetes.cleanup import Sweeper
from frostline_operator.kubernetes.client.api import JOBS, Api
from frostline_operator.kubernetes.objects.jobs import StudyRef
from frostline_operator.kubernetes.settings import OperatorSettings
from frostline_operator.kubernetes.status.events import Recorder
from tests.unit.kubernetes.fakes import FakeApi

STUDY = StudyRef("space", "s", "01234567-89ab", {"kueue.x-k8s.io/queue-name": "gpus"})
FOLDERS = [f"s-{trial:04d}/rung-0-000" for trial in range(40)]
NO_TEMPLATE = PodTemplate()


def make(api: FakeApi, **settings: Any) -> Sweeper:
    caches = Caches(cast(Api, api), [], lambda uid: None)  # never started: what it lacks is asked for
    return Sweeper(cast(Api, api), caches, STUDY, OperatorSettings(**settings), Recorder(cast(Api, api), STUDY))


def job(api: FakeApi) -> dict[str, Any]:
    [found] = api.list(JOBS, "space")[0]
    return found


def end(api: FakeApi, how: str) -> None:
    name = job(api)["metadata"]["name"]
    api.patch(JOBS, "space", name, {"status": {"conditions": [{"type": how, "status": "True"}]}})


def asked(made: dict[str, Any]) -> list[str]:
    command: list[str] = made["spec"]["template"]["spec"]["containers"][0]["command"]
    return command[command.index("clean") :]


def test_a_batch_goes_at_a_time_and_the_rest_at_the_end() -> None:
    api = FakeApi()
    sweeper = make(api)
    assert sweeper.sweep(FOLDERS[:31], False, NO_TEMPLATE, 0)
    assert api.list(JOBS, "space")[0] == []
    assert not sweeper.sweep(FOLDERS[:35], False, NO_TEMPLATE, 1)
    made = job(api)
    where, only = asked(made)[1], json.loads(asked(made)[-1])
    assert (where, only) == ("/checkpoints/space/s-01234567", FOLDERS[:35])
    assert "suspend" not in made["spec"], "what frees space waits in no queue"
    assert not sweeper.sweep(FOLDERS, False, NO_TEMPLATE, 2)
    end(api, "Complete")
    assert sweeper.sweep(FOLDERS, False, NO_TEMPLATE, 3)
    assert api.list(JOBS, "space")[0] == []
    assert not sweeper.sweep(FOLDERS, True, NO_TEMPLATE, 4)
    assert json.loads(asked(job(api))[-1]) == FOLDERS[35:]


def test_a_job_that_fails_is_told_of_and_tried_again_later() -> None:
    api = FakeApi()
    sweeper = make(api)
    sweeper.sweep(FOLDERS, True, NO_TEMPLATE, 0)
    end(api, "Failed")
    assert sweeper.sweep(FOLDERS, True, NO_TEMPLATE, 1)
    events = [item for (kind, _, _), item in api.items.items() if kind == "events"]
    assert [event["reason"] for event in events] == ["CheckpointsLeft"]
    assert sweeper.sweep(FOLDERS, True, NO_TEMPLATE, 500)
    assert not sweeper.sweep(FOLDERS, True, NO_TEMPLATE, 700)


def test_deletion_waits_for_the_whole_folder_but_not_for_ever() -> None:
    api = FakeApi()
    sweeper = make(api, cleanup_seconds=60)
    assert not sweeper.remove_all(NO_TEMPLATE, 0)
    made = job(api)
    assert asked(made) == ["clean", "/checkpoints/space/s-01234567", "--study-uid", STUDY.uid]
    assert "ownerReferences" not in made["metadata"], "it outlives the study"
    assert not sweeper.remove_all(NO_TEMPLATE, 59)
    assert sweeper.remove_all(NO_TEMPLATE, 61)
    assert api.list(JOBS, "space")[0] == []


def test_nothing_is_removed_where_nothing_is_to_be() -> None:
    api = FakeApi()
    assert make(api, cleanup_seconds=0).sweep(FOLDERS, True, NO_TEMPLATE, 0)
    assert api.writes == []
