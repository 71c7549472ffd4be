import gzip
import math
import tracemalloc
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest

from pipeline.conformers import conform
from pipeline.failures import InvalidInput
from pipeline.molecule import UNREADABLE, graph_composition, read_graph
from pipeline.sources import SourceError, read_molecules
from pipeline.units import BOHR_PER_ANGSTROM

WATER = [("O", 0.0, 0.0, 0.1173), ("H", 0.0, 0.7572, -0.4692), ("H", 0.0, -0.7572, -0.4692)]
REFERENCE = Path(__file__).parents[3] / "shared" / "reference"
needs_reference = pytest.mark.skipif(not REFERENCE.exists(), reason="the reference folder is absent")


def write(folder, name, text):
    path = folder / name
    path.write_bytes(gzip.compress(text.encode()) if name.endswith(".gz") else text.encode())
    return path


def read(*args, **asked):
    return list(read_molecules(*args, **asked))


def mol_block(atoms, bonds, title="", dimension="3D", properties=(), **fields):
    """A V2000 record; bonds are (atom, atom, order), counted from 1."""
    lines = [
        title,
        f"  test    0101010000{dimension}",
        "",
        f"{len(atoms):3d}{len(bonds):3d}  0  0  0  0  0  0  0  0999 V2000",
    ]
    lines += [
        f"{x:10.4f}{y:10.4f}{z:10.4f} {symbol:<3} 0  0  0  0  0  0  0  0  0  0  0  0" for symbol, x, y, z in atoms
    ]
    lines += [f"{first:3d}{second:3d}{order:3d}  0" for first, second, order in bonds]
    lines += [*properties, "M  END"]
    for name, value in fields.items():
        lines += [f">  <{name}>", str(value), ""]
    return "\n".join([*lines, "$$$$", ""])


WATER_BLOCK = mol_block(WATER, [(1, 2, 1), (1, 3, 1)])


def xyz(comment, atoms=WATER):
    return "\n".join([str(len(atoms)), comment, *(" ".join(map(str, atom)) for atom in atoms), ""])


def refusal(molecule, *, keep=True):
    with pytest.raises(InvalidInput) as refused:
        conform(molecule, keep=keep, count=1, optimise="none", seed=0)
    return str(refused.value)


# Tables


TABLE = "name,smiles,dG\nwater,O,-6.3\nmethane,C,2.0\n"


@pytest.mark.parametrize("name", ["m.csv", "m.CSV", "m.csv.gz"])
def test_a_table_gives_one_molecule_for_each_row(tmp_path, name):
    water, methane = read(write(tmp_path, name, TABLE), id="name", labels=["dG"])
    assert (water.row, water.id, water.smiles, water.labels) == (0, "water", "O", {"dG": -6.3})
    assert (methane.row, methane.id, methane.smiles, methane.labels) == (1, "methane", "C", {"dG": 2.0})


def test_tabs_separate_the_cells_of_a_tsv(tmp_path):
    assert [m.smiles for m in read(write(tmp_path, "m.tsv", TABLE.replace(",", "\t")))] == ["O", "C"]


def test_without_id_rows_are_numbered(tmp_path):
    assert [m.id for m in read(write(tmp_path, "m.csv", TABLE))] == ["0", "1"]


def test_cells_may_hold_blanks_tabs_line_breaks_and_other_alphabets(tmp_path):
    path = write(tmp_path, "m.csv", 'smiles,note\n" CCO\n","Äthanol,\n\tβ"\r\nC-0,x\nCCl₂O,\n')
    molecules = read(path, labels=["note"])
    assert [m.smiles for m in molecules] == ["CCO", "C-0", "CCl₂O"]
    assert molecules[0].labels == {"note": "Äthanol,\n\tβ"}


def test_a_byte_order_mark_is_no_part_of_the_first_name(tmp_path):
    assert read(write(tmp_path, "m.csv", "\ufeff" + TABLE), id="name")[0].id == "water"


def test_labels_are_numbers_where_they_read_as_numbers(tmp_path):
    path = write(tmp_path, "m.csv", "smiles,a,b,c,d\nC,1e-3, ,kinase,1_000\n")
    labels = read(path, labels=["a", "b", "c", "d"])[0].labels
    assert labels["a"] == 1e-3
    assert math.isnan(labels["b"])
    assert (labels["c"], labels["d"]) == ("kinase", "1_000")


def test_charge_and_unpaired_come_from_columns_when_named(tmp_path):
    path = write(tmp_path, "m.csv", "smiles,q,n\nC,+1,1\nC,,\nC,half,\n")
    cation, plain, wrong = read(path, charge="q", unpaired="n")
    assert (cation.charge, cation.unpaired) == (1, 1)
    assert (plain.charge, plain.unpaired) == (None, None)
    assert "'half' is not a whole number" in refusal(wrong, keep=False)


def test_parquet_reads_like_a_table(tmp_path):
    table = pa.table({"n": [7, 8], "smiles": ["O", None], "dG": [-6.3, None], "note": ["a", "1"]})
    pyarrow.parquet.write_table(table, tmp_path / "m.parquet")
    first, second = read(tmp_path / "m.parquet", id="n", labels=["dG", "note"])
    assert (first.id, first.smiles, first.labels) == ("7", "O", {"dG": -6.3, "note": "a"})
    assert (second.smiles, second.labels["note"]) == ("", 1.0)
    assert math.isnan(second.labels["dG"])


def test_a_long_table_streams(tmp_path):
    path = write(tmp_path, "m.csv", "id,smiles\n" + "".join(f"molecule-{i},CCO\n" for i in range(30_000)))
    tracemalloc.start()
    count = sum(1 for _ in read_molecules(path, id="id"))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert count == 30_000
    assert peak < 3e6  # the molecules together would take 15e6


# What stops at once, and what stops in mid-stream


@pytest.mark.parametrize(
    ("name", "asked", "words"),
    [
        ("absent.csv", {}, "no such file"),
        ("m.mol2", {}, r"\.csv, \.tsv, \.smi"),
        ("m.parquet.gz", {}, "the ending is none of"),
        ("m.csv", {"smiles": "SMILES"}, "'SMILES'; present: 'name', 'smiles', 'dG'"),
        ("m.csv", {"id": "key"}, "'key'; present"),
        ("m.csv", {"labels": ["dH"]}, "'dH'; present"),
        ("m.csv", {"charge": "q"}, "'q'; present"),
        ("m.smi", {"labels": ["dG"]}, "use a .csv"),
    ],
)
def test_what_can_be_seen_early_is_refused_before_the_first_row(tmp_path, name, asked, words):
    if name != "absent.csv":
        write(tmp_path, name, TABLE)
    with pytest.raises(SourceError, match=words):
        read_molecules(tmp_path / name, **asked)


def test_a_column_name_that_occurs_twice_is_refused(tmp_path):
    with pytest.raises(SourceError, match="several columns are named 'smiles'"):
        read_molecules(write(tmp_path, "m.csv", "smiles,smiles\nC,N\n"))


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        ('a,C\n"b",C\na,N\n', "line 2 and line 4.*'a'"),
        ("a,C\n,C\n", "line 3.*is empty"),
        ("a#1,C\n", "line 2.*'a#1'.*'#'"),
        ("a/1,C\n", "line 2.*'a/1'.*'/'"),
        ('"a\nb",C\n', "line 2.*line break"),
        ('a,C\n"b,C\nc,C\n', "line 3.*quotation mark"),
        ("a,C,tail\n", "line 2.*3 cells under 2 column names"),
    ],
)
def test_bad_ids_and_broken_rows_name_their_lines(tmp_path, rows, words):
    with pytest.raises(SourceError, match=words):
        read(write(tmp_path, "m.csv", "id,smiles\n" + rows), id="id")


def test_a_duplicate_is_found_among_many_rows(tmp_path):
    rows = "".join(f"{i},C\n" for i in range(40_000)) + "17,N\n"
    with pytest.raises(SourceError, match="line 19 and line 40002"):
        read(write(tmp_path, "m.csv", "id,smiles\n" + rows), id="id")


def test_bytes_that_are_no_text_name_their_line(tmp_path):
    path = tmp_path / "m.csv"
    path.write_bytes("name,smiles\nwater,O\nÄthan,CC\n".encode("latin-1"))
    with pytest.raises(SourceError, match=r"line 3.*UTF-8"):
        read(path)


def test_a_damaged_gzip_file_is_refused(tmp_path):
    path = write(tmp_path, "m.csv.gz", "smiles\n" + "CCO\n" * 1000)
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(SourceError, match="gzip"):
        read(path)


# SMILES files


def test_names_of_a_smi_file_are_the_ids(tmp_path):
    path = write(tmp_path, "m.smi", "smiles name\nO water\n# a remark\n\nCO\tmethyl alcohol\n")
    assert [(m.id, m.smiles) for m in read(path)] == [("water", "O"), ("methyl alcohol", "CO")]


@pytest.mark.parametrize("text", ["O water\nC\n", "O a\nC a\n", "O a/b\nC c\n"])
def test_names_that_cannot_be_ids_leave_row_numbers(tmp_path, text):
    path = write(tmp_path, "m.smi", text)
    assert [m.id for m in read(path)] == ["0", "1"]
    with pytest.raises(SourceError):
        read(path, id="name")


def test_the_extension_of_a_cxsmiles_stays_with_it(tmp_path):
    (radical,) = read(write(tmp_path, "m.smi", "C |^1:0| methyl\n"))
    assert (radical.id, radical.smiles) == ("methyl", "C |^1:0|")


# Structures: SDF


def test_a_3d_record_gives_its_geometry_in_bohr(tmp_path):
    (water,) = read(write(tmp_path, "m.sdf", mol_block(WATER, [(1, 2, 1), (1, 3, 1)], "water", dG=-6.3)), labels=["dG"])
    assert (water.id, water.smiles, water.labels) == ("water", "O", {"dG": -6.3})
    assert water.numbers.tolist() == [8, 1, 1]
    assert water.positions.tobytes() == (np.array([atom[1:] for atom in WATER]) * BOHR_PER_ANGSTROM).tobytes()


def test_missing_hydrogens_are_added_to_a_3d_record(tmp_path):
    block = mol_block([("C", 0, 0, 0.1), ("O", 1.4, 0, 0.2)], [(1, 2, 1)])
    (methanol,) = read(write(tmp_path, "m.sdf", block))
    assert methanol.numbers.tolist() == [6, 8, 1, 1, 1, 1]
    assert conform(methanol, keep=True, count=1, optimise="none", seed=0)[0].smiles == "CO"


def test_a_drawing_is_never_a_geometry(tmp_path):
    flat = [("C", 0, 0, 0), ("C", 1.2, 0.7, 0), ("O", 2.4, 0, 0)]
    bonds = [(1, 2, 1), (2, 3, 1)]
    drawings = read(write(tmp_path, "m.sdf", mol_block(flat, bonds, dimension="2D") + mol_block(flat, bonds)))
    for drawing in drawings:  # the second says 3D, but sp3 carbon is not flat
        assert (drawing.smiles, drawing.positions) == ("CCO", None)
        assert "keep = false" in refusal(drawing)


def test_a_planar_molecule_is_a_geometry(tmp_path):
    angles = np.arange(6) * np.pi / 3
    ring = [("C", 1.39 * np.cos(a), 1.39 * np.sin(a), 0) for a in angles]
    ring += [("H", 2.48 * np.cos(a), 2.48 * np.sin(a), 0) for a in angles]
    bonds = [(i + 1, (i + 1) % 6 + 1, 1 + i % 2) for i in range(6)] + [(i + 1, i + 7, 1) for i in range(6)]
    (benzene,) = read(write(tmp_path, "m.sdf", mol_block(ring, bonds)))
    assert benzene.smiles == "c1ccccc1"
    assert len(benzene.positions) == 12


def test_a_geometry_tells_its_stereo(tmp_path):
    hand = [
        ("C", 0, 0, 0),
        ("F", 0.9, 0.8, 0.5),
        ("Cl", -1.1, 1.0, -0.9),
        ("Br", 1.1, -1.2, -1.0),
        ("I", -1.2, -1.1, 1.2),
    ]
    bonds = [(1, i, 1) for i in (2, 3, 4, 5)]
    mirrored = [(symbol, x, y, -z) for symbol, x, y, z in hand]
    one, other = read(write(tmp_path, "m.sdf", mol_block(hand, bonds) + mol_block(mirrored, bonds)))
    assert {one.smiles, other.smiles} == {"F[C@](Cl)(Br)I", "F[C@@](Cl)(Br)I"}


def test_charges_and_radicals_of_a_record_are_read(tmp_path):
    hydroxide = mol_block([("O", 0, 0, 0.1), ("H", 0, 0, 1.06)], [(1, 2, 1)], properties=["M  CHG  1   1  -1"])
    doublet = mol_block([("O", 0, 0, 0.1), ("H", 0, 0, 1.06)], [(1, 2, 1)], properties=["M  RAD  1   1   2"])
    carbene = [("C", 0, 0, 0.1), ("F", 1.0, 0, 0.9), ("F", -1.0, 0, 0.9)]
    singlet = mol_block(carbene, [(1, 2, 1), (1, 3, 1)], properties=["M  RAD  1   1   1"])
    triplet = mol_block(carbene, [(1, 2, 1), (1, 3, 1)], properties=["M  RAD  1   1   3"])
    molecules = read(write(tmp_path, "m.sdf", hydroxide + doublet + singlet + triplet))
    kept = [conform(molecule, keep=True, count=1, optimise="none", seed=0)[0] for molecule in molecules]
    assert [(one.charge, one.unpaired) for one in kept] == [(-1, 0), (0, 1), (0, 0), (0, 2)]


def test_a_radical_that_is_told_by_its_charge_code_gets_no_hydrogen(tmp_path):
    methyl = [("C", 0, 0, 0.1), ("H", 1.08, 0, 0), ("H", -0.54, 0.94, 0), ("H", -0.54, -0.94, 0)]
    block = mol_block(methyl, [(1, 2, 1), (1, 3, 1), (1, 4, 1)])
    coded = block.replace("C   0  0", "C   0  4", 1)
    assert coded != block
    (molecule,) = read(write(tmp_path, "m.sdf", coded))
    assert "atom 1 has charge code 4, a doublet radical: write it as an M  RAD line" in refusal(molecule)


def test_a_substituent_that_is_not_named_costs_one_row(tmp_path):
    open_end = [("R#", -1.5, 0, 0.1), ("C", 0, 0, 0.1)]
    text = mol_block(open_end, [(1, 2, 1)]) + WATER_BLOCK
    bad, good = read(write(tmp_path, "m.sdf", text))
    assert "holds a dummy atom" in refusal(bad)
    assert good.smiles == "O"


def test_no_hydrogen_is_added_to_what_a_row_says_is_an_ion_or_a_radical(tmp_path):
    acetate = [("C", 0, 0, 0.1), ("C", 1.5, 0, 0), ("O", 2.1, 1.1, 0), ("O", 2.1, -1.1, 0)]
    acetate += [("H", -0.36, 1.03, 0.1), ("H", -0.36, -0.6, 0.84), ("H", -0.36, -0.43, -0.94)]
    bonds = [(1, 2, 1), (2, 3, 2), (2, 4, 1), (1, 5, 1), (1, 6, 1), (1, 7, 1)]
    text = mol_block(acetate, bonds, q=-1) + mol_block(acetate, bonds, q=0)
    text += mol_block(acetate, bonds, properties=["M  CHG  1   4  -1"], q=-1)
    ion, acid, drawn = read(write(tmp_path, "m.sdf", text), charge="q")
    assert "lacks hydrogens as it is drawn (charge +0), but its row says charge -1, 0 unpaired" in refusal(ion)
    assert (acid.smiles, len(acid.numbers)) == ("CC(=O)O", 8)
    assert (drawn.smiles, len(drawn.numbers)) == ("CC(=O)[O-]", 7)


@pytest.mark.parametrize(("orders", "charges"), [((2, 1), []), ((1, 1), ["M  CHG  2   3  -1   4  -1"])])
def test_a_nitro_group_is_neutral_however_a_program_wrote_it(tmp_path, orders, charges):
    atoms = [("C", 0, 0, 0), ("N", 1.49, 0, 0), ("O", 2.06, 1.08, 0), ("O", 2.06, -1.08, 0)]
    atoms += [("H", -0.36, 1.03, 0.1), ("H", -0.36, -0.6, 0.84), ("H", -0.36, -0.43, -0.94)]
    bonds = [(1, 2, 1), (2, 3, orders[0]), (2, 4, orders[1]), (1, 5, 1), (1, 6, 1), (1, 7, 1)]
    (nitromethane,) = read(write(tmp_path, "m.sdf", mol_block(atoms, bonds, properties=charges)))
    assert nitromethane.smiles == "C[N+](=O)[O-]"
    assert len(nitromethane.numbers) == 7


def test_records_that_cannot_be_read_keep_their_row(tmp_path):
    five = mol_block([("C", i, 0, 0.1) for i in range(6)], [(1, i, 1) for i in range(2, 7)], "five", dG=1)
    path = write(tmp_path, "m.sdf", WATER_BLOCK + five + "nonsense\n$$$$\n" + WATER_BLOCK)
    molecules = read(path, labels=["dG"])
    assert [m.row for m in molecules] == [0, 1, 2, 3]
    assert molecules[1].labels == {"dG": 1.0}
    assert math.isnan(molecules[3].labels["dG"])
    assert all(m.smiles.startswith(UNREADABLE) for m in molecules[1:3])
    assert "line 12: Explicit valence for atom # 0 C, 5" in refusal(molecules[1])


def test_titles_are_ids_unless_they_repeat(tmp_path):
    one, two = (mol_block(WATER, [(1, 2, 1), (1, 3, 1)], title) for title in ("a", "b"))
    assert [m.id for m in read(write(tmp_path, "m.sdf", one + two))] == ["a", "b"]
    assert [m.id for m in read(write(tmp_path, "n.sdf", one + one))] == ["0", "1"]
    with pytest.raises(SourceError, match="line 1 and line 12"):
        read(tmp_path / "n.sdf", id="title")


def test_a_field_that_no_record_has_is_refused(tmp_path):
    path = write(tmp_path, "m.sdf", mol_block(WATER, [(1, 2, 1), (1, 3, 1)], dG=1))
    with pytest.raises(SourceError, match=r"'dH'; present: .*'dG'"):
        read(path, labels=["dH"])


# Structures: xyz


def test_frames_of_an_xyz_file_are_molecules(tmp_path):
    path = write(tmp_path, "m.xyz", xyz("energy=-5.07 free text") + xyz("charge=-1 uhf=1 'quoted'") + "\n")
    first, second = read(path, labels=["energy"])
    assert first.labels == {"energy": -5.07}
    assert (first.smiles, first.charge, first.unpaired) == (None, None, None)
    assert (second.charge, second.unpaired) == (-1, 1)
    assert first.numbers.tolist() == [8, 1, 1]
    assert first.positions.tobytes() == (np.array([atom[1:] for atom in WATER]) * BOHR_PER_ANGSTROM).tobytes()


@pytest.mark.parametrize(
    ("comment", "unpaired"),
    [("multiplicity=3", 2), ("spin=2", 2), ("spin=1", 0), ("charge=1 spin=2", 1), ("charge=1 spin=1", 1), ("uhf=2", 2)],
)
def test_spin_is_2s_or_the_multiplicity_as_parity_allows(tmp_path, comment, unpaired):
    assert read(write(tmp_path, "m.xyz", xyz(comment)))[0].unpaired == unpaired


def test_properties_say_where_species_and_positions_stand(tmp_path):
    text = '2\nProperties=forces:R:3:pos:R:3:species:S:1 pbc="F F F" Lattice="9 0 0 0 9 0 0 0 9"\n'
    text += "9 9 9 0 0 0 h\n9 9 9 0 0 0.74 1\n"
    (hydrogen,) = read(write(tmp_path, "m.extxyz", text))
    assert hydrogen.numbers.tolist() == [1, 1]
    assert hydrogen.positions[1, 2] == 0.74 * BOHR_PER_ANGSTROM


def test_the_smiles_of_a_comment_is_the_graph(tmp_path):
    (water,) = read(write(tmp_path, "m.extxyz", xyz('smiles="O" index=1')), id="index")
    assert (water.id, water.smiles) == ("1", "O")


@pytest.mark.parametrize(
    ("frame", "words"),
    [
        (xyz('Lattice="5 0 0 0 5 0 0 0 5" pbc="T T T"'), "periodic"),
        (xyz('Lattice="5 0 0 0 5 0 0 0 5"'), "periodic"),
        (xyz("", [("Xq", 0, 0, 0)]), "'Xq' is no element"),
        (xyz("", [("H", 0, 0, "x")]), "'x'"),
        (xyz("", [("H", 0, 0)]), "three coordinates"),
        (xyz("charge=half"), "'half' is not a whole number"),
    ],
)
def test_frames_that_cannot_be_read_keep_their_row(tmp_path, frame, words):
    first, broken, last = read(write(tmp_path, "m.xyz", xyz("") + frame + xyz("")))
    assert (broken.row, last.row) == (1, 2)
    assert first.positions.tobytes() == last.positions.tobytes()
    assert words in refusal(broken)


@pytest.mark.parametrize(("tail", "words"), [("three\n", "line 6.*number of atoms"), ("3\n\nH 0 0 0\n", "cut off")])
def test_a_file_that_loses_count_is_refused(tmp_path, tail, words):
    with pytest.raises(SourceError, match=words):
        read(write(tmp_path, "m.xyz", xyz("") + tail))


# Files made by others


@pytest.mark.reference
@needs_reference
def test_freesolv_geometries_are_the_molecules_of_its_table():
    by_table = {m.id: m for m in read_molecules(REFERENCE / "freesolv" / "freesolv.csv", id="id")}
    by_shape = {m.id: m for m in read_molecules(REFERENCE / "freesolv" / "freesolv_3d.sdf")}
    assert by_table.keys() == by_shape.keys()
    for id, molecule in by_shape.items():
        kept = conform(molecule, keep=True, count=1, optimise="none", seed=0)[0]
        assert (kept.charge, kept.unpaired) == (0, 0)
        assert graph_composition(read_graph(by_table[id].smiles)).tolist() == sorted(kept.numbers.tolist())


@pytest.mark.reference
@needs_reference
def test_qm9_reads_with_its_labels():
    molecules = read(REFERENCE / "qm9" / "qm9_2000.extxyz.gz", labels=["U0_Ha"])
    assert len(molecules) == 2000
    assert molecules[0].labels == {"U0_Ha": -40.47893}
    assert all(molecule.positions is not None for molecule in molecules)
