"""What makes two stores identical: arrays, ids, outcomes, splits and checksums; never seconds, hosts or attempts."""

import hashlib

from storage.generations import count_parts, read_latest
from storage.layout import conformers_key, receipt_key
from storage.manifest import digest_content
from storage.objects import Location, checksum_object, list_keys
from storage.plan import read_plan


def identify(store: Location) -> dict[str, str]:
    """sha256 by key of every stored object, and of every receipt without its circumstances."""
    objects = {key: checksum_object(store, key) for key in list_keys(store) if not key.startswith("work/")}
    for shard in read_plan(store).shards():
        objects[f"receipt {shard.number}"] = digest_content(store, receipt_key(shard.number))
    return objects


def fingerprint(store: Location) -> str:
    """sha256 of what a finished store holds: its source rows and their labels, and all that the receipts say."""
    plan, runs = read_plan(store), read_latest(store).runs
    receipts = [digest_content(store, receipt_key(shard.number)) for shard in plan.shards()]
    rows = [digest_content(store, conformers_key(part)) for part in range(count_parts(store))]
    return hashlib.sha256("".join([*receipts, *rows, str(runs)]).encode()).hexdigest()
