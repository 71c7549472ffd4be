"""What a trained model is worth: its error on molecules it never saw, beside that of the guess on the same grid."""

from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from storage.errors import StoreError
from storage.objects import Location, write_record
from storage.reader import StoredSample
from training.batch import Batch, Draw
from training.catalog import Catalog, read_catalog
from training.checkpoint import EVALUATION, Model, Origin, load_model
from training.metrics import nmae
from training.network import choose_device, conserve_electrons, predict_density, predict_unscaled
from training.stored import Cutting, StoredBoxes


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
    scores = tuple(_score(model, boxes.read([Draw(sample, 0)])) for sample in range(len(catalog)))
    evaluation = Evaluation(str(store), model.step, scores)
    means = {"guess_nmae": evaluation.guess_nmae, "model_nmae": evaluation.model_nmae, "factor": evaluation.factor}
    samples = [asdict(score) for score in evaluation.scores]
    write_record(run, EVALUATION, {"store": str(store), "step": model.step, **means, "samples": samples})
    return evaluation


def predict_sample(model: Model, sample: StoredSample) -> NDArray[np.float32]:
    """The model's density on the sample's grid, shape (nx, ny, nz), electrons/bohr³."""
    check_spacing(model.origin, sample.grid.spacing, sample.id)
    return predict_density(model.network, sample.channels[model.origin.input])


def check_spacing(origin: Origin, spacing: tuple[float, float, float], where: str) -> None:
    """Raises StoreError where cells differ from those the model was trained on."""
    if not np.allclose(spacing, origin.spacing, rtol=1e-6, atol=0):
        raise StoreError(
            f"{where} has cells of {spacing} bohr, the model was trained on cells of {origin.spacing}: "
            "bring the store to that spacing with `rhoflow voxelize`"
        )


def _score(model: Model, batch: Batch) -> Score:
    guess, target = batch.guess[0].numpy(), batch.target[0].numpy()
    unscaled = predict_unscaled(model.network, guess)
    density = conserve_electrons(unscaled, guess)
    electrons, before, after, wanted = (
        float(values.sum(dtype=np.float64)) * batch.volume for values in (guess, unscaled, density, target)
    )
    return Score(
        id=batch.ids[0],
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
            f"({', '.join(seen[:5])}): evaluate on {origin.store}, or on a store with the same [splits]"
        )
