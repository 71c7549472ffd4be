"""Which files a density leaves as: the ending says the format."""

import contextlib
from collections.abc import Callable
from pathlib import Path

from pipeline.formats import CUBE_ENDINGS, Volume, write_ccp4, write_cube, write_npz
from storage.errors import RequestError
from storage.faults import REMEDIES

WRITERS: dict[str, Callable[[Path, Volume], None]] = {"cube": write_cube, "ccp4": write_ccp4, "npz": write_npz}
ENDINGS = {**dict.fromkeys(CUBE_ENDINGS, "cube"), ".ccp4": "ccp4", ".map": "ccp4", ".mrc": "ccp4", ".npz": "npz"}


def choose_format(file: Path, format: str | None) -> str:
    """Raises RequestError where neither the ending nor `format` says one."""
    if format is not None and format not in WRITERS:
        raise RequestError(f"--format {format}: there are {', '.join(WRITERS)}")
    if format is not None:
        return format
    for ending, named in ENDINGS.items():
        if file.name.endswith(ending):
            return named
    raise RequestError(f"{file}: the ending is none of {', '.join(ENDINGS)}: take one, or give --format")


def write_volume(file: Path, format: str, volume: Volume) -> None:
    """In one move: a file that was there stays whole. Raises RequestError where the path cannot be written to."""
    part = file.with_name(f".part-{file.name}")
    try:
        WRITERS[format](part, volume)
        part.replace(file)
    except OSError as error:
        with contextlib.suppress(OSError):
            part.unlink(missing_ok=True)
        remedy = REMEDIES.get(error.errno or 0, "check the path")
        raise RequestError(f"{file}: cannot be written ({error.strerror or error}): {remedy}") from error
