"""The page of a comparison: its plot, and the table of each judge."""

import re
from html import escape
from pathlib import Path

from flows.comparison.compare import PLOT
from flows.report.html import paragraph, section, table
from flows.report.page import STYLE
from storage.errors import RequestError
from storage.objects import has_object
from training.comparison.table import read_table
from training.comparison.text import arrange_rows, describe_judge


def write_comparison(run: Path, page: Path) -> None:
    """The same table gives the same bytes. Raises RequestError where there is no folder for the page."""
    if not page.absolute().parent.is_dir():
        raise RequestError(f"{page}: the folder {page.parent} does not exist: make it, or name another file")
    title, judges, rows = read_table(run)
    sections = []
    for place, (name, judge) in enumerate(judges.items()):
        if judged := [row for row in rows if row.judge == name]:
            head, *lines = arrange_rows(judged)
            kinds = ["", *["number"] * (len(head) - 1)]
            told = paragraph(describe_judge(name, judge, judged[0]), "note")
            sections.append(
                section(f"judge-{place}", name, told, f'<div class="wide">{table(head, lines, kinds)}</div>')
            )
    page.write_text(_document(title, _read_plot(run), "\n".join(sections)), encoding="utf-8")


def _read_plot(run: Path) -> str:
    """As a part of the page, which gives it its width."""
    if not has_object(run, PLOT):
        return ""
    plot = (run / PLOT).read_text(encoding="utf-8")
    return re.sub(
        r'width="[^"]*" height="[^"]*"', 'style="width:100%;height:auto"', plot[plot.index("<svg") :], count=1
    )


def _document(title: str, plot: str, tables: str) -> str:
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{escape(title)} – rhoflow</title>
<style>
{STYLE.read_text(encoding="utf-8")}</style>
</head>
<body>
<main>
<h1>{escape(title)}</h1>
{plot}
{tables}
<footer>Made by <code>rhoflow report</code>. This page holds all it needs and loads nothing from elsewhere.</footer>
</main>
</body>
</html>
"""
