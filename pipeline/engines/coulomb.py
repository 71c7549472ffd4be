"""The fitted Coulomb matrix of a pure functional: integrals once, and no exchange to prepare them for."""

import numpy as np
import scipy.linalg
from pyscf import df, lib

from storage.schema import FloatArray


class CoulombFit(df.DF):  # type: ignore[misc]
    """Keeps (μν|P), shape (pairs, fitting functions), as it is; PySCF's own solves the metric into it, for exchange."""

    def build(self) -> "CoulombFit":
        self.auxmol = df.addons.make_auxmol(self.mol, self.auxbasis)
        self.metric = scipy.linalg.cho_factor(self.auxmol.intor("int2c2e", hermi=1))
        self.integrals = df.incore.aux_e2(self.mol, self.auxmol, aosym="s2ij")
        return self

    def get_jk(self, dm: FloatArray, *_: object, **__: object) -> tuple[FloatArray, None]:
        """J of real symmetric density matrices, shape (…, functions, functions), and no K, whatever else PySCF says."""
        matrices = np.asarray(dm).reshape(-1, *dm.shape[-2:])
        diagonal = np.arange(dm.shape[-1])
        pairs = 2 * lib.pack_tril(matrices)
        pairs[:, diagonal * (diagonal + 3) // 2] /= 2
        charges = scipy.linalg.cho_solve(self.metric, (pairs @ self.integrals).T)
        return lib.unpack_tril((self.integrals @ charges).T).reshape(dm.shape), None
