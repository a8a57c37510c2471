"""The report's page: complete, self-contained, safe, and sound for whatever state a study is in."""

from __future__ import annotations

import base64
import gzip
import hashlib
import html.parser
import itertools
import json
import re
from typing import Any

import plotly.graph_objects as go
import pytest

from frostline_operator.report.chart import MOST_TRIALS, drawn, rung_colour
from frostline_operator.report.figures import learning_curves, promotions
from frostline_operator.report.page import to_html
from frostline_operator.report.record import StudyRecord

from . import records

VOID = {"meta", "link", "br", "img", "input", "hr", "rect"}


class Page(html.parser.HTMLParser):
    """What is on a page: its elements, its text without scripts, and whether every element is closed."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.scripts: list[str] = []
        self.open: list[str] = []
        self.unbalanced: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag in VOID:
            return
        if not self.open or self.open.pop() != tag:
            self.unbalanced.append(tag)

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] == "script":
            self.scripts.append(data)
        elif not self.open or self.open[-1] != "style":
            self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.elements if name == tag]


@pytest.fixture(scope="module", params=list(records.ALL))
def made(request: pytest.FixtureRequest) -> tuple[StudyRecord, str, Page]:
    record = records.ALL[request.param]()
    text = to_html(record)
    return record, text, Page(text)


def drawing(page: Page) -> str:
    """The JSON that the charts are drawn from."""
    return gzip.decompress(base64.b64decode(page.scripts[0])).decode()


def figures(page: Page) -> dict[str, Any]:
    return json.loads(drawing(page))["figures"]  # type: ignore[no-any-return]


def test_every_element_is_closed(made: tuple[StudyRecord, str, Page]) -> None:
    page = made[2]
    assert page.unbalanced == []
    assert page.open == []


def test_it_loads_nothing_from_anywhere(made: tuple[StudyRecord, str, Page]) -> None:
    page = made[2]
    for tag, attributes in page.elements:
        assert not {"src", "href", "srcset", "action"} & set(attributes), tag
    assert "@import" not in made[1].split("</style>")[0]
    assert "url(" not in made[1].split("</style>")[0]


def test_every_chart_has_its_figure_and_words_for_those_who_cannot_see_it(made: tuple[StudyRecord, str, Page]) -> None:
    page = made[2]
    charts = [attributes for attributes in page.all("div") if "data-figure" in attributes]
    assert {chart["data-figure"] for chart in charts} == set(figures(page))
    assert all(chart["role"] == "img" and len(chart["aria-label"] or "") > 20 for chart in charts)


def test_ids_are_unique_and_labels_lead_somewhere(made: tuple[StudyRecord, str, Page]) -> None:
    page = made[2]
    ids = [attributes["id"] for _, attributes in page.elements if "id" in attributes]
    assert len(ids) == len(set(ids))
    for section in page.all("section"):
        assert section["aria-labelledby"] in ids


def test_a_section_with_a_table_has_the_page_s_whole_width(made: tuple[StudyRecord, str, Page]) -> None:
    around: dict[str, str | None] = {}
    for tag, attributes in made[2].elements:
        if tag == "section":
            around = attributes
        assert tag != "table" or around.get("class") == "wide"


def test_headings_are_in_order(made: tuple[StudyRecord, str, Page]) -> None:
    levels = [int(tag[1]) for tag, _ in made[2].elements if re.fullmatch(r"h[1-6]", tag)]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(after <= before + 1 for before, after in itertools.pairwise(levels))


def test_plotly_accepts_every_figure(made: tuple[StudyRecord, str, Page]) -> None:
    colours = {"$font": "sans-serif"}

    def resolved(node: Any) -> Any:
        if isinstance(node, str) and node.startswith("$"):
            return colours.get(node, "#336699")
        if isinstance(node, list):
            return [resolved(item) for item in node]
        if isinstance(node, dict):
            return {key: resolved(item) for key, item in node.items()}
        return node

    for figure in figures(made[2]).values():
        go.Figure(resolved(figure)).to_dict()


def test_every_colour_of_the_figures_is_in_the_style_sheet(made: tuple[StudyRecord, str, Page]) -> None:
    used = set(re.findall(r'"\$([a-z0-9]+)"', drawing(made[2])))
    style = made[1].split("</style>")[0]
    for colour in used:
        expected = 1 if colour == "font" else 3
        assert style.count(f"--{colour}:") == expected, colour


def test_the_same_record_gives_the_same_page(made: tuple[StudyRecord, str, Page]) -> None:
    assert to_html(made[0]) == made[1]


def test_the_page_says_how_the_study_stands() -> None:
    texts = {name: Page(to_html(record())).text for name, record in records.ALL.items()}
    assert re.search(r"\b2\.18\d+\b", texts["whole"])
    assert re.search(r"\b7\.6\d? ×", texts["whole"])
    assert "finished" in texts["whole"]
    assert "under way" in texts["under_way"]
    assert "FidelityReduced" in texts["under_way"]
    assert "trials in full" not in texts["under_way"], "a part of a study is not compared with a whole"
    assert "no trial has a usable result yet" in texts["empty"]
    assert "failed without a usable result" in texts["failed"]
    assert "fewer FLOPs" not in texts["failed"]
    assert "Every trial diverged." in texts["failed"]
    assert "There is one rung only." in texts["single"]
    assert "goal reached" in texts["accuracy"]
    assert "samples" in texts["accuracy"]
    assert "Bracket" in texts["hyperband"]


def test_markup_in_a_study_stays_text() -> None:
    text = to_html(records.hostile())
    page = Page(text)
    assert records.HOSTILE in page.text
    assert len(page.all("script")) == 3
    assert page.all("img") == []
    hovers = [t for figure in figures(page).values() for trace in figure["data"] for t in trace.get("text") or []]
    hovers += json.loads(drawing(page))["settings"].values()
    assert any("&lt;script&gt;" in hover for hover in hovers)
    assert all("<script" not in hover and "<img" not in hover for hover in hovers)


def test_the_chart_library_is_the_one_that_is_named_and_the_page_stays_below_a_megabyte(
    made: tuple[StudyRecord, str, Page],
) -> None:
    packed = base64.b64decode(made[2].scripts[1])
    assert hashlib.sha256(packed).hexdigest() == "f00239c3cf994559bd1fecd232a2890e2ef63c8a2934f017521c1efd0ea2cb89"
    assert b"plotly.js (basic - minified) v4.1.1" in gzip.decompress(packed)[:200]
    assert len(made[1].encode()) < 1_000_000


def test_every_point_names_a_trial_whose_configuration_is_on_the_page(made: tuple[StudyRecord, str, Page]) -> None:
    settings = json.loads(drawing(made[2]))["settings"]
    hovers = [t for figure in figures(made[2]).values() for trace in figure["data"] for t in trace.get("text") or []]
    marks = {hover.rpartition("@")[2] for hover in hovers if hover}
    assert marks <= settings.keys()


def test_a_direction_is_said_in_words() -> None:
    text = Page(to_html(records.whole())).text
    assert "higher lr, lower loss" in text
    assert "Spearman −" not in text.split("What mattered")[1].split("One hyperparameter")[0]


def test_samples_are_called_samples() -> None:
    text = Page(to_html(records.accuracy())).text.split("The study’s manifest")[0]
    assert "samples" in text
    assert "tokens" not in text


def test_where_the_best_checkpoint_lies_and_what_made_the_page_are_on_it() -> None:
    record = records.whole()
    assert record.best is not None
    best = record.best.model_copy(update={"checkpoint": "trials/s-5/r3"})
    kept = record.model_copy(update={"best": best, "checkpoints": "/data/s", "version": "1.2.3", "host": "box"})
    text = Page(to_html(kept)).text
    assert "Its weights: /data/s/trials/s-5/r3" in text
    assert "Frostline 1.2.3 on box." in text
    assert "Its weights" not in Page(to_html(record)).text


def test_large_studies_draw_the_trials_that_came_furthest() -> None:
    record = records.whole()
    many = [
        t.model_copy(update={"index": i * 100 + t.index, "name": f"{t.name}-{i}"})
        for i in range(60)
        for t in record.trials
    ]
    large = record.model_copy(update={"trials": (*record.trials, *many)})
    chosen = drawn(large)
    assert len(chosen) == MOST_TRIALS
    assert record.best is not None
    assert record.best.trial in {t.name for t in chosen}
    assert min(len(t.results) for t in chosen) >= 1
    assert len(to_html(large)) < 1_000_000
    assert "came furthest" in Page(to_html(large)).text


def test_outliers_do_not_flatten_the_curves() -> None:
    record = records.whole()
    first = record.trials[0]
    wild = first.results[0].curve[0].model_copy(update={"value": 1e9})
    broken = first.model_copy(
        update={"results": (first.results[0].model_copy(update={"curve": (wild, *first.results[0].curve[1:])}),)}
    )
    figure = learning_curves(record.model_copy(update={"trials": (broken, *record.trials[1:])}))
    assert figure is not None
    assert figure["layout"]["yaxis"]["range"][1] < 100


def test_a_promotion_line_joins_the_rungs_a_trial_reached() -> None:
    figure = promotions(records.whole(), 0)
    assert figure is not None
    best = figure["data"][1]
    assert best["x"] == [0, 1, 2, 3, None]


@pytest.mark.parametrize("count", range(1, 13))
def test_neighbouring_rungs_differ_in_colour(count: int) -> None:
    colours = [rung_colour(rung, count) for rung in range(count)]
    if count <= 6:
        assert len(set(colours)) == count
    assert colours == sorted(colours)
