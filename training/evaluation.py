"""What a trained model is worth: its error on molecules it never saw, beside that of the guess on the same grid."""

from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from storage.errors import StoreError
from storage.objects import Location, write_record
from storage.reader import StoredSample
from training.batch import Batch, Draw, find_electrons
from training.catalog import Catalog, read_catalog
from training.device import choose_device
from training.metrics import nmae
from training.models.electrons import conserve_electrons
from training.models.prediction import predict_density, predict_uncorrected
from training.stored import Cutting, StoredBoxes
from training.trained import EVALUATION, Model, Origin, load_model


@dataclass(frozen=True)
class Score:
    """One held-out sample. Electrons are those of the box, against the guess's there."""

    id: str
    guess_nmae: float
    model_nmae: float
    electrons: float
    electron_error_before: float  # of what the network says
    electron_error: float  # after its electrons were counted
    target_electron_error: float  # of the target itself


@dataclass(frozen=True)
class Evaluation:
    """Every score of a store's test split."""

    store: str
    step: int
    scores: tuple[Score, ...]

    @property
    def guess_nmae(self) -> float:
        return float(np.mean([score.guess_nmae for score in self.scores]))

    @property
    def model_nmae(self) -> float:
        return float(np.mean([score.model_nmae for score in self.scores]))

    @property
    def factor(self) -> float:
        """How many times smaller the model's mean error is than the guess's."""
        return self.guess_nmae / max(self.model_nmae, 1e-12)

    def __str__(self) -> str:
        width = max(8, *(len(score.id) for score in self.scores))
        lines = [f"{'held out':<{width}}  guess NMAE  model NMAE  electrons  error"]
        lines += [
            f"{score.id:<{width}}  {100 * score.guess_nmae:8.2f} %  {100 * score.model_nmae:8.2f} %"
            f"  {score.electrons:9.4f}  {score.electron_error:+.0e}"
            for score in self.scores
        ]
        lines.append(f"{'mean':<{width}}  {100 * self.guess_nmae:8.2f} %  {100 * self.model_nmae:8.2f} %")
        samples = f"{len(self.scores)} sample" + ("s" if len(self.scores) > 1 else "")
        lines.append(f"the model's error is {compare_errors(self.factor)}, on {samples} it never saw")
        return "\n".join(lines)


def compare_errors(factor: float) -> str:
    """A factor of improvement in words, also where there was none."""
    return f"{factor:.1f} times smaller" if factor >= 1 else f"{1 / factor:.1f} times LARGER"


def evaluate_superres(run: Path, store: Location) -> Evaluation:
    """Score the run's best model on the store's test split; the run's evaluation.json then says so.

    Raises StoreError where the store has no test split, other cells, or test molecules that were trained on.
    """
    model = load_model(run)
    model.network.to(choose_device("auto"))
    catalog = read_catalog([store], "test", (model.origin.input, model.origin.target))
    _check_unseen(catalog, model.origin)
    check_spacing(model.origin, catalog.spacing, str(store))
    boxes = StoredBoxes(catalog, model.origin.input, model.origin.target, Cutting())
    electrons = catalog.electrons(model.origin.input).tolist()
    scores = [_score(model, boxes.read([Draw(sample, 0)]), electrons[sample]) for sample in range(len(catalog))]
    evaluation = Evaluation(str(store), model.step, tuple(scores))
    means = {"guess_nmae": evaluation.guess_nmae, "model_nmae": evaluation.model_nmae, "factor": evaluation.factor}
    samples = [asdict(score) for score in evaluation.scores]
    write_record(run, EVALUATION, {"store": str(store), "step": model.step, **means, "samples": samples})
    return evaluation


def predict_sample(model: Model, sample: StoredSample) -> NDArray[np.float32]:
    """The model's density on the sample's grid, shape (nx, ny, nz), electrons/bohr³."""
    check_spacing(model.origin, sample.grid.spacing, sample.id)
    guess, volume = sample.channels[model.origin.input], sample.grid.cell_volume
    return predict_density(model.network, guess, volume * float(guess.sum(dtype=np.float64)), volume)


def check_spacing(origin: Origin, spacing: tuple[float, float, float], where: str) -> None:
    """Raises StoreError where cells differ from those the model was trained on."""
    if not np.allclose(spacing, origin.spacing, rtol=1e-6, atol=0):
        raise StoreError(
            f"{where} has cells of {spacing} bohr, the model was trained on cells of {origin.spacing}: "
            "bring the store to that spacing with `rhoflow voxelize`"
        )


def _score(model: Model, box: Batch, stored_electrons: float) -> Score:
    guess, target = box.guess[0].numpy(), box.target[0].numpy()
    electrons = find_electrons(box, stored_electrons)
    uncorrected = predict_uncorrected(model.network, guess)
    density = conserve_electrons(uncorrected, guess, electrons, box.volume)
    before, after, wanted = (
        float(values.sum(dtype=np.float64)) * box.volume for values in (uncorrected, density, target)
    )
    return Score(
        id=box.ids[0],
        guess_nmae=nmae(guess, target),
        model_nmae=nmae(density, target),
        electrons=electrons,
        electron_error_before=before - electrons,
        electron_error=after - electrons,
        target_electron_error=wanted - electrons,
    )


def _check_unseen(catalog: Catalog, origin: Origin) -> None:
    known = set(origin.groups)
    seen = [id for id, group in zip(catalog.ids, catalog.table["group"], strict=True) if group in known]
    if seen:
        raise StoreError(
            f"{catalog.datasets[0].store}: {len(seen)} test samples are molecules that the model was trained on "
            f"({', '.join(seen[:5])}): evaluate on {origin.stores[0]}, or on a store with the same [splits]"
        )
