"""The measure of samplers: what its figures mean, and what it says where it cannot measure."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from benchmarks import samplers, surrogates
from benchmarks.continuous import Continuous
from benchmarks.samplers import figures, overall

from tests.unit.benchmarks.tables import PARAMETERS, table


def row(sampler: str, *trace: tuple[float, float]) -> dict[str, object]:
    return {"sampler": sampler, "trace": list(trace)}


def test_a_search_that_gets_there_in_a_third_of_the_cost_is_three_times_as_fast() -> None:
    rows = [row("Random", (1, 0.5), (10, 0.005)), row("Model", (1, 0.5), (4, 0.005))]
    found = figures(rows)
    assert found["cost"] == {"Random": [10], "Model": [4]}
    assert found["speedUp"]["12"] == pytest.approx(12 / 4, rel=0.06), "as finely as costs are spaced"
    assert found["logRegret"]["Model"] < found["logRegret"]["Random"]


def test_a_search_that_never_gets_there_has_no_cost_and_no_speed_up() -> None:
    found = figures([row("Random", (1, 0.001)), row("Model", (1, 0.5))])
    assert found["cost"]["Model"] == [None]
    assert np.isnan(found["speedUp"]["24"])
    whole = overall([found, found])
    assert whole["cost"]["Model"] is None and whole["reached"] == {"Random": 1.0, "Model": 0.0}
    assert whole["speedUp24"][0] == pytest.approx(0.5), "not left out, which would flatter Model"
    assert samplers.rounded(found)["speedUp"]["24"] is None, "no NaN in the file: it is no JSON"


def test_where_there_are_no_surrogates_it_says_so(tmp_path: Path) -> None:
    assert surrogates.missing(tmp_path) == f"no model.onnx in {tmp_path}"
    for name in ("model.onnx", "encoding.json", "config_space.json"):
        (tmp_path / name).write_text("{}")
    assert surrogates.missing(tmp_path) in (None, "onnxruntime is not installed")


def test_both_samplers_search_a_table_with_the_same_first_configurations() -> None:
    by_sampler = {s: samplers.search(table(), s, 3, 0.0) for s in samplers.SAMPLERS}
    assert by_sampler["Random"]["trace"][0] == by_sampler["Model"]["trace"][0]
    for found in by_sampler.values():
        costs = [cost for cost, _ in found["trace"]]
        assert costs == sorted(costs) and costs[-1] <= samplers.BUDGET


def test_between_the_cells_of_a_table_its_own_configurations_keep_their_losses() -> None:
    family = table()
    continuous = Continuous.of(family)
    assert PARAMETERS[1]["values"] == ["AdamW", "SGD"], "a choice, of which the table has one"
    for configuration in (0, 4, 9):
        number = continuous.nearest(family.configurations[configuration])
        assert continuous.value(number, 2, 400) == pytest.approx(family.value(configuration, 2, 400), rel=1e-6)
    low, high = family.full[4], family.full[5]
    lr = (family.configurations[4]["lr"] * family.configurations[5]["lr"]) ** 0.5  # type: ignore[operator]
    number = continuous.nearest({"lr": lr, "optimizer": "AdamW"})
    between = continuous.full[number]
    assert low is not None and high is not None and between is not None and low < between < high
    assert len(family.configurations) == len(family.full) == 10, "the table itself stays as it is"


def test_the_published_figures_are_those_of_the_results() -> None:
    document = json.loads(samplers.OUT.read_text())
    assert len(document["surrogates"]) == 34 - samplers.SELECTION, "settings were chosen on the others"
    again = overall(list(document["surrogates"].values()))
    assert again["cost"] == pytest.approx(document["overall"]["cost"], rel=1e-3)
    assert again["speedUp24"][0] == pytest.approx(document["overall"]["speedUp24"][0], rel=1e-2)
    shown = f"| Model | {again['cost']['Model']:.1f} | {again['reached']['Model']:.0%} |"
    assert shown in samplers.PAGE.read_text()
