"""The kept wavefunctions of a sealed store, for another plan of the same molecules."""

import functools
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from pipeline.failures import FailedBefore
from pipeline.rotation import rotate_state
from storage.errors import StoreError
from storage.identity import fingerprint
from storage.layout import class_key, decode_text, open_group
from storage.objects import Location, has_object
from storage.plan import PlannedSample, read_basis, read_plan, read_planned_samples
from storage.reader import restore_state
from storage.receipts import Outcome, read_receipt
from storage.schema import Basis, ElectronicState, FloatArray
from storage.seal import is_sealed


class KeptStates:
    """Finds a sample's states by its id; reads what is asked for, and no more."""

    def __init__(self, store: Location) -> None:
        self.store = store
        self._plan = read_plan(store)
        self._refusals = {refusal.id: refusal for refusal in self._plan.refusals}
        self._shards = {(shard.cells, shard.index): shard for shard in self._plan.shards()}
        self._groups: dict[int, Any] = {cells: open_group(store, "r", class_key(cells)) for cells in self._plan.samples}
        self._receipt = functools.lru_cache(maxsize=4)(functools.partial(read_receipt, store))
        self._places = _find_places(self._groups)
        self._bases: dict[str, Basis] = {density: read_basis(store, density) for density in self._plan.densities}

    def read(self, sample: PlannedSample) -> dict[str, ElectronicState]:
        """By density, turned as the sample is. Raises FailedBefore where the sample had failed."""
        id = sample.conformer.id
        if id not in self._places:
            refusal = self._refusals[id]
            raise FailedBefore(refusal.reason, f"no wavefunction of it was ever made: {refusal.message}")
        cells, index = self._places[id]
        end = self._read_outcome(cells, index)
        if end.outcome != "ok":
            raise FailedBefore(end.outcome, end.message)
        was = read_planned_samples(self.store, cells, index, index + 1)[0]
        states = {}
        for density, basis in self._bases.items():
            state = restore_state(self._groups[cells], index, was.conformer, basis, density, end.facts)
            states[density] = _turn(replace(state, program=end.programs[density]), was.rotation, sample)
        return states

    def _read_outcome(self, cells: int, index: int) -> Outcome:
        """Raises StoreError where an object that the sample's receipt names is gone."""
        shard = self._shards[cells, index // self._plan.shard_samples]
        receipt = self._receipt(shard.number)
        for key in receipt.objects:
            if not has_object(self.store, key):
                raise StoreError(
                    f"{self.store}/{key} is gone (shard {shard.number}): `rhoflow verify {self.store} --repair`"
                )
        return receipt.outcomes[index - shard.first]


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


def _find_places(groups: Mapping[int, Any]) -> dict[str, tuple[int, int]]:
    """Size class and row of every sample, by id."""
    return {
        id: (cells, index) for cells, group in groups.items() for index, id in enumerate(decode_text(group["id"][...]))
    }


def _turn(state: ElectronicState, was: FloatArray, sample: PlannedSample) -> ElectronicState:
    """The state from one orientation of the molecule to another; the same orientation keeps every bit."""
    if not np.array_equal(was, sample.rotation):
        state = rotate_state(state, sample.rotation @ was.T)
    return replace(state, positions=sample.conformer.positions)
