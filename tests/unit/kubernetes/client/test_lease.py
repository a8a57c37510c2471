"""Of several operators one holds the Lease, by a clock of its own, and nothing is written without it."""

import json
import threading
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from kubernetes import client as official

from frostline_operator.kubernetes.client.api import CONFIG_MAPS, LEASES, Api, ApiError
from frostline_operator.kubernetes.client.lease import Lease
from frostline_operator.kubernetes.settings import LeaseSettings, load_settings
from tests.unit.kubernetes.fakes import FakeApi

SETTINGS = LeaseSettings(name="one", namespace="here", seconds=10)


class Clock:
    """Seconds as a test wants them; each machine may have its own."""

    def __init__(self, start: float = 0.0) -> None:
        self.at = start

    def __call__(self) -> float:
        return self.at


def lease(api: FakeApi, holder: str, clock: Clock) -> Lease:
    return Lease(api, SETTINGS, holder, clock)  # type: ignore[arg-type]


def test_the_first_takes_it_and_the_second_stands_by() -> None:
    api, clock = FakeApi(), Clock()
    first, second = lease(api, "a", clock), lease(api, "b", clock)
    assert first.take() and not second.take()
    assert first.held and not second.held
    assert second.other == "a"


def test_one_that_died_is_followed_after_the_leases_length_by_the_successors_own_clock() -> None:
    api, dead, clock = FakeApi(), Clock(1e9), Clock(5.0)
    assert lease(api, "a", dead).take()
    second = lease(api, "b", clock)
    assert not second.take()
    clock.at += 10.0
    assert not second.take()
    clock.at += 0.1
    assert second.take()
    assert api.get(LEASES, "here", "one")["spec"]["leaseTransitions"] == 1  # type: ignore[index]


def test_one_that_renews_is_never_followed() -> None:
    api, clock = FakeApi(), Clock()
    first, second = lease(api, "a", clock), lease(api, "b", clock)
    for _ in range(50):
        assert first.take()
        clock.at += 3.0
        assert not second.take()


def test_one_that_lets_go_is_followed_at_once() -> None:
    api, clock = FakeApi(), Clock()
    first, second = lease(api, "a", clock), lease(api, "b", clock)
    assert first.take() and not second.take()
    first.release()
    assert not first.held
    assert second.take()
    assert not first.take()  # also not by a renewal that was under way


def test_the_same_holder_goes_on_with_it() -> None:
    api, clock = FakeApi(), Clock()
    assert lease(api, "pod-1", clock).take()
    assert lease(api, "pod-1", clock).take()


def test_nothing_is_written_once_a_renewal_is_too_old_to_rely_on() -> None:
    api, clock = FakeApi(), Clock()
    first = lease(api, "a", clock)
    with pytest.raises(ApiError, match="is not held at the moment; nothing is written"):
        first.check()
    first.take()
    clock.at += 6.9
    first.check()
    clock.at += 0.2
    with pytest.raises(ApiError) as refused:
        first.check()
    assert refused.value.passing


def test_a_client_asks_before_each_write_and_sends_nothing_that_is_refused() -> None:
    api = Api(official.ApiClient(official.Configuration(host="http://127.0.0.1:9")))
    held = lease(FakeApi(), "a", Clock())
    api.guard = held.check
    with pytest.raises(ApiError, match="nothing is written"):
        api.create(CONFIG_MAPS, "here", {"metadata": {"name": "x"}})
    with pytest.raises(ApiError, match="does not answer"):  # reading needs no lease
        api.get(CONFIG_MAPS, "here", "x")


@given(st.lists(st.tuples(st.integers(0, 2), st.floats(0, 12), st.sampled_from(["take", "pass", "release"]))))
def test_two_never_hold_it_at_once(steps: list[tuple[int, float, str]]) -> None:
    api, clock = FakeApi(), Clock()
    all_of_them = [lease(api, name, clock) for name in "abc"]
    for who, seconds, what in steps:
        clock.at += seconds
        if what == "take":
            all_of_them[who].take()
        elif what == "release":
            all_of_them[who].release()
        assert sum(each.held for each in all_of_them) <= 1


def test_it_is_waited_for_until_told_to_stop() -> None:
    api, clock = FakeApi(), Clock()
    lease(api, "a", clock).take()
    told = threading.Event()
    threading.Timer(0.1, told.set).start()
    quick = Lease(api, SETTINGS.model_copy(update={"seconds": 3}), "b", clock)  # type: ignore[arg-type]
    assert quick.wait(told.is_set) is False


def test_settings_without_a_lease_have_none_and_names_are_checked(tmp_path: Path) -> None:
    assert load_settings(None).lease is None
    file = tmp_path / "settings.yaml"
    file.write_text(json.dumps({"lease": {"seconds": 1}}))
    with pytest.raises(ValueError, match=r"lease\.seconds"):
        load_settings(file)
