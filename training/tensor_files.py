"""Files of tensors and plain values, put in place in one move: a kill leaves the old one or the new one."""

import io
import zipfile
from pathlib import Path
from typing import Any

import torch

from storage.errors import StoreError
from storage.objects import write_object


def write_tensors(run: Path, name: str, content: dict[str, Any]) -> None:
    """Tensors and plain values only, so that reading runs no code."""
    buffer = io.BytesIO()
    torch.save(content, buffer)
    write_object(run, name, buffer.getvalue())


def read_tensors(run: Path, name: str) -> dict[str, Any]:
    """On the CPU. Raises StoreError where the file is damaged: PyTorch writes checksums, and does not look at them."""
    stored = (run / name).read_bytes()
    try:
        with zipfile.ZipFile(io.BytesIO(stored)) as archive:
            if archive.testzip():
                raise zipfile.BadZipFile("a checksum is not that of its bytes")
        content: dict[str, Any] = torch.load(io.BytesIO(stored), map_location="cpu", weights_only=True)
    except Exception as error:  # damaged bytes make zipfile and pickle raise anything
        raise StoreError(
            f"{run / name} is damaged ({error}): put a copy of it back, or train again in a new folder"
        ) from error
    return content
