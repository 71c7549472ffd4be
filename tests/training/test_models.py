"""Promises of the networks, and of what is predicted with them."""

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from storage.errors import RequestError
from tests.training.gaussians import SPACING, make_conformer, sum_gaussians
from training.models.build import (
    Architecture,
    Network,
    architecture_values,
    build_network,
    describe_network,
    read_architecture,
)
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


def test_the_published_setting_has_the_published_number_of_parameters() -> None:
    network = build_network(PublishedArchitecture())
    assert sum(parameter.numel() for parameter in network.parameters()) == 9_354_403


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_an_architecture_comes_back_from_plain_values(architecture: Architecture) -> None:
    assert read_architecture(architecture_values(architecture)) == architecture


def test_a_config_names_an_architecture() -> None:
    shape = {"factor": 2, "width": 6, "depth": 1, "levels": 2, "peak": 0.7}
    assert describe_network("unet", **shape, fine_inputs=False) == UNET
    assert describe_network("published", **shape, fine_inputs=True) == PublishedArchitecture(2, 6, 1, True)


@pytest.mark.parametrize("levels", [1, 3])
def test_tiles_make_the_whole(levels: int) -> None:
    """Its halo is all that the network sees: tiles differ from the whole by float32's rounding alone."""
    network = scramble(UNetArchitecture(factor=2, width=4, depth=1, peak=0.7, levels=levels))
    guess = np.random.default_rng(1).exponential(0.1, (24, 36, 204)).astype(np.float32)
    whole = predict_uncorrected(network, guess)
    memory = network.cell_bytes * 24 * 40 * 168
    assert len(cut_tiles(network, (24, 40, 208), memory)) > 1
    np.testing.assert_allclose(predict_uncorrected(network, guess, memory), whole, rtol=1e-5, atol=1e-7)
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
    with pytest.raises(RequestError, match=r'needs 0.0 GiB, and the published network has to see .* model = "unet"'):
        predict_uncorrected(published, np.ones((16, 16, 16), dtype=np.float32), memory=1000)
    with pytest.raises(RequestError, match=r"even for a small part of a box of 64 x 64 x 64 cells: give --memory-gib"):
        predict_uncorrected(scramble(UNET), np.ones((64, 64, 64), dtype=np.float32), memory=1000)
