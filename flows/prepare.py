"""From the source to a plan, in this process: for batch jobs, without Prefect and Dask."""

from collections import Counter

from flows.conform import conform_part, is_conformed
from flows.plan import check_bases, plan_dataset
from flows.progress import Meter
from flows.recipe import Recipe
from flows.source import read_source
from flows.status import RunRecord
from storage.generations import count_generations, count_parts
from storage.objects import Location
from storage.plan import Plan, is_planned


def plan_source(
    store: Location, recipe: Recipe, limit: int | None, reuse: Location | None, record: RunRecord
) -> tuple[Plan, Counter[str]]:
    """Plan what the source has now; how many rows were added, edited and so on since it was last read."""
    if count_generations(store) and not is_planned(store):  # first what was read before, as it was read
        conform_missing(store, record)
        plan_dataset(store)
    check_bases(store)
    changes = read_source(store, recipe, limit, reuse)
    conform_missing(store, record)
    return plan_dataset(store), changes


def conform_missing(store: Location, record: RunRecord) -> None:
    missing = [part for part in range(count_parts(store)) if not is_conformed(store, part)]
    with Meter("conformers", len(missing), unit="parts") as meter:
        for part in missing:
            conform_part(store, part)
            record.count(1)
            meter.advance(1)
    record.count(0)
