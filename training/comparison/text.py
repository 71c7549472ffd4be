"""The table of a comparison as text: one for each judge."""

from collections.abc import Sequence

from training.comparison.config import Comparison
from training.comparison.kind import Judge
from training.comparison.table import Row


def describe_comparison(comparison: Comparison, rows: Sequence[Row]) -> str:
    """With an empty line between tables; of what is done."""
    tables = [comparison.title]
    for name, judge in comparison.judges.items():
        if judged := [row for row in rows if row.judge == name]:
            tables.append("\n".join([describe_judge(name, judge, judged[0]), *_list_rows(judged)]))
    return "\n\n".join(tables if len(tables) > 1 else [*tables, "nothing is judged yet"])


def describe_judge(name: str, judge: Judge, row: Row) -> str:
    store = "the store of each variant" if judge.store is None else str(judge.store)
    samples = f"{row.samples} samples of {row.judged_molecules} molecules"
    seen = ", OTHER CONFORMERS OF MOLECULES TRAINED ON" if judge.conformers_of_training else ""
    turned = f", each turned {judge.rotations} times" if judge.rotations else ""
    return f"{name}: {samples}, {judge.split} split of {store}{seen}{turned}; means with 95 % intervals"


def arrange_rows(rows: Sequence[Row]) -> list[list[str]]:
    """Of one judge: the heads of the columns, then a line for each method and number of molecules."""
    measures = list(dict.fromkeys(row.measure for row in rows))
    lines: dict[tuple[str, int | None], list[Row]] = {}
    for row in rows:
        lines.setdefault((row.method, row.molecules), []).append(row)
    table = [["", "molecules", "seeds", measures[0], "± seeds", "× first", *measures[1:]]]
    for (method, _), line in lines.items():
        by_measure = {row.measure: _interval(row.mean, row.low, row.high) for row in line}
        chief = line[0]
        others = [by_measure.get(measure, "–") for measure in measures[1:]]
        ratio = _interval(chief.ratio, chief.ratio_low, chief.ratio_high)
        numbers = [_count(chief), str(chief.seeds) if chief.is_trained else "–"]
        spread = "–" if chief.spread is None else round_figure(chief.spread)
        table.append([method, *numbers, by_measure.get(measures[0], "–"), spread, ratio, *others])
    return table


def _list_rows(rows: Sequence[Row]) -> list[str]:
    """Columns as wide as what they hold."""
    table = arrange_rows(rows)
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    return ["  ".join(f"{cell:<{width}}" for cell, width in zip(line, widths, strict=True)).rstrip() for line in table]


def _count(row: Row) -> str:
    if row.molecules is None:
        return "all" if row.is_trained else "–"
    return f"{row.molecules:,}"


def _interval(mean: float | None, low: float | None, high: float | None) -> str:
    if mean is None:
        return "–"
    return round_figure(mean) + ("" if low is None or high is None else f" [{round_figure(low)}, {round_figure(high)}]")


def round_figure(number: float) -> str:
    """Three digits that count, as tables and plots have them."""
    return f"{number:#.3g}".rstrip(".") if number and not 1e-3 <= abs(number) < 1e3 else f"{number:.{_places(number)}f}"


def _places(number: float) -> int:
    return next(places for places, least in ((1, 100), (2, 1), (3, 0.1), (4, 0)) if abs(number) >= least)
