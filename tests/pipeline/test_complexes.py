"""A complex is a posed ligand first, and then the residues around it; tables and folders of them are sources."""

import gzip
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from pipeline.conformers import conform
from pipeline.failures import Clash, EmptyPocket, InvalidInput
from pipeline.residues import Rules
from pipeline.sources import Files, SourceError, list_source_files, read_molecules
from pipeline.units import BOHR_PER_ANGSTROM
from storage.schema import Conformer, Molecule
from tests.pipeline.complex_files import MOL2, PENTAVALENT, mol_block, write_ligand, write_protein

FILES = Files("protein", "ligand", "pose")
SEVERAL = Files("protein", "ligand", "pose", Rules(model=None))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_protein(tmp_path / "protein.pdb")
    write_ligand(tmp_path / "ligand.sdf")
    return tmp_path


def table(folder: Path, *rows: str) -> Path:
    path = folder / "complexes.csv"
    path.write_text("\n".join(["protein,ligand,pose,pK", *rows]) + "\n")
    return path


def keep(molecule: Molecule) -> Conformer:
    return conform(molecule, keep=True, count=1, optimise="none", seed=7)[0]


def read_one(folder: Path, row: str) -> Molecule:
    (molecule,) = read_molecules(table(folder, row), labels=("pK",), files=FILES)
    return molecule


def test_a_complex_has_the_ligands_atoms_first_with_its_smiles_and_label(folder: Path) -> None:
    conformer = keep(read_one(folder, "protein.pdb,ligand.sdf,,6.5"))
    assert conformer.ligand_atoms == 6
    assert conformer.numbers.tolist() == [6, 8, 1, 1, 1, 1, *[7, 6, 6, 8, 1] * 2]
    assert conformer.smiles == "CO"
    assert read_one(folder, "protein.pdb,ligand.sdf,,6.5").labels == {"pK": 6.5}


def test_ligands_of_one_protein_are_of_one_group(folder: Path) -> None:
    write_ligand(folder / "other.sdf", "CCN")
    rows = ("protein.pdb,ligand.sdf,,1", "protein.pdb,other.sdf,,2", "protein.pdb,,,3")
    found = list(read_molecules(table(folder, *rows), files=FILES))
    assert len({molecule.group for molecule in found}) == 1
    assert [molecule.ligand_atoms for molecule in found] == [6, 10, 0]


def test_a_pocket_ends_at_its_radius(folder: Path) -> None:
    write_protein(folder / "protein.pdb", ((4, 0, 0), (20, 0, 0)))
    files = [Files("protein", "ligand", None, Rules(pocket=radius * BOHR_PER_ANGSTROM)) for radius in (8, 30)]
    path = table(folder, "protein.pdb,ligand.sdf,,1")
    assert [len(keep(next(read_molecules(path, files=one))).numbers) for one in files] == [11, 16]


def test_a_record_is_found_by_its_title_or_its_number(folder: Path) -> None:
    blocks = [mol_block("CO", title="alcohol"), mol_block("CN", title="amine"), mol_block("CC", title="amine")]
    (folder / "several.sdf.gz").write_bytes(gzip.compress("$$$$\n".join([*blocks, ""]).encode()))
    assert read_one(folder, "protein.pdb,several.sdf.gz,alcohol,1").smiles == "CO"
    assert read_one(folder, "protein.pdb,several.sdf.gz,2,1").smiles == "CC"
    for asked in ("", "amine", "3", "acid"):
        with pytest.raises(InvalidInput, match="name one by its title or its number from 0"):
            keep(read_one(folder, f"protein.pdb,several.sdf.gz,{asked},1"))


def test_a_mol2_ligand_is_read(folder: Path) -> None:
    (folder / "water.mol2").write_text(MOL2)
    molecule = read_one(folder, "protein.pdb,water.mol2,,1")
    assert (molecule.smiles, molecule.ligand_atoms) == ("O", 3)
    assert molecule.positions is not None
    assert molecule.positions[0].tolist() == pytest.approx([0, 0, 0.117 * BOHR_PER_ANGSTROM])
    bare = MOL2.replace("3 2 1 0 0", "2 1 1 0 0").replace("H1 0.000 0.757 -0.471 H ", "C1 0.000 1.1 -0.471 C.3 ")
    lines = [line for line in bare.splitlines() if "H2" not in line and line != "2 1 3 1"]
    (folder / "bare.mol2").write_text("\n".join(lines) + "\n")
    told = read_one(folder, "protein.pdb,bare.mol2,,1").smiles
    assert "the mol2 lacks hydrogens, without which it tells no charges" in told


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("protein.pdb,gone.sdf,,1", r"the ligand in gone\.sdf: there is no such file"),
        ("gone.pdb,ligand.sdf,,1", r"there is no file gone\.pdb"),
        ("protein.pdb,bad.sdf,,1", r"the ligand in bad\.sdf: Explicit valence for atom # 0 C, 5, is greater"),
        ("protein.pdb,flat.sdf,,1", r"the ligand in flat\.sdf is a drawing"),
        ("bad.sdf,ligand.sdf,,1", r"bad\.sdf holds no atoms"),
        (",ligand.sdf,,1", "there is no structure in it"),
    ],
)
def test_what_cannot_be_read_is_invalid_input_and_says_why(folder: Path, row: str, message: str) -> None:
    (folder / "bad.sdf").write_text(PENTAVALENT)
    (folder / "flat.sdf").write_text(
        "flat\n     drawn     2D\n\n  2  1  0  0  0  0            999 V2000\n"
        "    0.0000    0.0000    0.0000 C   0  0\n    1.0000    0.0000    0.0000 O   0  0\n  1  2  1  0\nM  END\n"
    )
    with pytest.raises(InvalidInput, match=message):
        keep(read_one(folder, row))


def test_a_ligand_far_from_the_protein_has_an_empty_pocket(folder: Path) -> None:
    write_ligand(folder / "far.sdf", place=(80, 0, 0))
    with pytest.raises(EmptyPocket, match="is it posed in this protein's frame"):
        keep(read_one(folder, "protein.pdb,far.sdf,,1"))


def test_an_atom_of_the_protein_on_one_of_the_ligand_is_a_clash(folder: Path) -> None:
    write_ligand(folder / "inside.sdf", place=(4.5, 0.3, 0))
    with pytest.raises(Clash, match="less than"):
        keep(read_one(folder, "protein.pdb,inside.sdf,,1"))


def test_a_complex_has_its_pose_and_no_other(folder: Path) -> None:
    with pytest.raises(InvalidInput, match="keep = true"):
        conform(read_one(folder, "protein.pdb,ligand.sdf,,1"), keep=False, count=1, optimise="none", seed=7)


def test_all_models_of_a_structure_are_conformers(tmp_path: Path) -> None:
    write_protein(tmp_path / "one.pdb", ((0, 0, 0),))
    lines = (tmp_path / "one.pdb").read_text().removesuffix("END\n")
    (tmp_path / "one.pdb").write_text("".join(f"MODEL     {k:4d}\n{lines}ENDMDL\n" for k in (1, 2, 3)))
    (molecule,) = read_molecules(tmp_path, files=SEVERAL)
    assert molecule.id == "one"
    assert [one.id for one in conform(molecule, keep=True, count=1, optimise="none", seed=7)] == [
        "one#0", "one#1", "one#2",
    ]  # fmt: skip


def test_a_folder_as_pdbbind_has_it_is_a_source(tmp_path: Path) -> None:
    """A subfolder for each code, the ligand twice, and an index; where RDKit refuses the SDF, the mol2 is read."""
    for code in ("1abc", "2xyz"):
        (tmp_path / code).mkdir()
        write_protein(tmp_path / code / f"{code}_protein.pdb")
        write_protein(tmp_path / code / f"{code}_pocket.pdb")
        (tmp_path / code / f"{code}_ligand.mol2").write_text(MOL2)
    (tmp_path / "1abc/1abc_ligand.sdf").write_text(PENTAVALENT)
    write_ligand(tmp_path / "2xyz/2xyz_ligand.sdf")
    (tmp_path / "index").mkdir()
    (tmp_path / "index/INDEX_refined_data.2020").write_text(
        "# code, resolution, release year, -logKd/Ki, Kd/Ki, reference, ligand name\n"
        "1abc  1.90  2003   5.40  Ki=4.0uM  // 1abc.pdf (WAT)\n2xyz  NMR   1999   7.00  Kd=100nM  // 2xyz.pdf (MOH)\n"
    )
    found = {one.id: one for one in read_molecules(tmp_path, labels=("pK", "measurement"))}
    assert {id: one.smiles for id, one in found.items()} == {"1abc": "O", "2xyz": "CO"}
    assert found["1abc"].labels == {"pK": 5.4, "measurement": "Ki=4.0uM"}
    held = {file.name for file in list_source_files(tmp_path)}
    assert held >= {"INDEX_refined_data.2020", "1abc_protein.pdb", "1abc_ligand.sdf", "1abc_ligand.mol2"}


def test_a_folder_with_several_ligands_to_a_protein_is_a_source(tmp_path: Path) -> None:
    write_protein(tmp_path / "enzyme_protein.pdb")
    records = [f"{mol_block(smiles, title=smiles)}> <dG>\n-{k}\n\n$$$$\n" for k, smiles in enumerate(("CO", "CN"))]
    (tmp_path / "enzyme_ligands.sdf").write_text("".join(records))
    write_protein(tmp_path / "alone_protein.pdb")
    found = list(read_molecules(tmp_path, labels=("dG",)))
    assert [one.id for one in found] == ["alone", "enzyme_CO", "enzyme_CN"]
    assert [one.labels["dG"] for one in found[1:]] == [0, -1]
    with pytest.raises(InvalidInput, match=r"beside alone_protein\.pdb lies no ligand"):
        keep(found[0])


def test_a_table_without_the_columns_asked_for_is_refused(folder: Path) -> None:
    with pytest.raises(SourceError, match="no column or field 'structure'"):
        read_molecules(table(folder, "protein.pdb,,,1"), files=Files("structure"))


def test_the_files_of_a_table_are_part_of_the_source(folder: Path) -> None:
    path = table(folder, "protein.pdb,ligand.sdf,,1", "protein.pdb,gone.sdf,,1")
    names = ["complexes.csv", "protein.pdb", "ligand.sdf"]
    assert [file.name for file in list_source_files(path, FILES)] == names


@pytest.mark.reference
def test_all_fep_complexes_are_complexes(reference: Path) -> None:
    molecules = list(read_molecules(reference / "complexes/fep", labels=("r_exp_dg",)))
    conformers = [keep(molecule) for molecule in molecules]
    assert len(conformers) == 111
    assert len({conformer.group for conformer in conformers}) == 8
    assert all(np.isfinite(molecule.labels["r_exp_dg"]) for molecule in molecules)
    assert all(250 < len(conformer.numbers) - conformer.ligand_atoms < 1200 for conformer in conformers)


@pytest.mark.reference
def test_both_biomolecules_are_structures(reference: Path) -> None:
    """Protein with DNA and cadmium, without its 51 waters; and 20 models of a peptide."""
    crystal, peptide = read_molecules(reference / "complexes/biomolecules", files=SEVERAL)
    assert crystal.numbers is not None
    assert Counter(crystal.numbers.tolist())[48] == 4
    assert len(crystal.numbers) == 1762 - 51
    assert len(conform(peptide, keep=True, count=1, optimise="none", seed=7)) == 20
