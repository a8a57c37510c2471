"""The page of the paper's figures, its pictures, and the numbers that the docs quote."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from typing import Any

import numpy as np

from benchmarks import lookup
from benchmarks.lookup import Family
from benchmarks.measures import Estimate, better_half, spearman
from benchmarks.pages import Section, fill, markdown, write_page, write_pictures
from benchmarks.paper import analysis, figures
from benchmarks.paper.cases import ROOT, WORK
from frostline_operator.api.study import Promotion

THRESHOLDS = (0.2, 0.3, 0.4, 0.5)
"""Of `trust.threshold`: how often a study would warn."""
DOCS = ROOT / "docs" / "does-it-work.md"
Table = tuple[list[str], list[list[str]]]


def write(scale: str = "small") -> None:
    """.bench/paper-*.html, docs/images/paper-*.png, the docs' tables, benchmarks/results/paper-summary.json."""
    families = lookup.load(scale)
    sections = [*_fidelity(families), *[_paths(family) for family in families.values()]]
    sections += [_memory(family) for family in families.values()]
    for family in families.values():
        picture = "paper-learning-rates-gpt2.png" if family.name == "gpt2" else ""
        title = f"{family.title}: why few layers rank differently"
        sections.append(Section(title, figure=figures.learning_rates(family), picture=picture))
    page = WORK / f"paper-{scale}.html"
    write_page(page, "Does training few layers find the right hyperparameters?", _intro(families), sections)
    summary = {name: _summary(family) for name, family in families.items()}
    target = lookup.table_path(scale).with_name("paper-summary.json")
    target.write_text(json.dumps(summary, indent=1) + "\n")
    if scale == "small":
        write_pictures(ROOT / "docs" / "images", sections)
        fill(DOCS, "layers", markdown(*_layers_table(families)))
        fill(DOCS, "schedules", markdown(*_schedules_table(families)))
        fill(DOCS, "warm", markdown(*_warm_table(families)))
        fill(DOCS, "trust", markdown(*_trust_table(families)))
        fill(DOCS, "memory", markdown(*_memory_table(families)))
    for section in sections:
        if section.rows:
            print(f"\n{section.title}")
            for row in [section.header, *section.rows]:
                print("  " + "".join(f"{cell:>24}" for cell in row))
    print(f"\n{page}")


def _intro(families: dict[str, Family]) -> str:
    counts = ", ".join(f"{f.title}: {len(f.configurations)} configurations" for f in families.values())
    return f"{counts}. Intervals are 95 % bootstrap intervals over the configurations."


def _fidelity(families: dict[str, Family]) -> list[Section]:
    rows = []
    for family in families.values():
        known, better = analysis.over_layers(family), analysis.over_layers_among_the_better(family)
        again = analysis.seeds_agree(family)
        for z, found in known.items():
            rows.append([family.name, f"{z} of {family.layers}", str(found), str(better[z]),
                         str(again) if z == family.layers and again else ""])  # fmt: skip
    return [
        Section(
            "Over layers", "At all tokens. The last column is how well full training agrees with itself from another "
            "seed: more cannot be had.", ["family", "z", "all configurations", "better half", "another seed"], rows,
            figures.over_layers(families), "paper-layers.png",
        ),
        Section("Over tokens", figure=figures.over_tokens(families)),
        Section("Over both", figure=figures.joint(families), picture="paper-joint.png"),
    ]  # fmt: skip


def schedules(family: Family) -> dict[str, tuple[list[analysis.Rung], Promotion]]:
    """What is compared: name -> rungs and promotion."""
    quarter = max(1, family.layers // 4)
    lows = {1: "joint from z = 1", 2: "joint from z = 2", quarter: f"joint from z = {quarter}"}
    half = family.layers // 2
    lows[half] = f"joint from z = {half}"
    found: dict[str, tuple[list[analysis.Rung], Promotion]] = {}
    for z, name in lows.items():
        found[f"{name}, RestartOnThaw"] = (analysis.path(family, z), "RestartOnThaw")
        found[f"{name}, Restart"] = (analysis.path(family, z), "Restart")
        if str(z) in family.document["continued"]:
            found[f"{name}, Continue"] = (analysis.path(family, z), "Continue")
    found["tokens only, Restart"] = (analysis.path(family, family.layers), "Restart")
    found["tokens only"] = (analysis.path(family, family.layers), "RestartOnThaw")  # nothing thaws: it always goes on
    return found


def _paths(family: Family) -> Section:
    rows = []
    base = analysis.path(family, family.layers)
    unit_cost = {
        unit: sum(analysis.path_cost(family, base, unit, promotion="RestartOnThaw")) for unit in ("flops", "seconds")
    }
    for name, (rungs, promotion) in schedules(family).items():
        cost = {
            unit: sum(analysis.path_cost(family, rungs, unit, promotion=promotion)) for unit in ("flops", "seconds")
        }
        rows.append(
            [
                name,
                " ".join(f"{e.value:.2f}" for e in analysis.agreement(family, rungs, promotion)[:-1]),
                _percent(analysis.chosen_regret(family, rungs, promotion)),
                f"{analysis.within(family, rungs, promotion=promotion):.0%}",
                f"{cost['flops'] / unit_cost['flops']:.2f}",
                f"{cost['seconds'] / unit_cost['seconds']:.2f}",
            ]
        )
    header = ["schedule", "agreement per rung", "mean regret", "within 1 %", "FLOPs", "seconds"]
    text = (
        f"Successive Halving from {analysis.PATH_TRIALS} configurations, replayed {analysis.REPLAYS} times on random "
        "subsets. FLOPs and seconds are relative to tokens only, which always goes on from its checkpoints; packed "
        "by 16."
    )
    return Section(f"{family.title}: schedules", text, header, rows)


def _percent(found: Estimate) -> str:
    return f"{100 * found.value:.2f} % [{100 * found.low:.2f}, {100 * found.high:.2f}]"


def _memory(family: Family) -> Section:
    rows = []
    for found in family.document["memory"]:
        predicted = found["predicted"]
        rows.append([
            f"{found['z']} of {family.layers}", str(found["trials"]), f"{found['measured'] / 2**20:.1f}",
            "-" if predicted is None else f"{predicted / 2**20:.1f}",
            "-" if predicted is None else f"{predicted / found['measured'] - 1:+.1%}",
        ])  # fmt: skip
    header = ["z", "trials in the run", "measured MiB", "foretold MiB", "difference"]
    return Section(f"{family.title}: memory along the joint schedule", "", header, rows)


def _summary(family: Family) -> dict[str, Any]:
    again = analysis.seeds_agree(family)
    return {
        "title": family.title,
        "configurations": len(family.configurations),
        "overLayers": {z: dataclasses.astuple(e) for z, e in analysis.over_layers(family).items()},
        "overLayersBetterHalf": {
            z: dataclasses.astuple(e) for z, e in analysis.over_layers_among_the_better(family).items()
        },
        "overTokens": {part: dataclasses.astuple(e) for part, e in analysis.over_tokens(family).items()},
        "anotherSeed": again and dataclasses.astuple(again),
        "schedules": {
            name: {
                "rungs": [dataclasses.astuple(rung) for rung in rungs],
                "agreement": [dataclasses.astuple(e) for e in analysis.agreement(family, rungs, promotion)],
                "regret": dataclasses.astuple(analysis.chosen_regret(family, rungs, promotion)),
                "within1Percent": analysis.within(family, rungs, promotion=promotion),
                "flops": analysis.path_cost(family, rungs, "flops", promotion=promotion),
                "seconds": analysis.path_cost(family, rungs, "seconds", promotion=promotion),
            }
            for name, (rungs, promotion) in schedules(family).items()
        },
    }


# --- the docs' tables -------------------------------------------------------------------------------------------------


def _layers_table(families: dict[str, Family]) -> Table:
    rows = []
    for family in families.values():
        known, better = analysis.over_layers(family), analysis.over_layers_among_the_better(family)
        early = {z: analysis.joint(family)[i][0] for i, z in enumerate(family.depths)}
        again = analysis.seeds_agree(family)
        for z in family.depths:
            last = "1 by definition" if z == family.layers else str(known[z])
            rows.append([f"{family.name} {z} of {family.layers}", last,
                         "1 by definition" if z == family.layers else str(better[z]), f"{early[z]:.2f}"])  # fmt: skip
        if again is not None:
            rows.append([f"{family.name}, all layers, another seed", str(again), "", ""])
    return ["z of L", "all tokens", "all tokens, better half only", "an eighth of the tokens"], rows


def _schedules_table(families: dict[str, Family]) -> Table:
    rows = []
    for family in families.values():
        section = _paths(family)
        rows += [[f"{family.name}: {row[0]}", *row[1:]] for row in section.rows]
    return list(section.header), rows


def _warm_table(families: dict[str, Family]) -> Table:
    rows = []
    for family in families.values():
        keep = better_half(family.full)
        for z, series in family.document.get("warm", {}).items():
            cold, warm = family.measured(int(z), family.fractions), [found[-1] for found in series]
            full = [family.full[i] for i in keep]
            rows.append([
                f"{family.name} {z} of {family.layers}", f"{spearman(cold, family.full):.2f}",
                f"{spearman(warm, family.full):.2f}", f"{spearman([cold[i] for i in keep], full):.2f}",
                f"{spearman([warm[i] for i in keep], full):.2f}",
            ])  # fmt: skip
    return ["z of L", "random prefix", "warm prefix", "better half, random", "better half, warm"], rows


def _trust_table(families: dict[str, Family]) -> Table:
    """Per schedule, and last how often each threshold warns of replays that choose badly, and of those that do not."""
    rows, seen = [], []
    for family in families.values():
        for lowest in sorted({1, family.layers // 4, family.layers // 2, family.layers}):
            agreements, regrets = analysis.trust(family, lowest)
            low, middle, high = np.nanquantile(agreements, [0.1, 0.5, 0.9])
            rows.append([
                f"{family.name} from z = {lowest}", f"{middle:.2f} [{low:.2f}, {high:.2f}]",
                _warned(agreements), f"{np.median(regrets):.1%}",
            ])  # fmt: skip
            seen += list(zip(agreements, regrets, strict=True))
    for name, bad in (("all replays off by more than 1 %", True), ("all others", False)):
        rows.append([name, "", _warned([found for found, regret in seen if (regret > 0.01) is bad]), ""])
    thresholds = " / ".join(map(str, THRESHOLDS))
    return ["schedule", "agreement a study measures: median [10 %, 90 %]", f"below {thresholds}", "median regret"], rows


def _warned(agreements: Sequence[float]) -> str:
    return " / ".join(f"{np.mean(np.array(agreements) < threshold):.0%}" for threshold in THRESHOLDS)


def _memory_table(families: dict[str, Family]) -> Table:
    rows = [[f"{family.name} {row[0]}", *row[1:]] for family in families.values() for row in _memory(family).rows]
    return ["z", "trials in the run", "measured MiB", "foretold MiB", "difference"], rows
