"""What each loss measures, on numbers small enough to check by hand."""

import pytest
import torch

from training.batch import Batch
from training.config import SuperresConfig
from training.losses import KINK, charge_loss, density_loss
from training.superres.task import make_vacuum, weigh_cells

TARGET = torch.tensor([[[[1.0, 2.0, 100.0]]]])
DENSITY = torch.tensor([[[[1.5, 1.0, 0.0]]]])
JUDGED = torch.tensor([[[[True, True, False]]]])
LOSSES = SuperresConfig.__dataclass_fields__["loss"].metadata["allowed"].among


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("nmae", (0.5 + 1) / 3),
        ("mae", (0.5 + 1) / 2),
        ("mse", (0.25 + 1) / 2),
        ("smooth", (0.5 + 1 - 2 * KINK / 2) / 3),
    ],
)
def test_a_loss_is_over_the_judged_cells(name: str, expected: float) -> None:
    share = density_loss(name, DENSITY, TARGET, JUDGED)
    assert float(share.total / share.weight) == pytest.approx(expected)


@pytest.mark.parametrize("name", LOSSES)
def test_shares_of_parts_add_up_to_the_loss_of_the_whole(name: str) -> None:
    torch.manual_seed(1)
    density, target, judged = torch.rand(5, 3, 3, 3), torch.rand(5, 3, 3, 3), torch.rand(5, 3, 3, 3) > 0.3
    whole = density_loss(name, density, target, judged)
    parts = [density_loss(name, *(one[cut] for one in (density, target, judged))) for cut in (slice(2), slice(2, 5))]
    totals, weights = (sum(map(float, numbers)) for numbers in zip(*parts, strict=True))
    assert float(whole.total / whole.weight) == pytest.approx(totals / weights)


@pytest.mark.parametrize("name", LOSSES)
def test_a_loss_is_smallest_at_the_target_and_pulls_towards_it(name: str) -> None:
    density = TARGET + torch.tensor([3e-4, -0.2, 0.7])
    density.requires_grad_()
    share = density_loss(name, density, TARGET, JUDGED)
    share.total.backward()
    assert share.total.item() > 0 == float(density_loss(name, TARGET, TARGET, JUDGED).total)
    assert density.grad.sign().flatten().tolist() == [1, -1, 0]


def test_the_smooth_loss_has_no_kink() -> None:
    errors = torch.tensor([[[[KINK / 1000, KINK / 2, 0.0]]]], requires_grad=True)
    density_loss("smooth", TARGET + errors, TARGET, JUDGED).total.backward()
    assert errors.grad.flatten().tolist() == pytest.approx([1e-3, 0.5, 0], rel=0.05)


def test_cells_count_by_their_volumes_where_these_differ() -> None:
    box = torch.zeros(2, 1, 1, 2)
    batch = Batch(("a", "b"), box, box, torch.tensor([[[[True, True]]], [[[True, False]]]]), (2.0, 0.5))
    weights = weigh_cells(batch)
    assert weights.flatten().tolist() == [2, 2, 0.5, 0]
    density, target = torch.tensor([[[[1.0, 2.0]]], [[[5.0, 7.0]]]]), torch.ones(2, 1, 1, 2)
    errors, volume = 0 * 2 + 1 * 2 + 4 * 0.5, 2 + 2 + 0.5
    for name, expected in (("nmae", errors / volume), ("mae", errors / volume), ("mse", (2 + 16 * 0.5) / volume)):
        share = density_loss(name, density, target, weights)
        assert float(share.total / share.weight) == pytest.approx(expected)
    assert weigh_cells(make_vacuum(batch)).sum() == 0


def charge_of(difference: torch.Tensor) -> float:
    target = torch.ones_like(difference)
    share = charge_loss(target + difference, target, target.bool())
    return float(share.total / share.weight)


def test_charges_that_cancel_within_the_smallest_blocks_cost_nothing() -> None:
    difference = torch.zeros(1, 24, 24, 24)
    difference[0, 8, 8, 8], difference[0, 11, 11, 11] = 0.5, -0.5
    assert charge_of(difference) == pytest.approx(0, abs=1e-9)


def test_charges_cost_more_the_farther_they_are_from_where_they_belong() -> None:
    costs = []
    for away in (1, 5, 13):  # within blocks of 4, 12 and 24 cells
        difference = torch.zeros(1, 24, 24, 24)
        difference[0, 0, 0, 0], difference[0, away, 0, 0] = 0.5, -0.5
        costs.append(charge_of(difference) * 24**3)
    assert costs == pytest.approx([0, 1 / 3, 2 / 3], abs=1e-4)
    lacking = torch.zeros(1, 24, 24, 24)
    lacking[0, 0, 0, 0] = -1  # in no block at all is its electron: the cost is that of the NMAE
    assert charge_of(lacking) * 24**3 == pytest.approx(1)


def test_charges_are_counted_in_boxes_of_any_shape() -> None:
    torch.manual_seed(1)
    difference = torch.randn(2, 10, 13, 30) / 10
    padded = torch.nn.functional.pad(difference, (0, 18, 0, 35, 0, 38))
    assert charge_of(difference) * difference.numel() == pytest.approx(charge_of(padded) * padded.numel(), rel=1e-5)
    assert charge_of(difference) <= float(difference.abs().mean())


def test_unjudged_cells_have_no_charge() -> None:
    torch.manual_seed(1)
    target, difference, judged = torch.ones(1, 24, 24, 24), torch.randn(1, 24, 24, 24), torch.rand(1, 24, 24, 24) > 0.5
    share, same = (charge_loss(target + one, target, judged) for one in (difference, difference * judged))
    assert float(share.total) == pytest.approx(float(same.total), rel=1e-6)
