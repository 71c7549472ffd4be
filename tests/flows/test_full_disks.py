"""A disk that is full or read-only ends a command clearly, and the next one goes on."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from storage.identity import identify
from tests.flows.small_build import environment, rhoflow, write_recipe

# In a mount namespace of its own, where root may mount: a small disk is filled, closed and enlarged in turn.
SCRIPT = """
set -u
mount -t tmpfs -o size=64m disk "$DISK" || exit 77
rhoflow() { "$PYTHON" -m flows.cli "$@" >> "$LOG" 2>&1; echo $? >> "$LOG"; }
rhoflow plan "$RECIPE" "$DISK/store.zarr"
mount -o remount,ro "$DISK"
rhoflow run "$DISK/store.zarr"
rhoflow plan "$RECIPE" "$DISK/other.zarr"
rhoflow status "$DISK/store.zarr"
mount -o remount,rw,size=$(( $(df --output=used "$DISK" | tail -1) + 60 ))k "$DISK"
rhoflow run "$DISK/store.zarr"
mount -o remount,size=64m "$DISK"
find "$DISK/store.zarr/work/receipts" -name '*.json' -exec cp {} "$KEPT" \\;
rhoflow run "$DISK/store.zarr"
rhoflow seal "$DISK/store.zarr"
cp -r "$DISK/store.zarr" "$COPY"
"""


def test_full_and_read_only_disks_end_clearly_and_nothing_is_lost(tmp_path: Path) -> None:
    recipe, log, kept = write_recipe(tmp_path), tmp_path / "log", tmp_path / "kept"
    (tmp_path / "disk").mkdir()
    kept.mkdir()
    places = {"DISK": tmp_path / "disk", "LOG": log, "RECIPE": recipe, "KEPT": kept, "COPY": tmp_path / "copy.zarr"}
    variables = {
        **environment(tmp_path),
        "PYTHON": sys.executable,
        **{name: str(path) for name, path in places.items()},
    }
    ended = subprocess.run(
        ["unshare", "--map-root-user", "--mount", "sh", "-c", SCRIPT], env=variables, capture_output=True, check=False
    )
    if ended.returncode == 77 or b"unshare" in ended.stderr:
        pytest.skip(f"no disk may be mounted here: {ended.stderr.decode()}")
    said = log.read_text()
    lines = said.splitlines()
    assert [line for line in lines if line.isdigit()] == ["0", "1", "1", "0", "1", "0", "0"], said
    assert "Traceback" not in said
    assert f"{tmp_path}/disk/store.zarr/work/claim.json: Read-only file system: make it writable" in said
    assert f"{tmp_path}/disk/other.zarr" in said
    assert "No space left on device: make room there. What is made is kept" in said

    whole = tmp_path / "whole.zarr"
    for arguments in (("plan", recipe, whole), ("run", whole), ("seal", whole)):
        rhoflow(tmp_path, *arguments)
    assert identify(tmp_path / "copy.zarr") == identify(whole)
    for receipt in kept.iterdir():  # what was made before the disk was full is not made again
        assert json.loads(receipt.read_text()) == json.loads(
            (tmp_path / "copy.zarr/work/receipts" / receipt.name).read_text()
        )
