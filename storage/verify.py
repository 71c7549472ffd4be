"""Finds every file of a store that is not as it was written."""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass

from storage.errors import StoreError
from storage.layout import GENERATIONS, HEADER, PLANS, class_key, planned_key, receipt_key
from storage.manifest import (
    MANIFESTS,
    Manifest,
    find_manifest_faults,
    is_vouched_for,
    read_manifest,
    tell_fault,
)
from storage.objects import PARTIAL, Location, checksum_object, has_object, list_keys, read_record
from storage.plan import Plan, Shard, read_plan, read_shard_samples
from storage.receipts import has_receipt, read_receipt
from storage.seal import is_sealed

SHOWN_SAMPLES = 20


@dataclass(frozen=True)
class Damage:
    """A file that is not as it was written, and the samples that it holds, the first 20 of them."""

    key: str
    fault: str  # "damaged" (other bytes), "missing", or "unexpected"
    shard: int | None = None
    samples: Sequence[str] = ()


@dataclass(frozen=True)
class Findings:
    sealed: bool
    checked: int  # files whose bytes were compared
    damages: Sequence[Damage]
    leftovers: Sequence[str]  # of killed writers: harmless
    unvouched: str = ""  # what could not be checked, and why


def find_damage(store: Location, advance: Callable[[int], None] = lambda _: None) -> Findings:
    """Read every file and compare it with what vouches for it; `advance` hears how many more are done.

    Where a store is not sealed, only receipts vouch, for the stored objects of their shards.
    """
    keys = list_keys(store)
    leftovers = [key for key in keys if key.endswith(PARTIAL)]
    if not is_sealed(store) and not any(has_object(store, name) for name in MANIFESTS):
        about = "not sealed: receipts vouch for the stored objects, nothing does for tables and records"
        damages, checked = _check_objects(store, advance)
        return Findings(False, checked, [*_find_unreadable(store, keys), *damages], leftovers, about)
    faults = find_manifest_faults(store)
    if {*MANIFESTS} <= {*faults}:
        about = "no list of checksums is left: receipts vouch for the stored objects, nothing does for the rest"
        damages, checked = _check_objects(store, advance)
        lists = [Damage(key, fault) for key, fault in faults.items()]
        return Findings(True, checked, [*lists, *_find_unreadable(store, keys, faults), *damages], leftovers, about)
    manifest = read_manifest(store)
    for key, expected in manifest.files.items():
        if fault := tell_fault(checksum_object(store, key), expected):
            faults[key] = fault
        advance(1)
    faults.update({key: "unexpected" for key in keys if is_vouched_for(key) and key not in manifest.files})
    return Findings(is_sealed(store), len(manifest.files), list(_locate(store, faults, manifest)), leftovers)


def count_files(store: Location) -> int:
    """How many `find_damage` will look at, about."""
    return sum(map(is_vouched_for, list_keys(store)))


def find_shard(plan: Plan, key: str) -> Shard | None:
    """The shard whose samples a stored object holds; None for every other file."""
    group, _, rest = key.partition("/")
    name, _, place = rest.partition("/")
    if not place.startswith("c.") or name not in _list_arrays(plan):
        return None
    index = int(place.split(".")[1])
    return next((shard for shard in plan.shards() if (class_key(shard.cells), shard.index) == (group, index)), None)


def is_plan(key: str) -> bool:
    """Whether it is the record of a generation's plan, rather than a table beside it."""
    return key.startswith(f"{PLANS}/") and key.endswith(".json.gz")


def _list_arrays(plan: Plan) -> list[str]:
    """Names of the arrays over samples whose stored objects shards write."""
    kept = [f"{part}_{density}" for density in plan.densities for part in ("orbitals", "occupations")]
    return [*(channel.name for channel in plan.channels), *kept]


def _locate(store: Location, faults: Mapping[str, str], manifest: Manifest) -> Iterator[Damage]:
    """Damages with their shards and samples, as far as the files that say so are whole themselves."""
    if any(key in manifest.copies or is_plan(key) for key in faults):
        yield from (Damage(key, fault) for key, fault in faults.items())
        return
    plan = read_plan(store)
    receipts = {receipt_key(shard.number): shard for shard in plan.shards()}
    for key, fault in faults.items():
        if shard := receipts.get(key) or find_shard(plan, key):
            yield Damage(key, fault, shard.number, _name_samples(store, shard, faults))
        else:
            yield Damage(key, fault)


def _name_samples(store: Location, shard: Shard, faults: Mapping[str, str]) -> list[str]:
    """From the receipt, or from the tables: whichever is whole."""
    if receipt_key(shard.number) not in faults:
        return [outcome.id for outcome in read_receipt(store, shard.number).outcomes][:SHOWN_SAMPLES]
    tables = [key for key in faults if key.startswith(f"{planned_key(shard.generation, shard.cells)}/")]
    planned = [] if tables else read_shard_samples(store, shard)
    return [sample.conformer.id for sample in planned][:SHOWN_SAMPLES]


def _check_objects(store: Location, advance: Callable[[int], None]) -> tuple[list[Damage], int]:
    """Stored objects that are not as the receipts of their shards say, and how many were checked."""
    damages, checked = [], 0
    for shard in _list_shards(store):
        if not has_receipt(store, shard.number) or _is_unreadable(store, receipt_key(shard.number)):
            continue
        receipt = read_receipt(store, shard.number)
        ids = [outcome.id for outcome in receipt.outcomes][:SHOWN_SAMPLES]
        for key, expected in receipt.objects.items():
            if fault := tell_fault(checksum_object(store, key), expected):
                damages.append(Damage(key, fault, shard.number, ids))
        checked += len(receipt.objects)
        advance(len(receipt.objects))
    return damages, checked


def _list_shards(store: Location) -> list[Shard]:
    """None, where what plans them is missing or damaged."""
    records = [HEADER, *filter(is_plan, list_keys(store, PLANS)), *list_keys(store, GENERATIONS)]
    return [] if any(_is_unreadable(store, key) for key in records) else read_plan(store).shards()


def _find_unreadable(store: Location, keys: Sequence[str], known: Collection[str] = ()) -> list[Damage]:
    """Records that are no records any more, and a header that is gone."""
    records = [key for key in keys if key.startswith("work/") and key.endswith((".json", ".json.gz"))]
    gone = [] if HEADER in keys else [Damage(HEADER, "missing")]
    checked = [key for key in records if is_vouched_for(key) and key not in known]
    return [*gone, *(Damage(key, "damaged") for key in checked if _is_unreadable(store, key))]


def _is_unreadable(store: Location, key: str) -> bool:
    try:
        read_record(store, key)
    except StoreError:
        return True
    return False
