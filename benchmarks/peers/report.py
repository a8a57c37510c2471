"""The page about peers: anytime curves, what it costs to come within one per cent, overhead and memory."""

from __future__ import annotations

import json
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from benchmarks import lookup
from benchmarks.lookup import RESULTS, Family
from benchmarks.measures import Estimate, Trace, anytime, bootstrap, cost_to_reach, geometric, median_curve
from benchmarks.pages import COLORS, Section, fill, markdown, styled, write_page, write_pictures
from benchmarks.peers.session import Unit, full_trainings

TARGET = 0.01
"""Within one per cent of the best configuration of the table."""
SHOWN = (
    "frostline", "frostline, tokens only", "random search", "optuna TPE", "optuna TPE + Hyperband",
    "neps Hyperband", "neps PriorBand", "syne-tune ASHA", "syne-tune BOHB", "ray ASHA",
)  # fmt: skip
"""The curves that are drawn; the table has all."""


@dataclass(frozen=True)
class Outcome:
    """One tool on one family, its costs in full trainings."""

    tool: str
    traces: list[Trace]

    def reached(self, target: float = TARGET) -> float:
        """Median cost to come within the target and stay there; infinite where half of the seeds never do."""
        return statistics.median(cost_to_reach(trace, target) for trace in self.traces)

    def reached_share(self, target: float = TARGET) -> float:
        """How many seeds got there."""
        return statistics.mean(cost_to_reach(trace, target) < float("inf") for trace in self.traces)

    def regret_at(self, cost: float) -> float:
        """Median regret at a cost; infinite where half of the seeds have no incumbent yet."""
        found = [float(anytime(trace, [cost])[0]) for trace in self.traces]
        return statistics.median(float("inf") if np.isnan(value) else value for value in found)


def outcomes(documents: Sequence[Mapping[str, Any]], family: Family, unit: Unit) -> dict[str, Outcome]:
    """Every tool's searches on a family, costs in that unit turned into full trainings.

    Peers train all layers, one trial at a time: in full trainings their searches are the same by seconds and FLOPs.
    """
    found = {}
    for document in documents:
        known = {row["unit"] for row in document["rows"]}
        charged: Unit = unit if unit in known else "seconds"
        one = full_trainings(family, charged, 1)
        rows = [row for row in document["rows"] if (row["family"], row["unit"]) == (family.name, charged)]
        if rows:
            found[document["tool"]] = Outcome(
                document["tool"],
                [[(cost / one, value) for cost, value in row["trace"]] for row in rows],
            )
    return found


def ratio(ours: Outcome, theirs: Outcome, target: float = TARGET) -> Estimate | None:
    """Median cost to the target of a peer over ours: above 1 we are cheaper. None where either does not get there."""
    a = np.array([cost_to_reach(trace, target) for trace in ours.traces])
    b = np.array([cost_to_reach(trace, target) for trace in theirs.traces])
    if np.isinf(np.median(a)) or np.isinf(np.median(b)):
        return None
    count = min(len(a), len(b))
    return bootstrap(count, lambda at: float(np.median(b[at % len(b)]) / np.median(a[at % len(a)])))


def best_peer(found: Mapping[str, Outcome]) -> Outcome:
    """The peer that comes within the target at the least median cost; ties by the share of seeds that do."""
    peers = [outcome for name, outcome in found.items() if not name.startswith("frostline")]
    return min(peers, key=lambda outcome: (outcome.reached(), -outcome.reached_share(), outcome.regret_at(1e9)))


def write() -> None:
    """.bench/peers.html, docs/images/peers-*.png, benchmarks/results/peers.json."""
    from benchmarks.peers.__main__ import BUDGET, WORK

    documents = [json.loads(path.read_text()) for path in sorted(WORK.glob("*.json"))]
    families = lookup.load()
    sections = []
    summary: dict[str, Any] = {"budget": BUDGET, "target": TARGET, "families": {}}
    for unit in ("seconds", "flops"):
        found = {name: outcomes(documents, family, unit) for name, family in families.items()}  # type: ignore[arg-type]
        sections.append(Section(
            f"Regret over {'time' if unit == 'seconds' else 'FLOPs'}", figure=_curves(found, unit, BUDGET),
            picture="peers-seconds.png" if unit == "seconds" else "",
        ))  # fmt: skip
        for name, tools in found.items():
            sections.append(_table(families[name], tools, unit, BUDGET))
            summary["families"].setdefault(name, {})[unit] = _numbers(tools, BUDGET)
    sections.append(_overhead(documents))
    summary["tools"] = {
        document["tool"]: {"peakMib": round(document["peak_mib"]), "seconds_per_trial": _overhead_of(document)}
        for document in documents
    }
    (RESULTS / "peers.json").write_text(json.dumps(summary, indent=1) + "\n")
    page = WORK.parent / "peers.html"
    write_page(page, "Frostline beside its peers", "On the look-up benchmark; costs are in full trainings.", sections)
    docs = lookup.RESULTS.parents[1] / "docs"
    write_pictures(docs / "images", sections)
    fill(docs / "does-it-work.md", "peers", markdown(*_docs_table(summary)))
    for section in sections:
        if section.rows:
            print(f"\n{section.title}")
            for row in [section.header, *section.rows]:
                print(f"  {row[0]:<32}" + "".join(f"{cell:>18}" for cell in row[1:]))
    print(f"\n{page}")


def _curves(found: Mapping[str, Mapping[str, Outcome]], unit: str, budget: float) -> go.Figure:
    figure = make_subplots(1, len(found), subplot_titles=list(found), horizontal_spacing=0.06)
    costs = geometric(0.1, budget, 120)
    for column, tools in enumerate(found.values(), start=1):
        for color, name in zip(COLORS, SHOWN, strict=False):
            if name not in tools:
                continue
            middle, _, _ = median_curve(tools[name].traces, costs)
            figure.add_scatter(
                x=costs, y=np.maximum(middle, 1e-4), mode="lines", name=name, legendgroup=name, showlegend=column == 1,
                line={"color": color, "shape": "hv", "width": 3 if name.startswith("frostline") else 1.5},
                row=1, col=column,
            )  # fmt: skip
        figure.add_hline(y=TARGET, line={"color": "#999", "dash": "dash"}, row=1, col=column)
    figure.update_xaxes(type="log", title=f"full trainings, by {unit}")
    figure.update_yaxes(type="log")
    figure.update_yaxes(title="true regret (median of seeds)", row=1, col=1)
    return styled(figure, f"Regret of the incumbent over {unit}", height=460)


def _table(family: Family, tools: Mapping[str, Outcome], unit: str, budget: float) -> Section:
    rows = [
        [name, _cost(o.reached()), f"{o.reached_share():.0%}", _share(o.regret_at(4)), _share(o.regret_at(budget))]
        for name, o in sorted(tools.items(), key=lambda item: (item[1].reached(), -item[1].reached_share()))
    ]
    header = ["search", "cost to 1 %", "seeds that get there", "regret at 4", f"regret at {budget:g}"]
    text = f"Costs are in full trainings, by {unit}. Median of {len(next(iter(tools.values())).traces)} seeds."
    return Section(f"{family.title}, by {unit}", text, header, rows)


def _numbers(tools: Mapping[str, Outcome], budget: float) -> dict[str, Any]:
    peer = best_peer(tools)
    found: dict[str, Any] = {"bestPeer": peer.tool, "tools": {}}
    for name, outcome in tools.items():
        against = ratio(outcome, peer)
        found["tools"][name] = {
            "costTo1Percent": _finite(outcome.reached()),
            "seedsThatGetThere": outcome.reached_share(),
            "regretAt4": _finite(outcome.regret_at(4)),
            "regretAtBudget": _finite(outcome.regret_at(budget)),
            "bestPeerOverThis": None if against is None else [against.value, against.low, against.high],
            "seeds": len(outcome.traces),
        }
    return found


def _docs_table(summary: Mapping[str, Any]) -> tuple[list[str], list[list[str]]]:
    """Seconds to one per cent and the regret at the budget's end, a column pair per family; then what a trial costs."""
    families = summary["families"]
    header = ["search"]
    for name in families:
        header += [f"{name}: cost to 1 %", f"{name}: regret at the end"]
    rows = []
    for tool, about in summary["tools"].items():
        row = [tool]
        for found in families.values():
            known = found["seconds"]["tools"].get(tool)
            reached, last = (None, None) if known is None else (known["costTo1Percent"], known["regretAtBudget"])
            share = "" if known is None else f" ({known['seedsThatGetThere']:.0%})"
            row += [("–" if known is None else "never" if reached is None else f"{reached:.1f}") + share,
                    "–" if last is None else f"{last:.1%}"]  # fmt: skip
        rows.append([*row, f"{1e3 * about['seconds_per_trial']:.0f} ms", f"{about['peakMib']} MiB"])
    return [*header, "overhead per trial", "peak memory"], rows


def _overhead_of(document: Mapping[str, Any]) -> float:
    """Median CPU seconds per trial of the search itself; of Ray, which runs processes of its own, wall-clock."""
    clock = "wall" if document["tool"].startswith("ray") else "cpu"
    found = [row[clock] / max(1, row["trials"]) for row in document["rows"]]
    return round(statistics.median(found), 5) if found else 0.0


def _overhead(documents: Sequence[Mapping[str, Any]]) -> Section:
    rows = [[d["tool"], f"{1e3 * _overhead_of(d):.1f}", f"{d['peak_mib']:.0f}"] for d in documents]
    text = "CPU time that the search itself takes per trial (Ray: wall-clock), and its process's peak memory."
    return Section("Overhead", text, ["search", "ms per trial", "peak MiB"], rows)


def _finite(value: float) -> float | None:
    return None if np.isinf(value) else round(value, 5)


def _cost(value: float) -> str:
    return "never" if np.isinf(value) else f"{value:.2f}"


def _share(value: float) -> str:
    return "-" if np.isinf(value) else f"{value:.2%}"
