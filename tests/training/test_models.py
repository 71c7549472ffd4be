"""Promises of the networks, and of what is predicted with them."""

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from pipeline.failures import TooLarge
from storage.errors import RequestError
from tests.training.gaussians import SPACING, make_conformer, sum_gaussians
from training.metrics import nmae
from training.models.build import (
    Architecture,
    Network,
    architecture_values,
    build_network,
    describe_network,
    read_architecture,
)
from training.models.electrons import conserve_electrons
from training.models.prediction import predict_density, predict_uncorrected
from training.models.published import PublishedArchitecture
from training.models.tiles import cut_tiles
from training.models.unet import UNetArchitecture

VOLUME = SPACING**3
UNET = UNetArchitecture(factor=2, width=6, depth=1, peak=0.7, levels=2)
ARCHITECTURES = [
    UNET,
    UNetArchitecture(factor=4, width=6, depth=1, peak=0.7, levels=1),
    PublishedArchitecture(factor=2, width=4, blocks=1),
    PublishedArchitecture(factor=4, width=4, blocks=1, fine_inputs=True),
]


def scramble(architecture: Architecture) -> Network:
    """A network whose every layer matters."""
    torch.manual_seed(3)
    network = build_network(architecture)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.normal_(0, 0.1)
    return network


@pytest.fixture
def guess() -> NDArray[np.float32]:
    return sum_gaussians(make_conformer("network"), "guess")


def count_electrons(density: NDArray[np.float32]) -> float:
    return VOLUME * float(density.sum(dtype=np.float64))


def test_an_untrained_unet_returns_the_guess(guess: NDArray[np.float32]) -> None:
    assert np.array_equal(predict_uncorrected(build_network(UNET), guess), guess)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("shape", [(20, 20, 20), (19, 20, 17), (7, 12, 9)])
def test_electrons_come_out_as_told_for_any_box(
    guess: NDArray[np.float32], shape: tuple[int, int, int], architecture: Architecture
) -> None:
    piece = guess[tuple(slice((20 - n) // 2, (20 - n) // 2 + n) for n in shape)]
    wanted = count_electrons(piece) + 0.01
    density = predict_density(scramble(architecture), piece, wanted, VOLUME)
    assert density.shape == shape
    assert density.min() >= 0
    assert count_electrons(density) == pytest.approx(wanted, rel=1e-7)  # float32 holds each cell to 6e-8


def test_vacuum_stays_vacuum() -> None:
    assert not predict_uncorrected(scramble(UNET), np.zeros((6, 6, 6), dtype=np.float32)).any()


def test_more_vacuum_around_a_molecule_changes_nothing() -> None:
    """As far as the U-Net sees, 6 coarse cells and on the wider ones 4 of 2 more, the molecule is alone."""
    molecule = np.random.default_rng(2).uniform(0, 0.7, (4, 4, 4)).astype(np.float32)
    near, far = (predict_uncorrected(scramble(UNET), np.pad(molecule, margin)) for margin in (32, 40))
    assert np.array_equal(far == 0, np.pad(near, 8) == 0)
    assert far[8:-8, 8:-8, 8:-8] == pytest.approx(near, rel=1e-5)
    assert near[32:-32, 32:-32, 32:-32] != pytest.approx(molecule, rel=0.01)


def test_a_box_filled_up_with_vacuum_is_predicted_as_one_that_was_wider(guess: NDArray[np.float32]) -> None:
    piece = guess[:19, :, :17]
    wider = predict_uncorrected(scramble(UNET), np.pad(piece, [(0, 1), (0, 0), (0, 3)]))
    assert np.array_equal(predict_uncorrected(scramble(UNET), piece), wider[:19, :, :17])


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_a_prediction_is_the_same_twice(guess: NDArray[np.float32], architecture: Architecture) -> None:
    first, second = (predict_uncorrected(scramble(architecture), guess) for _ in range(2))
    assert np.array_equal(first, second)


@pytest.mark.parametrize("change", [-0.3, -0.01, 0.01, 0.3])
def test_the_right_number_of_electrons_costs_no_accuracy(guess: NDArray[np.float32], change: float) -> None:
    """A network that is wrong in places, by as much as it changed the guess there, and so counts wrongly."""
    target = sum_gaussians(make_conformer("network"), "target")
    wrong = target + np.float32(change) * np.abs(target - guess)
    electrons = count_electrons(target)
    corrected = conserve_electrons(wrong, guess, electrons, VOLUME)
    assert abs(count_electrons(wrong) - electrons) > 1e-3
    assert count_electrons(corrected) == pytest.approx(electrons, abs=1e-5)
    assert nmae(corrected, target) < 0.7 * nmae(wrong, target)


def test_electrons_are_taken_without_making_a_density_negative(guess: NDArray[np.float32]) -> None:
    """Even where they all lie in cells that the network left alone, or nearly all are taken."""
    density = guess.copy()
    density[10] *= 2
    for electrons in (count_electrons(guess), 0.5 * count_electrons(guess), 1e-3):
        corrected = conserve_electrons(density, guess, electrons, VOLUME)
        assert corrected.min() >= 0
        assert count_electrons(corrected) == pytest.approx(electrons, abs=1e-5)


@pytest.mark.parametrize("fine_inputs", [False, True])
def test_the_published_network_sees_fine_cells_only_where_told(guess: NDArray[np.float32], fine_inputs: bool) -> None:
    network = scramble(PublishedArchitecture(factor=2, width=4, blocks=1, fine_inputs=fine_inputs))
    mixed = guess.reshape(10, 2, 20, 20)[:, ::-1].reshape(guess.shape)  # the same coarse cells
    told, untold = predict_uncorrected(network, guess), predict_uncorrected(network, mixed)
    assert np.allclose(told, untold, rtol=1e-3) != fine_inputs


@pytest.mark.parametrize("factor", [2, 4])
def test_the_published_network_wraps_around_the_box(guess: NDArray[np.float32], factor: int) -> None:
    network = scramble(PublishedArchitecture(factor=factor, width=4, blocks=1))
    moved = predict_uncorrected(network, np.roll(guess, (factor, 8, -factor), axis=(0, 1, 2)))
    still = predict_uncorrected(network, guess)
    assert moved == pytest.approx(np.roll(still, (factor, 8, -factor), axis=(0, 1, 2)), abs=1e-5)
    assert still.sum() == pytest.approx(guess.sum(), rel=1e-5)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_steps_of_descent_lower_the_loss(guess: NDArray[np.float32], architecture: Architecture) -> None:
    torch.manual_seed(3)
    network = build_network(architecture)
    optimiser = torch.optim.Adam(network.parameters(), lr=1e-4)
    target = torch.from_numpy(sum_gaussians(make_conformer("network"), "target"))
    losses = []
    for _ in range(4):
        loss = (network(torch.from_numpy(guess)[None])[0] - target).abs().sum() / target.sum()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert losses == sorted(losses, reverse=True)


def test_the_published_setting_has_the_published_number_of_parameters() -> None:
    network = build_network(PublishedArchitecture())
    assert sum(parameter.numel() for parameter in network.parameters()) == 9_354_403


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_an_architecture_comes_back_from_plain_values(architecture: Architecture) -> None:
    assert read_architecture(architecture_values(architecture)) == architecture


def describe(model: str, *, fine_inputs: bool) -> Architecture:
    return describe_network(model, factor=2, width=6, depth=1, levels=2, peak=0.7, fine_inputs=fine_inputs)


def test_a_config_names_an_architecture() -> None:
    assert describe("unet", fine_inputs=False) == UNET
    assert describe("published", fine_inputs=True) == PublishedArchitecture(2, 6, 1, True)


def test_unknown_networks_are_refused() -> None:
    with pytest.raises(RequestError, match=r'model = "resnet": there is no such network; use published or unet'):
        describe("resnet", fine_inputs=False)
    with pytest.raises(RequestError, match=r"of kind 'resnet', known here are published, unet: install a newer"):
        read_architecture({"kind": "resnet", "width": 6})


@pytest.mark.parametrize("levels", [1, 3])
def test_tiles_make_the_whole(levels: int) -> None:
    """Its halo is all that the network sees: tiles differ from the whole by float32's rounding alone."""
    network = scramble(UNetArchitecture(factor=2, width=4, depth=1, peak=0.7, levels=levels))
    guess = np.random.default_rng(1).exponential(0.1, (24, 36, 204)).astype(np.float32)
    whole = predict_uncorrected(network, guess)
    memory = network.cell_bytes * 24 * 40 * 168
    assert len(cut_tiles(network, (24, 40, 208), memory)) > 1
    tiled = predict_uncorrected(network, guess, memory)
    assert np.abs((tiled - whole) / guess).max() < 5e-6  # of the guess: of what was nearly all taken off, less is left
    assert np.abs(whole / guess - 1).max() > 0.1


def test_the_reach_is_no_smaller_than_what_is_seen() -> None:
    network = scramble(UNetArchitecture(factor=2, width=4, depth=1, peak=0.7, levels=2))
    guess = np.full((8, 8, 160), 0.1, dtype=np.float32)
    changed = guess.copy()
    changed[:, :, 80:88] *= 2  # a tile
    seen = np.flatnonzero((predict_uncorrected(network, changed) != predict_uncorrected(network, guess)).any((0, 1)))
    assert 80 - network.reach <= seen.min() < 80 - network.reach / 2
    assert 88 + network.reach > seen.max() > 88 + network.reach / 2


def test_a_box_that_cannot_be_tiled_is_refused() -> None:
    published = scramble(PublishedArchitecture(factor=2, width=4, blocks=1))
    with pytest.raises(TooLarge, match=r'needs 0.0 GiB, and the published network has to see .* model = "unet"'):
        predict_uncorrected(published, np.ones((16, 16, 16), dtype=np.float32), memory=1000)
    with pytest.raises(TooLarge, match=r"even for a small part of a box of 64 x 64 x 64 cells: give --memory-gib"):
        predict_uncorrected(scramble(UNET), np.ones((64, 64, 64), dtype=np.float32), memory=1000)
