"""The measure of depth transfer: what is multiplied, and whom the agreement is over."""

from __future__ import annotations

import json

import pytest
from benchmarks import depth_transfer
from benchmarks.paper.cases import cases
from benchmarks.paper.grid import Leg, run_spec


def test_every_rate_of_a_run_is_multiplied_and_nothing_else() -> None:
    case = cases()["gpt2"]
    plain = run_spec(case, Leg(1, case.tokens), [0, 1, 2], 0, "/c")
    scaled = depth_transfer.scaled(plain, 8.0)
    for before, after in zip(plain.trials, scaled.trials, strict=True):
        assert after.training.optimizer.lr == pytest.approx(8 * before.training.optimizer.lr)
    rates = {i: t.training.optimizer.lr for i, t in enumerate(plain.trials)}
    back = depth_transfer.scaled(scaled, 1 / 8)
    assert {i: t.training.optimizer.lr for i, t in enumerate(back.trials)} == pytest.approx(rates)


def test_agreement_is_told_apart_by_optimizer_and_for_the_better_half() -> None:
    full = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, None]
    low = [3.0, 2.0, 1.0, 4.0, 5.0, 6.0, 7.0, None]
    found = depth_transfer.agreement(low, full, members=[0, 1, 2])
    assert found["adaptive"][0] == -1.0 and found["sgd"][0] == 1.0
    assert found["all"][0] > 0.8 > found["betterHalf"][0]
    assert found["regretOfFirst"] == pytest.approx(2.0), (
        "it would have chosen the third, whose loss is three times the best"
    )


def test_the_configurations_with_adamw_are_those_whose_rate_changes() -> None:
    case = cases()["mlp"]
    drawn = case.assignments()
    members = depth_transfer.adaptive(case)
    assert 0 < len(members) < len(drawn)
    assert {drawn[i]["optimizer"] for i in members} == {"AdamW"}


def test_the_published_figures_are_those_of_the_results() -> None:
    page = depth_transfer.PAGE.read_text()
    for name, part in json.loads(depth_transfer.OUT.read_text()).items():
        for fidelity, found in part["agreement"].items():
            row = f"| {name} | {fidelity} | {found['all'][0]:.2f} ["
            assert (row in page) == ("tokens" not in fidelity), "the page shows all tokens, the file parts of them too"
