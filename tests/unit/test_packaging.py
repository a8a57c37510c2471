"""Each image carries its own side only: what the extras pull, and what the packages import."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from importlib.metadata import PackageNotFoundError, requires
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def pulled(extra: str) -> set[str]:
    """Every distribution that `pip install frostline[extra]` brings, by the metadata of what is installed here."""
    found: set[str] = set()
    todo = [Requirement(text) for text in [*PROJECT["dependencies"], *PROJECT["optional-dependencies"][extra]]]
    while todo:
        requirement = todo.pop()
        name = canonicalize_name(requirement.name)
        if name in found:
            continue
        found.add(name)
        try:
            needed = [Requirement(text) for text in requires(name) or []]
        except PackageNotFoundError:  # needed on another platform only
            continue
        extras = [*requirement.extras, ""]
        todo += [r for r in needed if r.marker is None or any(r.marker.evaluate({"extra": e}) for e in extras)]
    return found


def test_the_operators_extra_pulls_no_torch() -> None:
    assert {"kopf", "kubernetes", "scipy"} <= pulled("operator")
    assert not {"torch", "torchvision", "transformers", "triton", "plotly"} & pulled("operator")


def test_the_trainers_extra_pulls_nothing_of_kubernetes() -> None:
    assert {"torch", "torchvision", "transformers"} <= pulled("trainer")
    assert not {"kopf", "kubernetes", "plotly"} & pulled("trainer")


@pytest.mark.parametrize(
    ("module", "never"),
    [
        ("frostline_operator.cli.app", {"torch", "transformers"}),
        ("frostline_operator.engine.tick", {"torch", "kopf", "kubernetes", "httpx", "sqlite3"}),
        ("frostline_trainer.contract", {"torch", "numpy", "kopf", "kubernetes", "prometheus_client"}),
        ("frostline_trainer.run", {"kopf", "kubernetes", "frostline_operator", "typer", "plotly"}),
    ],
)
def test_importing_a_side_does_not_load_the_other_one(module: str, never: set[str]) -> None:
    script = f"import sys, {module}; print('\\n'.join(sys.modules))"
    loaded = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout.split()
    assert not never & set(loaded)


def test_every_dependency_is_pinned_and_no_registry_is_named() -> None:
    constraints = (ROOT / "constraints.txt").read_text(encoding="utf-8")
    pinned = {canonicalize_name(line.split("==")[0]) for line in constraints.splitlines() if "==" in line}
    direct = [text for texts in PROJECT["optional-dependencies"].values() for text in texts] + PROJECT["dependencies"]
    names = {canonicalize_name(Requirement(text).name) for text in direct} - {"frostline"}
    assert names <= pinned, names - pinned
    assert not re.search(r"https?://|--index|--extra|-f ", constraints)


def test_there_is_no_package_named_operator() -> None:
    assert not (ROOT / "operator" / "__init__.py").exists(), "it would hide the standard library's operator"
    assert not (ROOT / "trainer" / "__init__.py").exists()


def test_a_wheel_holds_every_module_and_every_template_and_building_it_warns_of_nothing(tmp_path: Path) -> None:
    for name in ("operator", "trainer"):
        shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, tmp_path / name)
    script = (
        "from setuptools import build_meta; print(build_meta.build_wheel('dist'), build_meta.build_editable('dist'))"
    )
    environment = {**os.environ, "PYTHONWARNINGS": installation_filter()}
    built = subprocess.run(
        [sys.executable, "-c", script], cwd=tmp_path, env=environment, capture_output=True, text=True, check=True
    )
    assert "Warning" not in built.stderr + built.stdout, built.stderr
    wheel = next(path for path in (tmp_path / "dist").glob("*.whl") if "editable" not in path.name)
    held = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}
    sources = {
        str(path.relative_to(tmp_path / side))
        for side in ("operator", "trainer")
        for path in (tmp_path / side).rglob("*")
        if path.is_file() and (path.suffix in (".py", ".j2") or path.name == "py.typed" or path.parent.name == "vendor")
    }
    assert sources == held


def installation_filter() -> str:
    """What the Makefile silences while it installs, and nothing else."""
    [found] = re.findall(r"PYTHONWARNINGS='([^']*)'", (ROOT / "Makefile").read_text(encoding="utf-8"))
    return str(found)
