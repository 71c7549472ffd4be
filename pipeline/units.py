"""Conversions at the door (CODATA 2018, as in PySCF and tblite): atomic units inside, people's units outside."""

BOHR_PER_ANGSTROM = 1.0 / 0.529177210903
ANGSTROM_PER_BOHR = 0.529177210903
DEBYE_PER_EBOHR = 2.541746473  # 1 e·bohr
