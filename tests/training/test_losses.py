"""What each loss measures, on numbers small enough to check by hand."""

import pytest
import torch

from training.config import SuperresConfig
from training.losses import KINK, density_loss

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
