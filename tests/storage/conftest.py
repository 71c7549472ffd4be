"""Fixtures of the storage tests."""

from collections.abc import Callable
from pathlib import Path

import pytest

from storage.reader import StoredSample, open_dataset
from storage.seal import seal
from tests.storage.small_store import finish_shard, plan_store


@pytest.fixture
def build_store(tmp_path: Path) -> Callable[[str], Path]:
    """Makes a complete, unsealed store of the given name."""

    def build(name: str) -> Path:
        store = tmp_path / name
        plan = plan_store(store)
        for shard in plan.shards():
            finish_shard(store, plan, shard.number)
        return store

    return build


@pytest.fixture
def water(build_store: Callable[[str], Path]) -> StoredSample:
    """The first sample of a sealed store."""
    store = build_store("water.zarr")
    seal(store)
    return open_dataset(store)["water#0"]
