"""A box too large for the memory is predicted in tiles, each with all that its network can see around it."""

import itertools
from collections.abc import Iterator
from dataclasses import dataclass

from pipeline.failures import TooLarge
from training.models.build import Network

GIB = 2**30

Triple = tuple[int, int, int]


@dataclass(frozen=True)
class Tile:
    """A part of a box: the cells whose density is wanted, and those that the network is shown for it."""

    wanted: tuple[slice, ...]
    shown: tuple[slice, ...]

    @property
    def kept(self) -> tuple[slice, ...]:
        """The wanted cells, as they lie in what is shown."""
        return tuple(slice(a.start - b.start, a.stop - b.start) for a, b in zip(self.wanted, self.shown, strict=True))


def cut_tiles(network: Network, shape: Triple, memory: float) -> list[Tile]:
    """Tiles that fill a box, each predicted in so many bytes; one, where the whole box can be.

    `shape` divides by the network's multiple, as do the tiles. They end where the box does: beyond it is vacuum. Raises
    TooLarge where the network has to see the whole box, or what it has to see of it is too much.
    """
    most = memory / network.cell_bytes
    if _count_cells(shape) <= most:
        return list(_lay_tiles(shape, max(shape), 0))
    if network.reach is None:
        raise TooLarge(
            f"a box of {' x '.join(map(str, shape))} cells needs {_gib(network, shape)} GiB, and the published network "
            f'has to see all of it at once (it normalises over the box): give --memory-gib, or train model = "unet"'
        )
    edges = range(max(shape), 0, -network.multiple)
    edge = next((edge for edge in edges if _count_cells(_shown_shape(shape, edge, network.reach)) <= most), None)
    if edge is None:
        least = _shown_shape(shape, network.multiple, network.reach)
        raise TooLarge(
            f"the network sees {network.reach} cells far, and needs {_gib(network, least)} GiB even for a small part "
            f"of a box of {' x '.join(map(str, shape))} cells: give --memory-gib, or train one of less depth"
        )
    return list(_lay_tiles(shape, edge, network.reach))


def _lay_tiles(shape: Triple, edge: int, halo: int) -> Iterator[Tile]:
    for corner in itertools.product(*(range(0, n, edge) for n in shape)):
        places = list(zip(corner, shape, strict=True))
        yield Tile(
            tuple(slice(first, min(first + edge, n)) for first, n in places),
            tuple(slice(max(0, first - halo), min(first + edge + halo, n)) for first, n in places),
        )


def _shown_shape(shape: Triple, edge: int, halo: int) -> Triple:
    x, y, z = (min(edge + 2 * halo, n) for n in shape)
    return x, y, z


def _count_cells(shape: Triple) -> int:
    return shape[0] * shape[1] * shape[2]


def _gib(network: Network, shape: Triple) -> str:
    return f"{_count_cells(shape) * network.cell_bytes / GIB:.1f}"
