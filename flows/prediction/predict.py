"""Predicts densities of new molecules: a guess as in the training data, then what a trained model makes of it."""

import csv
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path

import numpy as np

from flows.prediction.guess import Guess, Guesses
from flows.prediction.model_engine import Refiner, read_refiner
from flows.progress import Meter
from flows.volume_files import ENDINGS, choose_format, write_volume
from pipeline.failures import MoleculeFailed
from pipeline.formats import Scene, Volume
from storage.errors import RequestError
from storage.layout import HEADER
from storage.objects import Location, has_object, locate
from storage.schema import Molecule
from training.device import choose_device
from training.models.tiles import GIB
from training.trained import Model, locate_run

FIELD = "predicted_electrons_per_bohr3"
TABLE = "predictions.csv"
LONGEST_NAME = 255  # bytes that a file's name may have; a SMILES may have more


@dataclass(frozen=True)
class Wanted:
    """What is to be predicted, in the words of the command line."""

    run: str
    input: str
    out: Location  # for a store; else a path
    format: str | None
    smiles: str  # columns of a table
    id: str | None
    memory_gib: float
    spacing_angstrom: float | None = None  # of cells; None: as in training, or in the store that is read


@dataclass(frozen=True)
class Prediction:
    """What became of one molecule."""

    id: str
    outcome: str = "ok"
    message: str = ""
    file: str = ""
    electrons: float | None = None  # in the box
    expected_nmae: float | None = None  # None: the model is not calibrated, or not on such molecules and cells
    counted: str = ""  # valence or all: which electrons
    charge: int | None = None
    unpaired: int | None = None  # electrons

    def __str__(self) -> str:
        if self.outcome != "ok":
            return f"{self.id}: {self.outcome}: {self.message}"
        error = "unknown" if self.expected_nmae is None else f"{100 * self.expected_nmae:.2f} %"
        electrons = f"{self.electrons:.4f} {'valence ' * (self.counted == 'valence')}electrons"
        return f"{self.file}: {electrons}, expected NMAE {error}{self.message and f' ({self.message})'}"


@dataclass(frozen=True)
class Predictor:
    """A model, and the memory that it may use."""

    refiner: Refiner
    memory_gib: float

    def write(self, id: str, guess: Guess, file: Path, format: str) -> Prediction:
        """Predict a density, and write it."""
        conformer = guess.conformer
        refined = self.refiner.refine(conformer, guess.grid, guess.values, guess.electrons, self.memory_gib * GIB)
        expected = refined.expected_nmae
        scene = Scene(conformer.numbers, conformer.positions, conformer.charge, guess.grid, guess.sampling)
        remarks = {} if expected is None else {"expected_nmae": expected}
        write_volume(file, format, Volume(scene, {FIELD: refined.density}, remarks))
        electrons = guess.grid.cell_volume * float(refined.density.sum(dtype=np.float64))
        counted = str(self.refiner.model.origin.recipe.get("electrons", ""))
        state = conformer.charge, conformer.unpaired
        return Prediction(id, "ok", refined.doubt, str(file), electrons, expected, counted, *state)


def predict(wanted: Wanted) -> list[Prediction]:
    """One molecule becomes a file, several a folder of files with a table of what became of each.

    Raises RequestError for a model, an input or a path that is none, and where the only molecule fails.
    """
    out = wanted.out
    if not isinstance(out, Path):
        raise RequestError(f"{out}: only a store can be put there: let it end in .zarr, or name a path on this machine")
    to_file = leads_to_file(out, wanted.format)
    if to_file and out.exists() and Path(wanted.input).resolve() == out.resolve():
        raise RequestError(f"{out}: is what is read, too: name another file")
    if to_file and not out.parent.is_dir():
        raise RequestError(f"{out}: there is no folder {out.parent}: make it, or check the path")
    refiner = read_refiner(locate_run(wanted.run))
    refiner.model.network.to(choose_device("auto"))
    guesses = open_guesses(wanted, refiner.model)
    predictor = Predictor(refiner, wanted.memory_gib)
    if not to_file:
        return _predict_all(guesses, predictor, out, wanted.format or "npz")
    if len(guesses.ids) != 1:
        raise RequestError(f"{wanted.input} holds {len(guesses.ids)} molecules, not one: let OUT be a folder")
    try:
        return [predictor.write(guesses.ids[0], guesses[0], out, choose_format(out, wanted.format))]
    except MoleculeFailed as failure:
        raise RequestError(f"{wanted.input}: {failure.reason}: {failure}") from failure


def _predict_all(guesses: Guesses, predictor: Predictor, folder: Path, format: str) -> list[Prediction]:
    folder.mkdir(parents=True, exist_ok=True)
    predictions = []
    with Meter("predict", len(guesses.ids)) as meter, (folder / TABLE).open("w", newline="", encoding="utf-8") as file:
        rows = csv.DictWriter(file, [field.name for field in fields(Prediction)])
        rows.writeheader()
        for number, id in enumerate(guesses.ids):
            try:
                predictions.append(
                    predictor.write(id, guesses[number], folder / f"{id.replace('#', '_')}.{format}", format)
                )
            except MoleculeFailed as failure:
                predictions.append(Prediction(id, failure.reason, str(failure)))
            rows.writerow(asdict(predictions[-1]))
            file.flush()  # whatever ends the command: what is made is in the table
            meter.advance(1, failed=int(predictions[-1].outcome != "ok"))
    return predictions


def leads_to_file(out: Path, format: str | None) -> bool:
    """Whether OUT is one file; else it is a folder. Raises RequestError where it can be neither."""
    if out.is_dir() or not (out.suffix or out.is_file()):
        if format is not None:
            choose_format(out, format)
        return False
    choose_format(out, format)
    return True


def open_guesses(wanted: Wanted, model: Model) -> Guesses:
    """Of a store, of the molecules of a file, or of one SMILES; the libraries that none of them needs stay away."""
    if is_store(wanted.input):
        check_no_spacing(wanted)
        from flows.prediction.guess_stored import StoredGuesses

        return StoredGuesses(locate(wanted.input), model.origin)
    from flows.prediction.guess_computed import ComputedGuesses, build_guesser

    guesser = build_guesser(model.origin, model.network.multiple, wanted.spacing_angstrom)
    return ComputedGuesses(_read_input(wanted), guesser, wanted.memory_gib)


def _read_input(wanted: Wanted) -> Sequence[Molecule]:
    from pipeline.sources import read_molecules

    if is_file(wanted.input):
        return list(read_molecules(Path(wanted.input), smiles=wanted.smiles, id=wanted.id))
    return [read_smiles(wanted)]


def is_store(input: str) -> bool:
    """Whether INPUT names a dataset."""
    return len(Path(input).name) <= LONGEST_NAME and has_object(locate(input), HEADER)


def check_no_spacing(wanted: Wanted) -> None:
    """Raises RequestError where cells of another width are asked for than a store has."""
    if wanted.spacing_angstrom is not None:
        raise RequestError(
            f"--spacing-angstrom {wanted.spacing_angstrom:g}: {wanted.input} has a grid: leave it out, or bring the "
            "store to another grid with `rhoflow voxelize`"
        )


def is_file(input: str) -> bool:
    """Whether INPUT names a file of molecules; else it is a SMILES. Raises RequestError where it can be neither."""
    from pipeline.sources import FORMATS

    path = Path(input)
    if len(path.name) > LONGEST_NAME:
        return False
    if not path.exists() and path.name.endswith((*FORMATS, *ENDINGS, ".gz", ".zarr")):
        raise RequestError(f"{input}: there is no such file, and this is no SMILES: check the path")
    return path.exists()


def read_smiles(wanted: Wanted) -> Molecule:
    """The molecule of a SMILES, called as what is to be written."""
    return Molecule(0, str(wanted.out).rsplit("/", 1)[-1].split(".")[0], smiles=wanted.input)
