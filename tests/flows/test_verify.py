"""Whatever byte of a dataset is lost, verification names it and repair gives it back."""

import json
import os
import random
import shutil
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from flows.care.repair import DIFFERENT, IDENTICAL, LOST, RESTORED, repair_store
from storage.header import read_header
from storage.identity import identify
from storage.layout import HEADER, receipt_key, source_copy_key, source_key
from storage.manifest import SEAL, is_vouched_for, vouch_again
from storage.objects import checksum, list_keys, read_record, write_record
from storage.receipts import read_receipt
from storage.verify import find_damage
from tests.flows.small_build import command, environment, rhoflow, rhoflow_here, write_recipe

EXTRA = ("broken,C(C)(C)(C)(C)C,1.5", "twin,OC,9.5", "giant,CCCCCCCCCCCCCCCCCCCC,2.5")
LISTS = ("work/manifest.json.gz", "work/manifest.copy.json.gz")


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A sealed store; copies of it are what the tests damage."""
    folder = tmp_path_factory.mktemp("built")
    recipe, store = write_recipe(folder, EXTRA), folder / "store.zarr"
    for arguments in (("plan", recipe, store), ("run", store), ("seal", store)):
        rhoflow_here(*arguments)
    return store


@pytest.fixture
def store(built: Path, tmp_path: Path) -> Path:
    return shutil.copytree(built, tmp_path / "store.zarr")


def flip(content: bytes, chance: random.Random) -> bytes:
    place = chance.randrange(len(content))
    return content[:place] + bytes([content[place] ^ (1 << chance.randrange(8))]) + content[place + 1 :]


def truncate(content: bytes, chance: random.Random) -> bytes:
    return content[: chance.randrange(len(content))]


def damage(path: Path, chance: random.Random) -> None:
    """One byte flipped, or the end cut off, or the file deleted."""
    kinds: list[Callable[[bytes, random.Random], bytes] | None] = [flip, truncate, None]
    if kind := chance.choice(kinds):
        path.write_bytes(kind(path.read_bytes(), chance))
    else:
        path.unlink()


def list_checked(store: Path) -> list[str]:
    """Every file of a store but its locks, whose content says nothing."""
    return [key for key in list_keys(store) if is_vouched_for(key) or key in (SEAL, *LISTS)]


def sums_of(store: Path) -> dict[str, str]:
    return {key: checksum(store / key) for key in list_checked(store)}


def test_two_hundred_damages_are_found_and_every_byte_is_restored(store: Path) -> None:
    chance, before, identity = random.Random(2), sums_of(store), identify(store)
    remade = set()
    for _ in range(8):
        damaged = chance.sample(sorted(before), 25)
        for key in damaged:
            damage(store / key, chance)
        findings = find_damage(store)
        assert sorted(found.key for found in findings.damages) == sorted(damaged)
        mendings = repair_store(store, findings)
        assert sorted(mending.key for mending in mendings) == sorted(damaged)
        assert {mending.end for mending in mendings} <= {RESTORED, IDENTICAL}
        remade |= {mending.key for mending in mendings if mending.end == IDENTICAL}
        assert not find_damage(store).damages
    assert identify(store) == identity
    assert all(key.startswith(("work/receipts/", "work/conformers/")) for key in remade)  # they hold circumstances
    after = sums_of(store)
    lists = {SEAL, *LISTS} if remade else set()
    assert {key for key in before if after[key] != before[key]} <= remade | lists
    assert after.keys() == before.keys()


@pytest.mark.parametrize(
    "lost",
    [
        [
            "work/header.json",
            "work/generations/000001.json.gz",
            "work/plans/000001.json.gz",
            "zarr.json",
            SEAL,
            LISTS[0],
        ],
        ["work/source/part-000000.json.gz", "work/conformers/part-000000.json.gz", "cells_16/zarr.json"],
        ["work/receipts/shard-000000.json", "cells_16/guess/c.0.0.0.0", "cells_16/guess/zarr.json", "rows/zarr.json"],
        [*LISTS, "cells_16/guess/c.1.0.0.0"],
    ],
)
def test_records_that_all_else_depends_on_are_restored_together(store: Path, lost: list[str]) -> None:
    identity = identify(store)
    for key in lost:
        (store / key).unlink()
    findings = find_damage(store)
    assert sorted((found.key, found.fault) for found in findings.damages) == [(key, "missing") for key in sorted(lost)]
    repair_store(store, findings)
    assert identify(store) == identity
    assert not find_damage(store).damages


def test_damage_is_named_with_its_shard_samples_and_remedy(store: Path) -> None:
    hit = "cells_16/target/c.1.0.0.0"
    (store / hit).write_bytes(b"x")
    (store / "cells_16/guess/c.0.0.0.0.0123.partial").write_bytes(b"half")
    (store / "cells_16/guess/c.9.0.0.0").write_bytes(b"whose?")
    printed = rhoflow_here("verify", store, code=1)
    receipt = next(receipt for n in range(7) if hit in (receipt := read_receipt(store, n)).objects)
    ids = ", ".join(outcome.id for outcome in receipt.outcomes)
    assert f"damaged {hit} (shard {receipt.shard}: {ids}): `rhoflow verify {store} --repair`" in printed
    assert "unexpected cells_16/guess/c.9.0.0.0" in printed
    assert "1 leftovers of killed writers, harmless" in printed
    rhoflow_here("verify", store, "--repair", code=1)  # a file that is not the dataset's is left to its owner
    (store / "cells_16/guess/c.9.0.0.0").unlink()
    sound = json.loads(rhoflow_here("verify", store, "--json").splitlines()[0])
    assert sound["sound"]
    assert sound["verified"]["damages"] == []


def test_source_rows_are_there_twice_and_lost_only_together(store: Path) -> None:
    kept = (store / source_key(0)).read_bytes()
    (store / source_key(0)).unlink()
    assert [mending.end for mending in repair_store(store, find_damage(store))] == [RESTORED]
    assert (store / source_key(0)).read_bytes() == kept
    pair = sorted([source_key(0), source_copy_key(0)])
    for key in pair:
        (store / key).unlink()
    mendings = repair_store(store, find_damage(store))
    assert [(mending.key, mending.end) for mending in mendings] == [(key, LOST) for key in pair]
    assert [found.key for found in find_damage(store).damages] == pair  # not forgotten


def test_a_killed_repair_is_repaired(store: Path, tmp_path: Path) -> None:
    before, damaged = identify(store), sorted(key for key in list_checked(store) if "/c.0" in key or "receipts" in key)
    for key in damaged:
        (store / key).unlink()
    running = subprocess.Popen(
        command("verify", store, "--repair"),
        env=environment(tmp_path),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    deadline = time.monotonic() + 60
    while len([key for key in damaged if (store / key).exists()]) < 40 and time.monotonic() < deadline:
        time.sleep(0.005)
    os.kill(running.pid, signal.SIGKILL)
    running.wait()
    assert not all((store / key).exists() for key in damaged)  # the kill came in the middle
    rhoflow_here("verify", store, "--repair")
    rhoflow_here("verify", store)
    assert identify(store) == before


def test_shards_that_come_out_otherwise_say_by_how_much(store: Path) -> None:
    """As on another CPU kernel: here the receipts claim values that this machine does not compute."""
    change_exponent(store, 0.61)
    (store / "cells_16/guess/c.0.0.0.0").unlink()
    mendings = repair_store(store, find_damage(store))
    ends = {mending.key: mending for mending in mendings}
    assert ends["cells_16/guess/c.0.0.0.0"].end == DIFFERENT
    assert "NMAE of up to 0" in ends["cells_16/target/c.0.0.0.0"].message  # of what could still be read: unchanged
    assert ends["zarr.json"].end == DIFFERENT  # the statistics
    assert not find_damage(store).damages


def change_exponent(store: Path, exponent: float) -> None:
    """Another density than the one that is stored, in the recipe; its bytes are vouched for."""
    header = read_record(store, HEADER)
    recipe = {**read_header(store).recipe}
    recipe["densities"]["guess"]["exponent"] = exponent
    write_record(store, HEADER, {**header, "recipe": recipe})  # type: ignore[dict-item]
    vouch_again(store, HEADER)


def test_deep_verification_finds_physics_that_no_checksum_can(store: Path) -> None:
    printed = rhoflow_here("verify", store, "--deep", "--molecules", "2")
    assert printed.count("sound: identical") == 2
    change_exponent(store, 0.6001)
    report = json.loads(rhoflow_here("verify", store, "--deep", "--json", code=1).splitlines()[0])
    assert report["verified"]["damages"] == []
    assert len(report["recomputed"]) == 3
    for sample in report["recomputed"]:
        assert set(sample["engines"]) == {"guess"}
        assert 1e-5 < sample["engines"]["guess"]["nmae"] < 1e-3
        assert sample["voxels"] == {}  # from the kept wavefunctions every bit repeats


def test_receipts_name_the_kernel_that_results_depend_on(store: Path) -> None:
    kernel = read_receipt(store, 0).circumstances["kernel"]
    described = json.dumps(np.show_config(mode="dicts"))
    assert kernel.split(", ")[1] in described
    assert os.environ.get("OPENBLAS_CORETYPE", "") in kernel


def test_an_unsealed_store_is_verified_as_far_as_it_has_receipts(store: Path) -> None:
    for key in (SEAL, *LISTS, receipt_key(2)):
        (store / key).unlink()
    assert "not sealed: receipts vouch for the stored objects" in rhoflow_here("verify", store)
    (store / "cells_16/guess/c.0.0.0.0").write_bytes(b"")
    findings = find_damage(store)
    assert [found.key for found in findings.damages] == ["cells_16/guess/c.0.0.0.0"]
    assert [mending.end for mending in repair_store(store, findings)] == [RESTORED]
    assert not find_damage(store).damages


def test_what_changes_a_sealed_store_on_purpose_is_vouched_for(built: Path, tmp_path: Path) -> None:
    """Other limits, and a source that has moved."""
    store = shutil.copytree(built, tmp_path / "store.zarr")
    recipe = write_recipe(tmp_path / "moved", EXTRA)
    recipe.write_text(recipe.read_text() + "[limits]\nmemory_gib = 5\n")
    rhoflow(tmp_path / "home", "build", recipe, store)
    assert read_header(store).recipe["limits"]["memory_gib"] == 5
    assert not find_damage(store).damages
    assert "is no rhoflow store" in rhoflow_here("verify", tmp_path / "moved", code=2)
