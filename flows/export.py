"""One sample's channels as a file for other programs."""

import difflib
from collections.abc import Sequence
from pathlib import Path

from flows.volume_files import choose_format, write_volume
from pipeline.formats import Scene, Volume
from storage.errors import RequestError
from storage.objects import Location
from storage.plan import ChannelLayout, read_plan
from storage.reader import Dataset, StoredSample, open_dataset

UNITS = {
    "electrons bohr-3": "_electrons_per_bohr3",
    "electrons bohr-4": "_electrons_per_bohr4",
    "1": "",
    "arbitrary": "",
}
SHOWN_IDS = 8


def export_sample(store: Location, id: str, channels: Sequence[str], file: Path, format: str | None) -> None:
    """Write `file`. Raises RequestError for an id, a channel, a format or a path that is none.

    Of atom types, each type is a channel: atom_types_C.
    """
    chosen = choose_format(file, format)
    dataset = open_dataset(store)
    sample = _find_sample(dataset, id)
    places = {name: place for layout in read_plan(store).channels for name, place in _list_fields(layout)}
    if unknown := [channel for channel in channels if channel not in places]:
        raise RequestError(f"{store} has no channel {unknown[0]!r}: there are {', '.join(places)}")
    fields = {}
    for channel in channels:
        layout, type = places[channel]
        values = sample.channels[layout.name]
        fields[channel + UNITS[layout.units]] = values if type is None else values[type]
    scene = Scene(sample.numbers, sample.positions, sample.charge, sample.grid, sample.sampling)
    write_volume(file, chosen, Volume(scene, fields))


def _list_fields(layout: ChannelLayout) -> list[tuple[str, tuple[ChannelLayout, int | None]]]:
    """What a channel holds, by the names it can be asked by, and where among its types."""
    if not layout.types:
        return [(layout.name, (layout, None))]
    return [(f"{layout.name}_{type}", (layout, index)) for index, type in enumerate(layout.types)]


def _find_sample(dataset: Dataset, id: str) -> StoredSample:
    if id in dataset.ids:
        return dataset[id]
    near = difflib.get_close_matches(id, dataset.ids, n=SHOWN_IDS) or dataset.ids[:SHOWN_IDS]
    more = "" if len(near) == len(dataset) else f", … ({len(dataset)} in all)"
    raise RequestError(f"{dataset.store} has no sample {id!r}: there are {', '.join(near) or 'none'}{more}")
