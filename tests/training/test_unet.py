"""A box alone is no slower than its share of two."""

import pytest
import torch
from torch.profiler import ProfilerActivity, profile

from training.models.unet import UNet, UNetArchitecture


@pytest.fixture
def network() -> UNet:
    torch.manual_seed(3)
    network = UNet(UNetArchitecture(factor=2, width=6, depth=1, peak=0.7, levels=2))
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.normal_(0, 0.1)
    return network


def test_a_box_alone_is_corrected_as_beside_another(network: UNet) -> None:
    pair = torch.rand(2, 8, 12, 16)
    torch.testing.assert_close(network(pair[:1]), network(pair)[:1], rtol=1e-4, atol=1e-6)
    assert not torch.allclose(network(pair[:1]), pair[:1], rtol=1e-3)


def test_a_box_alone_takes_the_fast_convolutions(network: UNet) -> None:
    with profile(activities=[ProfilerActivity.CPU]) as profiled:
        network(torch.rand(1, 16, 16, 16)).sum().backward()
    operators = {event.key for event in profiled.key_averages()}
    assert "aten::mkldnn_convolution" in operators
    assert "aten::slow_conv3d" not in operators
