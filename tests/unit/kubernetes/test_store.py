"""A study's store on Kubernetes: what it keeps until a run is booked."""

from __future__ import annotations

from typing import cast

from frostline_operator.engine.reconcile import Sample
from frostline_operator.kubernetes.client.api import Api
from frostline_operator.kubernetes.journal import Journal
from frostline_operator.kubernetes.objects.jobs import StudyRef
from frostline_operator.kubernetes.status.events import Recorder
from frostline_operator.kubernetes.store import KubernetesStore
from tests.unit.kubernetes.fakes import FakeApi

STUDY = StudyRef("space", "s", "01234567-89ab", {})


def test_a_trainer_that_shows_values_without_end_fills_no_memory_and_its_first_and_last_stay() -> None:
    api = cast(Api, FakeApi())
    store = KubernetesStore(Journal(api, STUDY), Recorder(api, STUDY))
    for tokens in range(20_000):
        store.add_samples("r", [Sample(trial, 0, tokens, 1.0) for trial in ("a", "b")])
    kept = store.samples("r")
    assert len(kept) <= 4096 + 2
    for trial in ("a", "b"):
        tokens_of = [sample.tokens for sample in kept if sample.trial == trial]
        assert (tokens_of[0], tokens_of[-1]) == (0, 19_999)
