"""Whose winner is exported, and where its checkpoint is looked for."""

from __future__ import annotations

from pathlib import Path
from typing import cast

import pytest

from frostline_operator.cli.export import checkpoint_root
from frostline_operator.cli.winner import Winner, read_cluster_winner
from frostline_operator.kubernetes.client.api import STUDIES, Api
from frostline_operator.kubernetes.client.errors import NotReadableError
from frostline_operator.kubernetes.journal import Journal
from frostline_operator.local.session import SessionError
from tests.unit.engine.world import PROFILE, World, study
from tests.unit.kubernetes.fakes import FakeApi
from tests.unit.kubernetes.studies import STUDY


def api(begun: bool = True) -> tuple[FakeApi, World]:
    """A server with a study whose journal has what the engine made of it."""
    server, spec = FakeApi(), study()
    document = spec.model_dump(mode="json", by_alias=True, exclude_defaults=True, exclude_none=True)
    metadata = {"name": STUDY.name, "namespace": STUDY.namespace, "uid": STUDY.uid}
    server.put(
        STUDIES,
        {"apiVersion": "hpo.frostline.dev/v1alpha1", "kind": "HPOStudy", "metadata": metadata, "spec": document},
    )
    world = World(spec, 3)
    world.play()
    if begun:
        journal = Journal(cast(Api, server), STUDY)
        journal.load()
        journal.set_fact("profile", PROFILE.model_dump(mode="json", by_alias=True))
        journal.save(world.state)
    return server, world


def read(server: FakeApi, where: str = f"{STUDY.namespace}/{STUDY.name}") -> Winner:
    return read_cluster_winner(cast(Api, server), where)


def test_the_winner_of_a_cluster_study_is_its_best_with_uid_and_checkpoint() -> None:
    server, world = api()
    winner = read(server)
    top = {t.index: t.results[-1].value for t in world.state.trials.values() if t.outcome == "Completed"}
    assert winner.trial.index == min(top, key=lambda index: cast(float, top[index]))
    assert winner.result.value == top[winner.trial.index]
    assert (winner.uid, winner.trial.checkpoint is not None) == (STUDY.uid, True)


@pytest.mark.parametrize("form", ["operator", "own", "url"])
def test_its_checkpoint_is_found_below_the_operators_folder_the_studys_own_or_a_url(form: str, tmp_path: Path) -> None:
    winner = read(api()[0])
    assert winner.trial.checkpoint is not None
    own = tmp_path / STUDY.namespace / f"{STUDY.name}-{STUDY.uid[:8]}"
    (own / winner.trial.checkpoint.path).mkdir(parents=True)
    given = {"operator": str(tmp_path), "own": str(own), "url": "s3://bucket/x/"}[form]
    expected = f"s3://bucket/x/{own.relative_to(tmp_path)}" if form == "url" else str(own)
    assert checkpoint_root(winner, given) == expected


def test_checkpoints_that_this_machine_does_not_have_are_said_with_the_remedy(tmp_path: Path) -> None:
    winner = read(api()[0])
    with pytest.raises(SessionError, match=r"no /checkpoints/space/s-01234567/.*; give --checkpoints"):
        checkpoint_root(winner, None)
    with pytest.raises(SessionError, match=r"there is no space/s-01234567/"):
        checkpoint_root(winner, str(tmp_path))


def test_a_study_that_is_not_there_or_has_not_begun_is_no_winner() -> None:
    server, _ = api(begun=False)
    with pytest.raises(NotReadableError, match="there is no study none"):
        read(server, "space/none")
    with pytest.raises(NotReadableError, match="has not begun"):
        read(server)
