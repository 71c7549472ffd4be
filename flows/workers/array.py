"""A build as jobs of SLURM - plan, an array of parts, the seal - submitted, watched, and explained where one fails."""

import os
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from flows.workers.cluster import SlurmArray
from storage.errors import RhoflowError
from storage.objects import Location

SECONDS_BETWEEN_LOOKS = 5  # SLURM forgets a job minutes after its end
PATIENCE = 1800.0  # seconds without an answer of SLURM
FAILED = {
    *("BOOT_FAIL", "CANCELLED", "DEADLINE", "FAILED", "NODE_FAIL", "OUT_OF_MEMORY", "PREEMPTED", "TIMEOUT"),
    *("REQUEUE_HOLD", "REVOKED", "SPECIAL_EXIT"),
}
SHOWN_REASONS = 3


class JobsError(RhoflowError):
    """Jobs could not be submitted, or failed; what is done is kept, and the same command resumes."""


@dataclass(frozen=True)
class Jobs:
    """Numbers of jobs that depend on one another."""

    plan: str
    array: str
    seal: str
    logs: Path


@dataclass(frozen=True)
class State:
    """Of a job, as SLURM names it."""

    name: str
    reason: str

    @property
    def has_failed(self) -> bool:
        """A job that is held waits until somebody releases it."""
        return self.name in FAILED or (self.name == "PENDING" and "held" in self.reason.lower())

    @property
    def has_ended(self) -> bool:
        return self.name == "COMPLETED" or self.has_failed


@contextmanager
def submit_jobs(profile: SlurmArray, recipe: Path, store: Location, options: Mapping[str, object]) -> Iterator[Jobs]:
    """Jobs that bring `store` up to `recipe`; those that have not ended when the block does are cancelled.

    `options` are those of `rhoflow plan`, None where they are not given.
    """
    given = [word for name, value in options.items() if value is not None for word in (name, str(value))]
    plan, array, seal = _submit(profile, [str(recipe), str(store), *given])
    try:
        yield Jobs(plan, array, seal, profile.logs)
    finally:
        subprocess.run(["scancel", "--quiet", plan, array, seal], check=False)


def _submit(profile: SlurmArray, arguments: list[str]) -> list[str]:
    script = [str(profile.submit), *arguments]
    try:
        ended = subprocess.run(script, env=_environment(profile), capture_output=True, text=True, check=True)
    except OSError as error:
        raise JobsError(f"{profile.submit}: cannot be run ({error.strerror}): is it executable?") from error
    except subprocess.CalledProcessError as error:
        raise JobsError(f"{' '.join(script)}: {error.stderr.strip()}: is SLURM running, and `sbatch` here?") from error
    return ended.stdout.split()


def _environment(profile: SlurmArray) -> dict[str, str]:
    """The jobs run the same rhoflow as this process."""
    given = {"SBATCH_PARTITION": profile.queue, "SBATCH_ACCOUNT": profile.account}
    return {
        **os.environ,
        **{name: value for name, value in given.items() if value},
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "PARTS": str(profile.parts),
        "AT_ONCE": str(profile.at_once or profile.parts),
        "LOGS": str(profile.logs),
    }


def await_job(
    jobs: Jobs,
    job: str,
    say: Callable[[str], None],
    is_done: Callable[[], bool],
    count: Callable[[], None] | None = None,
) -> None:
    """Wait for the end of a job or of every task of an array.

    `say` hears how many are in which state, on each change; `count` is called at each look. `is_done` asks the store,
    where SLURM has forgotten the job. Raises JobsError with the reasons where one failed.
    """
    states: dict[str, State] = {}
    for found in _look(job, say):
        # Tasks that never began may be listed one by one first, and together at their end.
        states = {**{task: state for task, state in states.items() if state.has_ended}, **found}
        if count:
            count()
        if not found and not is_done():
            raise JobsError(f"SLURM knows no job {job} any more: the same command again computes what is missing")
        if all(state.has_ended for state in states.values()):
            break
    if failed := {task: state for task, state in states.items() if state.has_failed}:
        raise JobsError(_explain(jobs, failed))


def _look(job: str, say: Callable[[str], None]) -> Iterator[dict[str, State]]:
    """What SLURM answers, again and again; nothing once it has forgotten the job."""
    said, answered = "", time.monotonic()
    while True:
        found = read_states(job)
        if said != (said := f"job {job}: {_count(found)}"):
            say(said)
        if found is not None:
            answered = time.monotonic()
            yield found
        elif time.monotonic() - answered > PATIENCE:
            raise JobsError(
                f"job {job}: SLURM has not answered for {PATIENCE / 60:g} minutes: does `squeue` work here? "
                "What is done is kept: the same command again does the rest"
            )
        time.sleep(SECONDS_BETWEEN_LOOKS)


def _count(states: dict[str, State] | None) -> str:
    if states is None:
        return "SLURM does not answer"
    if not states:
        return "SLURM has forgotten it"
    counts = Counter(state.name for state in states.values())
    return ", ".join(f"{number} {name.lower()}" for name, number in sorted(counts.items()))


def read_states(job: str) -> dict[str, State] | None:
    """The state of a job, or of each task of an array, by number; {}: SLURM knows none, None: it is silent."""
    asked = ["squeue", "--noheader", "--array", "--states=all", f"--jobs={job}", "--format=%i %T %r"]
    answer = subprocess.run(asked, capture_output=True, text=True, check=False)
    if answer.returncode and "Invalid job id" not in answer.stderr:
        return None
    lines = [line.split(maxsplit=2) for line in answer.stdout.splitlines()]
    return {task: State(name, reason) for task, name, reason in lines}


def _explain(jobs: Jobs, failed: dict[str, State]) -> str:
    """State and last words of some of the tasks that failed."""
    reasons = [
        f"job {task} {state.name.lower()} ({state.reason}): {_last_words(jobs.logs, task)}"
        for task, state in failed.items()
    ]
    more = [f"and {len(reasons) - SHOWN_REASONS} more"] if len(reasons) > SHOWN_REASONS else []
    return "\n".join([*reasons[:SHOWN_REASONS], *more, "what is done is kept: the same command again does the rest"])


def _last_words(logs: Path, task: str) -> str:
    for log in logs.glob(f"*-{task}.log"):
        if lines := log.read_text(encoding="utf-8", errors="replace").strip().splitlines():
            return f"{lines[-1]} ({log})"
    return f"its log in {logs} says nothing"
