"""Being told to end, as a cluster does before the wall time is over."""

import signal
import threading
from types import FrameType, TracebackType


class Listener:
    """Hears SIGTERM while it is open; only the main thread can."""

    told = False

    def __enter__(self) -> "Listener":
        self._hears = threading.current_thread() is threading.main_thread()
        if self._hears:
            self._before = signal.signal(signal.SIGTERM, self._hear)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._hears:
            signal.signal(signal.SIGTERM, self._before)

    def _hear(self, number: int, frame: FrameType | None) -> None:  # noqa: ARG002
        self.told = True
