"""What a store says of itself: outcomes, sizes, seconds, programs; read once, from plan, parts and receipts."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from flows.recipe import Recipe
from flows.status import Status, read_status
from storage.generations import Place, count_parts
from storage.header import read_header
from storage.layout import conformers_key, receipt_key
from storage.objects import Location, name_store
from storage.outcomes import RowOutcome, Version, read_version
from storage.parts import read_circumstances
from storage.plan import Shard, read_plan, read_shard_samples
from storage.receipts import Outcome, has_receipt, read_receipt
from storage.sample_tables import PlannedSample


@dataclass(frozen=True)
class ComputedSample:
    """One sample that has ended, as its plan and its receipt know it."""

    planned: PlannedSample
    outcome: Outcome
    seconds: float  # CPU seconds spent on it, failed or not

    @property
    def is_ok(self) -> bool:
        return self.outcome.outcome == "ok"


@dataclass(frozen=True)
class Tally:
    """Everything that a page tells about a store except its arrays."""

    name: str
    recipe: Recipe
    recipe_text: str  # as its author wrote it
    status: Status
    rows: Sequence[RowOutcome]
    samples: Sequence[ComputedSample]
    stages: Mapping[str, float]  # CPU seconds by stage
    programs: Mapping[str, Sequence[str]]  # by density
    versions: Sequence[str]  # "zarr 3.1.6"
    hosts: int

    @property
    def failures(self) -> list[Outcome]:
        """Every row or conformer that ended without a sample, once."""
        return list({end.id: end for row in self.rows for end in row.failures}.values())

    @property
    def ok(self) -> list[ComputedSample]:
        return [sample for sample in self.samples if sample.is_ok]

    @property
    def splits(self) -> Counter[str]:
        """Samples that are ok, by split."""
        return Counter(sample.planned.split for sample in self.ok)


def read_tally(store: Location) -> Tally:
    """Raises StoreError where there is no store, or no plan yet."""
    header, plan = read_header(store), read_plan(store)
    version = read_version(store, plan)
    shards = [shard for shard in plan.shards() if has_receipt(store, shard.number)]
    conforming = [read_circumstances(store, conformers_key(part)) for part in range(count_parts(store))]
    computing = [read_circumstances(store, receipt_key(shard.number)) for shard in shards]
    samples = [sample for shard in shards for sample in _read_samples(store, shard, version)]
    return Tally(
        name=name_store(store),
        recipe=Recipe.model_validate(header.recipe),
        recipe_text=header.recipe_text,
        status=read_status(store),
        rows=list(version.rows),
        samples=samples,
        stages={
            "conformers": sum(entry["computing_seconds"] for entry in conforming),
            "densities": sum(entry["computing_seconds"] for entry in computing),
        },
        programs={
            density: sorted({sample.outcome.programs[density] for sample in samples if sample.is_ok})
            for density in plan.densities
        },
        versions=sorted({f"{name} {version}" for entry in computing for name, version in entry["versions"].items()}),
        hosts=len({entry["host"] for entry in [*conforming, *computing]}),
    )


def _read_samples(store: Location, shard: Shard, version: Version) -> Iterator[ComputedSample]:
    """Of a shard, those that the source has now."""
    receipt = read_receipt(store, shard.number)
    seconds = receipt.circumstances["sample_seconds"]
    for row, planned in enumerate(read_shard_samples(store, shard)):
        if owner := version.owners.get(Place(shard.cells, shard.first + row)):
            named = replace(planned, conformer=replace(planned.conformer, id=owner.id))
            yield ComputedSample(named, replace(receipt.outcomes[row], id=owner.id), seconds[row])
