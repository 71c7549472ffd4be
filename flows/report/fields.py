"""Which samples a page shows, and which fields of each: densities, gradients, a prediction, and their differences."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from storage.reader import Dataset, StoredSample
from storage.schema import FloatArray

SHOWN_SAMPLES = 6
Kind = Literal["density", "gradient", "difference"]
Predict = Callable[[StoredSample], NDArray[np.floating]]


@dataclass(frozen=True)
class Shown:
    """One sample's fields, in the order in which they are shown."""

    sample: StoredSample
    fields: Sequence["Field"]


@dataclass(frozen=True)
class Field:
    name: str
    kind: Kind
    values: FloatArray  # (nx, ny, nz), electrons/bohr³ (gradients: electrons/bohr⁴)


def choose_samples(dataset: Dataset, wanted: int = SHOWN_SAMPLES) -> list[str]:
    """Ids of a few molecules, of the test split where it has enough, from small to large."""
    table = dataset.table[dataset.table["conformer"].eq(dataset.table.groupby("row")["conformer"].transform("min"))]
    chosen: list[str] = []
    for split in ("test", "validation", "train"):
        atoms = {id: len(dataset[id].numbers) for id in table.index[table["split"] == split][: 20 * wanted]}
        ids = sorted(atoms, key=lambda id: (atoms[id], id))
        places = np.unique(np.linspace(0, len(ids) - 1, min(wanted - len(chosen), len(ids))).round().astype(int))
        chosen += [ids[place] for place in places]
    return chosen


def show_sample(dataset: Dataset, sample: StoredSample, predict: Predict | None, reference: str) -> Shown:
    """The fields of one sample; `reference` is the density that the others are compared with."""
    stored = {name: sample.channels[name].astype(np.float64) for name in dataset.densities if name in sample.channels}
    densities: Mapping[str, FloatArray] = stored
    if predict is not None:
        densities = {**stored, "prediction": predict(sample).astype(np.float64)}
    fields = [Field(name, "density", values) for name, values in densities.items()]
    fields += [
        Field(f"{name} − {reference}", "difference", values - densities[reference])
        for name, values in densities.items()
        if reference in densities and name != reference
    ]
    gradients = [name for name in dataset.channels if name.endswith("_gradient")] if predict is None else []
    fields += [Field(f"|∇{name.removesuffix('_gradient')}|", "gradient", _stored(sample, name)) for name in gradients]
    return Shown(sample, fields)


def choose_reference(dataset: Dataset) -> str:
    """The density called target, or else the last."""
    return "target" if "target" in dataset.densities else dataset.densities[-1]


def _stored(sample: StoredSample, channel: str) -> FloatArray:
    return sample.channels[channel].astype(np.float64)
