"""What samples are known to have: labels of their source, in the units that their names end with."""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from storage.errors import StoreError
from storage.reader import Dataset
from storage.schema import FloatArray
from training.catalog import Catalog

UNITS = {
    "_D": "D", "_Ha": "Ha", "_eV": "eV", "_bohr2": "bohr²", "_bohr3": "bohr³", "_GHz": "GHz",
    "_cal_molK": "cal/(mol·K)", "_kcal": "kcal/mol", "_kJ": "kJ/mol",
}  # fmt: skip


def name_unit(label: str) -> str:
    """The unit that a label's name ends with, or ""."""
    return next((unit for ending, unit in UNITS.items() if label.endswith(ending)), "")


def read_labels(catalog: Catalog, targets: Sequence[str]) -> FloatArray:
    """Of every sample, shape (samples, targets); NaN where a label is missing.

    Raises StoreError naming a label that a store has not, or that is text.
    """
    for dataset in catalog.datasets:
        check_labels(dataset, targets)
    return catalog.table[list(targets)].to_numpy(dtype=np.float64)


def check_labels(dataset: Dataset, targets: Sequence[str]) -> None:
    """Raises StoreError, which lists the labels there are."""
    there = [label for label in dataset.attributes["recipe"]["source"].get("labels", []) if label in dataset.table]
    numbers = [label for label in there if pd.api.types.is_numeric_dtype(dataset.table[label])]
    for target in targets:
        if target not in numbers:
            fault = "is text, no number" if target in there else "is not there"
            raise StoreError(
                f"{dataset.store}: label {target!r} {fault}; its labels with numbers are "
                f"{', '.join(numbers) or 'none'}: name some of them as targets, or add the column to labels in "
                "[source] of its recipe, and build a new store with --reuse of this one"
            )
