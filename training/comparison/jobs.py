"""What a comparison has to do, in order: each job leaves a record last, and is done when that is there."""

import math
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, cast

import torch

from storage.errors import RequestError, RhoflowError
from storage.identity import fingerprint
from storage.objects import Json, checksum_object, has_object, read_record, write_record
from training.checkpoint import FREE_KEYS
from training.comparison.config import KINDS, Cell, Comparison, comparison_values
from training.comparison.kind import Judge, Judgement, Scores
from training.comparison.trial import Trial, time_steps
from training.config import TrainingConfig
from training.config_file import config_values
from training.curves import read_lowest
from training.loop import Diverged
from training.trained import BEST, locate_run

CONFIG, TRIAL, TUNED, JUDGED = "comparison_config.json", "trial.json", "tuned.json", "judged.json"
CHOSEN = "learning_rate.json"  # of a variant, once and for all: what is trained later has it too
TUNING_SHARE = 0.1  # of the steps of a training, for each learning rate that is tried
FARTHER, MORE_RATES = 3, 3  # times the rate at an end, where that is the best one; so many times at most


@dataclass(frozen=True)
class Job:
    """Something that a process of its own can do."""

    name: str
    run: Path  # of the comparison
    record: str
    work: Callable[[], None]

    @property
    def is_done(self) -> bool:
        return has_object(self.run, self.record)


def check_comparison(comparison: Comparison) -> None:
    """Raises RhoflowError, with the variant's name, for data that one of the trainings would refuse hours later."""
    for variant, config in comparison.variants.items():
        for molecules in comparison.molecules:
            try:
                if molecules != 0:
                    KINDS[comparison.kind].check(
                        replace(config, molecules=molecules or 0), list(comparison.judges.values())
                    )
            except RhoflowError as error:
                raise RequestError(f"[variants.{variant}]: {error}") from error


def claim_comparison(comparison: Comparison, run: Path, resume: bool) -> None:
    """Write down what is compared, once its data are looked at, or check that it goes on as it began.

    More seeds may follow those it began with. Raises RequestError naming the key.
    """
    values = _describe(comparison)
    if not has_object(run, CONFIG):
        check_comparison(comparison)
        write_record(run, CONFIG, values)
        return
    if not resume:
        raise RequestError(f"{run} holds a comparison already: add --resume to go on with it, or name a new folder")
    begun = {**_list_defaults(comparison), **read_record(run, CONFIG)}
    adds_seeds = begun["seeds"] in [list(comparison.seeds[:count]) for count in range(1, len(comparison.seeds))]
    for key in dict.fromkeys([*begun, *values]):
        if begun.get(key) != values.get(key) and not (_is_free(key) or (key == "seeds" and adds_seeds)):
            raise RequestError(
                f"{run} was begun with {key} = {begun.get(key)!r}, not {values.get(key)!r}: "
                "restore the config, or compare in a new folder"
                + (" (new seeds may stand behind those)" if key == "seeds" else "")
            )


def add_seeds(comparison: Comparison, run: Path) -> None:
    """Write down the seeds that follow those a comparison was begun with; for the holder of its claim alone.

    Raises RequestError as `claim_comparison` does, should another have changed the record in between.
    """
    claim_comparison(comparison, run, resume=True)
    record = cast(dict[str, Json], read_record(run, CONFIG))
    if record["seeds"] != list(comparison.seeds):
        write_record(run, CONFIG, {**record, "seeds": list(comparison.seeds)})


def _describe(comparison: Comparison) -> dict[str, Json]:
    """Its values, and what the stores hold: trainings on other data have no place in one table."""
    stores = {f"variants.{name}.data": config.store for name, config in comparison.variants.items()}
    stores |= {f"judges.{name}.data": (judge.store,) for name, judge in comparison.judges.items() if judge.store}
    starts = {f"variants.{name}.weights at the start": config.start for name, config in comparison.variants.items()}
    return {
        **comparison_values(comparison),
        **{key: [fingerprint(store) for store in several] for key, several in stores.items()},
        **{key: checksum_object(locate_run(start), BEST) for key, start in starts.items() if start},
    }


def _list_defaults(comparison: Comparison) -> dict[str, Json]:
    """Of every variant: keys that are younger than a comparison have these in it."""
    return {
        f"variants.{name}.{key}": value
        for name, config in comparison.variants.items()
        for key, value in config_values(type(config)()).items()
    }


def _is_free(key: str) -> bool:
    """Whether a key of a variant may change when a comparison goes on."""
    return key.startswith("variants.") and key.rpartition(".")[2] in FREE_KEYS


def list_stages(comparison: Comparison, run: Path) -> Iterator[list[Job]]:
    """Jobs of one stage may be done at once, those of the next one need them. Trials are timed: one by one.

    A stage is known once those before it are done. All cells of the first seed come first: a table that is whole early.
    """
    for variant in comparison.variants if comparison.seconds else ():
        yield [Job(f"{variant}: steps", run, f"{variant}/{TRIAL}", partial(try_out, comparison, run, variant))]
    unsettled = [one for one in comparison.variants if comparison.learning_rates and not _is_settled(run, one)]
    for _ in range(1 + MORE_RATES):
        if tuning := [job for variant in unsettled for job in _list_tuning(comparison, run, variant)]:
            yield tuning
    for variant in unsettled:
        _settle(comparison, run, variant)
    yield [
        Job(cell.folder, run, f"{cell.folder}/{JUDGED}", partial(train_cell, comparison, run, cell))
        for cell in sorted(comparison.cells(), key=lambda cell: comparison.seeds.index(cell.seed))
    ]


def _list_tuning(comparison: Comparison, run: Path, variant: str) -> list[Job]:
    """What is left of it, as far as is known."""
    jobs = [
        Job(
            f"{variant}: learning rate {rate:g}",
            run,
            f"{_tuning_folder(variant, rate)}/{TUNED}",
            partial(tune, comparison, run, variant, rate),
        )
        for rate in list_rates(comparison, run, variant)
    ]
    return [job for job in jobs if not job.is_done]


def list_rates(comparison: Comparison, run: Path, variant: str) -> list[float]:
    """Learning rates to try, ascending: those of the config, and beyond an end of them while the best one is there."""
    rates = sorted(comparison.learning_rates)
    for _ in range(MORE_RATES if len(rates) > 1 else 0):
        if not all(has_object(run, f"{_tuning_folder(variant, rate)}/{TUNED}") for rate in rates):
            break
        scores = [_read_tuned(run, variant, rate) for rate in rates]
        best = scores.index(min(scores))
        if 0 < best < len(rates) - 1:
            break
        farther = rates[-1] * FARTHER if best else rates[0] / FARTHER
        rates = sorted([*rates, float(f"{farther:.1g}")])
    return rates


def try_out(comparison: Comparison, run: Path, variant: str) -> None:
    """Its largest training, which is the one for the first seed as well."""
    config = _largest(comparison, variant)
    trial = time_steps(KINDS[comparison.kind], config, run / variant)
    write_record(run, f"{variant}/{TRIAL}", asdict(trial))


def tune(comparison: Comparison, run: Path, variant: str, rate: float) -> None:
    """A learning rate on a share of the steps; what counts is the validation split, after the first step."""
    config = _with_steps(_largest(comparison, variant), comparison, run, variant)
    short = replace(config, steps=max(1, round(TUNING_SHARE * config.steps)), learning_rate=rate)
    folder = run / _tuning_folder(variant, rate)
    try:
        KINDS[comparison.kind].try_rate(short, folder)
        lowest: float | None = read_lowest(folder)
    except Diverged:
        lowest = None
    write_record(folder, TUNED, {"learning_rate": rate, "steps": short.steps, "lowest_validation": lowest})


def train_cell(comparison: Comparison, run: Path, cell: Cell) -> None:
    """An ordinary training and its judgements."""
    kind, folder = KINDS[comparison.kind], run / cell.folder
    config = configure_cell(comparison, run, cell)
    if cell.molecules == 0:
        kind.adopt(config, folder)
    else:
        kind.train(config, folder, resume=True)
    judged = {}
    for name, judge in comparison.judges.items():
        judgement = kind.judge_run(folder, judge.store or config.store[0], judge)
        judged[name] = {"judge": _judge_values(judge, config), **asdict(judgement)}
    write_record(folder, JUDGED, judged)


def configure_cell(comparison: Comparison, run: Path, cell: Cell) -> TrainingConfig:
    """Needs the trials and the tuning."""
    config = replace(comparison.variants[cell.variant], molecules=cell.molecules or 0, seed=cell.seed)
    config = _with_steps(config, comparison, run, cell.variant)
    if not comparison.learning_rates:
        return config
    return replace(config, learning_rate=read_chosen(run, cell.variant)["learning_rate"])


def _settle(comparison: Comparison, run: Path, variant: str) -> None:
    """On the rate with the lowest validation. Raises RequestError where every one diverged."""
    tried = {rate: _read_tuned(run, variant, rate) for rate in list_rates(comparison, run, variant)}
    best = min(tried, key=lambda rate: tried[rate])
    if tried[best] == math.inf:
        raise RequestError(f"{run / variant}: training diverged at every one of learning_rates: try lower ones")
    told = {f"{rate:g}": None if lowest == math.inf else lowest for rate, lowest in tried.items()}
    write_record(run, f"{variant}/{CHOSEN}", {"learning_rate": best, "lowest_validations": told})


def read_chosen(run: Path, variant: str) -> dict[str, Any]:
    """A variant's learning rate, and the lowest validation of each that was tried. Empty before it is settled."""
    return dict(read_record(run, f"{variant}/{CHOSEN}")) if _is_settled(run, variant) else {}


def _is_settled(run: Path, variant: str) -> bool:
    return has_object(run, f"{variant}/{CHOSEN}")


def _read_tuned(run: Path, variant: str, rate: float) -> float:
    """The lowest validation; infinite where training diverged."""
    lowest: Any = read_record(run, f"{_tuning_folder(variant, rate)}/{TUNED}")["lowest_validation"]
    return math.inf if lowest is None else float(lowest)


def read_trial(run: Path, variant: str) -> Trial:
    return Trial(**read_record(run, f"{variant}/{TRIAL}"))  # type: ignore[arg-type]


def read_judgements(run: Path, cell: Cell) -> dict[str, Judgement]:
    """By judge; none where the cell is not done."""
    if not has_object(run, f"{cell.folder}/{JUDGED}"):
        return {}
    record: dict[str, Any] = dict(read_record(run, f"{cell.folder}/{JUDGED}"))
    return {
        name: Judgement(
            Scores(**judged["model"]), {floor: Scores(**scores) for floor, scores in judged["floors"].items()}
        )
        for name, judged in record.items()
    }


def _largest(comparison: Comparison, variant: str) -> TrainingConfig:
    largest = max((size or 0 for size in comparison.molecules), default=0)
    molecules = 0 if None in comparison.molecules else largest
    return replace(comparison.variants[variant], molecules=molecules, seed=comparison.seeds[0])


def _with_steps(config: TrainingConfig, comparison: Comparison, run: Path, variant: str) -> TrainingConfig:
    if not comparison.seconds:
        return config
    trial = read_trial(run, variant)
    _check_trials(comparison, run, trial)
    return replace(config, steps=trial.count_steps(comparison.seconds, config.checkpoint_steps))


def _check_trials(comparison: Comparison, run: Path, trial: Trial) -> None:
    """Raises RequestError where variants were tried out on different devices, or other threads than this process's."""
    places = {variant: read_trial(run, variant).place for variant in comparison.variants}
    if len(set(places.values())) > 1:
        told = ", ".join(f"{variant}: {place}" for variant, place in places.items())
        raise RequestError(f"{run}: variants were tried out in different places ({told}): compare in a new folder")
    if trial.is_cpu and trial.threads != (here := torch.get_num_threads()):
        raise RequestError(
            f"{run}: variants were tried out with {trial.threads} threads, but here are {here}: go on with as many "
            "--workers as before, or compare in a new folder"
        )


def _tuning_folder(variant: str, rate: float) -> str:
    return f"{variant}/tuning/{rate:g}"


def _judge_values(judge: Judge, config: TrainingConfig) -> dict[str, Json]:
    return {**vars(judge), "store": str(judge.store or config.store[0])}
