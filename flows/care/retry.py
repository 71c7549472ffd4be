"""Failed samples get a second place, in a generation of their own: no finished shard is touched."""

from collections import Counter
from dataclasses import dataclass, replace

from flows.compute import compute_missing
from flows.plan import check_bases, plan_dataset
from flows.status import RunRecord
from flows.workers.fleet import count_slots, open_cluster
from storage.claims import claim_store
from storage.errors import RequestError
from storage.generations import Place, read_latest, write_generation
from storage.header import read_header
from storage.layout import version_key
from storage.manifest import unseal
from storage.objects import Location, has_object
from storage.outcomes import read_version
from storage.plan import read_plan
from storage.receipts import find_missing
from storage.seal import is_sealed, seal


@dataclass(frozen=True)
class Retried:
    """How many samples were tried again, and how each ended."""

    tried: int
    ends: dict[str, int]  # by outcome


def retry_failures(store: Location, reason: str | None, workers: int, cluster: str | None, begun: float) -> Retried:
    """Try again what failed while it was computed, with the limits that the store has now; then seal it.

    A retry that is interrupted is finished by the same command, or by `rhoflow build`. Raises RequestError where the
    store is not sealed, or nothing failed so. What failed before any computing, or fits in no box, is left alone.
    """
    read_header(store)  # a path that is no store ends here
    with claim_store(store):
        check_bases(store)
        latest = read_latest(store)
        if is_sealed(store) or _was_sealed(store, latest.number):
            places = find_failures(store, reason)
            unseal(store)
            number, parts = latest.number + 1, latest.first_part + latest.parts
            latest = replace(latest, number=number, first_part=parts, parts=0, retried=places, reuse=None)
            write_generation(store, latest)
        elif not latest.retried:
            raise RequestError(f"{store} is not sealed yet: finish its build first, then try again what failed")
        plan_dataset(store)
        with open_cluster(workers, cluster) as client:
            compute_missing(store, client, RunRecord(store, count_slots(client), begun))
        seal(store)
    version = read_version(store, plan := read_plan(store))
    ends = Counter(version.outcomes[now].outcome for _, now in plan.generations[-1].retried)
    return Retried(ends.total(), dict(sorted(ends.items())))


def _was_sealed(store: Location, version: int) -> bool:
    """As a retry leaves a store that was ended before it wrote down what it tries again."""
    shards = (shard.number for shard in read_plan(store).shards())
    return has_object(store, version_key(version)) and not find_missing(store, shards)


def find_failures(store: Location, reason: str | None) -> list[Place]:
    """Of samples that failed while they were computed, for that reason where one is given."""
    version = read_version(store, read_plan(store))
    places = [
        place
        for place in sorted(version.owners)
        if (end := version.outcomes[place].outcome) != "ok" and reason in (None, end)
    ]
    if not places:
        what = f"no computed sample failed with {reason}" if reason else "no computed sample failed"
        raise RequestError(
            f"{store}: {what}: `rhoflow failures {store}` lists what did; rows that failed before they had conformers "
            "are tried again in a new store alone"
        )
    return places


def describe(retried: Retried) -> str:
    ends = ", ".join(f"{count} {end}" for end, count in retried.ends.items())
    return f"{retried.tried} samples tried again: {ends}"
