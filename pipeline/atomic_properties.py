"""Properties of the elements that fields are made of, by atomic number, each with its source."""

from pipeline.elements import NUMBERS


def _by_number(values: dict[str, float]) -> dict[int, float]:
    return {NUMBERS[symbol]: value for symbol, value in values.items()}


# Van der Waals radii in ångström: S. Alvarez, Dalton Trans. 42, 8617 (2013), table 1, which has no others.
VAN_DER_WAALS = _by_number({
    "H": 1.20, "He": 1.43, "Li": 2.12, "Be": 1.98, "B": 1.91, "C": 1.77, "N": 1.66, "O": 1.50, "F": 1.46, "Ne": 1.58,
    "Na": 2.50, "Mg": 2.51, "Al": 2.25, "Si": 2.19, "P": 1.90, "S": 1.89, "Cl": 1.82, "Ar": 1.83, "K": 2.73,
    "Ca": 2.62, "Sc": 2.58, "Ti": 2.46, "V": 2.42, "Cr": 2.45, "Mn": 2.45, "Fe": 2.44, "Co": 2.40, "Ni": 2.40,
    "Cu": 2.38, "Zn": 2.39, "Ga": 2.32, "Ge": 2.29, "As": 1.88, "Se": 1.82, "Br": 1.86, "Kr": 2.25, "Rb": 3.21,
    "Sr": 2.84, "Y": 2.75, "Zr": 2.52, "Nb": 2.56, "Mo": 2.45, "Tc": 2.44, "Ru": 2.46, "Rh": 2.44, "Pd": 2.15,
    "Ag": 2.53, "Cd": 2.49, "In": 2.43, "Sn": 2.42, "Sb": 2.47, "Te": 1.99, "I": 2.04, "Xe": 2.06, "Cs": 3.48,
    "Ba": 3.03, "La": 2.98, "Ce": 2.88, "Pr": 2.92, "Nd": 2.95, "Sm": 2.90, "Eu": 2.87, "Gd": 2.83, "Tb": 2.79,
    "Dy": 2.87, "Ho": 2.81, "Er": 2.83, "Tm": 2.79, "Yb": 2.80, "Lu": 2.74, "Hf": 2.63, "Ta": 2.53, "W": 2.57,
    "Re": 2.49, "Os": 2.48, "Ir": 2.41, "Pt": 2.29, "Au": 2.32, "Hg": 2.45, "Tl": 2.47, "Pb": 2.60, "Bi": 2.54,
    "Ac": 2.80, "Th": 2.93, "Pa": 2.88, "U": 2.71, "Np": 2.82, "Pu": 2.81, "Am": 2.83, "Cm": 3.05, "Bk": 3.40,
    "Cf": 3.05, "Es": 2.70,
})  # fmt: skip

# Electronegativities on Pauling's scale: A. L. Allred, J. Inorg. Nucl. Chem. 17, 215 (1961), completed as in the CRC
# Handbook of Chemistry and Physics, 95th edition (2014), section 9.
ELECTRONEGATIVITY = _by_number({
    "H": 2.20, "Li": 0.98, "Be": 1.57, "B": 2.04, "C": 2.55, "N": 3.04, "O": 3.44, "F": 3.98, "Na": 0.93, "Mg": 1.31,
    "Al": 1.61, "Si": 1.90, "P": 2.19, "S": 2.58, "Cl": 3.16, "K": 0.82, "Ca": 1.00, "Sc": 1.36, "Ti": 1.54,
    "V": 1.63, "Cr": 1.66, "Mn": 1.55, "Fe": 1.83, "Co": 1.88, "Ni": 1.91, "Cu": 1.90, "Zn": 1.65, "Ga": 1.81,
    "Ge": 2.01, "As": 2.18, "Se": 2.55, "Br": 2.96, "Rb": 0.82, "Sr": 0.95, "Y": 1.22, "Zr": 1.33, "Nb": 1.60,
    "Mo": 2.16, "Tc": 2.10, "Ru": 2.20, "Rh": 2.28, "Pd": 2.20, "Ag": 1.93, "Cd": 1.69, "In": 1.78, "Sn": 1.96,
    "Sb": 2.05, "Te": 2.10, "I": 2.66, "Xe": 2.60, "Cs": 0.79, "Ba": 0.89, "La": 1.10, "Ce": 1.12, "Pr": 1.13,
    "Nd": 1.14, "Sm": 1.17, "Gd": 1.20, "Dy": 1.22, "Ho": 1.23, "Er": 1.24, "Tm": 1.25, "Lu": 1.00, "Hf": 1.30,
    "Ta": 1.50, "W": 1.70, "Re": 1.90, "Os": 2.20, "Ir": 2.20, "Pt": 2.20, "Au": 2.40, "Hg": 1.90, "Tl": 1.80,
    "Pb": 1.80, "Bi": 1.90, "Po": 2.00, "At": 2.20, "Fr": 0.70, "Ra": 0.90, "Ac": 1.10, "Th": 1.30, "Pa": 1.50,
    "U": 1.70, "Np": 1.30, "Pu": 1.30,
})  # fmt: skip

# Electron densities at the boundary of the Wigner-Seitz cell in Miedema's model, in its density units: F. R. de Boer,
# R. Boom, W. C. M. Mattens, A. R. Miedema and A. K. Niessen, Cohesion in Metals (North-Holland, 1988). The model is one
# of alloys: it has none of oxygen, sulphur, selenium, tellurium, the halogens and the noble gases.
WIGNER_SEITZ_DENSITY = _by_number({
    "H": 3.38, "Li": 0.94, "Be": 4.66, "B": 5.36, "C": 5.55, "N": 4.49, "Na": 0.55, "Mg": 1.60, "Al": 2.70,
    "Si": 3.38, "P": 4.49, "K": 0.27, "Ca": 0.75, "Sc": 2.05, "Ti": 3.51, "V": 4.41, "Cr": 5.18, "Mn": 4.17,
    "Fe": 5.55, "Co": 5.36, "Ni": 5.36, "Cu": 3.18, "Zn": 2.30, "Ga": 2.25, "Ge": 2.57, "As": 3.00, "Rb": 0.22,
    "Sr": 0.59, "Y": 1.77, "Zr": 2.80, "Nb": 4.41, "Mo": 5.55, "Tc": 5.93, "Ru": 6.13, "Rh": 5.45, "Pd": 4.66,
    "Ag": 2.52, "Cd": 1.91, "In": 1.60, "Sn": 1.90, "Sb": 2.00, "Cs": 0.17, "Ba": 0.53, "La": 1.64, "Ce": 1.69,
    "Pr": 1.73, "Nd": 1.73, "Pm": 1.77, "Sm": 1.77, "Eu": 1.77, "Gd": 1.77, "Tb": 1.82, "Dy": 1.82, "Ho": 1.82,
    "Er": 1.86, "Tm": 1.86, "Yb": 1.86, "Lu": 1.91, "Hf": 3.05, "Ta": 4.33, "W": 5.93, "Re": 6.33, "Os": 6.33,
    "Ir": 6.13, "Pt": 5.64, "Au": 3.87, "Hg": 1.91, "Tl": 1.40, "Pb": 1.52, "Bi": 1.56, "Th": 2.10, "U": 3.44,
    "Pu": 2.99,
})  # fmt: skip
