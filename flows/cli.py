"""The command line."""

import os
import sys

from flows.commands import datasets, inspection, models  # noqa: F401  each adds its commands
from flows.commands.arguments import app
from storage.errors import RhoflowError
from storage.faults import explain_fault


def main() -> None:
    """The console script: errors that are the user's to mend end in one message and an exit code."""
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # spinning threads make training 4 times slower on shared cores
    try:
        app()
    except Exception as error:
        ended = error if isinstance(error, RhoflowError) else explain_fault(error)
        if ended is None:
            raise
        print(f"rhoflow: {ended}", file=sys.stderr)
        sys.exit(ended.exit_code)


if __name__ == "__main__":
    main()
