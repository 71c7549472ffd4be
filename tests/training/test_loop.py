"""The loop learns, repeats itself, and goes on after any interruption as if nothing had happened."""

import os
import shutil
import signal
from collections.abc import Generator
from dataclasses import dataclass, field, replace
from itertools import count
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from storage.errors import RequestError, RhoflowError
from training.checkpoint import Stores
from training.config import TrainingConfig
from training.curves import Row
from training.descent import begin_descent, learning_rate, take_step
from training.device import choose_device
from training.loop import is_finished, train
from training.losses import Share
from training.parallel import Team
from training.tensor_files import read_tensors

CONFIG = TrainingConfig(steps=30, checkpoint_steps=10, learning_rate=0.05, batch=8)
ALONE = Team(torch.device("cpu"))


class Interrupted(Exception):
    """Stands for whatever ends a process."""


@dataclass
class Plane:
    """Learns z = x − 2y from random points: the smallest thing that can be trained."""

    network: nn.Module = field(default_factory=nn.Module)
    stores: Stores = (("points.zarr", "abc"),)
    ends_at: int = -1  # the step at which its batches are cut off
    kept: list[int] = field(default_factory=list)

    def __post_init__(self) -> None:
        torch.manual_seed(1)
        self.network = nn.Sequential(nn.Linear(2, 8), nn.Tanh(), nn.Dropout(0.2), nn.Linear(8, 1))

    def batches(self, step: int) -> Generator[Tensor]:
        for k in count(step):
            if k == self.ends_at:
                self.end()
            yield torch.from_numpy(np.random.default_rng(k).normal(size=(8, 2)).astype(np.float32))

    def end(self) -> None:
        raise Interrupted

    def measure(self, network: nn.Module, batch: Tensor) -> Share:
        error = network(batch)[:, 0] - (batch[:, 0] - 2 * batch[:, 1])
        return Share(error.square().sum(), torch.tensor(float(len(batch))))

    def validate(self, network: nn.Module) -> float:
        points = torch.from_numpy(np.random.default_rng(999).normal(size=(64, 2)).astype(np.float32))
        with torch.no_grad():
            return float(self.measure(network.eval(), points).total) / 64

    def describe(self, score: float) -> str:
        return f"{score:.3f}"

    def keep(self, network: nn.Module, step: int) -> None:  # noqa: ARG002
        self.kept.append(step)


class Terminated(Plane):
    def end(self) -> None:
        os.kill(os.getpid(), signal.SIGTERM)


class Diverging(Plane):
    def measure(self, network: nn.Module, batch: Tensor) -> Share:
        share = super().measure(network, batch)
        return share._replace(total=share.total * float("inf")) if self.network[0].weight.grad is not None else share


def outcome(run: Path) -> tuple[bytes, list[tuple[float | None, ...]]]:
    """Weights, averages and moments to the last bit, and the history without its seconds."""
    state = read_tensors(run, "checkpoint.pt")
    moments = [value for slot in state["optimiser"]["state"].values() for value in slot.values()]
    tensors = [*state["network"].values(), *state["averaged"].values(), *moments]
    rows = [(row["step"], row["loss"], row["learning_rate"], row["validation"]) for row in state["history"]]
    return b"".join(tensor.numpy().tobytes() for tensor in tensors), rows


def test_it_learns(tmp_path: Path) -> None:
    task = Plane()
    train(task, replace(CONFIG, steps=300, checkpoint_steps=100), tmp_path, ALONE)
    scores = [row[3] for row in outcome(tmp_path)[1] if row[3] is not None]
    assert len(scores) == 4
    assert min(scores) < 0.1 * scores[0]


def test_a_row_is_the_mean_loss_since_the_row_before(tmp_path: Path) -> None:
    config = replace(CONFIG, steps=30, checkpoint_steps=20)
    train(Plane(), config, tmp_path / "rows", ALONE)
    rows = outcome(tmp_path / "rows")[1]
    assert [row[0] for row in rows] == [0, *range(2, 31, 2)]
    assert [row[0] for row in rows if row[3] is not None] == [0, 20, 30]
    train(Plane(), replace(config, checkpoint_steps=1), tmp_path / "each", ALONE)
    losses = [row[1] for row in outcome(tmp_path / "each")[1][1:]]
    assert [row[1] for row in rows[1:]] == pytest.approx([sum(losses[k : k + 2]) / 2 for k in range(0, 30, 2)])


@pytest.mark.parametrize("ends_at", [0, 1, 9, 10, 17, 29])
def test_an_interrupted_training_goes_on_to_the_same_weights(tmp_path: Path, ends_at: int) -> None:
    train(Plane(), CONFIG, tmp_path / "whole", ALONE)
    with pytest.raises(Interrupted):
        train(Plane(ends_at=ends_at), CONFIG, tmp_path / "ended", ALONE)
    train(Plane(), CONFIG, tmp_path / "ended", ALONE)
    assert outcome(tmp_path / "ended") == outcome(tmp_path / "whole")


@pytest.mark.parametrize("ends_at", [0, 4, 9, 10, 27])
def test_sigterm_ends_it_at_once_with_a_checkpoint(tmp_path: Path, ends_at: int) -> None:
    train(Plane(), CONFIG, tmp_path / "whole", ALONE)
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(RhoflowError, match=r"told to end at step \d+: go on with --resume"):
        train(Terminated(ends_at=ends_at), CONFIG, tmp_path / "ended", ALONE)
    assert signal.getsignal(signal.SIGTERM) == before
    assert ends_at < read_tensors(tmp_path / "ended", "checkpoint.pt")["step"] <= ends_at + 2
    train(Plane(), CONFIG, tmp_path / "ended", ALONE)
    assert outcome(tmp_path / "ended") == outcome(tmp_path / "whole")


def test_sigterm_at_the_last_step_comes_too_late(tmp_path: Path) -> None:
    train(Terminated(ends_at=29), CONFIG, tmp_path, ALONE)
    assert read_tensors(tmp_path, "checkpoint.pt")["step"] == 30


def test_divergence_is_named_and_the_last_checkpoint_stays(tmp_path: Path) -> None:
    with pytest.raises(RhoflowError, match=r"diverged at step 1: start again with a learning_rate below 0.05"):
        train(Diverging(), CONFIG, tmp_path, ALONE)
    state = read_tensors(tmp_path, "checkpoint.pt")
    assert state["step"] == 0
    assert all(torch.isfinite(value).all() for value in state["network"].values())


def test_a_network_is_kept_whenever_it_is_the_best(tmp_path: Path) -> None:
    task = Plane()
    train(task, replace(CONFIG, learning_rate=1.0, checkpoint_steps=1, averaging=0.0), tmp_path, ALONE)
    rows = outcome(tmp_path)[1]
    best = [row[0] for k, row in enumerate(rows) if row[3] < min([*(one[3] for one in rows[:k]), np.inf])]
    assert task.kept == best
    assert 1 < len(best) < len(rows)


def test_it_stops_early_when_it_has_lost_patience(tmp_path: Path) -> None:
    config = replace(CONFIG, steps=200, learning_rate=1.0, checkpoint_steps=1, averaging=0.0, patience=4)
    train(Plane(), config, tmp_path, ALONE)
    scores = [row[3] for row in outcome(tmp_path)[1]]
    assert len(scores) < 200
    assert int(np.argmin(scores)) == len(scores) - 5
    before = outcome(tmp_path)
    train(Plane(), config, tmp_path, ALONE)
    assert outcome(tmp_path) == before


@pytest.mark.parametrize(
    ("scores", "patience", "finished"),
    [([3, 2, 1], 1, False), ([3, 1, 2], 1, True), ([3, 1, 2], 2, False), ([1, 1, 1], 2, True), ([1, 2, 3], 0, False)],
)
def test_patience_counts_checkpoints_since_the_best(scores: list[float], patience: int, finished: bool) -> None:
    rows: list[Row] = [{"validation": None}, *({"validation": score} for score in scores), {"validation": None}]
    assert is_finished(3, rows, replace(CONFIG, patience=patience)) == finished


def test_another_store_or_another_number_of_them_is_refused(tmp_path: Path) -> None:
    train(Plane(), CONFIG, tmp_path, ALONE)
    with pytest.raises(RequestError, match=r"was begun on other data than points.zarr holds now: name the store"):
        train(Plane(stores=(("points.zarr", "xyz"),)), CONFIG, tmp_path, ALONE)
    with pytest.raises(RequestError, match=r"was begun on 1 stores, not 2"):
        train(Plane(stores=(("points.zarr", "abc"), ("more.zarr", "xyz"))), CONFIG, tmp_path, ALONE)


def test_the_learning_rate_rises_then_falls_to_zero() -> None:
    config = replace(CONFIG, steps=100, learning_rate=1.0, warm_up=0.05)
    rates = [learning_rate(config, step) for step in range(101)]
    assert rates[4] == 1.0 == max(rates)
    assert rates[:5] == sorted(rates[:5])
    assert rates[4:] == sorted(rates[4:], reverse=True)
    assert rates[100] == pytest.approx(0, abs=1e-12)


def step_once(**settings: object) -> tuple[nn.Module, nn.Module]:
    """The network before and after one step, its gradients left in place."""
    task = Plane()
    task.network.eval()  # no dropout
    before = Plane().network
    state = begin_descent(task.network, replace(CONFIG, warm_up=0.0, **settings), ALONE)  # type: ignore[arg-type]
    batch = next(task.batches(0))
    take_step(state, lambda: task.measure(state.working, batch), replace(CONFIG, **settings), ALONE, False)  # type: ignore[arg-type]
    return before, state.network


def gradient_norm(network: nn.Module) -> float:
    return float(torch.cat([one.grad.flatten() for one in network.parameters() if one.grad is not None]).norm())


def test_long_gradients_are_shortened_to_the_clip() -> None:
    assert gradient_norm(step_once(clip=0.0)[1]) > 1
    assert gradient_norm(step_once(clip=0.25)[1]) == pytest.approx(0.25, rel=1e-4)


def test_weight_decay_draws_weights_towards_zero() -> None:
    plain, decayed = (step_once(optimiser="adamw", weight_decay=decay)[1] for decay in (0.0, 0.5))
    before, _ = step_once()
    rate = learning_rate(CONFIG, 0)
    for free, drawn, start in zip(plain.parameters(), decayed.parameters(), before.parameters(), strict=True):
        torch.testing.assert_close(free - drawn, rate * 0.5 * start)


def test_bfloat16_is_in_the_arithmetic_alone() -> None:
    exact, rounded = (step_once(precision=precision)[1] for precision in ("float32", "bfloat16"))
    gradients = [torch.cat([one.grad.flatten() for one in network.parameters()]) for network in (exact, rounded)]
    assert all(one.dtype == torch.float32 for one in rounded.parameters())
    assert 1e-6 < float((gradients[0] - gradients[1]).norm() / gradients[0].norm()) < 0.05


@pytest.mark.skipif(not shutil.which("g++"), reason="compiles C++")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # torch's own, when its compiler is imported
def test_a_compiled_network_takes_the_same_step() -> None:
    from torch._dynamo.utils import counters

    counters.clear()
    plain, compiled = (step_once(compile=value)[1] for value in (False, True))
    assert counters["stats"]["unique_graphs"] == 1
    for one, other in zip(plain.parameters(), compiled.parameters(), strict=True):
        torch.testing.assert_close(one, other)


def test_float32_is_never_tf32() -> None:
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = True
    choose_device("cpu")
    assert not torch.backends.cudnn.allow_tf32
    assert not torch.backends.cuda.matmul.allow_tf32


def test_the_curves_stand_in_tensorboard_once_each_after_an_interruption(tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    with pytest.raises(Interrupted):
        train(Plane(ends_at=17), CONFIG, tmp_path, ALONE)
    train(Plane(), CONFIG, tmp_path, ALONE)
    drawn = EventAccumulator(str(tmp_path / "events")).Reload()
    rows = outcome(tmp_path)[1]
    losses = [(event.step, event.value) for event in drawn.Scalars("loss")]
    assert losses == [(row[0], pytest.approx(row[1])) for row in rows[1:]]
    assert [event.step for event in drawn.Scalars("validation")] == [10, 20, 30]
