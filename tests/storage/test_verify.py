"""Every file of a sealed store is vouched for: no change of any of them goes unseen."""

from collections.abc import Callable
from pathlib import Path

import pytest

from storage.claims import CLAIM
from storage.identity import identify
from storage.layout import SEAL
from storage.manifest import MANIFESTS, is_vouched_for, read_manifest, unseal, vouch_again
from storage.objects import list_keys, write_record
from storage.plan import read_plan
from storage.seal import is_sealed, seal
from storage.verify import count_files, find_damage, find_shard
from tests.storage.small_store import CELLS, NAMES

Builder = Callable[[str], Path]


@pytest.fixture
def sealed(build_store: Builder) -> Path:
    store = build_store("a.zarr")
    seal(store)
    return store


def test_a_store_as_it_was_sealed_has_no_damage(sealed: Path) -> None:
    heard: list[int] = []
    findings = find_damage(sealed, heard.append)
    assert findings.sealed
    assert not findings.damages
    assert findings.checked == sum(heard) == count_files(sealed)


@pytest.mark.parametrize("place", [0, 0.5, -1], ids=["first", "middle", "last"])
def test_a_flipped_byte_of_any_file_is_found(sealed: Path, place: float) -> None:
    for key in [key for key in list_keys(sealed) if key != CLAIM]:  # a lock, not a record
        content = (sealed / key).read_bytes()
        index = int(place * len(content)) if place >= 0 else len(content) - 1
        (sealed / key).write_bytes(content[:index] + bytes([content[index] ^ 8]) + content[index + 1 :])
        assert [(found.key, found.fault) for found in find_damage(sealed).damages] == [(key, "damaged")]
        (sealed / key).write_bytes(content)


def test_a_truncated_or_deleted_file_is_found(sealed: Path) -> None:
    for key in [key for key in list_keys(sealed) if key != CLAIM]:  # a lock, not a record
        content = (sealed / key).read_bytes()
        (sealed / key).write_bytes(content[:-1])
        assert [(found.key, found.fault) for found in find_damage(sealed).damages] == [(key, "damaged")]
        (sealed / key).unlink()
        assert [(found.key, found.fault) for found in find_damage(sealed).damages] == [(key, "missing")]
        (sealed / key).write_bytes(content)


def test_an_object_is_named_with_its_shard_and_its_samples(sealed: Path) -> None:
    for damaged in ("orbitals_guess/c.2.0.0", "guess/c.0.0.0.0"):
        (sealed / f"cells_{CELLS}" / damaged).unlink()
    found = {damage.key.split("/")[1]: damage for damage in find_damage(sealed).damages}
    assert (found["orbitals_guess"].shard, list(found["orbitals_guess"].samples)) == (2, ["g#0"])
    assert (found["guess"].shard, list(found["guess"].samples)) == (0, [f"{name}#0" for name in NAMES[:3]])


def test_samples_of_a_lost_receipt_are_named_from_the_tables(sealed: Path) -> None:
    (sealed / "work/receipts/shard-000001.json").unlink()
    (damage,) = find_damage(sealed).damages
    assert list(damage.samples) == ["broken#0", "e#0", "f#0"]


def test_tables_belong_to_no_shard(sealed: Path) -> None:
    plan = read_plan(sealed)
    assert find_shard(plan, f"cells_{CELLS}/id/c.0.0") is None
    assert find_shard(plan, f"cells_{CELLS}/guess/zarr.json") is None
    assert find_shard(plan, f"cells_{CELLS}/guess/c.1.0.0.0") == plan.shards()[1]


def test_a_file_that_is_not_the_stores_is_named_and_a_leftover_only_mentioned(sealed: Path) -> None:
    (sealed / "notes.txt").write_text("mine")
    (sealed / "rows/.zarr.json.77.partial").write_text("half")
    findings = find_damage(sealed)
    assert [(damage.key, damage.fault) for damage in findings.damages] == [("notes.txt", "unexpected")]
    assert findings.leftovers == ["rows/.zarr.json.77.partial"]


def test_sealing_again_vouches_in_the_same_bytes(sealed: Path) -> None:
    before = {key: (sealed / key).read_bytes() for key in (SEAL, *MANIFESTS)}
    seal(sealed)
    assert {key: (sealed / key).read_bytes() for key in before} == before


def test_what_vouches_is_no_part_of_a_stores_identity(sealed: Path) -> None:
    before = identify(sealed)
    unseal(sealed)
    assert not is_sealed(sealed)
    assert identify(sealed) == before


def test_a_record_changed_on_purpose_is_vouched_for_again(sealed: Path) -> None:
    write_record(sealed, "work/runs/late.json", {"workers": 1})
    assert [damage.fault for damage in find_damage(sealed).damages] == ["unexpected"]
    vouch_again(sealed, "work/runs/late.json")
    assert not find_damage(sealed).damages
    assert read_manifest(sealed).copies["work/runs/late.json"] == {"workers": 1}


def test_without_a_list_of_checksums_receipts_still_vouch_for_their_objects(sealed: Path) -> None:
    for key in MANIFESTS:
        (sealed / key).unlink()
    (sealed / f"cells_{CELLS}/guess/c.1.0.0.0").write_bytes(b"")
    (sealed / "work/plans/000001.json.gz").with_suffix(".partial").write_bytes(b"{")
    findings = find_damage(sealed)
    assert "no list of checksums is left" in findings.unvouched
    assert {damage.key for damage in findings.damages} == {*MANIFESTS, f"cells_{CELLS}/guess/c.1.0.0.0"}


def test_unreadable_records_of_an_unsealed_store_are_named(build_store: Builder) -> None:
    store = build_store("a.zarr")
    assert not find_damage(store).damages
    (store / "work/header.json").write_bytes(b"{")
    assert [damage.key for damage in find_damage(store).damages] == ["work/header.json"]
    assert is_vouched_for("work/header.json")
