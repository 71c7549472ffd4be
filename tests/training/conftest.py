"""A dataset of Gaussians, written once for all tests of training."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from tests.training.gaussians import write_store


@pytest.fixture(scope="session")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_store(
        tmp_path_factory.mktemp("training") / "gaussians.zarr", {"train": 16, "validation": 3, "test": 5}
    )


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    """Small networks are fastest so, also where the machine's cores are shared."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)
