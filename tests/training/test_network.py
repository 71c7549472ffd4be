"""Promises of the super-resolution network and of what it predicts."""

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from tests.training.gaussians import make_conformer, sum_gaussians
from training.network import Architecture, SuperResolver, fold, predict_density, predict_unscaled, unfold


def scrambled(factor: int = 2) -> SuperResolver:
    """A network whose every layer matters."""
    torch.manual_seed(3)
    network = SuperResolver(Architecture(factor, width=6, depth=2, peak=0.7))
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.normal_(0, 0.1)
    return network


@pytest.fixture
def guess() -> NDArray[np.float32]:
    return sum_gaussians(make_conformer("network"), "guess")


def test_an_untrained_network_returns_the_guess(guess: NDArray[np.float32]) -> None:
    network = SuperResolver(Architecture(factor=2, width=6, depth=2, peak=0.7))
    assert np.array_equal(predict_unscaled(network, guess), guess)
    np.testing.assert_allclose(predict_density(network, guess), guess, rtol=1e-7)


@pytest.mark.parametrize("shape", [(20, 20, 20), (19, 20, 17), (7, 12, 9), (1, 3, 20)])
@pytest.mark.parametrize("factor", [1, 2, 3])
def test_electrons_are_conserved_for_any_box(
    guess: NDArray[np.float32], shape: tuple[int, int, int], factor: int
) -> None:
    piece = guess[tuple(slice((20 - n) // 2, (20 - n) // 2 + n) for n in shape)]
    density = predict_density(scrambled(factor), piece)
    assert density.shape == shape
    assert (
        abs(predict_unscaled(scrambled(factor), piece).sum(dtype=np.float64) / piece.sum(dtype=np.float64) - 1) > 1e-3
    )
    # float32 holds each voxel to 6e-8, and these errors are random
    assert density.sum(dtype=np.float64) == pytest.approx(piece.sum(dtype=np.float64), rel=6e-8)


def surround(piece: NDArray[np.float32], *margins: tuple[int, int]) -> NDArray[np.float32]:
    """Vacuum beyond the network's reach (six convolutions, 12 cells), and `margins` more."""
    return np.pad(piece, [(12 + before, 12 + after) for before, after in margins])


def test_a_wider_box_of_vacuum_changes_nothing(guess: NDArray[np.float32]) -> None:
    piece, margins = guess[4:16, 6:14, 6:16], ((6, 10), (2, 6), (0, 8))
    expected = np.pad(predict_density(scrambled(), surround(piece, (0, 0), (0, 0), (0, 0))), margins)
    np.testing.assert_allclose(predict_density(scrambled(), surround(piece, *margins)), expected, rtol=1e-5, atol=1e-8)


def test_vacuum_stays_vacuum() -> None:
    assert not predict_density(scrambled(), np.zeros((6, 6, 6), dtype=np.float32)).any()


def test_a_density_never_becomes_negative(guess: NDArray[np.float32]) -> None:
    network = scrambled()
    with torch.no_grad():
        network.leave.weight.mul_(100)
    density = predict_density(network, guess)
    assert np.isfinite(density).all()
    assert density.min() >= 0


def test_moving_the_molecule_a_coarse_cell_moves_the_prediction(guess: NDArray[np.float32]) -> None:
    piece, move = guess[4:16, 6:14, 6:16], (2, -2, 4)
    box = surround(piece, (4, 4), (4, 4), (4, 4))
    expected = np.roll(predict_density(scrambled(), box), move, axis=(0, 1, 2))
    moved = predict_density(scrambled(), np.roll(box, move, axis=(0, 1, 2)))
    np.testing.assert_allclose(moved, expected, rtol=1e-5, atol=1e-8)


@pytest.mark.parametrize("factor", [1, 2, 3])
def test_unfolding_undoes_folding(factor: int) -> None:
    values = torch.randn(2, 6, 12, 18)
    folded = fold(values, factor)
    assert folded.shape == (2, factor**3, 6 // factor, 12 // factor, 18 // factor)
    assert torch.equal(unfold(folded, factor), values)


def test_the_mean_over_folded_features_is_the_coarser_grid() -> None:
    values = torch.arange(64.0).reshape(1, 4, 4, 4)
    assert fold(values, 2).mean(dim=1)[0, 0, 0, 1] == values[0, :2, :2, 2:].mean()
