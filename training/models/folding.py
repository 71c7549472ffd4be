"""Fine cells and coarse ones: a coarse cell is the mean of factor³ fine cells, or has each of them as a feature."""

from torch import Tensor


def fold(values: Tensor, factor: int) -> Tensor:
    """Fine cells as features of coarse ones: (batch, nx, ny, nz) to (batch, factor³, nx/factor, …)."""
    batch, *shape = values.shape
    x, y, z = (n // factor for n in shape)
    cut = values.reshape(batch, x, factor, y, factor, z, factor)
    return cut.permute(0, 2, 4, 6, 1, 3, 5).reshape(batch, factor**3, x, y, z)


def unfold(features: Tensor, factor: int) -> Tensor:
    """The inverse of `fold`."""
    batch, _, x, y, z = features.shape
    cut = features.reshape(batch, factor, factor, factor, x, y, z)
    return cut.permute(0, 4, 1, 5, 2, 6, 3).reshape(batch, factor * x, factor * y, factor * z)
