"""What makes two stores identical: arrays, ids, outcomes, splits and checksums; never seconds, hosts or attempts."""

import hashlib
import json
from pathlib import Path

from storage.objects import checksum
from storage.plan import read_plan
from storage.receipts import read_receipt


def identify(store: Path) -> dict[str, str]:
    """sha256 by key of every stored object, and of every receipt without its circumstances."""
    objects = {
        path.relative_to(store).as_posix(): checksum(path)
        for path in sorted(store.rglob("*"))
        if path.is_file() and not path.relative_to(store).as_posix().startswith("work/")
    }
    for shard in read_plan(store).shards():
        objects[f"receipt {shard.number}"] = _digest_receipt(store, shard.number).hex()
    return objects


def fingerprint(store: Path) -> str:
    """sha256 of what the receipts of a finished store say, which holds the checksums of its shards."""
    receipts = (_digest_receipt(store, shard.number) for shard in read_plan(store).shards())
    return hashlib.sha256(b"".join(receipts)).hexdigest()


def _digest_receipt(store: Path, shard: int) -> bytes:
    """sha256 of a receipt without its circumstances."""
    receipt = read_receipt(store, shard)
    content = [[vars(outcome) for outcome in receipt.outcomes], receipt.objects]
    return hashlib.sha256(json.dumps(content, default=dict).encode()).digest()
