"""Stacks of stored channels in cubes of one size, turned by a rotation of the cube where that is wanted."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from storage.errors import StoreError
from storage.reader import Dataset
from storage.schema import FloatArray, IntArray
from storage.shards import OpenShards, SampleArray, open_samples
from training.batch import Batch, Draw, draw_generator
from training.buffers import Buffers
from training.catalog import Catalog
from training.kept import Kept
from training.symmetries import ROTATIONS, turn_back

KEPT_BYTES = 4 * 2**30  # of decoded boxes in memory
OCCUPIED = 1e-3  # of a scaled field: where it is not vacuum
# What a config may call the channels of a store that has only one density.
WORDS = {"density": "{density}", "gradient": "{density}_gradient"}
ATOMS = {"atoms": "atom_types"}


@dataclass(frozen=True)
class Channel:
    """A stored field with what a network has to know of it."""

    name: str
    types: tuple[str, ...]  # the atom type that each of its fields is of; () where it is one field

    @property
    def fields(self) -> int:
        """How many."""
        return len(self.types) or 1


def find_channels(dataset: Dataset, representation: Sequence[str]) -> list[Channel]:
    """The channels that a representation stacks. Raises StoreError naming one that the store has not."""
    densities = dataset.densities
    words = {word: name.format(density=densities[0]) for word, name in WORDS.items()} if len(densities) == 1 else {}
    words |= ATOMS
    return [_find_channel(dataset, name, words.get(name, name)) for name in representation]


def _find_channel(dataset: Dataset, said: str, name: str) -> Channel:
    name = said if said in dataset.channels else name
    if name not in dataset.channels:
        raise StoreError(
            f"{dataset.store} has no channel {said!r}, only {', '.join(dataset.channels)}: name some of them in "
            "representation, or build a store with it: [channels] in its recipe"
        )
    return Channel(name, dataset.field_types(name))


class ChannelBoxes:
    """Reads stacked channels, (batch, fields, cells, cells, cells), with labels; threads may read at once.

    The middle of each stored box comes to lie in the middle of the cube; what is beyond the cube is cut away.
    """

    def __init__(
        self,
        catalog: Catalog,
        channels: Sequence[Channel],
        labels: FloatArray,
        cells: int,
        *,
        turn: bool = False,
        seed: int = 0,
        kept_bytes: int = KEPT_BYTES,
    ) -> None:
        """`labels`: (samples, targets), NaN where unknown.

        Raises StoreError where atoms do not fit into the cube, or a store has other atom types than the channels.
        """
        self.catalog, self.channels, self.labels, self.cells = catalog, list(channels), labels, cells
        self._turn, self._seed = turn, seed
        self._shards, self._buffers = OpenShards(), Buffers()
        self._kept = Kept[tuple[int, str], NDArray[np.float32]](kept_bytes)
        self._array = cache(self._open_array)
        check_types(catalog, self.channels)
        check_atoms_fit(catalog, cells)

    def read(self, draws: Sequence[Draw]) -> Batch:
        fields = sum(channel.fields for channel in self.channels)
        values = self._buffers.take((len(draws), fields, *(self.cells,) * 3), np.float32)
        for draw, box in zip(draws, values.numpy(), strict=True):
            self._fill(box, draw.sample, self._choose_rotation(draw))
        return label_batch(self.catalog, self.labels, draws, values)

    def read_turned(self, sample: int, rotation: int) -> Tensor:
        """One sample, turned by the symmetry of that number: (1, fields, cells, cells, cells)."""
        fields = sum(channel.fields for channel in self.channels)
        values = self._buffers.take((1, fields, *(self.cells,) * 3), np.float32)
        self._fill(values.numpy()[0], sample, rotation)
        return values

    def _choose_rotation(self, draw: Draw) -> int:
        if not self._turn:
            return 0
        random = draw_generator(self._seed, draw.epoch, self.catalog.ids[draw.sample])
        return ROTATIONS[int(random.integers(len(ROTATIONS)))]

    def _fill(self, values: NDArray[np.float32], sample: int, rotation: int) -> None:
        values[...] = 0
        before = turn_back(values, rotation)  # a view of the cube as it is before it is turned
        places, parts = _lay_in_the_middle(self.catalog.shapes[sample], self.cells)
        first = 0
        for channel in self.channels:
            before[(slice(first, first + channel.fields), *places)] = self._read_sample(sample, channel)[:, *parts]
            first += channel.fields

    def _read_sample(self, sample: int, channel: Channel) -> NDArray[np.float32]:
        """Shape (fields, nx, ny, nz)."""
        box = self._kept.find((sample, channel.name))
        if box is None:
            cells, shape = int(self.catalog.cells[sample]), self.catalog.shapes[sample].tolist()
            box = np.empty((channel.fields, *(cells,) * 3), dtype=np.float32)
            stored = box if channel.name == "atom_types" else box[0]
            self._array(int(self.catalog.stores[sample]), cells, channel.name).read(
                int(self.catalog.rows[sample]), self.catalog.ids[sample], stored
            )
            box = box[:, *map(slice, shape)]
            self._kept.add((sample, channel.name), box.nbytes, box.copy)
        return box

    def _open_array(self, store: int, cells: int, channel: str) -> SampleArray:
        return open_samples(self.catalog.datasets[store].store, cells, channel, self._shards)


def label_batch(catalog: Catalog, labels: FloatArray, draws: Sequence[Draw], inputs: Tensor) -> Batch:
    """Inputs with the labels of their samples: 0, and judged False, where one is unknown."""
    known = labels[[draw.sample for draw in draws]]
    target, judged = np.nan_to_num(known).astype(np.float32), ~np.isnan(known)
    ids = tuple(catalog.ids[draw.sample] for draw in draws)
    volumes = (float(np.prod(catalog.spacing)),) * len(ids)
    return Batch(ids, inputs, torch.from_numpy(target), torch.from_numpy(judged), volumes)


def check_types(catalog: Catalog, channels: Sequence[Channel]) -> None:
    """Raises StoreError naming a store whose fields are of other atom types than a network's input."""
    for dataset in catalog.datasets:
        for channel in channels:
            types = dataset.field_types(channel.name)
            if types != channel.types:
                raise StoreError(
                    f"{dataset.store}: channel {channel.name!r} is of {', '.join(types)}, not of "
                    f"{', '.join(channel.types)}: build it with the same atom_type_elements"
                )


def check_atoms_fit(catalog: Catalog, cells: int) -> None:
    """Raises StoreError naming a sample with atoms outside the cube in the middle of its box."""
    boxed = catalog.boxed_atoms.tolist()
    atom_of = np.repeat(np.arange(len(catalog)), boxed)
    positions = np.concatenate([catalog.positions_of(sample)[:atoms] for sample, atoms in enumerate(boxed)])
    middles = catalog.origins + (catalog.shapes - 1) / 2 * catalog.spacing
    outside = np.abs(positions - middles[atom_of]).max(axis=1) > cells / 2 * catalog.spacing[0]
    if outside.any():
        first, count = int(atom_of[np.argmax(outside)]), len(set(atom_of[outside].tolist()))
        raise StoreError(
            f"{count} samples, the first of them {catalog.ids[first]}, have atoms outside a cube of {cells} cells of "
            f"{catalog.spacing[0]:.3f} bohr: raise cells in the training config"
        )


def _lay_in_the_middle(shape: IntArray, cells: int) -> tuple[tuple[slice, ...], tuple[slice, ...]]:
    """Where in the cube, and which part of the box."""
    kept = np.minimum(shape, cells)
    into, of = ((outer - kept) // 2 for outer in (np.full(3, cells), shape))
    places, parts = (tuple(slice(a, a + n) for a, n in zip(first, kept, strict=True)) for first in (into, of))
    return places, parts


def measure_gains(boxes: ChannelBoxes, samples: Sequence[int], scale: Callable[[Tensor], Tensor]) -> list[float]:
    """One over each scaled field's root mean square, where it is more than a thousandth; 1 where it is nowhere."""
    fields = sum(channel.fields for channel in boxes.channels)
    squares, counts = np.zeros(fields), np.zeros(fields)
    for sample in samples:
        values = scale(boxes.read_turned(sample, 0).double())[0].flatten(1).numpy()
        occupied = values > OCCUPIED
        squares += (values**2 * occupied).sum(axis=1)
        counts += occupied.sum(axis=1)
    gains: FloatArray = np.sqrt(np.divide(counts, squares, out=np.ones(fields), where=counts > 0))
    return [float(gain) for gain in gains]
