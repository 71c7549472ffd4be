"""Super-resolution models, compared: scored by their evaluation, with the guess and interpolation beside them."""

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from storage.objects import Location
from storage.reader import open_dataset
from training.catalog import read_catalog
from training.checkpoint import claim_run
from training.comparison.kind import Judge, Judgement, Scores
from training.config import SuperresConfig
from training.loop import Task
from training.parallel import Team, assemble_team
from training.superres.calibration import find_calibration, write_calibration
from training.superres.evaluation import Evaluation, check_judged, evaluate_superres
from training.superres.methods import MODEL
from training.superres.scores import Errors
from training.superres.summary import find_spread
from training.superres.task import SuperresTask, run_training, train_superres
from training.trained import load_model, locate_run, save_model
from training.unseen import check_turnable

NOWHERE = Path(os.devnull)  # a run's folder, where nothing is to be written

MEASURES: Mapping[str, Callable[[Errors], float]] = {
    "NMAE, %": lambda errors: 100 * errors.nmae,
    "electron error, e": lambda errors: abs(errors.electron_error),
    "largest error, e/bohr³": lambda errors: errors.largest,
    "dipole error, debye": lambda errors: errors.dipole,
    "quadrupole error, debye·Å": lambda errors: errors.quadrupole,
}
TURNED: Mapping[str, Callable[[Errors], float]] = {
    "NMAE turned, %": lambda errors: 100 * float(np.mean(errors.turned_nmae)),
    "NMAE spread when turned, %": lambda errors: 100 * find_spread(errors.turned_nmae),
}


class Superres:
    """The kind `superres`."""

    config: type[SuperresConfig] = SuperresConfig
    drawn: tuple[str, ...] = ("NMAE, %",)

    def check(self, config: SuperresConfig, judges: Sequence[Judge]) -> None:
        with assemble_team("cpu") as team:
            origin = SuperresTask(replace(config, device="cpu"), NOWHERE, team).origin
        for judge in judges:
            catalog = read_catalog([judge.store or config.store[0]], judge.split, (origin.input, origin.target))
            check_judged(catalog, origin, judge.split, conformers_of_training=judge.conformers_of_training)
            for density in (origin.input, origin.target) if judge.rotations else ():
                check_turnable(catalog, density)

    def open(self, config: SuperresConfig, run: Path, team: Team) -> Task[Any]:
        return SuperresTask(config, run, team)

    def train(self, config: SuperresConfig, run: Path, *, resume: bool) -> None:
        train_superres(config, run, resume=resume)

    def try_rate(self, config: SuperresConfig, run: Path) -> None:
        with assemble_team(config.device) as team:
            run_training(config, run, team, resume=True)

    def adopt(self, config: SuperresConfig, run: Path) -> None:
        with assemble_team("cpu") as team:
            claim_run(run, config, True, team)
        begun = locate_run(config.start)
        model = load_model(begun)
        if calibration := find_calibration(begun, model.step):
            write_calibration(run, replace(calibration, foresight=None))
        save_model(run, model)

    def judge_run(self, run: Path, store: Location, judge: Judge) -> Judgement:
        evaluation = evaluate_superres(
            run,
            store,
            split=judge.split,
            rotations=judge.rotations,
            conformers_of_training=judge.conformers_of_training,
        )
        groups = open_dataset(store).table["group"]
        molecules = tuple(str(groups[score.id]) for score in evaluation.scores)
        methods = {name: _list_errors(evaluation, name, molecules) for name in evaluation.summary}
        names = {name: _name_floor(name, load_model(run).origin.input) for name in methods if name != MODEL}
        return Judgement(methods[MODEL], {names[name]: methods[name] for name in names})


def _list_errors(evaluation: Evaluation, method: str, molecules: tuple[str, ...]) -> Scores:
    errors = [score.methods[method] for score in evaluation.scores]
    measures = {**MEASURES, **(TURNED if evaluation.rotations else {})}
    return Scores(molecules, {name: tuple(measure(one) for one in errors) for name, measure in measures.items()})


def _name_floor(method: str, input: str) -> str:
    """("guess", "xtb") → "guess xtb": variants may have different ones."""
    return method.replace("guess", f"guess {input}") if method.endswith("guess") else method
