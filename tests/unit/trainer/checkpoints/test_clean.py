"""Removing checkpoints: what is named, or a study's whole folder, and never anything else."""

from pathlib import Path

import pytest

from frostline_trainer.checkpoints.clean import clean, main
from frostline_trainer.contract import checkpoint_folder
from frostline_trainer.errors import StudyFault

UID = "01234567-89ab-cdef"


@pytest.fixture
def study(tmp_path: Path) -> Path:
    """Return a study's folder with three checkpoints, beside another study's."""
    folder = tmp_path / "space" / "s-01234567"
    for where in (folder / "s-0000" / "rung-0-000", folder / "s-0000" / "rung-1-000", folder / "s-0001" / "rung-0-000",
                  tmp_path / "space" / "s-76543210" / "s-0000" / "rung-0-000"):  # fmt: skip
        where.mkdir(parents=True)
        (where / "state.json").write_text("{}")
    return folder


def left(study: Path) -> set[str]:
    return {str(p.parent.relative_to(study.parent)) for p in study.parent.rglob("state.json")}


def test_named_checkpoints_go_and_others_stay(study: Path) -> None:
    gone = [checkpoint_folder("s-0000", 0, "s-b0-r0-000"), checkpoint_folder("s-0009", 0, "s-b0-r0-000")]
    assert clean(str(study), UID, gone) == 1
    assert left(study) == {
        "s-01234567/s-0000/rung-1-000", "s-01234567/s-0001/rung-0-000", "s-76543210/s-0000/rung-0-000",
    }  # fmt: skip
    assert clean(str(study), UID, gone) == 0


def test_a_study_goes_whole_and_its_neighbour_stays(study: Path) -> None:
    assert clean(f"file://{study}/", UID) == 1
    assert left(study) == {"s-76543210/s-0000/rung-0-000"}
    assert not study.exists()


def test_remote_stores_are_cleaned_alike() -> None:
    import fsspec

    memory = fsspec.filesystem("memory")
    for name in ("s-0000/rung-0-000", "s-0001/rung-0-000"):
        memory.pipe_file(f"/bucket/space/s-01234567/{name}/state.json", b"{}")
    assert clean("memory://bucket/space/s-01234567", UID, ["s-0000/rung-0-000"]) == 1
    assert memory.find("/bucket/space") == ["/bucket/space/s-01234567/s-0001/rung-0-000/state.json"]
    assert clean("memory://bucket/space/s-01234567", UID) == 1
    assert memory.find("/bucket/space") == []


@pytest.mark.parametrize(
    ("root", "uid", "only"),
    [
        ("/", UID, None),
        ("/s-01234567", UID, None),
        ("{0}/..", UID, None),
        ("{0}/../s-01234567", UID, None),
        ("{0}", "76543210-ffff", None),
        ("{0}", "", None),
        ("s3://s-01234567", UID, None),
        ("{0}", UID, [".."]),
        ("{0}", UID, ["s-0000"]),
        ("{0}", UID, ["s-0000/rung-0-000", "s-0001/../../s-76543210/s-0000/rung-0-000"]),
        ("{0}", UID, [""]),
        ("{0}", UID, ["/etc/rung-0-000"]),
    ],
)
def test_anything_else_is_refused_and_nothing_is_removed(
    study: Path, root: str, uid: str, only: list[str] | None
) -> None:
    before = left(study)
    with pytest.raises(StudyFault, match="nothing is removed"):
        clean(root.format(study), uid, only)
    assert left(study) == before


def test_the_command_line_says_what_is_wrong(study: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(str(study), UID, "not json") == 43
    assert main(str(study), UID, '["s-0001/rung-0-000"]') == 0
    assert '"removed": 1' in capsys.readouterr().out
