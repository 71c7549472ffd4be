"""What was decoded or expanded, kept in memory while there is room: of a small dataset once, not in every epoch."""

from collections.abc import Callable, Hashable
from threading import Lock
from typing import Generic, TypeVar

GIB = 2**30
KEPT_BYTES = 2 * GIB  # unless a config says otherwise

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


class Kept(Generic[K, V]):
    """Values by key. None is dropped for another: in an epoch each is wanted once, so none is worth more."""

    def __init__(self, room: int) -> None:
        """`room`: bytes."""
        self._room, self._values = room, dict[K, V]()
        self.bytes = 0  # of what is kept
        self._lock = Lock()

    def find(self, key: K) -> V | None:
        return self._values.get(key)

    def add(self, key: K, size: int, make: Callable[[], V]) -> None:
        """Make a value of so many bytes and keep it, if there is room."""
        with self._lock:
            if key in self._values or self.bytes + size > self._room:
                return
            self._values[key] = make()
            self.bytes += size
