"""A store built again from the recipe and the source rows inside it."""

from flows.compute import compute_missing
from flows.conform import is_conformed, report_part
from flows.plan import plan_dataset
from flows.progress import Meter
from flows.source import copy_source
from flows.status import RunRecord
from flows.workers.fleet import count_slots, open_cluster, run_everywhere
from storage.errors import RequestError
from storage.generations import count_generations, count_parts
from storage.header import Header, begin_store, claim_begun, read_header
from storage.objects import Location, resolve
from storage.seal import is_sealed, seal


def regenerate(store: Location, new: Location, workers: int, begun: float) -> None:
    """Build `new` as `store` was built; resumes where it was interrupted. `begun` is when the command started.

    A voxelized store is built from its recipe as well: its densities are computed again.
    """
    if resolve(store) == resolve(new):
        raise RequestError(f"{new}: a store cannot be built again into itself: name a new folder")
    begun_with = read_header(store)
    header = Header(begun_with.recipe, begun_with.recipe_text)
    begin_store(new, header)
    if is_sealed(new):
        print(f"{new} is sealed already: nothing is built again", flush=True)
        return
    with claim_begun(new, header):
        if not count_generations(new):
            copy_source(store, new)
        with open_cluster(workers, None) as client:
            record = RunRecord(new, count_slots(client), begun)
            missing = [part for part in range(count_parts(new)) if not is_conformed(new, part)]
            with Meter("conformers", len(missing), unit="parts") as meter:
                run_everywhere(client, report_part, resolve(new), missing, lambda _: meter.advance(1))
            plan_dataset(new)
            compute_missing(resolve(new), client, record)
        seal(new)
