"""Which files a density leaves as: the ending says the format."""

from collections.abc import Callable, Mapping
from pathlib import Path

from pipeline.formats import CUBE_ENDINGS, Volume, write_ccp4, write_cube, write_npz
from storage.errors import RequestError

WRITERS: Mapping[str, Callable[[Path, Volume], None]] = {"cube": write_cube, "ccp4": write_ccp4, "npz": write_npz}
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
    """Raises RequestError where the path cannot be written to."""
    try:
        WRITERS[format](file, volume)
    except OSError as error:
        raise RequestError(f"{file}: cannot be written ({error.strerror or error}): check the path") from error
