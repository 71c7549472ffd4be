"""How many steps a training takes in a given time, by trying out a few."""

import math
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch

from training.arithmetic import set_arithmetic
from training.comparison.kind import Kind
from training.config import TrainingConfig
from training.descent import State, begin_descent, take_step
from training.loop import Task
from training.parallel import Team, assemble_team

WARM_UP = 2  # steps that are not timed
FEWEST, LONGEST = 5, 20.0  # steps that are timed; seconds after which it is enough
CLOCKS = {"cpu": "CPU time of all threads over their number", "cuda": "wall time"}


@dataclass(frozen=True)
class Trial:
    """Seconds of one step, and of one validation, with all threads of a training at work."""

    step: float
    validation: float
    clock: str
    threads: int
    timed_steps: int
    parameters: int  # of the network

    @property
    def is_cpu(self) -> bool:
        return self.clock == CLOCKS["cpu"]

    @property
    def place(self) -> str:
        """Trainings in different ones have different times."""
        return f"{self.clock}, {self.threads} threads" if self.is_cpu else self.clock

    def count_steps(self, seconds: float, checkpoint_steps: int) -> int:
        """That a training with its validations takes in so long."""
        return max(1, math.floor((seconds - self.validation) / (self.step + self.validation / checkpoint_steps)))


def time_steps(kind: Kind[Any], config: TrainingConfig, run: Path) -> Trial:
    """Try out a training. Machines are shared: of a CPU it is the time spent on it that counts, not the wall's."""
    with assemble_team(config.device) as team, set_arithmetic(team.device):
        if team.device.type == "cpu":
            config = replace(config, workers=0)  # what threads read ahead costs CPU time as well
        task = kind.open(config, run, team)
        state = begin_descent(task.network, config, team)
        clock = _Clock(team.device)
        with closing(task.batches(0)) as batches:
            take = partial(_take_steps, task, state, batches, config, team)
            take(WARM_UP)
            step, timed = _time_repeatedly(clock, partial(take, 1))
        validation, _ = _time_repeatedly(clock, partial(task.validate, state.averaged), fewest=1)
    parameters = sum(parameter.numel() for parameter in state.network.parameters())
    return Trial(step, validation, CLOCKS[team.device.type], torch.get_num_threads(), timed, parameters)


class _Clock:
    """Seconds that a device has worked."""

    def __init__(self, device: torch.device) -> None:
        self.is_gpu = device.type == "cuda"

    def __call__(self) -> float:
        if self.is_gpu:
            torch.cuda.synchronize()
            return time.perf_counter()
        return time.process_time() / torch.get_num_threads()


def _time_repeatedly(clock: _Clock, work: Callable[[], object], fewest: int = FEWEST) -> tuple[float, int]:
    """Seconds of each, and how many were timed."""
    begun, done = clock(), 0
    while done < fewest or clock() - begun < LONGEST:
        work()
        done += 1
    return (clock() - begun) / done, done


def _take_steps(task: Task[Any], state: State, batches: Any, config: TrainingConfig, team: Team, count: int) -> None:
    for _ in range(count):
        batch = next(batches)
        take_step(state, lambda: task.measure(state.working, batch), config, team, False)  # noqa: B023
