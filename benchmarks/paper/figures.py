"""The paper's figures from the table: each takes the families and gives a plotly figure."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import plotly.graph_objects as go
from plotly.subplots import make_subplots

from benchmarks.lookup import Family
from benchmarks.measures import Estimate
from benchmarks.pages import COLORS, band, styled
from benchmarks.paper import analysis

Families = Mapping[str, Family]


def over_layers(families: Families) -> go.Figure:
    """Rank agreement with full training over the share of trainable layers."""
    figure = go.Figure()
    for color, family in zip(COLORS, families.values(), strict=False):
        _line(figure, family.name, analysis.over_layers(family), lambda z, f=family: z / f.layers, color)  # type: ignore[misc]
        better = analysis.over_layers_among_the_better(family)
        figure.add_scatter(
            x=[z / family.layers for z in better], y=[e.value for e in better.values()], mode="lines",
            name=f"{family.name}, better half only", line={"color": color, "dash": "dot"},
        )  # fmt: skip
    figure.add_hline(
        y=0.95,
        line={"color": "#999", "dash": "dash"},
        annotation_text="0.95: the paper, at 40 %",
        annotation_position="bottom right",
    )
    figure.add_vline(x=0.4, line={"color": "#ccc"})
    figure.update_xaxes(tickformat=".0%")
    return styled(
        figure, "Rank agreement with full training, all tokens", "share of layers that train", "Spearman's rho"
    )


def over_tokens(families: Families) -> go.Figure:
    """The same over the share of tokens, all layers training."""
    figure = go.Figure()
    for color, family in zip(COLORS, families.values(), strict=False):
        _line(figure, family.name, analysis.over_tokens(family), lambda p, f=family: p / f.fractions, color)  # type: ignore[misc]
    figure.update_xaxes(tickformat=".0%")
    return styled(
        figure, "Rank agreement with full training, all layers", "share of tokens (or samples)", "Spearman's rho"
    )


def _line(
    figure: go.Figure, name: str, found: Mapping[int, Estimate], place: Callable[[int], float], color: str
) -> None:
    x = [place(key) for key in found]
    figure.add_scatter(
        x=[*x, *reversed(x)], y=[*(e.high for e in found.values()), *(e.low for e in reversed(found.values()))],
        mode="lines", fill="toself", fillcolor=band(color), line={"width": 0}, hoverinfo="skip", showlegend=False,
    )  # fmt: skip
    figure.add_scatter(x=x, y=[e.value for e in found.values()], mode="lines+markers", name=name, line={"color": color})


def joint(families: Families) -> go.Figure:
    """Heat maps over z and tokens, the joint schedule drawn in."""
    figure = make_subplots(1, len(families), subplot_titles=list(families), horizontal_spacing=0.06)
    for column, family in enumerate(families.values(), start=1):
        shares = [f"{100 * part / family.fractions:g}" for part in range(1, family.fractions + 1)]
        grid = analysis.joint(family)
        figure.add_heatmap(
            z=grid, x=shares, y=[str(z) for z in family.depths], zmin=0, zmax=1, colorscale="Viridis",
            text=[[f"{value:.2f}" for value in row] for row in grid], texttemplate="%{text}", textfont={"size": 9},
            showscale=column == len(families), row=1, col=column,
        )  # fmt: skip
        steps = [rung for rung in analysis.path(family, 1) if rung.z in family.depths]
        figure.add_scatter(
            x=[shares[rung.part - 1] for rung in steps], y=[str(rung.z) for rung in steps], mode="lines+markers",
            line={"color": "#d1495b", "width": 2}, marker={"size": 8}, showlegend=False, row=1, col=column,
        )  # fmt: skip
    figure.update_xaxes(title="% of tokens", type="category")
    figure.update_yaxes(title="layers z", type="category", row=1, col=1)
    return styled(
        figure, "Spearman's rho with full training over layers and tokens; in red the joint schedule", height=430
    )


def learning_rates(family: Family) -> go.Figure:
    """Loss over the learning rate at several z: where few layers train, another learning rate is best."""
    figure = make_subplots(1, 2, subplot_titles=["AdamW", "SGD"], shared_yaxes=True, horizontal_spacing=0.04)
    chosen = _spread(family.depths)
    for column, optimizer in enumerate(("AdamW", "SGD"), start=1):
        members = [i for i, c in enumerate(family.configurations) if c["optimizer"] == optimizer]
        members.sort(key=lambda i: float(family.configurations[i]["lr"]))
        for color, z in zip(COLORS, chosen, strict=False):
            values = family.measured(z, family.fractions)
            figure.add_scatter(
                x=[family.configurations[i]["lr"] for i in members], y=[values[i] for i in members],
                mode="lines+markers", name=f"z = {z}", line={"color": color}, showlegend=column == 1,
                row=1, col=column,
            )  # fmt: skip
    figure.update_xaxes(type="log", title="learning rate")
    return styled(figure, f"{family.name}: loss over the learning rate, by trainable layers", y="validation loss")


def _spread(depths: Sequence[int]) -> list[int]:
    """At most four of them: the least, the most, and two between."""
    places = sorted({0, 1, len(depths) // 2, len(depths) - 1})
    return [depths[i] for i in places]
