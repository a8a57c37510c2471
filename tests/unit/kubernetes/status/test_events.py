"""Events on a study: not again and again, and never a failure of anything else."""

from typing import cast

from frostline_operator.kubernetes.client.api import EVENTS, Api, ApiError
from frostline_operator.kubernetes.objects.jobs import StudyRef
from frostline_operator.kubernetes.status.events import Recorder
from tests.unit.kubernetes.fakes import FakeApi

STUDY = StudyRef("space", "s", "01234567-89ab", {})


def test_events_are_not_said_again_and_never_fail() -> None:
    api = FakeApi()
    recorder = Recorder(cast(Api, api), STUDY)
    recorder.say("RunLost", "x: no record")
    recorder.say("RunLost", "x: no record")
    [event] = api.list(EVENTS, "space")[0]
    assert (event["type"], event["involvedObject"]["uid"]) == ("Warning", STUDY.uid)
    api.fail = ApiError(403, "Forbidden", "no")
    recorder.say("Finish", "done")
    for number in range(100):
        recorder.say("Other", str(number))
    assert len(api.list(EVENTS, "space")[0]) <= 30
