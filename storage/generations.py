"""What the source was each time it was read: the rows that came, and the order of all of them."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any, NamedTuple, TypeVar

from storage.errors import StoreError
from storage.layout import GENERATIONS, generation_key
from storage.manifest import vouch_again
from storage.objects import Location, list_keys, read_record, write_record
from storage.parts import ConformedRow, read_conformer_part

Rows = TypeVar("Rows")


class Place(NamedTuple):
    """Where a sample lies: its size class, and its row in the arrays of that class."""

    cells: int
    row: int


class Run(NamedTuple):
    """Source rows that lie after one another in one part."""

    part: int
    first: int
    length: int


@dataclass(frozen=True)
class Origin:
    """A sealed store that another one takes wavefunctions or samples from."""

    store: str
    fingerprint: str  # what it holds; where it lies may change


@dataclass(frozen=True)
class Generation:
    """One state of the source. What earlier generations brought stays where it is; a new one only adds.

    A retry is a generation too: the source is the same, and failed samples get a second place.
    """

    number: int  # from 1
    path: str
    sha256: str
    limit: int | None
    first_part: int  # of the rows that it brought
    parts: int
    runs: Sequence[Run]  # every row of the source, in order, wherever it lies
    retried: Sequence[Place] = ()
    reuse: Origin | None = None

    @property
    def rows(self) -> int:
        """Of the source as it was then."""
        return sum(run.length for run in self.runs)


def write_generation(store: Location, generation: Generation) -> None:
    record: dict[str, Any] = {**vars(generation), "reuse": vars(generation.reuse) if generation.reuse else None}
    write_record(store, generation_key(generation.number), record)


def change_generation(store: Location, generation: Generation, **found: str | int | Origin | None) -> None:
    """The same rows were found elsewhere, or in a file that says them in other words."""
    changed = replace(generation, **found)  # type: ignore[arg-type]
    if changed != generation:
        write_generation(store, changed)
        vouch_again(store, generation_key(generation.number))


def count_generations(store: Location) -> int:
    return sum(key.endswith(".json.gz") for key in list_keys(store, GENERATIONS))


def read_generation(store: Location, number: int) -> Generation:
    record: Any = read_record(store, generation_key(number))
    return Generation(
        **{
            **record,
            "runs": [Run(*run) for run in record["runs"]],
            "retried": [Place(*place) for place in record["retried"]],
            "reuse": Origin(**record["reuse"]) if record["reuse"] else None,
        }
    )


def read_latest(store: Location) -> Generation:
    """Raises StoreError where the source has not been read yet."""
    number = count_generations(store)
    if not number:
        raise StoreError(f"the source of {store} has not been read to its end: run `rhoflow build` or `rhoflow plan`")
    return read_generation(store, number)


def count_parts(store: Location) -> int:
    """Of all that was ever read of the source."""
    latest = read_latest(store)
    return latest.first_part + latest.parts


def read_rows(store: Location, generation: Generation) -> Iterator[tuple[int, ConformedRow]]:
    """Every source row in its order, with the number of the part that it lies in.

    Raises StoreError where a part is not conformed.
    """
    read_part = keep_parts(generation, lambda part: read_conformer_part(store, part))
    for run in generation.runs:
        for row in read_part(run.part)[run.first : run.first + run.length]:
            yield run.part, row


def keep_parts(generation: Generation, read: Callable[[int], Rows]) -> Callable[[int], Rows]:
    """Reads each part about once: a few are kept, or where the rows were shuffled, all."""
    parts = len({run.part for run in generation.runs})
    return lru_cache(maxsize=4 if len(generation.runs) < 2 * parts + 100 else None)(read)


def append_run(runs: list[Run], part: int, index: int) -> None:
    """One more row, as part of the last run where it follows that."""
    if runs and (runs[-1].part, runs[-1].first + runs[-1].length) == (part, index):
        runs[-1] = Run(part, runs[-1].first, runs[-1].length + 1)
    else:
        runs.append(Run(part, index, 1))
