"""The curves of a training: one table in the run's folder, and the same for TensorBoard."""

import csv
from pathlib import Path
from types import TracebackType

from torch.utils.tensorboard import SummaryWriter

from storage.objects import write_object

HISTORY = "history.csv"
EVENTS = "events"  # TensorBoard's folder

Row = dict[str, float | None]  # by column; None where nothing was measured


def write_history(run: Path, rows: list[Row]) -> None:
    """One line per row, oldest first."""
    lines = [",".join(rows[0])]
    lines += [",".join("" if value is None else str(value) for value in row.values()) for row in rows]
    write_object(run, HISTORY, ("\n".join(lines) + "\n").encode())


def read_lowest(run: Path) -> float:
    """The best validation that a run came to, which is not the one before its first step."""
    with (run / HISTORY).open(encoding="utf-8") as file:
        rows = [row for row in csv.DictReader(file) if row["validation"] and int(row["step"])]
    return min(float(row["validation"]) for row in rows)


class Curves:
    """TensorBoard's curves of a run from a step on: what an interrupted process drew beyond it is struck out."""

    def __init__(self, run: Path, step: int) -> None:
        self._writer = SummaryWriter(str(run / EVENTS), purge_step=step + 1)

    def __enter__(self) -> "Curves":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._writer.close()

    def draw(self, row: Row) -> None:
        for name, value in row.items():
            if name != "step" and value is not None:
                self._writer.add_scalar(name, value, int(row["step"] or 0))
        self._writer.flush()
