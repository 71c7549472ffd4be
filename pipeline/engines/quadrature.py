"""PySCF's exchange-correlation quadrature, with the basis functions' values kept between the cycles."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from pyscf import gto, lib
from pyscf.dft import gen_grid, numint

from storage.schema import FloatArray, IntArray

BLOCK_POINTS = 9 * gen_grid.BLKSIZE  # neighbours in space: few basis functions reach a block
NEGLIGIBLE = 1e-7  # a function whose value and gradient stay below this in a block is left out there
KEPT_BYTES = 2**30  # of values kept; beyond it they are computed again in every cycle


@dataclass(frozen=True)
class Block:
    """Quadrature points and the basis functions that reach them."""

    weights: FloatArray  # (points,)
    functions: IntArray  # (functions,) indices into the molecule's
    values: FloatArray  # (1 or 4, functions, points): χ, then its gradient


class KeptQuadrature(numint.NumInt):  # type: ignore[misc]
    """Bound to one molecule and grid. Blocks are fixed, so that sums do not depend on the memory left (PySCF's do)."""

    def __init__(self, limit: int = KEPT_BYTES) -> None:
        super().__init__()
        self.limit = limit
        self.kept: dict[int, list[Block]] = {}  # by number of components
        self.kept_bytes = 0

    def nr_rks(
        self, mol: gto.Mole, grids: gen_grid.Grids, xc_code: str, dms: lib.NPArrayWithTag, *args: Any, **kwargs: Any
    ) -> tuple[float, float, FloatArray]:
        """Electrons, energy (hartree) and potential matrix (functions, functions), as PySCF returns them."""
        if not self.is_served(xc_code, dms, 2):
            return super().nr_rks(mol, grids, xc_code, dms, *args, **kwargs)  # type: ignore[no-any-return]
        electrons, energy, potential = self.integrate(mol, grids, xc_code, [occupied(dms.mo_coeff, dms.mo_occ)])
        return float(electrons[0]), energy, potential[0]

    def nr_uks(
        self, mol: gto.Mole, grids: gen_grid.Grids, xc_code: str, dms: lib.NPArrayWithTag, *args: Any, **kwargs: Any
    ) -> tuple[FloatArray, float, FloatArray]:
        """Electrons (2,), energy (hartree) and potential matrices (2, functions, functions), as PySCF returns them."""
        if not self.is_served(xc_code, dms, 3):
            return super().nr_uks(mol, grids, xc_code, dms, *args, **kwargs)  # type: ignore[no-any-return]
        return self.integrate(mol, grids, xc_code, [occupied(dms.mo_coeff[spin], dms.mo_occ[spin]) for spin in (0, 1)])

    def nr_rks_fxc(self, mol: gto.Mole, grids: gen_grid.Grids, xc_code: str, *args: Any, **kwargs: Any) -> FloatArray:
        """The potential's response to a change of the density matrix, as PySCF returns it."""
        if (given := self.read_change(xc_code, 2, *args)) is None:
            return super().nr_rks_fxc(mol, grids, xc_code, *args, **kwargs)  # type: ignore[no-any-return]
        change, kernel = given
        return np.asarray(self.respond(mol, grids, change[None], kernel[None, :, None])[0])

    def nr_uks_fxc(self, mol: gto.Mole, grids: gen_grid.Grids, xc_code: str, *args: Any, **kwargs: Any) -> FloatArray:
        """The same of both spins."""
        if (given := self.read_change(xc_code, 3, *args)) is None:
            return super().nr_uks_fxc(mol, grids, xc_code, *args, **kwargs)  # type: ignore[no-any-return]
        return self.respond(mol, grids, *given)

    def read_change(self, xc_code: str, dimensions: int, *args: Any) -> tuple[FloatArray, FloatArray] | None:
        """One symmetric change and the kernel, of PySCF's order of arguments; None where `respond` serves it not."""
        match args:
            case (_, change, _, 1, _, _, kernel) if change.ndim == dimensions and kernel is not None:
                return (change, kernel) if self._xc_type(xc_code) in ("LDA", "GGA") else None
        return None

    def respond(self, mol: gto.Mole, grids: gen_grid.Grids, changes: FloatArray, kernel: FloatArray) -> FloatArray:
        """`kernel`, shape (spins, components, spins, components, points), of symmetric changes (spins, …, …)."""
        response, first = np.zeros_like(changes), 0
        for block in self.blocks(mol, grids, kernel.shape[1]):
            where, last = np.ix_(block.functions, block.functions), first + len(block.weights)
            densities = np.array([sample_matrix(block, change[where]) for change in changes])
            slopes = np.einsum("skp,sktlp->tlp", densities, kernel[..., first:last]) * block.weights
            for matrix, slope in zip(response, slopes, strict=True):
                matrix[where] += half_potential(block, slope)
            first = last
        return np.asarray(response + response.transpose(0, 2, 1))

    def is_served(self, xc_code: str, dms: lib.NPArrayWithTag, dimensions: int) -> bool:
        """One density matrix that still knows its orbitals, and a functional of the density and its gradient."""
        has_orbitals: bool = getattr(dms, "mo_coeff", None) is not None
        return has_orbitals and dms.ndim == dimensions and self._xc_type(xc_code) in ("LDA", "GGA")

    def integrate(
        self, mol: gto.Mole, grids: gen_grid.Grids, xc_code: str, orbitals: list[FloatArray]
    ) -> tuple[FloatArray, float, FloatArray]:
        xctype, size = self._xc_type(xc_code), mol.nao
        electrons, energy, potential = np.zeros(len(orbitals)), 0.0, np.zeros((len(orbitals), size, size))
        for block in self.blocks(mol, grids, 1 if xctype == "LDA" else 4):
            densities = np.array([sample(block, coefficients) for coefficients in orbitals])
            spin = len(orbitals) - 1
            rho = densities if spin else densities[0]
            exc, vxc = self.eval_xc_eff(xc_code, rho, deriv=1, xctype=xctype, spin=spin)[:2]
            counts = densities[:, 0] @ block.weights
            electrons += counts
            energy += float(densities[:, 0].sum(axis=0) * block.weights @ exc)
            where = np.ix_(block.functions, block.functions)
            for matrix, slope in zip(potential, vxc if spin else vxc[None], strict=True):
                matrix[where] += half_potential(block, slope * block.weights)
        return electrons, energy, potential + potential.transpose(0, 2, 1)

    def blocks(self, mol: gto.Mole, grids: gen_grid.Grids, components: int) -> Iterator[Block]:
        if components in self.kept:
            yield from self.kept[components]
            return
        kept: list[Block] = []
        for block in self.evaluate_blocks(mol, grids, components):
            yield block
            self.kept_bytes += block.values.nbytes
            kept.append(block)
            if self.kept_bytes > self.limit:
                kept.clear()
        if self.kept_bytes <= self.limit:
            self.kept[components] = kept

    def evaluate_blocks(self, mol: gto.Mole, grids: gen_grid.Grids, components: int) -> Iterator[Block]:
        for values, _, weights, _ in self.block_loop(mol, grids, deriv=int(components > 1)):
            components_first = values.reshape(components, *values.shape[-2:]).transpose(0, 2, 1)
            functions = np.flatnonzero(np.abs(components_first).max(axis=(0, 2)) > NEGLIGIBLE)
            yield Block(weights, functions, components_first[:, functions])

    def block_loop(self, mol: gto.Mole, grids: gen_grid.Grids, *args: Any, **kwargs: Any) -> Iterator[tuple[Any, ...]]:
        yield from super().block_loop(mol, grids, *args, **(kwargs | {"blksize": BLOCK_POINTS}))


def occupied(orbitals: FloatArray, occupations: FloatArray) -> FloatArray:
    """Orbitals (functions, occupied), each times the root of its occupation."""
    filled = occupations > 0
    return np.asarray(orbitals[:, filled] * np.sqrt(occupations[filled]))


def sample(block: Block, orbitals: FloatArray) -> FloatArray:
    """Density, then its gradient, shape (components, points)."""
    amplitudes = orbitals[block.functions].T @ block.values
    density: FloatArray = np.einsum("ip,kip->kp", amplitudes[0], amplitudes)
    density[1:] *= 2
    return density


def sample_matrix(block: Block, matrix: FloatArray) -> FloatArray:
    """Density of a symmetric matrix over the block's functions, then its gradient, shape (components, points)."""
    density: FloatArray = np.einsum("fp,kfp->kp", matrix @ block.values[0], block.values)
    density[1:] *= 2
    return density


def half_potential(block: Block, slopes: FloatArray) -> FloatArray:
    """The block's share of ∫χ_μ v χ_ν as a matrix that wants its transpose added, shape (functions, functions)."""
    weighted: FloatArray = block.values[0] * (0.5 * slopes[0])
    for values, slope in zip(block.values[1:], slopes[1:], strict=True):
        weighted += values * slope
    return np.asarray(block.values[0] @ weighted.T)
