"""Prefect's settings, where the user has not chosen others."""

import os

from flows.workers.server_loop import STARTER


def configure_prefect() -> None:
    """Before Prefect is imported, which reads them then."""
    defaults = {
        "DO_NOT_TRACK": "1",
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS": "120",
        "PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL": "CRITICAL",  # people see progress; the server keeps every line
        "UVICORN_LOOP": "flows.workers.server_loop:new_event_loop",  # the server that Prefect starts, if none is named
    }
    for name, value in defaults.items():
        os.environ.setdefault(name, value)
    os.environ[STARTER] = str(os.getpid())
