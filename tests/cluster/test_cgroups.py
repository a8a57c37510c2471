"""The cgroups of a cluster that is left over."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from frostcluster import cgroups


def test_another_process_may_clean_up_after_the_same_cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "cgroup.controllers").touch()
    (tmp_path / "left" / "gpu-large" / "kubepods").mkdir(parents=True)
    walk, walks = Path.rglob, []

    def rglob(self: Path, pattern: str) -> Iterator[Path]:
        walks.append(self)
        if len(walks) == 1:  # what the walk is about to look into is gone by then
            raise FileNotFoundError(self / "gpu-large")
        return walk(self, pattern)

    monkeypatch.setattr(cgroups, "_ROOT", tmp_path)
    monkeypatch.setattr(Path, "rglob", rglob)
    cgroups.remove("left")
    assert cgroups.find("left") == [] and len(walks) > 1
