"""What failed is tried again, and nothing else is touched."""

from pathlib import Path

import numpy as np
import pytest

from storage.identity import identify
from storage.layout import PLAN
from storage.plan import read_plan
from storage.reader import open_dataset
from storage.receipts import read_receipt
from tests.flows.small_build import rhoflow, write_recipe


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path / "prefect"


def build(home: Path, recipe: Path, store: Path) -> Path:
    for arguments in (("plan", recipe, store), ("run", store), ("seal", store)):
        rhoflow(home, *arguments)
    return store


def test_samples_that_ran_out_of_time_are_made_good_and_the_others_keep_their_bytes(home: Path, tmp_path: Path) -> None:
    recipe = write_recipe(tmp_path / "good")
    whole = build(home, recipe, tmp_path / "whole.zarr")
    hasty = recipe.read_text() + "[limits]\nseconds_per_molecule = 1e-6\n"
    store = tmp_path / "store.zarr"
    rhoflow(home, "plan", recipe, store)
    rhoflow(home, "run", store, "--parts", "1/2")  # the first shards have time enough
    recipe.write_text(hasty)
    rhoflow(home, "plan", recipe, store)
    rhoflow(home, "run", store)
    rhoflow(home, "seal", store)
    failed = [end for shard in read_plan(store).shards() for end in read_receipt(store, shard.number).outcomes]
    late = [end.id for end in failed if end.outcome == "timeout"]
    assert late  # the first call of a child imports everything
    assert len(late) < len(failed)
    recipe.write_text(hasty.replace("1e-6", "600"))
    rhoflow(home, "plan", recipe, store)
    before = {id: open_dataset(store)[id].channels["target"] for id in open_dataset(store).ids}
    plan = (store / PLAN).read_bytes()
    assert f"{len(late)} samples tried again: {len(late)} ok" in rhoflow(home, "retry", store)
    assert (store / PLAN).read_bytes() == plan
    after = open_dataset(store)
    assert all(np.array_equal(after[id].channels["target"], values) for id, values in before.items())
    differing = {key for key, digest in identify(store).items() if identify(whole)[key] != digest}
    assert differing <= {"zarr.json"}  # whose recipe has the other limit
    assert "0 not as they were written" in rhoflow(home, "verify", store)


def test_where_nothing_failed_so_the_request_is_wrong(home: Path, tmp_path: Path) -> None:
    store = build(home, write_recipe(tmp_path, ("broken,C(C)(C)(C)(C)C,1.5",)), tmp_path / "store.zarr")
    whole = identify(store)
    assert "no computed sample failed with timeout" in rhoflow(home, "retry", store, "--reason", "timeout", code=2)
    assert "no computed sample failed" in rhoflow(home, "retry", store, code=2)
    assert identify(store) == whole
