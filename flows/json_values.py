"""What commands found, as JSON for scripts."""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from storage.objects import Json

if TYPE_CHECKING:
    from _typeshed import DataclassInstance


def to_json(value: "DataclassInstance | Sequence[DataclassInstance]") -> Json:
    """Ready for json.dumps; numbers that JSON does not have are null."""
    if isinstance(value, Sequence):
        return [to_json(item) for item in value]
    return _plain(dataclasses.asdict(value))


def _plain(value: object) -> Json:
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if value is None or isinstance(value, bool | int | str):
        return value
    assert isinstance(value, Sequence)
    return [_plain(item) for item in value]
