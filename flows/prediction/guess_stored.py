"""Guesses that a store holds."""

from typing import Any

import numpy as np

from flows.prediction.guess import Guess, check_guess
from storage.errors import RequestError
from storage.objects import Location
from storage.reader import open_dataset
from training.trained import Origin


class StoredGuesses:
    """Of every sample of a sealed store that is ok."""

    def __init__(self, store: Location, origin: Origin) -> None:
        """Raises RequestError where the store's guesses are not such as the model was trained on."""
        self._dataset, self._input = open_dataset(store), origin.input
        if origin.input not in self._dataset.channels:
            raise RequestError(
                f"{store} has no channel {origin.input!r}, which the model starts from: there are "
                f"{', '.join(self._dataset.channels)}"
            )
        check_guess(self._dataset.attributes["recipe"], origin.input, origin, str(store))
        self.ids = self._dataset.ids

    def __getitem__(self, number: int) -> Guess:
        sample = self._dataset[self.ids[number]]
        values = sample.channels[self._input]
        summed = sample.grid.cell_volume * float(values.sum(dtype=np.float64))
        known: Any = self._dataset.table.loc[sample.id].get(f"{self._input}_box_electrons", summed)
        return Guess(sample.conformer, sample.grid, sample.sampling, values, float(known))
