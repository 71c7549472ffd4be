"""What the periodic table says: symbols and closed noble-gas cores."""

SYMBOLS = (  # noqa: SIM905
    "X H He Li Be B C N O F Ne Na Mg Al Si P S Cl Ar K Ca Sc Ti V Cr Mn Fe Co Ni Cu Zn Ga Ge As Se Br Kr "
    "Rb Sr Y Zr Nb Mo Tc Ru Rh Pd Ag Cd In Sn Sb Te I Xe Cs Ba La Ce Pr Nd Pm Sm Eu Gd Tb Dy Ho Er Tm Yb Lu "
    "Hf Ta W Re Os Ir Pt Au Hg Tl Pb Bi Po At Rn Fr Ra Ac Th Pa U Np Pu Am Cm Bk Cf Es Fm Md No Lr Rf Db Sg "
    "Bh Hs Mt Ds Rg Cn Nh Fl Mc Lv Ts Og"
).split()  # SYMBOLS[Z]; X is a dummy atom
NUMBERS = {symbol: number for number, symbol in enumerate(SYMBOLS)}

NOBLE_GASES = (2, 10, 18, 36, 54, 86)


def noble_core(number: int) -> int:
    """Electrons of the noble gas before the element (0 for H and He)."""
    return max((noble for noble in NOBLE_GASES if noble < number), default=0)
