"""Results for people: one HTML page of tables and plots, and the plots as pictures for the docs."""

from __future__ import annotations

import html
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import plotly.graph_objects as go
import plotly.io

COLORS = ("#2a6f97", "#d1495b", "#66a182", "#edae49", "#5d4a66", "#8d6b94", "#00798c", "#a44200", "#444444", "#9aa0a6")
WIDTH = 960


@dataclass
class Section:
    """A heading, what it says, a table and a plot, each where it has one."""

    title: str
    text: str = ""
    header: Sequence[str] = ()
    rows: Sequence[Sequence[str]] = ()
    figure: go.Figure | None = None
    picture: str = ""
    """File name of the plot below docs/images, where the docs show it."""
    notes: list[str] = field(default_factory=list)


def styled(figure: go.Figure, title: str, x: str = "", y: str = "", height: int = 420) -> go.Figure:
    """One look for all plots."""
    figure.update_layout(
        template="plotly_white", title={"text": title, "x": 0.01, "font": {"size": 16}}, width=WIDTH, height=height,
        margin={"l": 70, "r": 20, "t": 70, "b": 60}, font={"family": "sans-serif", "size": 13},
        legend={"orientation": "v"},
    )  # fmt: skip
    if x:
        figure.update_xaxes(title=x)
    if y:
        figure.update_yaxes(title=y)
    return figure


def band(color: str, share: float = 0.15) -> str:
    """A colour as the fill of an interval."""
    red, green, blue = (int(color[i : i + 2], 16) for i in (1, 3, 5))
    return f"rgba({red},{green},{blue},{share})"


def write_page(path: Path, title: str, intro: str, sections: Sequence[Section]) -> None:
    """The page, complete in itself."""
    parts = [
        "<!doctype html><html lang=en><meta charset=utf-8>",
        f"<title>{html.escape(title)}</title>",
        f"<style>body{{font:16px/1.5 sans-serif;max-width:{WIDTH}px;margin:2em auto}}"
        "table{border-collapse:collapse;font-size:14px}td,th{padding:3px 10px;border-bottom:1px solid #ddd;"
        "text-align:right}td:first-child,th:first-child{text-align:left}</style>",
        f"<h1>{html.escape(title)}</h1><p>{html.escape(intro)}</p>",
    ]
    first = True
    for section in sections:
        parts.append(f"<h2>{html.escape(section.title)}</h2><p>{html.escape(section.text)}</p>")
        if section.rows:
            parts.append(_table(section.header, section.rows))
        if section.figure is not None:
            parts.append(plotly.io.to_html(section.figure, full_html=False, include_plotlyjs=first))
            first = False
        parts += [f"<p>{html.escape(note)}</p>" for note in section.notes]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(parts), encoding="utf-8")


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    head = "".join(f"<th>{html.escape(name)}</th>" for name in header)
    body = "".join("<tr>" + "".join(f"<td>{html.escape(cell)}</td>" for cell in row) + "</tr>" for row in rows)
    return f"<table><tr>{head}</tr>{body}</table>"


def markdown(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """The same table for the docs."""
    lines = ["| " + " | ".join(header) + " |", "|" + "---|" * len(header)]
    return "\n".join(lines + ["| " + " | ".join(row) + " |" for row in rows])


def fill(path: Path, name: str, text: str) -> None:
    """Put a table into a page of the docs, between the two comments that mark its place, so that no figure is typed.

    Raises:
        ValueError: the page has no such place.
    """
    begin, end = f"<!-- begin {name} -->", f"<!-- end {name} -->"
    page = path.read_text(encoding="utf-8")
    if begin not in page or end not in page:
        raise ValueError(f"{path} has no place for {name}; add {begin} and {end}")
    before, rest = page.split(begin, 1)
    path.write_text(f"{before}{begin}\n{text}\n{end}{rest.split(end, 1)[1]}", encoding="utf-8")


def write_pictures(folder: Path, sections: Sequence[Section]) -> list[Path]:
    """Plots that the docs show, drawn by a headless Chromium; none where there is no Chromium."""
    browser = shutil.which("chromium") or shutil.which("google-chrome") or shutil.which("chrome")
    if browser is None:
        print("no Chromium here, so the pictures in docs/images stay as they are")
        return []
    return [
        _picture(browser, section.figure, folder / section.picture)
        for section in sections
        if section.picture and section.figure is not None
    ]


def _picture(browser: str, figure: go.Figure, path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    height = int(figure.layout.height or 420)
    with tempfile.TemporaryDirectory() as folder:
        page = Path(folder) / "page.html"
        style = "<style>body{margin:0;overflow:hidden}</style>"
        page.write_text(style + plotly.io.to_html(figure, config={"staticPlot": True}), encoding="utf-8")
        options = ["--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--virtual-time-budget=10000"]
        size = [f"--window-size={WIDTH},{height}", f"--screenshot={path}", f"--user-data-dir={folder}/profile"]
        subprocess.run([browser, *options, *size, page.as_uri()], check=True, capture_output=True, timeout=180)
    return path
