"""What a kind of training has to offer, so that variants of it can be compared."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, TypeVar

from storage.objects import Location
from training.config import TrainingConfig
from training.loop import Task
from training.parallel import Team

C = TypeVar("C", bound=TrainingConfig)


@dataclass(frozen=True)
class Judge:
    """Where every cell of a comparison is scored."""

    store: Location | None = None  # None: where the variant was trained
    split: str = "test"
    rotations: int = 0  # of each molecule, at random
    conformers_of_training: bool = False  # other geometries of molecules that were trained on


@dataclass(frozen=True)
class Scores:
    """Errors of one method. By measure, whose name ends in its unit: "NMAE, %"; the first one is the chief one."""

    molecules: tuple[str, ...]  # (samples,) the group of each: conformers of one molecule are no independent samples
    errors: Mapping[str, tuple[float, ...]]  # each (samples,); lower is better


@dataclass(frozen=True)
class Judgement:
    """A trained model's scores, and beside it those of what needs no training, on the same samples."""

    model: Scores
    floors: Mapping[str, Scores]  # by name


class Kind(Protocol[C]):
    """A sort of training. `store` of a judge is resolved: `judge_run` is told the store itself."""

    config: type[C]
    drawn: tuple[str, ...]  # measures that the plot shows; none named: all

    def check(self, config: C, judges: Sequence[Judge]) -> None:
        """Before anything is trained. Raises RhoflowError for data that a training or a judge would refuse."""

    def open(self, config: C, run: Path, team: Team) -> Task[Any]:
        """The training as its loop sees it, to try out how long a step takes; writes nothing."""

    def train(self, config: C, run: Path, *, resume: bool) -> None:
        """An ordinary training, resumable at any instant."""

    def try_rate(self, config: C, run: Path) -> None:
        """The same, for its validations alone: nobody will predict with what it makes."""

    def adopt(self, config: C, run: Path) -> None:
        """Without any training: the model that `config.start` names becomes the run's own."""

    def judge_run(self, run: Path, store: Location, judge: Judge) -> Judgement:
        """Score the run's best model. Raises StoreError where that would flatter it."""
