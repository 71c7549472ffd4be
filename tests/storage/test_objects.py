"""Objects appear whole or not at all."""

import os
from pathlib import Path

import pytest

from storage.errors import StoreError
from storage.objects import read_record, write_object, write_record


@pytest.mark.parametrize("key", ["a/record.json", "a/record.json.gz"])
def test_a_record_is_read_as_it_was_written(tmp_path: Path, key: str) -> None:
    record = {"x": [1, 2.5, None, "é"], "nested": {"y": 0.1 + 0.2}}
    write_record(tmp_path, key, record)
    assert read_record(tmp_path, key) == record


def test_the_same_record_gives_the_same_bytes(tmp_path: Path) -> None:
    write_record(tmp_path, "one.json.gz", {"x": 1})
    write_record(tmp_path, "two.json.gz", {"x": 1})
    assert (tmp_path / "one.json.gz").read_bytes() == (tmp_path / "two.json.gz").read_bytes()


def test_a_failed_write_leaves_the_old_object_and_nothing_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_object(tmp_path, "x", b"old")

    def no_space(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", no_space)
    with pytest.raises(OSError, match="No space"):
        write_object(tmp_path, "x", b"new")
    assert (tmp_path / "x").read_bytes() == b"old"
    assert [path.name for path in tmp_path.iterdir()] == ["x"]


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"\x1f\x8b broken"])
def test_a_damaged_record_names_itself_and_the_remedy(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "r.json.gz").write_bytes(content)
    with pytest.raises(StoreError, match=r"r\.json\.gz is damaged.*delete it and run the same build again"):
        read_record(tmp_path, "r.json.gz")
