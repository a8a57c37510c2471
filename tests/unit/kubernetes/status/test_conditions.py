"""Conditions keep the time of their last change."""

from frostline_operator.kubernetes.status.conditions import Conditions


def test_conditions_keep_the_time_of_their_last_change() -> None:
    conditions = Conditions([], 1)
    assert conditions.set("Progressing", True, "Running", "one", 1e9)
    assert not conditions.set("Progressing", True, "Running", "two", 1e9 + 60)
    [kept] = conditions.listed()
    assert (kept["message"], kept["lastTransitionTime"]) == ("two", "2001-09-09T01:46:40Z")
    later = Conditions(conditions.listed(), 2)
    assert later.set("Progressing", False, "Suspended", "three", 1e9 + 120)
    [changed] = later.listed()
    assert (changed["lastTransitionTime"], changed["observedGeneration"]) == ("2001-09-09T01:48:40Z", 2)
    assert not later.clear("NeverSaid", "x", "x", 1e9)
    assert later.holds("Progressing") is False
