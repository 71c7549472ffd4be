import csv
import itertools
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from rdkit import Chem

from pipeline.conformers import FORCE_TOLERANCE, conform, optimise_geometry
from pipeline.failures import EmbeddingFailed, InvalidInput, MoleculeFailed
from pipeline.molecule import geometry_group, read_graph
from pipeline.units import ANGSTROM_PER_BOHR, BOHR_PER_ANGSTROM
from storage.schema import Conformer, Molecule

REFERENCE = Path(__file__).parents[3] / "shared" / "reference"
needs_reference = pytest.mark.skipif(not REFERENCE.exists(), reason="the reference folder is absent")


def embed(smiles, *, count=1, optimise="mmff", seed=7, **known):
    molecule = Molecule(row=0, id="m", smiles=smiles, **known)
    return conform(molecule, keep=False, count=count, optimise=optimise, seed=seed)


def keep(numbers, angstrom, **known):
    molecule = Molecule(
        row=0,
        id="m",
        numbers=np.array(numbers, dtype=np.int64),
        positions=np.array(angstrom, dtype=np.float64).reshape(-1, 3) * BOHR_PER_ANGSTROM,
        **known,
    )
    return conform(molecule, keep=True, count=1, optimise="mmff", seed=7)[0]


def distances(conformer):
    """All pairs, Å."""
    pairs = itertools.combinations(conformer.positions, 2)
    return np.array([np.linalg.norm(first - second) for first, second in pairs]) * ANGSTROM_PER_BOHR


# What a made geometry depends on


@pytest.mark.parametrize(
    ("one", "other"),
    [("CCO", "OCC"), ("c1ccccc1O", "OC1=CC=CC=C1"), ("C[C@H](N)C(=O)O", "N[C@@H](C)C(O)=O"), ("CCO", "[CH3:4][CH2]O")],
)
def test_two_spellings_of_a_molecule_give_the_same_bits(one, other):
    (first,), (second,) = embed(one), embed(other)
    assert first.smiles == second.smiles
    assert first.numbers.tolist() == second.numbers.tolist()
    assert first.positions.tobytes() == second.positions.tobytes()


def test_a_conformer_does_not_depend_on_how_many_are_made():
    three, two = embed("CCCCCO", count=3), embed("CCCCCO", count=2)
    assert [c.id for c in three] == ["m#0", "m#1", "m#2"]
    assert all(a.positions.tobytes() == b.positions.tobytes() for a, b in zip(three, two, strict=False))
    assert not np.array_equal(three[0].positions, three[1].positions)


def test_the_seed_chooses_the_geometry():
    assert not np.array_equal(embed("CCCCCO", seed=1)[0].positions, embed("CCCCCO", seed=2)[0].positions)


def test_another_process_makes_the_same_geometry():
    program = (
        "from pipeline.conformers import conform\nfrom storage.schema import Molecule\n"
        "m = Molecule(row=5, id='x', smiles='OCCC')\n"
        "print(conform(m, keep=False, count=1, optimise='mmff', seed=7)[0].positions.tobytes().hex())"
    )
    environment = {**os.environ, "PYTHONHASHSEED": "77", "PYTHONPATH": str(Path(__file__).parents[2])}
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, env=environment)
    assert done.stdout.strip() == embed("CCCO")[0].positions.tobytes().hex()


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("smiles", ["C[C@H](F)Cl", "C[C@@H](F)Cl", "F/C=C/F", "F/C=C\\F"])
def test_the_geometry_has_the_stereo_that_the_smiles_names(smiles, seed):
    conformer = embed(smiles, seed=seed)[0]
    graph = Chem.AddHs(Chem.MolFromSmiles(conformer.smiles))
    shape = Chem.Conformer(len(conformer.numbers))
    for index, position in enumerate(conformer.positions * ANGSTROM_PER_BOHR):
        shape.SetAtomPosition(index, position.tolist())
    graph.AddConformer(shape)
    Chem.AssignStereochemistryFrom3D(graph)
    assert Chem.MolToSmiles(Chem.RemoveHs(graph)) == conformer.smiles


# What a geometry looks like (experimental bond lengths; MMFF94 and GFN2 come within 0.03 Å)


@pytest.mark.parametrize(
    ("smiles", "shortest"),
    [
        ("[HH]", 0.741),
        ("C", 1.087),
        ("O", 0.958),
        ("N", 1.012),
        ("N#N", 1.098),
        ("O=C=O", 1.162),
        ("N#[N+][O-]", 1.128),
    ],
)
@pytest.mark.parametrize("optimise", ["mmff", "gfn2"])
def test_bonds_have_their_length(smiles, shortest, optimise):
    tolerance = 0.04 if smiles == "[HH]" else 0.03  # UFF and GFN2 miss H2 by that much
    assert distances(embed(smiles, optimise=optimise)[0]).min() == pytest.approx(shortest, abs=tolerance)


def test_gfn2_leaves_no_force():
    from pipeline.engines.xtb import XtbEngine

    conformer = embed("CO", optimise="gfn2")[0]
    assert np.abs(XtbEngine(method="gfn2").gradient(conformer)[1]).max() <= 1.01 * FORCE_TOLERANCE


def test_a_steep_descent_keeps_atoms_apart():
    """Where a proton is about to move, a free line search puts atoms on top of each other."""
    assert distances(embed("[NH3+]CC[O-]", optimise="gfn2")[0]).min() > 0.9


def test_a_molecule_that_is_no_minimum_in_the_gas_phase_is_refused():
    with pytest.raises(EmbeddingFailed, match=r"moved a hydrogen from N\d to O"):
        embed("[NH3+]CC(=O)[O-]", optimise="gfn2")


@pytest.mark.parametrize(
    ("smiles", "unpaired"),
    [
        *(("[CH2]", 2), ("[NH]", 2), ("O=O", 2), ("[N]F", 2), ("[PH]", 2), ("O=S", 2), ("[NH2+]", 2), ("[CH]", 1)),
        *(("Cl[C]Cl", 0), ("[SiH2]", 0), ("Cl[Sn]Cl", 0), ("CN1C=CN(C)[C]1", 0), ("[CH+]", 0), ("C=[C]", 0)),
        *(("[C]1CC1", 0), ("[PH2+]", 0), ("F[N+]F", 0)),
    ],
)
def test_two_electrons_on_one_atom_follow_the_ground_state(smiles, unpaired):
    assert embed(smiles, optimise="none")[0].unpaired == unpaired


def test_a_charge_that_contradicts_the_smiles_is_refused():
    with pytest.raises(InvalidInput, match=r"charge is 0, its SMILES has -1"):
        embed("CC(=O)[O-]", charge=0)


def test_descent_finds_the_minimum_of_a_known_surface():
    start = Conformer("m#0", np.array([18, 18]), np.array([[0.0, 0, 0], [0, 0, 5.0]]), 0, 0, "", "")

    def morse(conformer):
        bond = conformer.positions[1] - conformer.positions[0]
        length = np.linalg.norm(bond)
        decay = np.exp(-(length - 3.0))
        slope = 2 * (1 - decay) * decay * bond / length
        return (1 - decay) ** 2, np.array([-slope, slope])

    found = optimise_geometry(start, morse, FORCE_TOLERANCE)
    assert np.linalg.norm(found.positions[1] - found.positions[0]) == pytest.approx(3.0, abs=1e-3)


def test_no_molecule_is_left_as_raw_distance_geometry():
    """No force field knows this copper; GFN2 takes over."""
    conformer = embed("C[Cu]")[0]
    assert distances(conformer).min() == pytest.approx(1.09, abs=0.05)
    assert distances(conformer).max() < 2.7  # Cu–H; the Cu–C bond has 1.88 Å


# Electrons


@pytest.mark.parametrize(
    ("smiles", "charge", "unpaired"),
    [
        ("C[N+](C)(C)C", 1, 0),
        ("CC(=O)[O-]", -1, 0),
        ("[NH3+]CC(=O)[O-]", 0, 0),
        ("[CH3]", 0, 1),
        ("[CH2]", 0, 2),
        ("[O][O]", 0, 2),
        ("C |^1:0|", 0, 1),
        ("[Na]", 0, 1),
        ("[Na+]", 1, 0),
        ("[H]", 0, 1),
        ("[H-]", -1, 0),
        ("[He]", 0, 0),
        ("[C]", 0, 2),
        ("[N]", 0, 3),
        ("[2H]O[2H]", 0, 0),
    ],
)
def test_charge_and_unpaired_electrons_follow_from_the_graph(smiles, charge, unpaired):
    conformer = embed(smiles)[0]
    assert (conformer.charge, conformer.unpaired) == (charge, unpaired)


def test_what_the_row_says_overrules_the_graph():
    cation = embed("c1ccccc1", charge=1)[0]
    assert (cation.charge, cation.unpaired) == (1, 1)
    triplet = embed("C=C", unpaired=2)[0]
    assert triplet.unpaired == 2


def test_a_lone_atom_sits_at_the_origin():
    assert embed("[Ar]")[0].positions.tolist() == [[0, 0, 0]]


# Refusals, by name and with a remedy


@pytest.mark.parametrize(
    ("smiles", "words"),
    [
        ("", "empty"),
        ("CC(C)(C)(C)C", "valence"),
        ("C1CC", "unclosed ring"),
        ("CCl₂O", "no SMILES"),
        ("CCO ethanol", "blank"),
        ("c1ccccc1*", "dummy"),
        ("C~C", "pattern"),
        ("[Na+].[Cl-]", "2 fragments.*keep = true"),
        ("[H+]", "0 electrons"),
    ],
)
def test_what_is_no_single_molecule_is_refused(smiles, words):
    with pytest.raises(InvalidInput, match=words):
        embed(smiles)


def test_a_cage_that_distance_geometry_cannot_fold_is_refused_with_a_way_out():
    with pytest.raises(EmbeddingFailed, match="keep = true"):
        embed("CC1OC23CC(C2)C13")  # of QM9


def test_wrong_parity_is_refused():
    with pytest.raises(InvalidInput, match="unpaired"):
        embed("C", unpaired=1)


def test_a_row_without_geometry_cannot_be_kept():
    with pytest.raises(InvalidInput, match="keep = false"):
        conform(Molecule(row=0, id="m", smiles="C"), keep=True, count=1, optimise="none", seed=0)


def test_a_geometry_without_graph_cannot_be_made_anew():
    molecule = Molecule(row=0, id="m", numbers=np.array([2]), positions=np.zeros((1, 3)))
    with pytest.raises(InvalidInput, match="keep = true"):
        conform(molecule, keep=False, count=1, optimise="none", seed=0)


@pytest.mark.parametrize(
    ("numbers", "angstrom", "words"),
    [
        ([6, 1], [[0, 0, 0], [0, 0, 0.1]], "0.100 Å apart"),
        ([6, 1], [[0, 0, 0], [0, 0, np.nan]], "finite"),
        ([0, 1], [[0, 0, 0], [0, 0, 1]], "dummy"),
        ([], [], "no atoms"),
    ],
)
def test_impossible_geometries_are_refused(numbers, angstrom, words):
    with pytest.raises(InvalidInput, match=words):
        keep(numbers, angstrom)


def test_a_geometry_of_another_composition_than_its_smiles_is_refused():
    with pytest.raises(InvalidInput, match="composition"):
        keep([8, 1], [[0, 0, 0], [0, 0, 0.96]], smiles="O")


# Kept geometries


def test_a_kept_geometry_is_kept_to_the_last_bit():
    angstrom = [[0.1, 0.2, 0.3], [0.1, 0.2, 1.26]]
    conformer = keep([9, 1], angstrom, smiles="F")
    assert conformer.positions.tobytes() == (np.array(angstrom) * BOHR_PER_ANGSTROM).tobytes()
    assert (conformer.smiles, conformer.charge, conformer.unpaired) == ("F", 0, 0)


def test_without_graph_the_charge_is_zero_and_few_electrons_are_unpaired():
    conformer = keep([8, 1], [[0, 0, 0], [0, 0, 0.97]])
    assert (conformer.smiles, conformer.charge, conformer.unpaired) == ("", 0, 1)


def test_several_fragments_are_fine_where_the_geometry_says_where_they_stand():
    assert keep([11, 17], [[0, 0, 0], [0, 0, 2.36]], smiles="[Na+].[Cl-]").charge == 0


# Groups


@pytest.mark.parametrize(
    ("one", "other"), [("C[C@H](F)Cl", "C[C@@H](F)Cl"), ("F/C=C/F", "F/C=C\\F"), ("CCO", "[13CH3]CO"), ("C", "[2H]C")]
)
def test_stereoisomers_and_isotopomers_share_a_group(one, other):
    assert embed(one)[0].group == embed(other)[0].group


def test_isomers_of_another_connectivity_have_another_group():
    assert embed("CCO")[0].group != embed("COC")[0].group


def test_the_group_is_the_block_of_the_inchikey():
    assert embed("CCO")[0].group == "LFQSCWFLJHTTHZ"  # ethanol, PubChem CID 702


@pytest.mark.parametrize("smiles", ["CCO", "c1ccccc1", "C[N+](=O)[O-]", "NC=O", "C12C3C1C23", "CS(C)(=O)=O", "C=C=C"])
def test_a_geometry_alone_finds_the_group_of_its_graph(smiles):
    conformer = embed(smiles)[0]
    assert geometry_group(conformer.numbers, conformer.positions, conformer.charge) == conformer.group


def test_the_group_of_a_geometry_survives_moving_turning_and_renumbering():
    conformer = embed("[Fe](C)C", optimise="none")[0]
    order = np.random.default_rng(1).permutation(len(conformer.numbers))
    turned = conformer.positions[order] @ np.array([[0, 1, 0], [-1, 0, 0], [0, 0, 1.0]]) + 5
    before = geometry_group(conformer.numbers, conformer.positions, 0)
    assert geometry_group(conformer.numbers[order], turned, 0) == before


# The stress set


@pytest.mark.reference
@needs_reference
def test_every_stress_row_ends_with_one_outcome():
    with (REFERENCE / "smiles" / "stress_mini.csv").open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if len(row["smiles"]) < 70]
    outcomes = {}
    for row in rows:
        try:
            conformer = embed(row["smiles"], optimise="none")[0]
        except MoleculeFailed as failure:
            outcomes[row["smiles"]] = failure.reason
        else:
            assert distances(conformer).min(initial=9) > 0.3
            outcomes[row["smiles"]] = "ok"
    for row in rows:
        refused = row["category"] in ("invalid", "dummy_atom", "multi_fragment_salt") or "." in row["smiles"]
        assert outcomes[row["smiles"]] == ("invalid_input" if refused else "ok"), row


@pytest.mark.reference
@needs_reference
def test_geometries_of_qm9_find_the_groups_of_their_smiles():
    from pipeline.sources import read_molecules

    molecules = itertools.islice(read_molecules(REFERENCE / "qm9" / "qm9_2000.extxyz.gz"), 0, 2000, 10)
    kept = [conform(molecule, keep=True, count=1, optimise="none", seed=0)[0] for molecule in molecules]
    alone = [geometry_group(one.numbers, one.positions, one.charge) for one in kept]
    assert alone == [one.group for one in kept]


def test_a_molecule_is_a_value():
    """Conforming leaves its input as it was."""
    positions = np.zeros((1, 3))
    molecule = Molecule(row=0, id="m", numbers=np.array([10]), positions=positions)
    before = replace(molecule, positions=positions.copy())
    conform(molecule, keep=True, count=1, optimise="none", seed=0)
    assert np.array_equal(before.positions, molecule.positions)


def test_reading_a_graph_keeps_the_order_of_the_text():
    assert [atom.GetSymbol() for atom in read_graph("OCN").GetAtoms()] == ["O", "C", "N"]
