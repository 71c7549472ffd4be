"""Pieces of HTML. Everything that comes from a store is escaped here."""

from collections.abc import Iterable, Mapping, Sequence
from html import escape

from flows.report.scales import Scale


def section(name: str, title: str, *pieces: str) -> str:
    return (
        f'<section id="{name}"><h2>{escape(title)}</h2>\n'
        + "\n".join(piece for piece in pieces if piece)
        + "\n</section>"
    )


def paragraph(text: str, kind: str = "") -> str:
    return f"<p{_class(kind)}>{escape(text)}</p>"


def figure(content: str, caption: str = "", kind: str = "") -> str:
    legend = f"<figcaption>{escape(caption)}</figcaption>" if caption else ""
    return f"<figure{_class(kind)}><div>{content}</div>{legend}</figure>"


def facts(values: Mapping[str, str]) -> str:
    """Large numbers with what they count; what follows the first space is set small."""
    entries = []
    for name, value in values.items():
        number, _, rest = value.partition(" ")
        small = f" <small>{escape(rest)}</small>" if rest else ""
        entries.append(f"<div><dt>{escape(name)}</dt><dd>{escape(number)}{small}</dd></div>")
    return f'<dl class="facts">{"".join(entries)}</dl>'


def table(columns: Sequence[str], rows: Iterable[Sequence[str]], kinds: Sequence[str], kind: str = "") -> str:
    """`kinds` gives the class of every column, e.g. "number"."""
    head = "".join(f"<th{_class(kind)}>{escape(column)}</th>" for column, kind in zip(columns, kinds, strict=True))
    body = "\n".join(
        "<tr>"
        + "".join(f"<td{_class(kind)}>{escape(cell)}</td>" for cell, kind in zip(row, kinds, strict=True))
        + "</tr>"
        for row in rows
    )
    return f"<table{_class(kind)}><thead><tr>{head}</tr></thead><tbody>\n{body}\n</tbody></table>"


def menu(name: str, label: str, options: Iterable[str]) -> str:
    choices = "".join(f'<option value="{escape(option)}">{escape(option)}</option>' for option in options)
    return f'<label>{escape(label)} <select id="{name}" autocomplete="off">{choices}</select></label>'


def colour_key(scale: Scale) -> str:
    """The scale as a ramp with its ticks."""
    ramp = ", ".join(scale.colours)
    ticks = "".join(
        f'<span style="left:{100 * scale.place(tick):.2f}%">{_tick_text(tick)}</span>' for tick in scale.ticks
    )
    return (
        f'<div class="key">{escape(scale.title)}, {escape(scale.units)}'
        f'<div class="ramp" style="background:linear-gradient(to right, {ramp})"></div>'
        f'<div class="ticks">{ticks}</div></div>'
    )


def _tick_text(value: float) -> str:
    return f"{value:g}".replace("-", "−")


def _class(kind: str) -> str:
    return f' class="{kind}"' if kind else ""
