"""The kept wavefunctions of a sealed store, for another plan of the same molecules."""

import functools
from dataclasses import replace
from typing import Any

import numpy as np

from pipeline.failures import FailedBefore
from pipeline.rotation import rotate_state
from storage.errors import StoreError
from storage.generations import Place
from storage.identity import fingerprint
from storage.layout import class_key, open_group
from storage.objects import Location, has_object
from storage.outcomes import find_places
from storage.plan import Refusal, Shard, read_basis, read_plan, read_shard_samples
from storage.reader import restore_state
from storage.receipts import Outcome, read_receipt
from storage.sample_tables import PlannedSample
from storage.schema import Basis, ElectronicState, FloatArray
from storage.seal import is_sealed


class KeptStates:
    """Finds a conformer's states by its id; reads what is asked for, and no more."""

    def __init__(self, store: Location) -> None:
        self.store = store
        plan = read_plan(store)
        self._size = plan.shard_samples
        self._places = find_places(store, plan)
        self._shards = {(shard.cells, shard.index): shard for shard in plan.shards()}
        self._groups: dict[int, Any] = {cells: open_group(store, "r", class_key(cells)) for cells in plan.lengths}
        self._receipt = functools.lru_cache(maxsize=4)(functools.partial(read_receipt, store))
        self._samples = functools.lru_cache(maxsize=4)(functools.partial(read_shard_samples, store))
        self._bases: dict[str, Basis] = {density: read_basis(store, density) for density in plan.densities}

    def read(self, sample: PlannedSample) -> dict[str, ElectronicState]:
        """By density, turned as the sample is. Raises FailedBefore where the sample had failed."""
        place = self._places[sample.conformer.id]
        if isinstance(place, Refusal):
            raise FailedBefore(place.reason, f"no wavefunction of it was ever made: {place.message}")
        return self.read_at(place, sample)

    def read_at(self, place: Place, sample: PlannedSample) -> dict[str, ElectronicState]:
        """The same, of the sample that lies at a place."""
        shard = self._shards[place.cells, place.row // self._size]
        end = self._read_outcome(shard, place)
        if end.outcome != "ok":
            raise FailedBefore(end.outcome, end.message)
        was = self._samples(shard)[place.row - shard.first]
        states = {}
        for density, basis in self._bases.items():
            try:
                state = restore_state(self._groups[place.cells], place.row, was.conformer, basis, density, end.facts)
            except (ValueError, RuntimeError) as error:  # what Zarr and Blosc raise
                raise StoreError(
                    f"{self.store}: wavefunctions of sample {was.conformer.id} cannot be read ({error}): "
                    f"`rhoflow verify {self.store} --repair`"
                ) from error
            states[density] = _turn(replace(state, program=end.programs[density]), was.rotation, sample)
        return states

    def _read_outcome(self, shard: Shard, place: Place) -> Outcome:
        """Raises StoreError where an object that the sample's receipt names is gone."""
        receipt = self._receipt(shard.number)
        for key in receipt.objects:
            if not has_object(self.store, key):
                raise StoreError(
                    f"{self.store}/{key} is gone (shard {shard.number}): `rhoflow verify {self.store} --repair`"
                )
        return receipt.outcomes[place.row - shard.first]


@functools.lru_cache(maxsize=4)
def open_kept_states(store: Location, expected: str) -> KeptStates:
    """Raises StoreError where the store is gone, or holds anything else than it did: `expected` is its fingerprint."""
    if not is_sealed(store):
        raise StoreError(
            f"{store}, whose wavefunctions are needed, is gone or not sealed: "
            "run `rhoflow voxelize` again with the path it has now"
        )
    if fingerprint(store) != expected:
        raise StoreError(
            f"{store} is not the store that voxelization began with, it has changed since: "
            "put that one back, or voxelize into a new folder"
        )
    return KeptStates(store)


def _turn(state: ElectronicState, was: FloatArray, sample: PlannedSample) -> ElectronicState:
    """The state from one orientation of the molecule to another; the same orientation keeps every bit."""
    if not np.array_equal(was, sample.rotation):
        state = rotate_state(state, sample.rotation @ was.T)
    return replace(state, positions=sample.conformer.positions)
