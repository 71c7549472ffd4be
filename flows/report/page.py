"""The report of a dataset, and of what was learnt from it: one HTML page that needs nothing else."""

from collections.abc import Iterator, Sequence
from html import escape
from pathlib import Path

import plotly.offline

from flows.report.fields import choose_samples, show_stored
from flows.report.gallery import gallery
from flows.report.head import head
from flows.report.html import paragraph, section
from flows.report.learning import learning, predict_shown, read_run
from flows.report.ledger import ledger
from flows.report.tally import Tally, read_tally
from storage.errors import RequestError
from storage.objects import Location
from storage.reader import open_dataset

STYLE = Path(__file__).parent / "page.css"
GUIDE = {
    "learning": "Learning",
    "pictures": "Densities",
    "surfaces": "Surfaces",
    "electrons": "Electrons",
    "sizes": "Sizes",
    "failures": "Failures",
    "time": "Time",
    "recipe": "Recipe",
}


def write_report(store: Location, run: Path | None, page: Path) -> None:
    """Write the page of a store, and of a training run on it. The same store gives the same bytes.

    Raises RequestError where there is no store or no folder for the page, StoreError where nothing is planned yet.
    """
    if not page.absolute().parent.is_dir():
        raise RequestError(f"{page}: the folder {page.parent} does not exist: make it, or name another file")
    tally = read_tally(store)
    sections = [*_show(store, tally, run), *ledger(tally)]
    page.write_text(_document(tally, [part for part in sections if part]), encoding="utf-8")


def _show(store: Location, tally: Tally, run: Path | None) -> Iterator[str]:
    """The sections that need arrays: they exist once the dataset is sealed."""
    if not (tally.status.sealed and tally.ok):
        reason = "no sample of this dataset is ok" if tally.status.sealed else "the dataset is not sealed yet"
        yield section("pictures", "Densities", paragraph(f"There are no pictures: {reason}.", "note"))
        return
    dataset = open_dataset(store)
    ids = choose_samples(dataset)
    if run is None:
        yield from gallery([show_stored(dataset, id) for id in ids])
        return
    yield learning(read_run(run))
    yield from gallery(predict_shown(dataset, run, ids))


def _document(tally: Tally, sections: Sequence[str]) -> str:
    whole = "\n".join(sections)
    links = [f'<a href="#{name}">{title}</a>' for name, title in GUIDE.items() if f'<section id="{name}"' in whole]
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{escape(tally.name)} – rhoflow</title>
<style>
{STYLE.read_text(encoding="utf-8")}</style>
<script>{plotly.offline.get_plotlyjs()}</script>
</head>
<body>
<main>
{head(tally)}
<nav>{"".join(links)}</nav>
{whole}
<footer>Made by <code>rhoflow report</code>. This page holds all it needs and loads nothing from elsewhere.</footer>
</main>
</body>
</html>
"""
