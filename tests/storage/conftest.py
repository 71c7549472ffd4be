"""Fixtures of the storage tests."""

from collections.abc import Callable
from pathlib import Path

import pytest

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
