"""What became of each sample of a shard: written last, so that a shard is done when its receipt exists."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from storage.layout import RECEIPTS, receipt_key
from storage.objects import Location, has_object, list_keys, read_record, write_record


@dataclass(frozen=True)
class Outcome:
    """One sample's end: `ok` with the numbers measured on it, or a named failure with its message."""

    id: str
    outcome: str
    message: str = ""
    facts: Mapping[str, float] = field(default_factory=dict)  # e.g. "target_energy_hartree"
    programs: Mapping[str, str] = field(default_factory=dict)  # by density


@dataclass(frozen=True)
class Receipt:
    shard: int
    outcomes: Sequence[Outcome]
    objects: Mapping[str, str]  # key of every stored object of the shard → sha256
    circumstances: Mapping[str, Any]  # seconds, host, attempts: not part of a store's identity


def write_receipt(store: Location, receipt: Receipt) -> None:
    outcomes = [
        {**vars(outcome), "facts": {name: _or_none(value) for name, value in outcome.facts.items()}}
        for outcome in receipt.outcomes
    ]
    write_record(store, receipt_key(receipt.shard), {**vars(receipt), "outcomes": outcomes})


def has_receipt(store: Location, shard: int) -> bool:
    return has_object(store, receipt_key(shard))


def find_missing(store: Location, shards: Iterable[int]) -> list[int]:
    """Those that have no receipt, from one listing."""
    written = {*list_keys(store, RECEIPTS)}
    return [number for number in shards if receipt_key(number) not in written]


def read_receipt(store: Location, shard: int) -> Receipt:
    record: Any = read_record(store, receipt_key(shard))
    outcomes = [
        Outcome(**{**entry, "facts": {name: _or_nan(value) for name, value in entry["facts"].items()}})
        for entry in record["outcomes"]
    ]
    return Receipt(record["shard"], outcomes, record["objects"], record["circumstances"])


def _or_none(value: float) -> float | None:
    return None if value != value else float(value)


def _or_nan(value: float | None) -> float:
    return float("nan") if value is None else value
