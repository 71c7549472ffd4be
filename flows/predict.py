"""Predicts densities of new molecules: a guess as in the training data, then what a trained model makes of it."""

import csv
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path

import numpy as np

from flows.guess import Guess, Guesses
from flows.progress import Meter
from flows.volume_files import ENDINGS, choose_format, write_volume
from pipeline.elements import SYMBOLS
from pipeline.failures import MoleculeFailed
from pipeline.formats import Scene, Volume
from storage.errors import RequestError
from storage.layout import HEADER
from storage.objects import has_object, locate
from storage.schema import Molecule
from training.calibration import Calibration, read_calibration
from training.device import choose_device
from training.models.prediction import predict_turned
from training.models.tiles import GIB
from training.trained import Model, load_model, locate_run

FIELD = "predicted_electrons_per_bohr3"
TABLE = "predictions.csv"


@dataclass(frozen=True)
class Wanted:
    """What is to be predicted, in the words of the command line."""

    run: str
    input: str
    out: Path
    format: str | None
    smiles: str  # columns of a table
    id: str | None
    memory_gib: float


@dataclass(frozen=True)
class Prediction:
    """What became of one molecule."""

    id: str
    outcome: str = "ok"
    message: str = ""
    file: str = ""
    electrons: float | None = None  # in the box
    expected_nmae: float | None = None  # None: the model is not calibrated, or was trained without an element

    def __str__(self) -> str:
        if self.outcome != "ok":
            return f"{self.id}: {self.outcome}: {self.message}"
        error = "unknown" if self.expected_nmae is None else f"{100 * self.expected_nmae:.2f} %"
        return (
            f"{self.file}: {self.electrons:.4f} electrons, expected NMAE {error}{self.message and f' ({self.message})'}"
        )


@dataclass(frozen=True)
class Predictor:
    """A model with what is known of its errors, and the memory that it may use."""

    model: Model
    calibration: Calibration | None
    memory_gib: float

    def write(self, id: str, guess: Guess, file: Path, format: str) -> Prediction:
        """Predict a density, and write it."""
        volume, conformer = guess.grid.cell_volume, guess.conformer
        memory = self.memory_gib * GIB
        predicted = predict_turned(self.model.network, guess.values, guess.electrons, volume, memory)
        unseen = sorted({*conformer.numbers.tolist()} - {*self.model.origin.elements})
        expected = self.calibration.expect(predicted.spread) if self.calibration and not unseen else None
        scene = Scene(conformer.numbers, conformer.positions, conformer.charge, guess.grid, guess.sampling)
        remarks = {} if expected is None else {"expected_nmae": expected}
        write_volume(file, format, Volume(scene, {FIELD: predicted.density}, remarks))
        electrons = volume * float(predicted.density.sum(dtype=np.float64))
        message = f"trained without {', '.join(SYMBOLS[number] for number in unseen)}" if unseen else ""
        return Prediction(id, "ok", message, str(file), electrons, expected)


def predict(wanted: Wanted) -> list[Prediction]:
    """One molecule becomes a file, several a folder of files with a table of what became of each.

    Raises RequestError for a model, an input or a path that is none, and where the only molecule fails.
    """
    to_file = leads_to_file(wanted.out, wanted.format)
    run = locate_run(wanted.run)
    model, calibration = load_model(run), read_calibration(run)
    model.network.to(choose_device("auto"))
    guesses = open_guesses(wanted, model)
    current = calibration if calibration and calibration.step == model.step else None
    predictor = Predictor(model, current, wanted.memory_gib)
    if not to_file:
        return _predict_all(guesses, predictor, wanted.out, wanted.format or "npz")
    if len(guesses.ids) != 1:
        raise RequestError(f"{wanted.input} holds {len(guesses.ids)} molecules, not one: let OUT be a folder")
    try:
        return [predictor.write(guesses.ids[0], guesses[0], wanted.out, choose_format(wanted.out, wanted.format))]
    except MoleculeFailed as failure:
        raise RequestError(f"{wanted.input}: {failure.reason}: {failure}") from failure


def _predict_all(guesses: Guesses, predictor: Predictor, folder: Path, format: str) -> list[Prediction]:
    folder.mkdir(parents=True, exist_ok=True)
    predictions = []
    with Meter("predict", len(guesses.ids)) as meter:
        for number, id in enumerate(guesses.ids):
            try:
                predictions.append(
                    predictor.write(id, guesses[number], folder / f"{id.replace('#', '_')}.{format}", format)
                )
            except MoleculeFailed as failure:
                predictions.append(Prediction(id, failure.reason, str(failure)))
            meter.advance(1, failed=int(predictions[-1].outcome != "ok"))
    with (folder / TABLE).open("w", newline="", encoding="utf-8") as file:
        rows = csv.DictWriter(file, [field.name for field in fields(Prediction)])
        rows.writeheader()
        rows.writerows(map(asdict, predictions))
    return predictions


def leads_to_file(out: Path, format: str | None) -> bool:
    """Whether OUT is one file; else it is a folder. Raises RequestError where it can be neither."""
    if out.suffix == ".zarr":
        raise RequestError(
            f"{out}: predictions are written as files: name a folder, which a recipe can build a store from "
            '(engine = "file"), or one file that ends in .cube, .ccp4 or .npz'
        )
    if out.is_dir() or not out.suffix:
        if format is not None:
            choose_format(out, format)
        return False
    choose_format(out, format)
    return True


def open_guesses(wanted: Wanted, model: Model) -> Guesses:
    """Of a store, of the molecules of a file, or of one SMILES; the libraries that none of them needs stay away."""
    location = locate(wanted.input)
    if has_object(location, HEADER):
        from flows.guess_stored import StoredGuesses

        return StoredGuesses(location, model.origin)
    from flows.guess_computed import ComputedGuesses, build_guesser

    guesser = build_guesser(model.origin, model.network.multiple)
    return ComputedGuesses(_read_input(wanted), guesser, wanted.memory_gib)


def _read_input(wanted: Wanted) -> Sequence[Molecule]:
    from pipeline.sources import FORMATS, read_molecules

    path = Path(wanted.input)
    if path.exists():
        return list(read_molecules(path, smiles=wanted.smiles, id=wanted.id))
    if path.name.endswith((*FORMATS, *ENDINGS, ".gz", ".zarr")):
        raise RequestError(f"{wanted.input}: there is no such file, and this is no SMILES: check the path")
    return [Molecule(0, wanted.out.name.split(".")[0], smiles=wanted.input)]
