"""What another store computed already, found by the keys of its samples and wavefunctions."""

import functools
import sys
from dataclasses import dataclass, replace
from typing import Any

from storage.errors import StoreError
from storage.generations import Origin, Place
from storage.identity import fingerprint
from storage.layout import class_key, open_group, planned_key
from storage.objects import Location, has_object, locate
from storage.outcomes import place_outcomes, read_receipts
from storage.plan import GenerationPlan, Plan, read_basis, read_plan
from storage.reader import restore_state
from storage.receipts import Outcome, read_receipt
from storage.sample_tables import PlannedSample
from storage.schema import Basis, Conformer, ElectronicState, Sample
from storage.seal import is_sealed


@dataclass(frozen=True)
class Taken:
    """A sample as another store holds it, with what its receipt says."""

    sample: Sample
    outcome: Outcome


class KnownSamples:
    """Those of one store that are ok."""

    def __init__(self, store: Location) -> None:
        self._store = store
        self._plan: Plan = read_plan(store)
        outcomes = place_outcomes(self._plan, read_receipts(store, self._plan))
        self._outcomes = {place: end for place, end in outcomes.items() if end.outcome == "ok"}
        self._groups: dict[int, Any] = {cells: open_group(store, "r", class_key(cells)) for cells in self._plan.lengths}
        kept = self._plan.densities if self._plan.keeps_wavefunctions else ()
        self._bases: dict[str, Basis] = {density: read_basis(store, density) for density in kept}
        self._shards = {(shard.cells, shard.index): shard for shard in self._plan.shards()}
        self._receipt = functools.lru_cache(maxsize=4)(functools.partial(read_receipt, store))
        self._samples: dict[bytes, Place] = {}
        self._states: dict[bytes, tuple[Place, str]] = {}
        for generation in self._plan.generations:
            for cells, first in generation.first.items():
                self._list_keys(generation, cells, first)

    def _list_keys(self, generation: GenerationPlan, cells: int, first: int) -> None:
        """Of samples that were computed with the programs that their keys name."""
        group: Any = open_group(self._store, "r", planned_key(generation.number, cells))
        keys, states = group["key"][...], group["state_keys"][...]
        for row in range(len(keys)):
            place = Place(cells, first + row)
            if place in self._outcomes and self._outcomes[place].programs == generation.programs:
                self._samples[bytes(keys[row])] = place
                for density, key in zip(self._bases, states[row], strict=False):
                    self._states[bytes(key)] = (place, density)

    def take_sample(self, planned: PlannedSample) -> Taken | None:
        """Every array of a sample with the same key, under the id it has now."""
        if (place := self._samples.get(planned.key)) is None:
            return None
        end = self._find_outcome(place)
        box = tuple(map(slice, planned.grid.shape))
        group = self._groups[place.cells]
        try:
            channels = {one.name: group[one.name][(place.row, ..., *box)] for one in self._plan.channels}
        except (ValueError, RuntimeError) as error:  # what Zarr and Blosc raise
            raise self._unreadable(end) from error
        states = {density: self._restore(place, density, planned.conformer) for density in self._bases}
        return Taken(Sample(planned.conformer, planned.grid, channels, states), replace(end, id=planned.conformer.id))

    def take_states(self, planned: PlannedSample, densities: list[str]) -> dict[str, ElectronicState]:
        """The kept wavefunctions of the same molecule and settings, by what `densities` call them here."""
        found = {name: self._states.get(key) for name, key in zip(densities, planned.state_keys, strict=True)}
        return {name: self._restore(*home, planned.conformer) for name, home in found.items() if home}

    def _unreadable(self, end: Outcome) -> StoreError:
        return StoreError(f"{self._store}: sample {end.id} cannot be read: `rhoflow verify {self._store} --repair`")

    def _find_outcome(self, place: Place) -> Outcome:
        """Raises StoreError where an object that the sample's receipt names is gone."""
        shard = self._shards[place.cells, place.row // self._plan.shard_samples]
        for key in self._receipt(shard.number).objects:
            if not has_object(self._store, key):
                raise StoreError(f"{self._store}/{key} is gone: `rhoflow verify {self._store} --repair`")
        return self._outcomes[place]

    def _restore(self, place: Place, density: str, conformer: Conformer) -> ElectronicState:
        end = self._find_outcome(place)
        group = self._groups[place.cells]
        try:
            state = restore_state(group, place.row, conformer, self._bases[density], density, end.facts)
        except (ValueError, RuntimeError) as error:  # what Zarr and Blosc raise
            raise self._unreadable(end) from error
        return replace(state, program=end.programs[density])


@functools.lru_cache(maxsize=4)
def open_known(origin: Origin) -> KnownSamples | None:
    """None where the store is gone or holds anything else by now: then all is computed."""
    store = locate(origin.store)
    if is_sealed(store) and fingerprint(store) == origin.fingerprint:
        return KnownSamples(store)
    print(f"{store} is gone or has changed since: what was to be taken from it is computed", file=sys.stderr)
    return None
