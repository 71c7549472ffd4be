"""The event loop of the Prefect server that a build starts for itself: it ends with the build, however that ends."""

import asyncio
import os
import threading
import time

SECONDS_BETWEEN_LOOKS = 1.0


def new_event_loop() -> asyncio.AbstractEventLoop:
    """Called by uvicorn, in the server's process. A build that is killed has no chance to stop its server."""
    threading.Thread(target=_end_with_parent, args=(os.getppid(),), daemon=True).start()
    return asyncio.new_event_loop()


def _end_with_parent(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(SECONDS_BETWEEN_LOOKS)
    os._exit(1)
