"""Which samples a page shows, and which fields of each: densities, gradients, a prediction, and their differences."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from storage.reader import Dataset, StoredSample
from storage.schema import FloatArray

SHOWN_SAMPLES = 6
Kind = Literal["density", "gradient", "difference"]


@dataclass(frozen=True)
class Field:
    name: str
    kind: Kind
    values: FloatArray  # (nx, ny, nz), electrons/bohr³ (gradients: electrons/bohr⁴)
    nmae: float | None = None  # of a difference: Σ|values| over Σ of the density it is measured against


@dataclass(frozen=True)
class Shown:
    """One sample's fields, in the order in which they are shown."""

    sample: StoredSample
    split: str
    fields: Sequence[Field]


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


def show_stored(dataset: Dataset, id: str) -> Shown:
    """Every stored density, how the others differ from the target (or else the last), and the gradients."""
    names = [name for name in dataset.densities if name in dataset.channels]
    reference = "target" if "target" in names else names[-1] if names else ""
    gradients = [name for name in dataset.channels if name.endswith("_gradient")]
    sample = dataset[id]
    densities = {name: _read(sample, name) for name in names}
    slopes = [Field(f"|∇{name.removesuffix('_gradient')}|", "gradient", _read(sample, name)) for name in gradients]
    return Shown(sample, _split_of(dataset, id), [*_compare(densities, reference), *slopes])


def show_predicted(dataset: Dataset, id: str, names: tuple[str, str], prediction: NDArray[np.floating]) -> Shown:
    """Guess, target and prediction, with the errors of the first and the last; `names` are the guess and the target."""
    sample = dataset[id]
    densities = {name: _read(sample, name) for name in names}
    fields = _compare({**densities, "prediction": prediction.astype(np.float64)}, names[1])
    return Shown(sample, _split_of(dataset, id), fields)


def _compare(densities: Mapping[str, FloatArray], reference: str) -> list[Field]:
    """The densities, then how each but the reference differs from it."""
    fields = [Field(name, "density", values) for name, values in densities.items()]
    for name, values in densities.items():
        if name != reference:
            difference = values - densities[reference]
            nmae = float(np.abs(difference).sum() / densities[reference].sum())
            fields.append(Field(f"{name} − {reference}", "difference", difference, nmae))
    return fields


def _read(sample: StoredSample, channel: str) -> FloatArray:
    return sample.channels[channel].astype(np.float64)


def _split_of(dataset: Dataset, id: str) -> str:
    return str(dataset.table.loc[id, "split"])
