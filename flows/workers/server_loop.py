"""The event loop of the Prefect server that a build starts for itself: it ends with the build, however that ends."""

import asyncio
import os
import threading
import time

SECONDS_BETWEEN_LOOKS = 1.0
STARTER = "RHOFLOW_SERVER_STARTER"  # environment: the process that Prefect's settings were made for


def new_event_loop() -> asyncio.AbstractEventLoop:
    """Called by uvicorn, in the server's process. A build that is killed has no chance to stop its server."""
    _end_without(int(os.environ[STARTER]))
    threading.Thread(target=_end_with_parent, args=(os.getppid(),), daemon=True).start()
    return asyncio.new_event_loop()


def _end_without(starter: int) -> None:
    """Where the build was killed before its server came this far, whoever is its parent now is not the build."""
    try:
        os.kill(starter, 0)
    except ProcessLookupError:
        os._exit(1)


def _end_with_parent(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(SECONDS_BETWEEN_LOOKS)
    os._exit(1)
