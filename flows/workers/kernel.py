"""Which CPU kernel the numerical libraries chose here: results repeat bit for bit on the same one only."""

import ctypes
import functools
from pathlib import Path

import numpy as np

CORE_NAMES = ("scipy_openblas_get_corename64_", "openblas_get_corename64_", "openblas_get_corename")


@functools.cache
def name_kernel() -> str:
    """OpenBLAS's core type, which OPENBLAS_CORETYPE overrides, then the widest instructions NumPy found."""
    found = np.show_config(mode="dicts")["SIMD Extensions"].get("found", [])
    return f"{_name_core()}, {found[-1] if found else 'baseline'}"


def _name_core() -> str:
    """Asked of the library that NumPy has loaded; "other BLAS" where it is no OpenBLAS."""
    for path in _list_blas_libraries():
        library = ctypes.CDLL(path)
        for name in CORE_NAMES:
            if hasattr(library, name):
                ask = getattr(library, name)
                ask.restype = ctypes.c_char_p
                return str(ask().decode())
    return "other BLAS"


def _list_blas_libraries() -> list[str]:
    """Paths of the OpenBLAS libraries that this process has loaded, NumPy's first."""
    maps = Path("/proc/self/maps")
    loaded = {line.split()[-1] for line in maps.read_text().splitlines()} if maps.exists() else set()
    return sorted((path for path in loaded if "openblas" in path), key=lambda path: "numpy" not in path)
