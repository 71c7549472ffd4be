"""What a neural field is worth: its errors on molecules it learned and on ones it never saw, at several resolutions."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from skimage.metrics import structural_similarity

from flows.field.embedding import MAP, TABLE, Probe, embed_molecules
from storage.errors import RequestError, StoreError
from storage.objects import Json, Location, write_record
from training.catalog import Catalog, read_catalog
from training.device import choose_device
from training.field.model import FieldModel, count_bytes, load_field_model
from training.field.read import FieldReader, Values, open_reader
from training.field.scenes import StoredScenes
from training.field.task import measure_psnr
from training.subsets import choose_samples
from training.trained import EVALUATION

FACTORS = {1: 32, 2: 32, 4: 4}  # grids as fine as that of training, and finer; on how many molecules each is judged
DENSITY = "density:"  # what the labels of densities begin with
WINDOW = 7  # cells along an edge of what SSIM compares at a time


@dataclass(frozen=True)
class FieldScore:
    """One molecule on one grid. Fields are scaled so that their largest value is 1 (MAX)."""

    id: str
    seen: bool  # in training
    factor: int  # how many times finer the grid is than that of training
    psnr: float  # dB, of all fields together
    floor: float  # the same of zeros everywhere
    ssim: float  # mean over fields
    nmae: float | None = None  # Σ|ρ − ρ_true| / Σρ_true of the first density; None: there is none
    electrons: float | None = None  # relative error of the sum of the first density


@dataclass(frozen=True)
class FieldEvaluation:
    """Every score on a store."""

    store: str
    split: str
    step: int
    cells: int  # along an edge of the training grid
    shared_bytes: int  # of the weights that all molecules share
    latent_bytes: int  # of what is kept of each molecule
    voxel_bytes: int  # of its training grid
    wavefunction_bytes: int  # of the first density's orbitals, a molecule's mean; 0: no density is learned
    scores: tuple[FieldScore, ...]
    probes: tuple[Probe, ...] = ()  # of an encoder's latents

    def __str__(self) -> str:
        lines = ["molecules      grid    n    PSNR   zeros    SSIM      NMAE  electrons   (dB with MAX = 1)"]
        for seen in (True, False):
            for factor in FACTORS:
                chosen = [one for one in self.scores if (one.seen, one.factor) == (seen, factor)]
                if chosen:
                    lines.append(describe_scores("learned" if seen else "never seen", self.cells * factor, chosen))
        kept = f"{self.latent_bytes:,} bytes per molecule and {self.shared_bytes:,} shared by all"
        lines += ["", f"{kept}; the training grid has {self.voxel_bytes:,} bytes per molecule"]
        if self.wavefunction_bytes:
            lines.append(f"its kept wavefunction has {self.wavefunction_bytes:,} bytes, the mean of those learned")
        probed = ["", f"a line through the latents, on molecules never seen ({TABLE}, {MAP}):", *map(str, self.probes)]
        return "\n".join([*lines, *probed] if self.probes else lines)


def describe_scores(name: str, cells: int, scores: Sequence[FieldScore]) -> str:
    psnr, floor, ssim = (np.mean([getattr(one, key) for one in scores]) for key in ("psnr", "floor", "ssim"))
    line = f"{name:<11} {cells:>6}³ {len(scores):>4}  {psnr:6.2f}  {floor:6.2f}  {ssim:6.4f}"
    if scores[0].nmae is None:
        return line
    nmae = np.mean([one.nmae for one in scores if one.nmae is not None])
    worst = max((one.electrons for one in scores if one.electrons is not None), key=abs)
    return f"{line}  {100 * nmae:6.3f} %  {100 * worst:+.4f} % (the worst)"


def evaluate_field(run: Path, store: Location, *, split: str = "test") -> FieldEvaluation:
    """Score a run's best field on the molecules it learned, and on those of a split that it never saw.

    Of learned latents only the first. RUN/evaluation.json then holds all of it. Raises StoreError where the store has
    no such molecules.
    """
    model = load_field_model(run)
    model.network.to(choose_device("auto"))
    scores: list[FieldScore] = []
    for seen in (False, True) if model.network.architecture.molecules == 0 else (True,):
        catalog = choose_judged(model, store, "train" if seen else split, seen)
        reader = open_reader(model, StoredScenes(catalog, model.origin.described))
        scores += [score for factor, most in FACTORS.items() for score in score_all(reader, factor, most, seen)]
    shared, latents = count_bytes(model)
    is_encoder = model.network.architecture.molecules == 0
    probes = tuple(embed_molecules(model, store, split, run)) if is_encoder else ()
    voxels = 4 * len(model.origin.scales) * model.origin.cells**3
    evaluation = FieldEvaluation(
        str(store),
        split,
        model.step,
        model.origin.cells,
        shared,
        latents,
        voxels,
        count_orbitals(catalog, model),
        tuple(scores),
        probes,
    )
    write_record(run, EVALUATION, evaluation_values(evaluation))
    return evaluation


def count_orbitals(catalog: Catalog, model: FieldModel) -> int:
    """Bytes of the first learned density's orbitals and occupations, a molecule's mean; 0: no density is learned."""
    name = next((one.removeprefix(DENSITY) for one in model.origin.described.labels if one.startswith(DENSITY)), None)
    if name is None:
        return 0
    states = [catalog.datasets[catalog.stores[k]][id].states[name] for k, id in enumerate(catalog.ids)]
    return round(float(np.mean([state.orbitals.nbytes + state.occupations.nbytes for state in states])))


def choose_judged(model: FieldModel, store: Location, split: str, seen: bool) -> Catalog:
    """Molecules that a model learned, or that it never saw. Raises StoreError where there are none."""
    catalog = read_catalog([store], split, ())
    ids, groups = set(model.origin.ids), set(model.origin.groups)
    known = [id in ids if seen else str(group) in groups for id, group in catalog.table["group"].items()]
    chosen = np.flatnonzero(np.array(known) == seen)
    if not len(chosen):
        what = "learned" if seen else "did not see"
        raise StoreError(f'{store} has no molecules in split "{split}" that the model {what}: name another store')
    return choose_samples(catalog.take(chosen), max(FACTORS.values()))


def score_all(reader: FieldReader, factor: int, most: int, seen: bool) -> list[FieldScore]:
    """The first of the molecules, on grids so many times finer than that of training."""
    return [score_one(reader, number, factor, seen) for number in range(min(most, len(reader.scenes)))]


def score_one(reader: FieldReader, number: int, factor: int, seen: bool) -> FieldScore:
    cells, labels = reader.model.origin.cells * factor, reader.scenes.fields.labels
    truth, values = reader.truth(number, cells), reader.predict(number, cells)
    density = next((k for k, label in enumerate(labels) if label.startswith(DENSITY)), None)
    nmae = electrons = None
    if density is not None:
        total = float(truth[density].sum(dtype=np.float64))
        nmae = float(np.abs(values[density] - truth[density]).sum(dtype=np.float64)) / total
        electrons = float(values[density].sum(dtype=np.float64)) / total - 1
    scales = np.array(reader.model.origin.scales, dtype=np.float32)[:, None, None, None]
    truth, values = truth / scales, values / scales
    floor = measure_psnr(float(np.sqrt(np.mean(truth**2))))
    psnr = measure_psnr(float(np.sqrt(np.mean((values - truth) ** 2))))
    return FieldScore(
        reader.scenes.ids[number], seen, factor, psnr, floor, measure_ssim(values, truth), nmae, electrons
    )


def measure_ssim(values: Values, truth: Values) -> float:
    """Structural similarity of fields whose largest value is 1, mean over fields."""
    return float(
        np.mean(
            [
                structural_similarity(one, true, win_size=WINDOW, data_range=1.0)
                for one, true in zip(values, truth, strict=True)
            ]
        )
    )


def evaluation_values(evaluation: FieldEvaluation) -> dict[str, Json]:
    """All of an evaluation as plain values."""
    values = {key: getattr(evaluation, key) for key in ("store", "split", "step", "cells")}
    sizes = {
        key: getattr(evaluation, key) for key in ("shared_bytes", "latent_bytes", "voxel_bytes", "wavefunction_bytes")
    }
    scores: list[Json] = [asdict(score) for score in evaluation.scores]
    probes: list[Json] = [asdict(probe) for probe in evaluation.probes]
    return {**values, **sizes, "psnr_max": 1.0, "samples": scores, "probes": probes}


def check_field_options(run: Path, *, beside: Sequence[Path], rotations: int) -> None:
    """Raises RequestError for what only other models have."""
    if beside or rotations:
        raise RequestError(f"{run} is a neural field: leave out --beside and --rotations")
