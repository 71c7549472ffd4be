"""What every training has in common: steps, validations, checkpoints, and going on after an interruption.

A run that is killed and resumed has the same losses and weights as one left alone: on a CPU bit for bit, with the same
number of threads and processes. Other numbers of processes give the same mathematics, rounded otherwise; but where
whole boxes of several shapes are in one batch, each process fills its own ones up to the largest of them.
"""

import math
import time
from collections import deque
from collections.abc import Callable, Generator, Iterator
from contextlib import ExitStack, closing
from functools import partial
from pathlib import Path
from typing import Generic, Protocol, TypeVar

from torch import nn

from storage.errors import RhoflowError
from storage.objects import has_object
from training.arithmetic import set_arithmetic
from training.checkpoint import LAST, Stores, restore_state, save_state
from training.config import TrainingConfig
from training.curves import Curves, Row, write_history
from training.descent import State, begin_descent, learning_rate, read_later, take_step
from training.losses import Share
from training.parallel import Team
from training.progress import Meter
from training.sigterm import Listener
from training.tensor_files import read_tensors

ROWS = 10  # of the history between two checkpoints

B = TypeVar("B")


class Diverged(RhoflowError):
    """The loss is no number any more."""


class Task(Protocol[B]):
    """What is trained, on what."""

    @property
    def network(self) -> nn.Module: ...

    stores: Stores

    def batches(self, step: int) -> Generator[B]:
        """This process's part of every batch, from a step on, without end."""

    def measure(self, network: nn.Module, batch: B) -> Share:
        """This process's share of the loss."""

    def validate(self, network: nn.Module) -> float:
        """How far off it is on the validation split, the same on each process; lower is better."""

    def describe(self, score: float) -> str:
        """A validation in words."""

    def keep(self, network: nn.Module, step: int) -> None:
        """Write down the best network so far."""


def train(task: Task[B], config: TrainingConfig, run: Path, team: Team) -> None:
    """Begin, or go on from the run's last checkpoint.

    Raises RequestError where that was on other data, RhoflowError where the loss diverges or SIGTERM comes; the last
    checkpoint stays.
    """
    with set_arithmetic(team.device), Listener() as listener:
        state = begin_descent(task.network, config, team)
        restore_state(state, run, task.stores)
        loop = _Loop(task, config, run, team, state, listener)
        if not state.history:
            loop.add_row()
            loop.save()
        if not is_finished(state.step, state.history, config):
            loop.go_on()
        team.wait()


def is_finished(step: int, history: list[Row], config: TrainingConfig) -> bool:
    """Whether all steps were taken, or none of the last `patience` checkpoints was the best."""
    return step >= config.steps or 0 < config.patience <= _checkpoints_since_best(history)


def is_trained(run: Path, config: TrainingConfig) -> bool:
    """Whether a run of this config has no step left to take."""
    if not has_object(run, LAST):
        return False
    content = read_tensors(run, LAST)
    return is_finished(content["step"], content["history"], config)


def find_lowest(history: list[Row]) -> float:
    """Best validation so far."""
    return min(_validations(history), default=math.inf)


def _checkpoints_since_best(history: list[Row]) -> int:
    scores = _validations(history)
    return len(scores) - 1 - scores.index(min(scores))


def _validations(history: list[Row]) -> list[float]:
    return [row["validation"] for row in history if row["validation"] is not None]


class _Loop(Generic[B]):
    def __init__(
        self, task: Task[B], config: TrainingConfig, run: Path, team: Team, state: State, listener: Listener
    ) -> None:
        self.task, self.config, self.run = task, config, run
        self.team, self.state, self.listener = team, state, listener
        self.begun = time.monotonic() - state.seconds
        self.meter = Meter(state.step, config.steps, config.batch, silent=not team.leads)
        self.unread: deque[Callable[[], list[float]]] = deque()  # losses that the device may still be working on
        self.told = False  # to end, on any process

    def go_on(self) -> None:
        """Raises RhoflowError when told to end."""
        state = self.state
        with ExitStack() as stack:
            meter = stack.enter_context(self.meter)
            curves = stack.enter_context(Curves(self.run, state.step)) if self.team.leads else None
            batches = stack.enter_context(closing(self.task.batches(state.step)))
            while not self.told and not is_finished(state.step, state.history, self.config):
                self._take_step(batches)
                if self._is_row_due():
                    self.add_row()
                    if curves:
                        curves.draw(state.history[-1])
                if self._is_checkpoint_due() or self.told:
                    self.save()
                meter.advance(self.task.describe(find_lowest(state.history)))
        if self.told and not is_finished(state.step, state.history, self.config):
            raise RhoflowError(f"{self.run}: told to end at step {state.step}: go on with --resume")

    def add_row(self) -> None:
        """To the history, with a validation where a checkpoint follows."""
        state, lap = self.state, self.meter.lap
        row: Row = {
            "step": state.step,
            "loss": math.fsum(state.losses) / len(state.losses) if state.losses else None,
            "learning_rate": learning_rate(self.config, state.step),
            "samples_per_second": round(lap.rate * self.config.batch, 3),
            "wait_share": round(lap.wait_share, 4),
            "validation": self._validate() if self._is_checkpoint_due() else None,
            "seconds": round(time.monotonic() - self.begun, 3),
        }
        state.history.append(row)
        state.losses.clear()
        self.meter.start_lap()

    def save(self) -> None:
        """Last the state, from which a resumed run starts: what was written before, it writes again."""
        self.state.seconds = time.monotonic() - self.begun
        if self.team.leads:
            write_history(self.run, self.state.history)
            save_state(self.state, self.run, self.task.stores, self.config)

    def _take_step(self, batches: Iterator[B]) -> None:
        """One step stays in flight, so that the device need not wait for its loss to be read."""
        measure = partial(self.task.measure, self.state.working, self.meter.draw(batches))
        self.unread.append(read_later(take_step(self.state, measure, self.config, self.team, self.listener.told)))
        self._read_losses(1)
        if self._is_row_due() or self.told:
            self._read_losses(0)

    def _read_losses(self, left: int) -> None:
        while len(self.unread) > left:
            loss, told = self.unread.popleft()()
            self._check(loss, self.state.step - len(self.unread) - 1)
            self.state.losses.append(loss)
            self.told = self.told or told > 0

    def _validate(self) -> float:
        """The averaged network's score; the network is kept where it is the best so far."""
        with self.meter.pause():
            score = self.task.validate(self.state.averaged)
        self._check(score, self.state.step)
        if score < find_lowest(self.state.history) and self.team.leads:
            self.task.keep(self.state.averaged, self.state.step)
        return score

    def _check(self, number: float, step: int) -> None:
        if not math.isfinite(number):
            raise Diverged(
                f"{self.run}: training diverged at step {step}: start again with a learning_rate below "
                f"{self.config.learning_rate:g}; the best model so far stays"
            )

    def _is_checkpoint_due(self) -> bool:
        return self.state.step % self.config.checkpoint_steps == 0 or self.state.step == self.config.steps

    def _is_row_due(self) -> bool:
        row_steps = math.ceil(self.config.checkpoint_steps / ROWS)
        return self.state.step % self.config.checkpoint_steps % row_steps == 0 or self._is_checkpoint_due()
