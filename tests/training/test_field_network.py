"""Neural fields as networks: continuous, begun well, and the same whatever grid they are asked on."""

from dataclasses import replace

import pytest
import torch

from storage.errors import RequestError
from training.models.field import Axes, FieldArchitecture, FieldNetwork, interpolate, spline_weights

OURS = FieldArchitecture(
    fields=2,
    molecules=3,
    cells=8,
    latent_cells=4,
    latent_features=5,
    refinements=0,
    width=16,
    depth=3,
    first_frequency=30.0,
    frequency=1.0,
    modulation="residual",
)
VARIANTS = {
    "ours": OURS,
    "refined": replace(OURS, refinements=1),
    "published": replace(OURS, latent_cells=1, modulation="published"),
    "encoder": replace(OURS, molecules=0),
    "published encoder": replace(OURS, molecules=0, latent_cells=1, modulation="published"),
}


def build(variant: str) -> tuple[FieldNetwork, torch.Tensor]:
    torch.manual_seed(2)
    network = FieldNetwork(VARIANTS[variant])
    return network, torch.tensor([[2.0, 1.0, 0.25], [0.0, 0.0, 0.0]]) if network.architecture.molecules else torch.rand(
        2, 2, 8, 8, 8
    )


def draw_axes(*lengths: int) -> Axes:
    x, y, z = (torch.sort(torch.rand(2, n) * 2 - 1).values for n in lengths)
    return x, y, z


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_value_does_not_depend_on_the_axes_it_is_asked_on(variant: str) -> None:
    network, source = build(variant)
    x, y, z = draw_axes(5, 6, 7)
    values = network(source, (x, y, z))
    assert values.shape == (2, 2, 5, 6, 7)
    torch.testing.assert_close(network(source, (x[:, 1::2], y[:, 2:3], z)), values[:, :, 1::2, 2:3])


@pytest.mark.parametrize("variant", VARIANTS)
def test_every_weight_learns(variant: str) -> None:
    network, source = build(variant)
    network(source, draw_axes(5, 6, 7)).square().sum().backward()
    for name, parameter in network.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().sum() > 0, name


def test_splines_hold_constants_and_inside_the_box_straight_lines() -> None:
    axis = torch.linspace(-1, 1, 41, dtype=torch.float64)[None]
    n = 10
    weights = spline_weights(axis, n)[0]
    torch.testing.assert_close(weights.sum(dim=1), torch.ones(41, dtype=torch.float64))
    centres = (2 * torch.arange(n, dtype=torch.float64) + 1) / n - 1
    inside = axis[0].abs() < 1 - 3 / n
    torch.testing.assert_close((weights @ centres)[inside], axis[0][inside])


def test_interpolated_grids_are_products_of_the_axes() -> None:
    """Of a product of three lines, each along its own axis."""
    n = 12
    centres = (2 * torch.arange(n, dtype=torch.float64) + 1) / n - 1
    grid = (centres[:, None, None] * (centres[:, None] + 2) * (centres - 3))[None, None]
    x, y, z = (torch.tensor([values], dtype=torch.float64) for values in ([-0.4, 0.3], [0.1], [-0.6, 0.0, 0.5]))
    expected = x[0][:, None, None] * (y[0][:, None] + 2) * (z[0] - 3)
    torch.testing.assert_close(interpolate(grid, (x, y, z))[0, ..., 0], expected)


def test_the_published_network_is_the_papers() -> None:
    """One layer by hand: relu(V z + c) sin(30 (W r + b)), then the last linear layer."""
    network, source = build("published")
    shallow = FieldNetwork(replace(VARIANTS["published"], depth=1))
    axes = draw_axes(1, 1, 1)
    point, latent = torch.cat([axis[:, 0] for axis in axes]).reshape(3, 2).T, shallow.encode(source)[..., 0, 0, 0]
    layers = shallow.layers
    modulation = torch.relu(layers.modulators[0](latent))  # type: ignore[index,operator]
    wave = torch.sin(30 * layers.waves[0](point))  # type: ignore[index,operator]
    expected = layers.last(modulation * wave)  # type: ignore[operator]
    torch.testing.assert_close(shallow(source, axes)[..., 0, 0, 0], expected)
    assert network.architecture.is_global


def test_an_encoder_that_halving_cannot_make_is_refused() -> None:
    with pytest.raises(RequestError, match="latent_cells = 3: halving cells = 8 never gives it"):
        FieldNetwork(replace(OURS, molecules=0, latent_cells=3))
