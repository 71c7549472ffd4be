"""What makes two stores identical: arrays, ids, outcomes, splits and checksums; never seconds, hosts or attempts."""

import hashlib
from pathlib import Path

from storage.layout import receipt_key
from storage.manifest import digest_content
from storage.objects import checksum
from storage.plan import read_plan


def identify(store: Path) -> dict[str, str]:
    """sha256 by key of every stored object, and of every receipt without its circumstances."""
    objects = {
        path.relative_to(store).as_posix(): checksum(path)
        for path in sorted(store.rglob("*"))
        if path.is_file() and not path.relative_to(store).as_posix().startswith("work/")
    }
    for shard in read_plan(store).shards():
        objects[f"receipt {shard.number}"] = digest_content(store, receipt_key(shard.number))
    return objects


def fingerprint(store: Path) -> str:
    """sha256 of what the receipts of a finished store say, which holds the checksums of its shards."""
    receipts = (digest_content(store, receipt_key(shard.number)) for shard in read_plan(store).shards())
    return hashlib.sha256("".join(receipts).encode()).hexdigest()
