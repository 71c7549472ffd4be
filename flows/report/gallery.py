"""The sections with pictures: slices through a few molecules, and surfaces that turn."""

from collections.abc import Iterator, Sequence
from html import escape
from pathlib import Path

from flows.report.fields import Shown
from flows.report.house import to_html
from flows.report.html import colour_key, figure, menu, paragraph, section
from flows.report.slices import choose_scales, slice_figure
from flows.report.surfaces import surface_layout, surface_traces
from pipeline.elements import SYMBOLS
from storage.schema import IntArray

SCRIPT = Path(__file__).parent / "surfaces.js"


def gallery(shown: Sequence[Shown]) -> Iterator[str]:
    """The sections of samples that have fields to show."""
    shown = [one for one in shown if one.fields]
    if shown:
        yield _slices(shown)
        yield _surfaces(shown)


def _slices(shown: Sequence[Shown]) -> str:
    scales = choose_scales(shown)
    pictures = []
    for place, one in enumerate(shown):
        about = f"{_formula(one.sample.numbers)} · {escape(one.sample.conformer.smiles)} · {one.split} split"
        picture = to_html(slice_figure(one, scales), f"slice-{place}")
        pictures.append(
            f'<div class="molecule"><h3>{escape(one.sample.id)} <small>{about}</small></h3>'
            f"{figure(picture, kind='wide pictures')}</div>"
        )
    keys = "".join(colour_key(scale) for scale in scales.values())
    return section(
        "pictures",
        "Densities",
        paragraph(
            "Each molecule is cut along the plane that holds most of its nuclei; atoms within 0.6 Å of that plane are "
            "named. Values are interpolated linearly between cells. Colours mean the same in all pictures: densities "
            "on a logarithmic scale, differences on that of their square root. 1 e/bohr³ = 6.748 e/Å³. "
            "NMAE: the absolute differences of all cells, added up, in per cent of the electrons."
        ),
        f'<div class="keys">{keys}</div>',
        *pictures,
    )


def _surfaces(shown: Sequence[Shown]) -> str:
    names = list(dict.fromkeys(field.name for one in shown for field in one.fields))
    controls = menu("surface-molecule", "Molecule", [one.sample.id for one in reversed(shown)])
    controls += menu("surface-field", "Field", names)
    return section(
        "surfaces",
        "Surfaces",
        paragraph(
            "Where a field has one value. Drag to turn, scroll to come closer. Differences are red where there is "
            "too much density, blue where there is too little."
        ),
        f'<div class="controls">{controls}<span id="surface-caption" class="note"></span></div>',
        '<div class="stage"><div id="surface-stage"></div></div>',
        f'<script type="application/json" id="surface-traces">{surface_traces(shown)}</script>',
        f'<script type="application/json" id="surface-layout">{surface_layout()}</script>',
        f"<script>\n{SCRIPT.read_text(encoding='utf-8')}</script>",
    )


def _formula(numbers: IntArray) -> str:
    """Hill order, with subscripts."""
    symbols = [SYMBOLS[int(number)] for number in numbers]
    first = {"C": 0, "H": 1} if "C" in symbols else {}
    order = sorted(set(symbols), key=lambda symbol: (first.get(symbol, 2), symbol))
    counts = [symbols.count(symbol) for symbol in order]
    return "".join(
        symbol + (f"<sub>{count}</sub>" if count > 1 else "") for symbol, count in zip(order, counts, strict=True)
    )
