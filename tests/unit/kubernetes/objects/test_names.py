"""Whose an object is."""

from typing import Any

import pytest

from frostline_operator.kubernetes.objects import names

STUDY = names.owner("s", "uid-1")


def item(*owners: dict[str, Any], namespace: str = "space") -> dict[str, Any]:
    return {"metadata": {"name": "x", "namespace": namespace, "labels": names.labels("s", "uid-1", "trainer"),
                         "ownerReferences": list(owners)}}  # fmt: skip


def test_an_object_is_the_studys_that_controls_it_in_its_namespace() -> None:
    assert names.is_of_study(item(STUDY), "space", "uid-1")


@pytest.mark.parametrize(
    "other",
    [
        item(),
        item(STUDY, namespace="elsewhere"),
        item({**STUDY, "uid": "uid-2"}),
        item({**STUDY, "kind": "Job"}),
        item({**STUDY, "controller": False}),
        item({key: value for key, value in STUDY.items() if key != "controller"}),
        {"metadata": {"name": "x", "namespace": "space", "labels": names.labels("s", "uid-1", "trainer")}},
        {"metadata": {"name": "x", "namespace": "space", "ownerReferences": None}},
    ],
)
def test_labels_and_owners_that_do_not_control_say_nothing(other: dict[str, Any]) -> None:
    assert not names.is_of_study(other, "space", "uid-1")


def test_of_several_owners_the_one_that_controls_counts() -> None:
    owners = ({"kind": "Queue", "name": "q", "uid": "u"}, STUDY)
    assert names.controller(item(*owners)) == names.Controller("HPOStudy", "s", "uid-1")
    assert names.controller(item()) is None
