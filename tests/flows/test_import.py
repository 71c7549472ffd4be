"""Densities that other programs computed become a dataset, as they are, or fail by name."""

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from ase import Atoms, units
from ase.io.cube import write_cube as ase_write_cube

from flows.conform import conform_part
from flows.engines import build_engines
from flows.export import export_sample
from flows.plan import plan_dataset
from flows.recipe import RecipeError, read_recipe, recipe_values
from flows.shard import compute_shard
from flows.source import read_source
from pipeline.engines.file import FileEngine
from pipeline.engines.gaussian import GaussianEngine
from pipeline.failures import InvalidInput
from pipeline.formats import Scene, Volume, read_cube, write_cube, write_npz
from pipeline.sources import SourceError, read_molecules
from pipeline.voxels import sample_density
from storage.header import Header, begin_store
from storage.identity import identify
from storage.plan import read_plan
from storage.reader import open_dataset
from storage.receipts import read_receipt
from storage.schema import Conformer, FloatArray, Grid
from tests.flows.small_build import build_here, rhoflow_here

RECIPE = """
[source]
path = "cubes"
[conformers]
keep = true
[densities.guess]
engine = "gaussian"
[densities.target]
engine = "file"
[grid]
box = "file"
sampling = "point"
classes = [12, 16]
[store]
shard_samples = 2
round_to = 0
"""
GRID = Grid((9, 10, 12), (0.7, 0.65, 0.6), (-2.9, -3.1, -3.3))
WATER = np.array([[0.0, 0.0, -0.129477], [0.0, -1.494187, 1.027446], [0.0, 1.494187, 1.027446]])


def make_volume(seed: int = 0, grid: Grid = GRID, charge: int | None = None) -> Volume:
    """Water's ten electrons, strewn as no engine here would."""
    values = np.random.default_rng(seed).random(grid.shape)
    values = (values * (10 / (values.sum() * grid.cell_volume))).astype(np.float32)
    return Volume(Scene(np.array([8, 1, 1]), WATER, charge, grid, None), {"rho_electrons_per_bohr3": values})


def write_folder(folder: Path, recipe: str = RECIPE) -> Path:
    """Water three times, by rhoflow, ASE and NumPy, and a cube that is cut off; returns the recipe."""
    cubes = folder / "cubes"
    cubes.mkdir(parents=True)
    write_cube(cubes / "ours.cube.gz", make_volume())
    smaller = Grid((4, 12, 6), (0.5, 0.5, 0.5), (-1.0, -2.0, 0.5))
    write_npz(cubes / "numpy.npz", make_volume(2, smaller, charge=1))
    write_cube(cubes / "torn.cube", make_volume())
    (cubes / "torn.cube").write_text((cubes / "torn.cube").read_text()[:-200])
    atoms = Atoms("OH2", WATER * units.Bohr, cell=np.array([8, 9, 10]) * 0.5 * units.Bohr)
    with (cubes / "ase.cube").open("w") as file:
        ase_write_cube(file, atoms, np.full((8, 9, 10), 0.125), origin=np.array([-2.0, -2.0, -2.5]) * units.Bohr)
    (cubes / "README").write_text("no volume")
    path = folder / "recipe.toml"
    path.write_text(recipe)
    return path


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("import")


@pytest.fixture(scope="module")
def store(folder: Path) -> Path:
    """Built by the real commands."""
    recipe, made = write_folder(folder), folder / "store.zarr"
    for arguments in (("plan", recipe, made), ("run", made), ("seal", made)):
        rhoflow_here(*arguments)
    return made


def test_values_grid_and_geometry_are_those_of_the_file(store: Path) -> None:
    dataset = open_dataset(store)
    assert dataset.ids == ["ase#0", "numpy#0", "ours#0"]
    expected = make_volume()
    sample = dataset["ours#0"]
    assert sample.grid == GRID
    np.testing.assert_array_equal(sample.channels["target"], expected.fields["rho_electrons_per_bohr3"])
    np.testing.assert_array_equal(sample.positions, WATER)
    np.testing.assert_array_equal(sample.numbers, [8, 1, 1])
    assert dataset["numpy#0"].charge == 1
    assert dataset["numpy#0"].grid.shape == (4, 12, 6)
    assert np.all(dataset["ase#0"].channels["target"] == 0.125)


def test_other_densities_are_computed_on_the_same_grid(store: Path) -> None:
    for sample in map(open_dataset(store).__getitem__, ("ours#0", "numpy#0")):
        state = GaussianEngine().solve(sample.conformer)
        expected = sample_density(state, sample.grid, "point")
        np.testing.assert_allclose(sample.channels["guess"], expected, rtol=1e-6, atol=1e-9)


def test_electrons_are_recorded_and_only_computed_densities_keep_wavefunctions(store: Path) -> None:
    dataset = open_dataset(store)
    sample = dataset["ours#0"]
    summed = sample.channels["target"].sum(dtype=np.float64) * 0.7 * 0.65 * 0.6
    assert dataset.table.loc["ours#0", "target_voxel_electrons"] == pytest.approx(summed, rel=1e-9)
    assert dataset.table.loc["ours#0", "target_summed_electrons"] == pytest.approx(summed, rel=1e-6)
    assert read_plan(store).densities == ["guess"]
    assert list(sample.states) == ["guess"]


def test_a_file_that_is_cut_off_fails_by_name_alone(store: Path) -> None:
    row = open_dataset(store).rows.loc["torn"]
    assert row["outcome"] == "invalid_input"
    assert row["message"].startswith("torn.cube: ")
    assert "9 x 10 x 12 x 1 = 1080 are needed: is it cut off" in row["message"]


def test_one_geometry_with_two_densities_is_no_duplicate(store: Path) -> None:
    dataset = open_dataset(store)
    assert not any(dataset.rows["duplicate_of"])
    assert dataset.table.loc["ase#0", "group"] == dataset.table.loc["ours#0", "group"]  # but they share a split


def test_a_folder_that_moves_in_the_middle_changes_nothing(store: Path, folder: Path, tmp_path: Path) -> None:
    begun = tmp_path / "store.zarr"
    shutil.copytree(folder, tmp_path / "first", ignore=shutil.ignore_patterns("store.zarr", "prefect"))
    recipe = read_recipe(tmp_path / "first/recipe.toml")
    begin_store(begun, Header(recipe_values(recipe), RECIPE))
    read_source(begun, recipe)
    (tmp_path / "first").rename(tmp_path / "second")
    assert identify(build_here(tmp_path / "second/recipe.toml", begun)) == identify(store)


def test_a_density_that_changed_in_its_file_is_read_again_and_no_other(store: Path, tmp_path: Path) -> None:
    grown = tmp_path / "store.zarr"
    shutil.copytree(store, grown)
    recipe, shards = write_folder(tmp_path / "changed"), len(read_plan(grown).shards())
    shutil.copytree(store.parent / "cubes", tmp_path / "changed/cubes", dirs_exist_ok=True)
    write_cube(tmp_path / "changed/cubes/ours.cube.gz", make_volume(9))
    build_here(recipe, grown)
    new = [end.id for shard in read_plan(grown).shards()[shards:] for end in read_receipt(grown, shard.number).outcomes]
    assert new == ["ours#0"]
    was, now = open_dataset(grown, version=1), open_dataset(grown)
    assert was.ids == now.ids == open_dataset(store).ids
    assert not np.array_equal(was["ours#0"].channels["target"], now["ours#0"].channels["target"])
    np.testing.assert_array_equal(was["ase#0"].channels["target"], now["ase#0"].channels["target"])


def test_reuse_takes_no_density_of_a_file_that_holds_another_now(store: Path, tmp_path: Path) -> None:
    recipe = write_folder(tmp_path / "changed")
    shutil.copytree(store.parent / "cubes", tmp_path / "changed/cubes", dirs_exist_ok=True)
    write_cube(tmp_path / "changed/cubes/ours.cube.gz", make_volume(9))
    fresh, new = build_here(recipe, tmp_path / "fresh.zarr"), tmp_path / "new.zarr"
    values = read_recipe(recipe)
    begin_store(new, Header(recipe_values(values), recipe.read_text()))
    read_source(new, values, reuse=store)
    build_here(recipe, new)
    assert identify(new) == identify(fresh)
    receipts = [read_receipt(new, shard.number) for shard in read_plan(new).shards()]
    assert sum(receipt.circumstances["taken_over"] for receipt in receipts) == 2


def test_a_file_swapped_behind_the_plan_fails_by_name(tmp_path: Path) -> None:
    recipe, store = write_folder(tmp_path), tmp_path / "store.zarr"
    values = read_recipe(recipe)
    begin_store(store, Header(recipe_values(values), recipe.read_text()))
    read_source(store, values)
    conform_part(store, 0)
    plan = plan_dataset(store)
    volume = make_volume()
    moved = replace(volume, scene=replace(volume.scene, positions=WATER + 0.1))
    write_cube(tmp_path / "cubes/ours.cube.gz", moved)
    write_npz(tmp_path / "cubes/numpy.npz", make_volume(2))  # on another grid
    outcomes = {end.id: end for shard in plan.shards() for end in compute_shard(store, shard.number).outcomes}
    assert "atoms are not the molecule's 3, or lie elsewhere" in outcomes["ours#0"].message
    assert "its grid is not the one that was planned" in outcomes["numpy#0"].message
    assert outcomes["ase#0"].outcome == "ok"


def test_what_is_exported_is_imported_alike(store: Path, tmp_path: Path) -> None:
    (tmp_path / "cubes").mkdir()
    for name in ("a.cube", "b.npz"):
        export_sample(store, "ours#0", ["guess", "target"], tmp_path / "cubes" / name, None)
    recipe = tmp_path / "recipe.toml"
    keyed = RECIPE.replace('engine = "file"', 'engine = "file"\nkey = "target_electrons_per_bohr3"')
    recipe.write_text(keyed.replace('engine = "gaussian"', 'engine = "file"\nkey = "guess_electrons_per_bohr3"'))
    again, was = open_dataset(build_here(recipe, tmp_path / "again.zarr")), open_dataset(store)["ours#0"]
    assert again.densities == []
    for id in ("a#0", "b#0"):
        assert again[id].grid == was.grid
        for channel in ("guess", "target"):
            np.testing.assert_array_equal(again[id].channels[channel], was.channels[channel])


def test_cell_averages_come_from_an_npz_that_says_so(tmp_path: Path) -> None:
    (tmp_path / "cubes").mkdir()
    volume = make_volume()
    write_npz(tmp_path / "cubes/said.npz", replace(volume, scene=replace(volume.scene, sampling="cell")))
    write_npz(tmp_path / "cubes/unsaid.npz", volume)
    recipe = tmp_path / "recipe.toml"
    recipe.write_text(RECIPE.replace('sampling = "point"', 'sampling = "cell"'))
    dataset = open_dataset(build_here(recipe, tmp_path / "store.zarr"))
    assert dataset.ids == ["said#0"]
    assert "holds values at points, which are stored as they are" in dataset.rows.loc["unsaid", "message"]


def test_cubes_are_not_taken_for_cell_averages_nor_cell_averages_for_values(tmp_path: Path) -> None:
    recipe = write_folder(tmp_path, RECIPE.replace('sampling = "point"', 'sampling = "cell"'))
    with pytest.raises(RecipeError, match=r"densities.target.*ase.cube holds values at points.*set it to 'point'"):
        build_engines(read_recipe(recipe))
    volume = make_volume()
    write_cube(tmp_path / "cubes/a.cube", replace(volume, scene=replace(volume.scene, sampling="cell")))
    build_engines(read_recipe(recipe))
    recipe.write_text(RECIPE)
    with pytest.raises(RecipeError, match=r"a.cube holds averages over cells.*set it to 'cell'"):
        build_engines(read_recipe(recipe))


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('box = "file"', 'box = "cube"', 'keeps its own grid, box = "file"'),
        ('engine = "file"', 'engine = "gaussian"', 'keeps its own grid, box = "file"'),
        ("keep = true", "keep = false", "set conformers.keep = true"),
        ('box = "file"', 'box = "file"\norient = true', "grid.orient = false"),
        ("[store]", '[channels]\ngradient_magnitude = ["target"]\n[store]', "names 'target', which comes from a file"),
        ('engine = "file"', 'engine = "file"\nunit = "nm"', "densities.target.unit = 'nm': unknown key"),
    ],
)
def test_a_recipe_that_asks_more_of_files_than_they_hold_is_refused(
    tmp_path: Path, old: str, new: str, message: str
) -> None:
    recipe = write_folder(tmp_path)
    recipe.write_text(RECIPE.replace(old, new, 1))
    with pytest.raises(RecipeError) as refused:
        read_recipe(recipe)
    assert message in str(refused.value)


def test_a_table_has_no_densities(tmp_path: Path) -> None:
    (tmp_path / "molecules.csv").write_text("smiles\nO\n")
    recipe = tmp_path / "recipe.toml"
    recipe.write_text(RECIPE.replace('"cubes"', '"molecules.csv"'))
    with pytest.raises(RecipeError, match=r"molecules\.csv is no cube or npz file, nor a folder of them"):
        build_engines(read_recipe(recipe))


def test_ids_are_file_names_and_must_be_good(tmp_path: Path) -> None:
    write_folder(tmp_path)
    assert [molecule.id for molecule in read_molecules(tmp_path / "cubes")] == ["ase", "numpy", "ours", "torn"]
    assert [molecule.id for molecule in read_molecules(tmp_path / "cubes/ours.cube.gz")] == ["ours"]
    with pytest.raises(SourceError, match="have no 'dG'"):
        read_molecules(tmp_path / "cubes", labels=("dG",))
    write_npz(tmp_path / "cubes/ours.npz", make_volume())
    with pytest.raises(SourceError, match=r"ours\.cube\.gz and .*ours\.npz: two files have the id 'ours'"):
        read_molecules(tmp_path / "cubes")
    (tmp_path / "cubes/ours.npz").rename(tmp_path / "cubes/a#b.npz")
    with pytest.raises(SourceError, match=r"a#b\.npz: the id, its name without ending, holds '#'"):
        read_molecules(tmp_path / "cubes")
    (tmp_path / "empty").mkdir()
    for absent in ("empty", "absent.cube"):
        with pytest.raises(SourceError, match=r"there is no file in \.cube, \.cube\.gz.*: correct"):
            read_molecules(tmp_path / absent)


def test_one_bad_file_does_not_stop_its_folder(tmp_path: Path) -> None:
    write_folder(tmp_path)
    np.save(tmp_path / "cubes/array.npy", np.ones((2, 2, 2)))
    (tmp_path / "cubes/array.npy").rename(tmp_path / "cubes/array.npz")
    read = {molecule.id: molecule for molecule in read_molecules(tmp_path / "cubes")}
    assert list(read) == ["array", "ase", "numpy", "ours", "torn"]
    assert "array.npz: no npz file" in (read["array"].smiles or "")
    (tmp_path / "cubes/folder.npz").mkdir()
    with pytest.raises(IsADirectoryError):  # stands for a fault of the disk
        list(read_molecules(tmp_path / "cubes"))


# Is it a density at all?

UNIT = "rho_electrons_per_bohr3"


def sample_file(folder: Path, volume: Volume) -> FloatArray:
    """What the engine makes of the file."""
    write_npz(folder / "a.npz", volume)
    scene = volume.scene
    water = Conformer("a#0", scene.numbers, scene.positions, scene.charge or 0, 0, "", "")
    return FileEngine(folder, None, "point").sample(water, scene.grid)


@pytest.mark.parametrize("lowest", [-0.0023, -1e-4, 0.0])
def test_what_fitting_and_interpolation_take_below_zero_is_no_fault(tmp_path: Path, lowest: float) -> None:
    volume = make_volume()
    volume.fields[UNIT][0, 0, 0] = lowest
    np.testing.assert_array_equal(sample_file(tmp_path, volume), volume.fields[UNIT])


@pytest.mark.parametrize("lowest", [-0.05, -1.0])
def test_orbitals_and_potentials_are_refused_with_their_value(tmp_path: Path, lowest: float) -> None:
    volume = make_volume()
    volume.fields[UNIT][0, 0, 0] = lowest
    with pytest.raises(InvalidInput, match=rf"^a\.npz: field '{UNIT}' falls to {lowest:g} electrons/bohr³: orbitals"):
        sample_file(tmp_path, volume)


def test_electrons_per_cubic_angstrom_are_not_taken_for_those_per_cubic_bohr(tmp_path: Path) -> None:
    volume = make_volume()
    larger = volume.fields[UNIT] / np.float32(0.529177210903**3)
    with pytest.raises(
        InvalidInput, match=rf"field '{UNIT}' sums to 6\d\.\d+ electrons .* molecule has 10: if it is in"
    ):
        sample_file(tmp_path, replace(volume, fields={UNIT: larger}))
    kept = sample_file(tmp_path, replace(volume, fields={"rho_electrons_per_angstrom3": larger}))
    np.testing.assert_allclose(kept, volume.fields[UNIT], rtol=1e-6)


@pytest.mark.parametrize("spacing", [0.05, 0.1, 0.2, 0.4, 0.8])
@pytest.mark.parametrize("place", [(0, 0, 0), (0.5, 0, 0), (0.5, 0.5, 0), (0.5, 0.5, 0.5), (0.1, 0.2, 0.3)])
def test_a_core_on_coarse_points_is_no_fault(tmp_path: Path, spacing: float, place: tuple[float, ...]) -> None:
    """Hydrogen-like argon, whose density is 2 Z³/π exp(−2 Z r), and nothing else: its sums are off up to 900-fold."""
    grid = Grid((15, 15, 15), (spacing,) * 3, (-7 * spacing,) * 3)
    nucleus = np.array([place]) * spacing
    points = np.stack(np.meshgrid(*map(grid.centres, range(3)), indexing="ij"), axis=-1)
    values = 2 * 18**3 / np.pi * np.exp(-2 * 18 * np.linalg.norm(points - nucleus[0], axis=-1))
    sample_file(tmp_path, Volume(Scene(np.array([18]), nucleus, 16, grid, None), {UNIT: values}))


@pytest.mark.reference
def test_gaussians_own_cubes_are_told_apart(reference: Path, tmp_path: Path) -> None:
    """Its density on 27 points, which sums to 1642 electrons, is one; psi4's potential of water is none."""
    honest = read_cube(reference / "density/water_rhf_ccpvdz_3codes_orbkit/gaussian__h2o_rhf_sph.cube")
    sample_file(tmp_path, honest)
    with pytest.raises(InvalidInput, match=r"'value_1' falls to -0\.0846 "):
        sample_file(tmp_path, read_cube(reference / "density/water_hf_ccpvqz_psi4/ESP.cube.gz"))


@pytest.mark.reference
def test_published_densities_become_a_dataset(reference: Path, tmp_path: Path) -> None:
    """The electron sums are those that the data's own table states."""
    (tmp_path / "cubes").mkdir()
    for id in ("00b781f5", "0cad9145"):
        shutil.copy(reference / f"density/ibm_rhf631g_cubes/{id}.npz", tmp_path / "cubes")
    shutil.copy(reference / "density/water_hf_ccpvqz_psi4/Dt.cube.gz", tmp_path / "cubes/water.cube.gz")
    recipe = tmp_path / "recipe.toml"
    recipe.write_text(RECIPE.replace("classes = [12, 16]", "classes = [64, 96]"))
    table = open_dataset(build_here(recipe, tmp_path / "store.zarr")).table
    assert table["target_voxel_electrons"].tolist() == pytest.approx([49.326, 61.9978, 10.0033], abs=2e-3)
