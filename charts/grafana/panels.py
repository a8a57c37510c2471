"""Panels as all dashboards have them: a title, a unit, and a description that says what to do with what one sees."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from grafana_foundation_sdk.builders import bargauge, common, prometheus, stat, statetimeline, table, timeseries
from grafana_foundation_sdk.builders.dashboard import FieldColor, ThresholdsConfig
from grafana_foundation_sdk.models.common import (
    BarGaugeDisplayMode,
    BigValueColorMode,
    BigValueGraphMode,
    BigValueTextMode,
    GraphDrawStyle,
    GraphThresholdsStyleMode,
    LegendDisplayMode,
    LegendPlacement,
    LineInterpolation,
    StackingMode,
    TooltipDisplayMode,
    VisibilityMode,
    VizOrientation,
)
from grafana_foundation_sdk.models.dashboard import (
    DataSourceRef,
    DataTransformerConfig,
    DynamicConfigValue,
    FieldColorModeId,
    Threshold,
    ThresholdsMode,
    ValueMap,
    ValueMappingResult,
)
from grafana_foundation_sdk.models.prometheus import PromQueryFormat

SOURCE = DataSourceRef(type_val="prometheus", uid="${datasource}")
WIDTH = 24
"""Columns of Grafana's grid."""
RUNG_COLOURS = ("#8AB8FF", "#73BF69", "#F2CC0C", "#FF9830", "#F2495C", "#B877D9", "#37872D", "#3274D9")
"""From the lowest rung up; rungs beyond them have what Grafana gives them."""

Builder = timeseries.Panel | stat.Panel | table.Panel | bargauge.Panel | statetimeline.Panel
Panel = TypeVar("Panel", timeseries.Panel, stat.Panel, table.Panel, bargauge.Panel, statetimeline.Panel)


@dataclass(frozen=True)
class Query:
    """One expression, and what its series are called."""

    expression: str
    legend: str = ""


@dataclass(frozen=True)
class Column:
    """A column of a table: an expression by the table's key, the words above it, and its unit."""

    title: str
    expression: str
    unit: str = "short"


def lines(
    title: str,
    description: str,
    *queries: Query,
    unit: str = "short",
    width: int = 8,
    height: int = 8,
    stacked: bool = False,
    steps: bool = False,
    low: float | None = None,
    high: float | None = None,
    limit: float | None = None,
    decimals: int | None = None,
    rungs: bool = False,
    legend: bool = True,
) -> timeseries.Panel:
    """Series over time.

    Args:
        title, description: of the panel.
        queries: what is drawn.
        unit: Grafana's name of it.
        width, height: in the grid.
        stacked: amounts that add up to a whole.
        steps: values that hold until they change, such as counts.
        low, high: ends of the axis, where they are known.
        limit: a line to compare with.
        decimals: of the axis, 0 for whole numbers.
        rungs: names begin with their rung, which gives the colour: the same in all panels.
        legend: whether names are listed; not where there are as many as trials.
    """
    panel = timeseries.Panel().draw_style(GraphDrawStyle.LINE).line_width(1).show_points(VisibilityMode.AUTO)
    panel.span_nulls(False).point_size(4).color_scheme(FieldColor().mode(FieldColorModeId.PALETTE_CLASSIC))
    panel.fill_opacity(40 if stacked else 5)
    panel.line_interpolation(LineInterpolation.STEP_AFTER if steps else LineInterpolation.LINEAR)
    panel.tooltip(common.VizTooltipOptions().mode(TooltipDisplayMode.MULTI))
    names = common.VizLegendOptions().placement(LegendPlacement.BOTTOM).show_legend(legend).calcs([])
    panel.legend(names.display_mode(LegendDisplayMode.LIST if legend else LegendDisplayMode.HIDDEN))
    for rung, colour in enumerate(RUNG_COLOURS if rungs else ()):
        fixed = DynamicConfigValue("color", {"mode": "fixed", "fixedColor": colour})
        panel.override_by_regexp(f"/rung {rung}\\b/", [fixed])
    if stacked:
        panel.stacking(common.StackingConfig().mode(StackingMode.NORMAL).group("A"))
    if low is not None:
        panel.min(low)
    if high is not None:
        panel.max(high)
    if decimals is not None:
        panel.decimals(decimals)
    if limit is not None:
        panel.thresholds(_thresholds([(None, "transparent"), (limit, "red")]))
        mode = common.GraphThresholdsStyleConfig()
        panel.thresholds_style(mode.mode(GraphThresholdsStyleMode.DASHED))
    return _finished(panel, title, description, unit, width, height, queries)


def number(
    title: str,
    description: str,
    query: Query,
    unit: str = "short",
    width: int = 4,
    decimals: int | None = None,
    colours: Sequence[tuple[float | None, str]] = ((None, "blue"),),
    words: bool = False,
    none: str = "not known yet",
) -> stat.Panel:
    """One value as it is now.

    Args:
        title, description: of the panel.
        query: gives one series, or with `words` one whose name is the value.
        unit: Grafana's name of it.
        width: in the grid.
        decimals: shown.
        colours: by the value they begin at, the first at None.
        words: show the name of the series, not its value.
        none: shown where there is no series.
    """
    panel = stat.Panel().graph_mode(BigValueGraphMode.NONE).color_mode(BigValueColorMode.VALUE).no_value(none)
    panel.text_mode(BigValueTextMode.NAME if words else BigValueTextMode.VALUE)
    panel.reduce_options(common.ReduceDataOptions().calcs(["lastNotNull"]).values(False))
    panel.thresholds(_thresholds(colours))
    if decimals is not None:
        panel.decimals(decimals)
    return _finished(panel, title, description, unit, width, 4, [query], instant=True)


def bars(
    title: str,
    description: str,
    *queries: Query,
    unit: str = "short",
    width: int = 8,
    height: int = 8,
    colours: Sequence[tuple[float | None, str]] = ((None, "blue"),),
) -> bargauge.Panel:
    """A bar for each series as it is now, from 0."""
    panel = bargauge.Panel().orientation(VizOrientation.HORIZONTAL).display_mode(BarGaugeDisplayMode.BASIC).min(0)
    panel.reduce_options(common.ReduceDataOptions().calcs(["lastNotNull"]).values(False)).thresholds(
        _thresholds(colours)
    )
    return _finished(panel, title, description, unit, width, height, queries, instant=True)


def states(
    title: str, description: str, query: Query, words: Mapping[str, tuple[str, str]], width: int = 12, height: int = 8
) -> statetimeline.Panel:
    """What held when.

    Args:
        title, description: of the panel.
        query: one series for each row.
        words: for each value, what it means and its colour.
        width, height: in the grid.
    """
    panel = statetimeline.Panel().mappings([_words(words)]).line_width(0).fill_opacity(70)
    panel.tooltip(common.VizTooltipOptions().mode(TooltipDisplayMode.SINGLE))
    panel.legend(common.VizLegendOptions().show_legend(False).display_mode(LegendDisplayMode.HIDDEN))
    return _finished(panel, title, description, "short", width, height, [query])


def rows(
    title: str,
    description: str,
    key: str,
    *columns: Column,
    width: int = 24,
    height: int = 8,
    hidden: Sequence[str] = (),
) -> table.Panel:
    """A table with a line for each value of a label, as it is now.

    Args:
        title, description: of the panel.
        key: the label that columns are joined by; each column's expression must have one series for each value of it.
        columns: from left to right.
        width, height: in the grid.
        hidden: labels besides the key that are not shown.
    """
    panel = table.Panel().show_header(True).filterable(False)
    queries = [Query(column.expression) for column in columns]
    panel.with_transformation(DataTransformerConfig("joinByField", options={"byField": key, "mode": "outer"}))
    renamed = {f"Value #{_letter(n)}": column.title for n, column in enumerate(columns)}
    if len(columns) == 1:
        renamed = {"Value": columns[0].title}
    times = ["Time", *(f"Time {n}" for n in range(1, len(columns) + 1))]
    excluded = dict.fromkeys([*times, *hidden], True)
    order = {key: 0} | {name: n for n, name in enumerate(renamed, 1)}
    options: dict[str, Any] = {"excludeByName": excluded, "indexByName": order, "renameByName": renamed}
    panel.with_transformation(DataTransformerConfig("organize", options=options))
    for column in columns:
        panel.override_by_name(column.title, [DynamicConfigValue("unit", column.unit)])
    return _finished(panel, title, description, "short", width, height, queries, instant=True, tabular=True)


def statements(
    title: str, description: str, query: Query, words: Mapping[str, tuple[str, str]], width: int = 12, height: int = 8
) -> table.Panel:
    """A table of every series' labels, and its value in words."""
    panel = table.Panel().show_header(True).mappings([_words(words)]).no_value("none")
    hidden = dict.fromkeys(("Time", "__name__", "instance", "job", "namespace", "study", "pod", "container"), True)
    panel.with_transformation(DataTransformerConfig("organize", options={"excludeByName": hidden}))
    return _finished(panel, title, description, "short", width, height, [query], instant=True, tabular=True)


def _finished(
    panel: Panel,
    title: str,
    description: str,
    unit: str,
    width: int,
    height: int,
    queries: Sequence[Query],
    instant: bool = False,
    tabular: bool = False,
) -> Panel:
    panel.title(title).description(description).unit(unit).datasource(SOURCE).span(width).height(height)
    for n, query in enumerate(queries):
        target = prometheus.Dataquery().ref_id(_letter(n)).expr(query.expression).datasource(SOURCE)
        target.legend_format(query.legend or "__auto")
        target.format(PromQueryFormat.TABLE if tabular else PromQueryFormat.TIME_SERIES)
        if instant:
            target.instant()
        else:
            target.range()
        panel.with_target(target)
    return panel


def _letter(n: int) -> str:
    """A, B, C: how Grafana tells a panel's queries apart."""
    return chr(ord("A") + n)


def _words(words: Mapping[str, tuple[str, str]]) -> ValueMap:
    made = {
        value: ValueMappingResult(text=text, color=colour, index=n)
        for n, (value, (text, colour)) in enumerate(words.items())
    }
    return ValueMap(options=made)


def _thresholds(steps: Sequence[tuple[float | None, str]]) -> ThresholdsConfig:
    made = [Threshold(value=value, color=colour) for value, colour in steps]
    return ThresholdsConfig().mode(ThresholdsMode.ABSOLUTE).steps(made)
