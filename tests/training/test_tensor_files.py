"""Damaged weights are told from whole ones."""

import io
from pathlib import Path

import numpy as np
import pytest
import torch

from storage.errors import StoreError
from training.tensor_files import read_tensors, write_tensors


def test_no_damage_changes_a_number_unnoticed(tmp_path: Path) -> None:
    content = {"weights": {f"w{k}": torch.randn(16, 16) for k in range(4)}, "step": 3}
    write_tensors(tmp_path, "best.pt", content)
    whole, random = (tmp_path / "best.pt").read_bytes(), np.random.default_rng(1)
    found = 0
    for _ in range(300):
        damaged = bytearray(whole)
        damaged[random.integers(len(whole))] ^= 1 << int(random.integers(8))
        (tmp_path / "best.pt").write_bytes(damaged)
        try:
            read = read_tensors(tmp_path, "best.pt")
        except StoreError:
            found += 1
            continue
        assert read["step"] == 3  # it was in what fills the file up between its members
        assert all(torch.equal(read["weights"][name], values) for name, values in content["weights"].items())
    assert found > 150


@pytest.mark.parametrize("kept", [0, 1, 100, -1])
def test_what_is_cut_short_is_damaged(tmp_path: Path, kept: int) -> None:
    buffer = io.BytesIO()
    torch.save({"step": torch.zeros(300)}, buffer)
    (tmp_path / "best.pt").write_bytes(buffer.getvalue()[:kept])
    with pytest.raises(StoreError, match=r"best.pt is damaged .*: put a copy of it back, or train again in a new"):
        read_tensors(tmp_path, "best.pt")
