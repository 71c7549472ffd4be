"""One step of a training: down the gradient of the loss."""

import copy
import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import cast

import torch
from torch import Tensor, nn

from training.config import TrainingConfig
from training.curves import Row
from training.losses import Share
from training.parallel import Team

MOMENTA = (0.9, 0.95)  # Adam's; the usual 0.999 outlasts a short run


@dataclass
class State:
    """A training under way."""

    network: nn.Module
    working: nn.Module  # the same network as a step calls it: compiled, and with the gradients of all processes
    averaged: nn.Module  # running mean of the weights: what is validated, and kept
    optimiser: torch.optim.Optimizer
    step: int = 0
    losses: list[float] = field(default_factory=list)  # of the steps since the last row of the history
    history: list[Row] = field(default_factory=list)
    seconds: float = 0.0


def begin_descent(network: nn.Module, config: TrainingConfig, team: Team) -> State:
    network = network.to(team.device)
    averaged, working = copy.deepcopy(network), team.join(network)
    if config.compile:
        working = cast(nn.Module, torch.compile(working))
    return State(network, working, averaged, _make_optimiser(network, config))


def take_step(state: State, measure: Callable[[], Share], config: TrainingConfig, team: Team, told: bool) -> Tensor:
    """One step; `measure` gives this process's share of the loss.

    Returns the loss before it, and how many processes were `told` to end: shape (2,), the same on each process. It
    stays on the device, which may be at work when this returns.
    """
    with torch.autocast(team.device.type, torch.bfloat16, enabled=config.precision == "bfloat16"):
        share = measure()
    told_here = share.weight.new_full((), told)
    total, weight, told_all = team.sum(torch.stack([share.total.detach(), share.weight, told_here]))
    for group in state.optimiser.param_groups:
        group["lr"] = learning_rate(config, state.step)
    state.optimiser.zero_grad()
    (share.total * (team.world / weight)).backward()
    if config.clip:
        nn.utils.clip_grad_norm_(state.network.parameters(), config.clip)
    state.optimiser.step()
    state.step += 1
    _average(state, config.averaging)
    return torch.stack([total / weight, told_all])


def read_later(values: Tensor) -> Callable[[], list[float]]:
    """Sends numbers from the device; what it returns waits for them, but not for work that was queued after them."""
    copied = values.to("cpu", non_blocking=True)
    sent = torch.cuda.current_stream(values.device).record_event() if values.is_cuda else None

    def read() -> list[float]:
        if sent:
            sent.synchronize()
        return [float(value) for value in copied.tolist()]

    return read


def learning_rate(config: TrainingConfig, step: int) -> float:
    """A straight line up during the warm-up, then half a cosine down to zero."""
    warm_up = max(1, round(config.warm_up * config.steps))
    if step < warm_up:
        return config.learning_rate * (step + 1) / warm_up
    return config.learning_rate * 0.5 * (1 + math.cos(math.pi * (step - warm_up) / max(1, config.steps - warm_up)))


def _make_optimiser(network: nn.Module, config: TrainingConfig) -> torch.optim.Optimizer:
    kind: type[torch.optim.Adam] = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW}[config.optimiser]
    return kind(network.parameters(), lr=config.learning_rate, betas=MOMENTA, weight_decay=config.weight_decay)


@torch.no_grad()
def _average(state: State, averaging: float) -> None:
    """Early on the mean is over the last tenth of the steps, so that it leaves the first weights behind."""
    kept = min(averaging, state.step / (state.step + 9))
    torch._foreach_lerp_(list(state.averaged.parameters()), list(state.network.parameters()), 1 - kept)
    for averaged, current in zip(state.averaged.buffers(), state.network.buffers(), strict=True):
        averaged.copy_(current)
