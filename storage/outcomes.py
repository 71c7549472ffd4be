"""What became of every source row: the source as it is now, plans and receipts read together."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from storage.generations import Place, read_generation, read_rows
from storage.layout import decode_text, open_group, planned_key
from storage.objects import Location
from storage.parts import ConformedRow
from storage.plan import Plan, Refusal
from storage.receipts import Outcome, Receipt, find_missing, read_receipt
from storage.schema import Label

MISSING = "missing"
SUPERSEDED = "superseded"  # computed for a row that was changed or removed, or tried again since


@dataclass(frozen=True)
class RowOutcome:
    """One source row's end. Several conformers: `ok` when all have ended and at least one is ok."""

    row: int
    id: str
    outcome: str  # "ok", a failure's reason, or "missing" while work remains
    message: str = ""
    samples: Sequence[str] = ()  # ids of its samples that are ok; of another row's, where it is a duplicate
    duplicate_of: str = ""  # the sample computed in its place
    failures: Sequence[Outcome] = ()  # of its conformers
    labels: Mapping[str, Label | None] = field(default_factory=dict)


@dataclass(frozen=True)
class Owner:
    """Whose sample lies at a place."""

    id: str  # of the sample, as the source names its row now
    row: int  # of the source


@dataclass(frozen=True)
class NamedPlaces:
    """Columns over the rows of a size class's arrays."""

    ids: list[str]  # "": the row is free, or what it holds belongs to no row of the source
    rows: list[int]  # of the source; -1: none
    outcomes: list[str]
    labels: dict[str, list[Label | None]]  # by name


@dataclass(frozen=True)
class Version:
    """What a store holds of the source as it was last planned."""

    number: int  # of the generation
    rows: Sequence[RowOutcome]
    owners: Mapping[Place, Owner]  # of every sample that a row of the source has
    outcomes: Mapping[Place, Outcome]  # of every sample that is computed, also of rows that are gone

    def label_columns(self) -> dict[str, list[Label | None]]:
        """Over the source's rows. Labels that are text in at least one row are text everywhere."""
        names = sorted({name for row in self.rows for name in row.labels})
        columns = {name: [row.labels.get(name) for row in self.rows] for name in names}
        texts = {name for name, values in columns.items() if any(isinstance(value, str) for value in values)}
        return {name: [*map(as_text, values)] if name in texts else values for name, values in columns.items()}

    def name_places(self, cells: int, length: int) -> NamedPlaces:
        """Whose the first `length` rows of a size class's arrays are."""
        places = [Place(cells, row) for row in range(length)]
        owners = [self.owners.get(place) for place in places]
        columns = self.label_columns()
        return NamedPlaces(
            ids=[owner.id if owner else "" for owner in owners],
            rows=[owner.row if owner else -1 for owner in owners],
            outcomes=[
                self.outcomes[place].outcome if owner else SUPERSEDED if place in self.outcomes else ""
                for place, owner in zip(places, owners, strict=True)
            ],
            labels={name: _pick(values, owners) for name, values in columns.items()},
        )


def _pick(values: Sequence[Label | None], owners: Sequence[Owner | None]) -> list[Label | None]:
    """The labels of these rows; where there is none, the empty value of the column's kind."""
    empty = "" if any(isinstance(value, str) for value in values) else None
    return [values[owner.row] if owner else empty for owner in owners]


def as_text(value: Label | None) -> str:
    """A label of a column that holds text in other rows; 7 there is "7", not "7.0"."""
    return "" if value is None else f"{value:.17g}" if isinstance(value, float) else value


def read_row_outcomes(store: Location, plan: Plan) -> Sequence[RowOutcome]:
    """One value for each row of the source, in its order."""
    return read_version(store, plan).rows


def read_receipts(store: Location, plan: Plan) -> list[Receipt]:
    """Of every shard that has one."""
    missing = {*find_missing(store, (shard.number for shard in plan.shards()))}
    return [read_receipt(store, shard.number) for shard in plan.shards() if shard.number not in missing]


def read_version(store: Location, plan: Plan, receipts: Sequence[Receipt] | None = None) -> Version:
    """Of the source as it was when the last of the plan's generations was planned; `receipts`: if they are read."""
    generations = [read_generation(store, generation.number) for generation in plan.generations]
    ends = Ends(store, plan)
    rows = [
        (row, [ends.find(part, conformer.id) for conformer in row.conformers])
        for part, row in read_rows(store, generations[-1])
    ]
    owners = _find_owners(rows)
    outcomes = place_outcomes(plan, read_receipts(store, plan) if receipts is None else receipts)
    ended = [_end_row(place, row, found, owners, outcomes) for place, (row, found) in enumerate(rows)]
    return Version(generations[-1].number, ended, owners, outcomes)


def find_places(store: Location, plan: Plan) -> dict[str, Place | Refusal]:
    """By its id, where the sample of every conformer that the source has now lies, or why it was refused one."""
    ends, latest = Ends(store, plan), read_generation(store, plan.generations[-1].number)
    rows = read_rows(store, latest)
    return {conformer.id: ends.find(part, conformer.id) for part, row in rows for conformer in row.conformers}


def place_outcomes(plan: Plan, receipts: Sequence[Receipt]) -> dict[Place, Outcome]:
    """By the places of their samples."""
    shards = plan.shards()
    return {
        Place(shards[receipt.shard].cells, shards[receipt.shard].first + row): outcome
        for receipt in receipts
        for row, outcome in enumerate(receipt.outcomes)
    }


def read_planned_ids(store: Location, plan: Plan) -> dict[Place, str]:
    """What every sample was called when it was planned."""
    planned = {}
    for generation in plan.generations:
        for cells, first in generation.first.items():
            group: Any = open_group(store, "r", planned_key(generation.number, cells))
            ids = decode_text(group["id"][...])
            planned.update({Place(cells, first + row): id for row, id in enumerate(ids)})
    return planned


class Ends:
    """Where planning put each conformer, by the part that its row lies in and its id, or why nowhere."""

    def __init__(self, store: Location, plan: Plan) -> None:
        generations = [read_generation(store, generation.number) for generation in plan.generations]
        self._brought_by = {
            part: one.number for one in generations for part in range(one.first_part, one.first_part + one.parts)
        }
        moved = {was: now for generation in plan.generations for was, now in generation.retried}
        planned = read_planned_ids(store, plan)
        self._ends: dict[tuple[int, str], Place | Refusal] = {}
        for generation in plan.generations:
            number = generation.number
            self._ends.update({(number, refusal.id): refusal for refusal in generation.refusals})
            self._ends.update({(number, id): _follow(moved, place) for id, place in generation.aliases.items()})
            for cells, first in generation.first.items():
                for place in (Place(cells, row) for row in range(first, first + generation.samples[cells])):
                    self._ends[number, planned[place]] = _follow(moved, place)

    def find(self, part: int, id: str) -> Place | Refusal:
        return self._ends[self._brought_by[part], id]


def _follow(moved: Mapping[Place, Place], place: Place) -> Place:
    """Where a sample was tried again last."""
    while place in moved:
        place = moved[place]
    return place


def _find_owners(rows: Sequence[tuple[ConformedRow, Sequence[Place | Refusal]]]) -> dict[Place, Owner]:
    """A sample belongs to the first row, in the order of the source, that has it."""
    owners: dict[Place, Owner] = {}
    for index, (row, ends) in enumerate(rows):
        for conformer, place in zip(row.conformers, ends, strict=True):
            if isinstance(place, Place) and place not in owners:
                owners[place] = Owner(conformer.id, index)
    return owners


def _end_row(
    index: int,
    row: ConformedRow,
    places: Sequence[Place | Refusal],
    owners: Mapping[Place, Owner],
    outcomes: Mapping[Place, Outcome],
) -> RowOutcome:
    if row.outcome != "ok":
        failure = Outcome(row.id, row.outcome, row.message)
        return RowOutcome(index, row.id, row.outcome, row.message, failures=(failure,), labels=row.labels)
    ids = [conformer.id for conformer in row.conformers]
    ends = [_end_conformer(id, place, outcomes) for id, place in zip(ids, places, strict=True)]
    failures = [end for end in ends if end.outcome not in ("ok", MISSING)]
    homes = [owners[place].id if isinstance(place, Place) else id for id, place in zip(ids, places, strict=True)]
    samples = [home for home, end in zip(homes, ends, strict=True) if end.outcome == "ok"]
    outcome, message = _summarise(ends)
    duplicate_of = homes[0] if homes[0] != ids[0] else ""
    return RowOutcome(index, row.id, outcome, message, samples, duplicate_of, failures, row.labels)


def _end_conformer(id: str, place: Place | Refusal, outcomes: Mapping[Place, Outcome]) -> Outcome:
    if isinstance(place, Refusal):
        return Outcome(id, place.reason, place.message)
    return replace(outcomes.get(place, Outcome(id, MISSING)), id=id)


def _summarise(ends: Sequence[Outcome]) -> tuple[str, str]:
    kinds = [end.outcome for end in ends]
    if MISSING in kinds:
        return MISSING, ""
    if "ok" in kinds:
        return "ok", ""
    return ends[0].outcome, ends[0].message
