"""Makes damaged files of a store again from those that are whole, beside it, and puts them in when they are right."""

import shutil
import tempfile
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from flows.care.compare_stores import ArrayDifference, StoredShards, compare_arrays
from flows.conform import conform_part
from flows.plan import plan_dataset
from flows.progress import Meter
from flows.shard import compute_shard
from flows.workers.kernel import name_kernel
from storage.errors import StoreError
from storage.generations import count_parts
from storage.layout import (
    GENERATIONS,
    HEADER,
    PLANS,
    SEAL,
    conformers_key,
    planned_key,
    receipt_key,
    source_copy_key,
    source_key,
)
from storage.manifest import (
    MANIFESTS,
    Manifest,
    digest_content,
    is_vouched_for,
    read_manifest,
    read_seal,
    write_manifest,
)
from storage.objects import (
    Location,
    checksum_object,
    copy_object,
    delete_object,
    has_object,
    list_keys,
    read_object,
    read_record,
    write_object,
    write_record,
)
from storage.plan import Plan, Shard, is_planned, read_plan
from storage.receipts import has_receipt, read_receipt
from storage.seal import describe, list_checksums
from storage.verify import Findings, find_shard, is_plan

RESTORED = "restored"  # to the same bytes
REMADE = "made again"  # where nothing says what it was
IDENTICAL = "made again, identical"  # but for circumstances: seconds, host
DIFFERENT = "made again, different"
LOST = "lost"
ROOT = "zarr.json"


@dataclass(frozen=True)
class Mending:
    """What became of one damaged file."""

    key: str
    end: str
    message: str = ""


def repair_store(store: Location, findings: Findings) -> list[Mending]:
    """Mend what `find_damage` found, as far as it can be; unexpected files are left alone.

    A killed repair leaves a store that can be verified and repaired again.
    """
    damaged = {damage.key for damage in findings.damages if damage.fault != "unexpected"}
    has_manifest = any(has_object(store, name) and name not in damaged for name in MANIFESTS)
    with tempfile.TemporaryDirectory(prefix="rhoflow-repair-") as folder:
        manifest = read_manifest(store) if has_manifest else list_receipts(store, damaged)
        repair = Repair(store, Path(folder) / "twin.zarr", manifest, damaged - {SEAL, *MANIFESTS})
        repair.mend()
    for key in findings.leftovers:
        delete_object(store, key)
    if has_manifest:
        if damaged:
            write_manifest(store, Manifest(repair.files, repair.contents, repair.copies))
        lists = sorted(damaged & {SEAL, *MANIFESTS})
        return [*repair.mendings, *(Mending(key, RESTORED) for key in lists)]
    return [*repair.mendings, *_list_again(store, damaged, repair.mendings)]


def _list_again(store: Location, damaged: Collection[str], mendings: Sequence[Mending]) -> Iterator[Mending]:
    """Both lists of checksums are lost: where the files are those that the seal was put on, they give it back."""
    lists = sorted({SEAL, *MANIFESTS} & {*damaged})
    sealed = read_seal(store)
    if lists and sealed and LOST not in {mending.end for mending in mendings}:
        with tempfile.TemporaryDirectory(prefix="rhoflow-repair-") as folder:
            write_manifest(Path(folder), list_checksums(store))
            if read_seal(Path(folder)) == sealed:
                write_manifest(store, read_manifest(Path(folder)))
                yield from (Mending(key, RESTORED) for key in lists)
                return
    about = f"nothing says any more what tables and records were: `rhoflow seal {store}` takes them as they are now"
    yield from (Mending(key, LOST, about) for key in lists)


def describe_mendings(mendings: Sequence[Mending]) -> Iterator[str]:
    """In lines, one for all files of the same end, with the sum last."""
    groups: dict[tuple[str, str], list[str]] = {}
    for mending in mendings:
        groups.setdefault((mending.end, mending.message), []).append(mending.key)
    for (end, message), keys in groups.items():
        more = f" and {len(keys) - 1} more" if len(keys) > 1 else ""
        yield f"  {end}: {keys[0]}{more}" + (f" ({message})" if message else "")
    counts = Counter(mending.end for mending in mendings)
    sums = ", ".join(f"{count} {end}" for end, count in counts.items())
    yield f"repair on kernel {name_kernel()}: {sums or 'nothing to do'}"


def list_receipts(store: Location, damaged: Collection[str]) -> Manifest:
    """What receipts vouch for, where no manifest does."""
    files: dict[str, str] = {}
    contents = {}
    is_readable = is_planned(store) and not any(key == HEADER or is_plan(key) for key in damaged)
    for shard in read_plan(store).shards() if is_readable else ():
        key = receipt_key(shard.number)
        if has_receipt(store, shard.number) and key not in damaged:
            files.update(read_receipt(store, shard.number).objects)
            contents[key] = digest_content(store, key)
    return Manifest(files, contents, {})


class Repair:
    """A repair under way: what is made again is made in a twin of the store, which has all that is whole but arrays."""

    def __init__(self, store: Location, twin: Path, manifest: Manifest, damaged: Collection[str]) -> None:
        self.store, self.twin = store, twin
        self.files, self.contents, self.copies = dict(manifest.files), dict(manifest.contents), manifest.copies
        self.damaged = set(damaged)
        self.mendings: list[Mending] = []

    def mend(self) -> None:
        """Each stage makes files from those of the stages before it."""
        self._restore_copies()
        if any(key == HEADER or key.startswith(GENERATIONS) for key in self.damaged):
            self._lose(self.damaged, "the record of what the store was begun with is lost: restore work/ from a backup")
            return
        self._restore_source()
        self._copy_whole_files()
        self._conform_again()
        self._plan_again()
        self._compute_again()
        self._describe_again()
        self._lose(self.damaged, "nothing here gives it back: restore it from a backup")

    def _restore_copies(self) -> None:
        for key in sorted(self.damaged & {*self.copies}):
            write_record(self.store, key, self.copies[key])
            self._end(key, RESTORED)

    def _copy_whole_files(self) -> None:
        objects = {
            key
            for name in self.contents
            if name.startswith("work/receipts/") and name not in self.damaged
            for key in read_record(self.store, name)["objects"]  # type: ignore[attr-defined]
        }
        for key in list_keys(self.store):
            if is_vouched_for(key) and key not in objects | self.damaged:
                copy_object(self.store, self.twin, key)

    def _restore_source(self) -> None:
        for part in range(count_parts(self.store)):
            pair = source_key(part), source_copy_key(part)
            for key, copy in (pair, pair[::-1]):
                if key in self.damaged and checksum_object(self.store, copy) == self.files.get(key):
                    write_object(self.store, key, read_object(self.store, copy))
                    self._end(key, RESTORED)

    def _conform_again(self) -> None:
        for part in range(count_parts(self.store)):
            key = conformers_key(part)
            if key not in self.damaged or not has_object(self.twin, source_key(part)):
                continue
            conform_part(self.twin, part)
            if digest_content(self.twin, key) == self.contents.get(key):
                self._put(key, IDENTICAL)
            else:
                delete_object(self.twin, key)
                self._lose([key], "the programs installed here make other conformers: repair with those that made it")

    def _plan_again(self) -> None:
        """Restore plans, and the tables and metadata that planning writes, from plans made anew."""
        plan = None if any(map(is_plan, self.damaged)) else read_plan(self.store)
        objects = {key for key in self.damaged if plan and find_shard(plan, key)}
        planned = sorted(key for key in self.damaged - objects if key.startswith(PLANS) or not key.startswith("work/"))
        parts = map(conformers_key, range(count_parts(self.store)))
        if not planned or not all(has_object(self.twin, key) for key in parts):
            return
        fresh = self.twin.with_name("fresh.zarr")
        shutil.copytree(self.twin / "work", fresh / "work", ignore=shutil.ignore_patterns("plans", "receipts"))
        plan_dataset(fresh)
        for key in planned:
            self._adopt(key, fresh)
        if ROOT in self.damaged:
            copy_object(fresh, self.twin, ROOT)  # as planned: what sealing adds comes later
        written = {*list_keys(fresh)} - {ROOT}
        self._lose(written & self.damaged, f"planned otherwise with the programs and the kernel here ({name_kernel()})")

    def _compute_again(self) -> None:
        if any(map(is_plan, self.damaged)):
            return
        plan = read_plan(self.store)
        receipts = {receipt_key(shard.number): shard for shard in plan.shards()}
        found = {key: receipts.get(key) or find_shard(plan, key) for key in self.damaged}
        shards = {shard.number: shard for shard in found.values() if shard}
        if not shards:
            return
        with Meter("repair", len(shards), unit="shards") as meter:
            for _, shard in sorted(shards.items()):
                damaged = [key for key, of in found.items() if of == shard]
                try:
                    self._check_tables(shard)
                    self._compute_shard_again(plan, shard, damaged)
                except StoreError as error:  # what it is computed from is gone: wavefunctions of another store
                    self._lose(damaged, str(error))
                meter.advance(1)

    def _check_tables(self, shard: Shard) -> None:
        """Raises StoreError where the tables that a shard is computed from are lost."""
        group = f"{planned_key(shard.generation, shard.cells)}/"
        if lost := [mending.key for mending in self.mendings if mending.end == LOST and mending.key.startswith(group)]:
            raise StoreError(f"it is computed from {lost[0]}, which is lost")

    def _compute_shard_again(self, plan: Plan, shard: Shard, damaged: Sequence[str]) -> None:
        key = receipt_key(shard.number)
        delete_object(self.twin, key)
        objects = compute_shard(self.twin, shard.number).objects
        expected = self.contents.get(key)
        if digest_content(self.twin, key) == expected:
            for name in damaged:
                self._put(name, IDENTICAL if name == key else RESTORED)
        else:
            about = self._measure_difference(plan, shard) if expected else ""
            for name in (*objects, key):  # the receipt last
                self._put(name, DIFFERENT if expected else REMADE, about)
        for name in objects:
            delete_object(self.twin, name)

    def _measure_difference(self, plan: Plan, shard: Shard) -> str:
        """In words, over what can still be read of the shard."""
        differences = list(_compare_readable(StoredShards(self.twin), StoredShards(self.store), plan, shard))
        if not differences:
            return "nothing of what was stored can be read"
        nmae = max(difference.nmae for difference in differences)
        largest = max(difference.largest for difference in differences)
        return f"channels differ by an NMAE of up to {nmae:.2g}, values by up to {largest:.2g}"

    def _describe_again(self) -> None:
        """Restore the tables and metadata that sealing writes."""
        tables = sorted(key for key in self.damaged if not key.startswith("work/"))
        changed = DIFFERENT in {mending.end for mending in self.mendings}
        if not (tables or changed) or not self._is_complete():
            return
        describe(self.twin)
        for key in tables:
            self._adopt(key, self.twin)
        for key in list_keys(self.twin) if changed else ():
            if not key.startswith("work/") and checksum_object(self.twin, key) != self.files.get(key):
                self._put(key, DIFFERENT, "as the samples of the shards that differ")

    def _is_complete(self) -> bool:
        """Whether the twin has all that describes a dataset."""
        needed = {HEADER, *self.contents, *(key for key in self.files if key.startswith(f"{PLANS}/"))}
        return all(has_object(self.twin, key) for key in needed)

    def _adopt(self, key: str, maker: Path) -> None:
        """Put a file of `maker` into the store, and the twin, where it is what the store had."""
        if has_object(maker, key) and checksum_object(maker, key) == self.files.get(key):
            if maker != self.twin:
                copy_object(maker, self.twin, key)
            self._put(key, RESTORED)

    def _put(self, key: str, end: str, message: str = "") -> None:
        """Put the twin's file into the store, and vouch for it as it is."""
        copy_object(self.twin, self.store, key)
        self._end(key, end, message)
        if end != RESTORED:
            self.files[key] = checksum_object(self.store, key)
            if key in self.contents:
                self.contents[key] = digest_content(self.store, key)

    def _lose(self, keys: Collection[str] | Iterator[str], message: str) -> None:
        for key in sorted(keys):
            self._end(key, LOST, message)

    def _end(self, key: str, end: str, message: str = "") -> None:
        self.damaged.discard(key)
        self.mendings.append(Mending(key, end, message))


def _compare_readable(one: StoredShards, other: StoredShards, plan: Plan, shard: Shard) -> Iterator[ArrayDifference]:
    """Of every channel of every sample of a shard that both stores give."""
    for channel in plan.channels:
        for row in range(shard.last - shard.first):
            try:
                values, others = (shards.read_array(channel.name, shard, row) for shards in (one, other))
            except StoreError:
                continue  # the sample failed, or this is what was damaged
            yield compare_arrays(values, others)
