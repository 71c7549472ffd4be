"""Structures of macromolecules become atoms by rule; pockets are whole residues."""

from collections.abc import Sequence
from pathlib import Path

import gemmi
import numpy as np
import pytest

from pipeline.residues import DEFAULT_RULES, ResidueKind
from pipeline.structures import Structure, cut_pocket, read_structure
from pipeline.units import BOHR_PER_ANGSTROM
from storage.schema import FloatArray

ALL: tuple[ResidueKind, ...] = ("protein", "nucleic", "ions", "waters", "others")
KINDS: tuple[ResidueKind, ...] = DEFAULT_RULES.residues


def atom(
    name: str,
    residue: str,
    number: int,
    x: float,
    *,
    alt: str = " ",
    occupancy: float = 1.0,
    element: str = "",
    record: str = "ATOM",
) -> str:
    """A line of a PDB file."""
    return (
        f"{record:<6}{1:5d} {name:<4}{alt}{residue:>3} A{number:4d}    "
        f"{x:8.3f}{0:8.3f}{0:8.3f}{occupancy:6.2f}{10:6.2f}          {element or name[0]:>2}\n"
    )


GLYCINE = [atom(name, "GLY", 1, x) for name, x in (("N", 0), ("CA", 1.5), ("C", 3), ("O", 4.2))]


def read(folder: Path, lines: Sequence[str], kinds: tuple[ResidueKind, ...] = ALL, model: int | None = 1) -> Structure:
    path = folder / "some.pdb"
    path.write_text("".join([*lines, "END\n"]))
    return read_structure(path, kinds, model)


def xs(structure: Structure) -> FloatArray:
    """The x of every atom of the first model, Å."""
    return np.asarray(structure.positions[0, :, 0] / BOHR_PER_ANGSTROM)


def test_atoms_have_their_elements_and_places(tmp_path: Path) -> None:
    found = read(tmp_path, GLYCINE)
    assert found.numbers.tolist() == [7, 6, 6, 8]
    assert xs(found) == pytest.approx([0, 1.5, 3, 4.2])
    assert len(set(found.residues.tolist())) == 1


def test_of_alternate_locations_the_most_occupied_of_a_residue_stays(tmp_path: Path) -> None:
    """Its label as a whole: B has 1.2 in all, though A's CB has more than B's."""
    side = [
        atom("CB", "SER", 2, 10, alt="A", occupancy=0.6),
        atom("CB", "SER", 2, 11, alt="B", occupancy=0.4),
        atom("OG", "SER", 2, 12, alt="A", occupancy=0.2),
        atom("OG", "SER", 2, 13, alt="B", occupancy=0.8),
    ]
    assert xs(read(tmp_path, [*GLYCINE, *side])).tolist()[4:] == pytest.approx([11, 13])


@pytest.mark.parametrize(("occupancy", "kept"), [(0.6, 10), (0.3, 11)])
def test_a_blank_label_beside_another_is_an_alternate_location_too(
    tmp_path: Path, occupancy: float, kept: float
) -> None:
    side = [
        atom("CB", "SER", 2, 10, occupancy=occupancy),
        atom("CB", "SER", 2, 11, alt="B", occupancy=1 - occupancy),
        atom("OG", "SER", 2, 12.5),
    ]
    assert xs(read(tmp_path, [*GLYCINE, *side])).tolist()[4:] == pytest.approx([kept, 12.5])


def test_of_residues_that_share_a_number_one_stays(tmp_path: Path) -> None:
    lines = [
        atom("CA", "SER", 2, 10, alt="A", occupancy=0.3),
        atom("CA", "THR", 2, 11, alt="B", occupancy=0.7),
        atom("CB", "THR", 2, 12, alt="B", occupancy=0.7),
    ]
    assert xs(read(tmp_path, lines)) == pytest.approx([11, 12])


def test_an_atom_without_the_residues_label_keeps_its_own_most_occupied_place(tmp_path: Path) -> None:
    lines = [
        atom("CA", "SER", 2, 10, alt="A", occupancy=0.9),
        atom("CA", "SER", 2, 11, alt="B", occupancy=0.1),
        atom("OG", "SER", 2, 12, alt="C", occupancy=0.4),
        atom("OG", "SER", 2, 13, alt="D", occupancy=0.45),
    ]
    assert xs(read(tmp_path, lines)) == pytest.approx([10, 13])


OTHERS = [
    atom("O", "HOH", 10, 20, record="HETATM"),
    atom("O", "SPC", 11, 21, record="HETATM"),
    atom("ZN", "ZN", 12, 22, element="ZN", record="HETATM"),
    *(atom(name, "GOL", 13, 23 + k, record="HETATM") for k, name in enumerate(("C1", "O1", "C2"))),
    *(atom(name, "DG", 14, 30 + k) for k, name in enumerate(("P", "O3'", "C1'"))),
]


@pytest.mark.parametrize(
    ("kinds", "expected"),
    [
        (("protein",), 4), (("waters",), 2), (("ions",), 1), (("others",), 3), (("nucleic",), 3), (ALL, 13),
        (KINDS, 11),
    ],
)  # fmt: skip
def test_residues_are_chosen_by_kind(tmp_path: Path, kinds: tuple[ResidueKind, ...], expected: int) -> None:
    assert len(read(tmp_path, [*GLYCINE, *OTHERS], kinds).numbers) == expected


def test_a_modified_residue_with_a_backbone_is_protein(tmp_path: Path) -> None:
    lines = [line.replace("GLY", "XYZ") for line in GLYCINE]
    assert len(read(tmp_path, lines, ("protein",)).numbers) == 4


def model(number: int, lines: Sequence[str]) -> list[str]:
    return [f"MODEL     {number:4d}\n", *lines, "ENDMDL\n"]


def test_models_are_all_taken_or_one_of_them(tmp_path: Path) -> None:
    lines = [*model(1, GLYCINE), *model(2, [atom("N", "GLY", 1, 0.5), *GLYCINE[1:]])]
    assert read(tmp_path, lines, model=None).positions.shape == (2, 4, 3)
    assert xs(read(tmp_path, lines, model=2))[0] == pytest.approx(0.5)
    with pytest.raises(ValueError, match="has 2 models, no model 3"):
        read(tmp_path, lines, model=3)


def test_models_of_different_atoms_are_refused_together(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="model 2 has other atoms than model 1"):
        read(tmp_path, [*model(1, GLYCINE), *model(2, GLYCINE[:3])], model=None)


def test_deuterium_is_hydrogen_and_an_unknown_element_is_refused(tmp_path: Path) -> None:
    assert read(tmp_path, [*GLYCINE, atom("D", "GLY", 1, -1, element="D")]).numbers[-1] == 1
    with pytest.raises(ValueError, match="atom X in A/1/GLY has no known element"):
        read(tmp_path, [*GLYCINE, atom("X", "GLY", 1, -1, element="X")])


@pytest.mark.parametrize("content", ["", "no structure\n", "data_x\nloop_\n_atom_site.id\n"])
def test_what_is_no_structure_is_refused_by_its_name(tmp_path: Path, content: str) -> None:
    path = tmp_path / "broken.pdb"
    path.write_text(content)
    with pytest.raises(ValueError, match=r"broken\.pdb"):
        read_structure(path, ALL, None)
    with pytest.raises(ValueError, match=r"there is no file gone\.pdb"):
        read_structure(tmp_path / "gone.pdb", ALL, None)


def test_pdb_and_mmcif_are_told_apart_by_content(tmp_path: Path) -> None:
    pdb = read(tmp_path, [*GLYCINE, *OTHERS])
    gemmi.read_structure(str(tmp_path / "some.pdb")).make_mmcif_document().write_file(str(tmp_path / "other.pdb"))
    cif = read_structure(tmp_path / "other.pdb", ALL, 1)
    assert cif.numbers.tolist() == pdb.numbers.tolist()
    assert cif.positions == pytest.approx(pdb.positions)
    assert cif.group == pdb.group


def test_structures_of_one_sequence_are_of_one_group(tmp_path: Path) -> None:
    """Whatever else they hold, however often, and wherever."""
    chain = [*GLYCINE, atom("CA", "SER", 2, 8)]
    twice = [*chain, *(line.replace(" A", " B", 1) for line in chain)]
    moved = [line.replace("   0.000   0.000   0.000", "   0.100   0.000   0.000") for line in chain]
    groups = {read(tmp_path, lines).group for lines in (chain, twice, moved, [*chain, *OTHERS[:6]])}
    assert len(groups) == 1
    assert read(tmp_path, [*GLYCINE, atom("CA", "THR", 2, 8)]).group not in groups


def test_a_pocket_is_of_whole_residues_within_the_radius(tmp_path: Path) -> None:
    chain = [*GLYCINE, *(atom(name, "SER", 2, x) for name, x in (("CA", 8), ("CB", 12)))]
    structure = read(tmp_path, chain)
    ligand = np.array([[-3.0, 0, 0]]) * BOHR_PER_ANGSTROM
    for radius, atoms in ((2.9, 0), (3.1, 4), (10.9, 4), (11.1, 6)):
        assert len(cut_pocket(structure, ligand, radius * BOHR_PER_ANGSTROM)) == atoms
