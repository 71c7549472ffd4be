"""What Prefect's own pages show of a build: its name, how far a stage is, and which conformers failed."""

import re
import time
from uuid import UUID

from prefect.artifacts import create_progress_artifact, create_table_artifact, update_progress_artifact
from prefect.runtime import flow_run

from storage.objects import Location, locate, name_store
from storage.outcomes import read_row_outcomes
from storage.plan import Plan

SECONDS_BETWEEN_ARTIFACTS = 5
SHOWN_FAILURES = 1000


def name_run() -> str:
    """Of the flow that runs: "build molecules"."""
    store = name_store(locate(flow_run.parameters["store"]))
    return f"{flow_run.flow_name.removeprefix('rhoflow-')} {store}"


class ProgressArtifact:
    """A stage's progress in Prefect's own pages, renewed now and then."""

    def __init__(self, store: Location, stage: str) -> None:
        description = f"{stage} of {name_store(store)} computed so far"
        artifact = create_progress_artifact(progress=0.0, key=artifact_key(store, stage), description=description)
        self._artifact: UUID = artifact  # type: ignore[assignment]
        self._published = time.monotonic()

    def __call__(self, fraction: float) -> None:
        if fraction >= 1 or time.monotonic() - self._published > SECONDS_BETWEEN_ARTIFACTS:
            self._published = time.monotonic()
            update_progress_artifact(self._artifact, progress=100 * fraction)


def publish_failures(store: Location, plan: Plan) -> None:
    """The failed conformers as a table in Prefect's own pages."""
    failures = [
        {"row": row.row, "id": failure.id, "reason": failure.outcome, "message": failure.message}
        for row in read_row_outcomes(store, plan)
        for failure in row.failures
    ]
    if failures:
        description = f"what failed in {name_store(store)}: {len(failures)} in all"
        if len(failures) > SHOWN_FAILURES:
            description += f", the first {SHOWN_FAILURES} shown; `rhoflow failures {store}` lists the rest"
        create_table_artifact(failures[:SHOWN_FAILURES], artifact_key(store, "failures"), description)


def artifact_key(store: Location, name: str) -> str:
    """Of one dataset among those of a server; Prefect allows lower-case letters, digits and hyphens."""
    return re.sub("[^a-z0-9]+", "-", f"{name_store(store)}-{name}".lower()).strip("-")
