"""A model's densities of new molecules, from whatever names them, in whatever file is asked for."""

import csv
import errno
import json
import shutil
from dataclasses import replace
from pathlib import Path

import gemmi
import numpy as np
import pytest

from flows.prediction.guess_computed import read_guess_recipe
from flows.prediction.predict import FIELD, predict
from flows.prediction.predict_store import predict_store
from flows.recipe import parse_recipe
from flows.volume_files import WRITERS
from pipeline.collocation import integrate_density
from pipeline.conformers import conform
from pipeline.engines.xtb import XtbEngine
from pipeline.formats import read_cube, read_npz, read_volume
from storage.errors import RequestError
from storage.reader import open_dataset
from storage.schema import Molecule
from tests.flows.small_build import build_here, rhoflow, rhoflow_here
from tests.flows.small_model import RECIPE, SMILES, want
from training.superres.calibration import read_calibration
from training.trained import PRETRAINED, load_model, save_model

XYZ = "4\nammonia\nN 0 0 0.111\nH 0.9376 0 -0.27\nH -0.4688 0.812 -0.27\nH -0.4688 -0.812 -0.27\n"
VOLUME = (0.4 / 0.529177210903) ** 3


def count_guess(smiles: str) -> float:
    """Electrons of GFN2's density in the box that the recipe lays around a molecule, by another route."""
    from flows.plan import place

    recipe = parse_recipe(RECIPE, Path("recipe.toml"))
    (conformer,) = conform(Molecule(0, "x", smiles=smiles), keep=False, count=1, optimise="mmff", seed=7)
    grid = place(conformer, recipe)[1].grid
    state = XtbEngine("gfn2").solve(conformer)
    return integrate_density(state, (grid.edges(0), grid.edges(1), grid.edges(2)))


def test_a_smiles_becomes_a_cube_with_every_electron(run: Path, tmp_path: Path) -> None:
    printed = rhoflow(tmp_path / "home", "predict", run, "CO", tmp_path / "methanol.cube")
    read = read_cube(tmp_path / "methanol.cube")
    assert sorted(read.scene.numbers.tolist()) == [1, 1, 1, 1, 6, 8]
    assert read.scene.sampling == "cell"
    assert VOLUME * read.fields[FIELD].sum() == pytest.approx(count_guess("CO"), abs=1e-4)
    assert f"{tmp_path / 'methanol.cube'}: 1" in printed
    expected = float((tmp_path / "methanol.cube").read_text().splitlines()[1].split("expected_nmae=")[1])
    assert f"expected NMAE {100 * expected:.2f} %" in printed


def test_every_format_holds_the_same_density(run: Path, tmp_path: Path) -> None:
    (tmp_path / "ammonia.xyz").write_text(XYZ)
    for ending in ("cube", "npz", "mrc"):
        predict(want(run, tmp_path / "ammonia.xyz", tmp_path / f"ammonia.{ending}"))
    cube, npz = read_cube(tmp_path / "ammonia.cube"), read_npz(tmp_path / "ammonia.npz")
    np.testing.assert_array_equal(cube.fields[FIELD].astype(np.float32), npz.fields[FIELD])
    np.testing.assert_allclose(np.ptp(npz.scene.positions[:, 2]), 0.381 / 0.529177210903, atol=1e-6)
    read = gemmi.read_ccp4_map(str(tmp_path / "ammonia.mrc"))
    np.testing.assert_allclose(np.array(read.grid) * 0.529177210903**3, npz.fields[FIELD], rtol=1e-6)
    with np.load(tmp_path / "ammonia.npz") as arrays:
        assert 0 < arrays["expected_nmae"] < 1


def test_a_molecule_that_fails_is_named_and_the_rest_goes_on(run: Path, tmp_path: Path) -> None:
    (tmp_path / "three.smi").write_text("CO methanol\nC(C oxidane\nN ammonia\n")
    printed = rhoflow_here("predict", run, tmp_path / "three.smi", tmp_path / "out", "--json")
    said = json.loads(printed[printed.index("[{") : printed.rindex("]") + 1])
    assert [one["outcome"] for one in said] == ["ok", "invalid_input", "ok"]
    assert sorted(file.name for file in (tmp_path / "out").iterdir()) == [
        "ammonia.npz", "methanol.npz", "predictions.csv",
    ]  # fmt: skip
    with (tmp_path / "out" / "predictions.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["id"] for row in rows] == ["methanol", "oxidane", "ammonia"]
    assert "'C(C' is no SMILES" in rows[1]["message"]
    assert float(rows[2]["electrons"]) == pytest.approx(count_guess("N"), abs=1e-4)
    assert "predict: 3/3 molecules" in printed


def test_a_store_s_guesses_are_taken_as_they_are(run: Path, store: Path, tmp_path: Path) -> None:
    predicted = {one.id: one for one in predict(want(run, store, tmp_path / "out", format="cube"))}
    dataset = open_dataset(store)
    assert list(predicted) == dataset.ids
    for id, one in predicted.items():
        assert one.electrons == pytest.approx(dataset.table.loc[id, "guess_box_electrons"], abs=1e-4)
    sample = dataset["ethane#0"]
    values = read_volume(tmp_path / "out" / "ethane_0.cube").fields[FIELD]
    errors = [np.abs(one - sample.channels["target"]).sum() for one in (values, sample.channels["guess"])]
    assert errors[0] < 0.9 * errors[1]
    predict(want(run, SMILES["ethane"], tmp_path / "ethane.npz"))
    np.testing.assert_allclose(read_npz(tmp_path / "ethane.npz").fields[FIELD], values, atol=1e-5)


def test_a_folder_of_predictions_becomes_a_store(run: Path, store: Path, tmp_path: Path) -> None:
    predict(want(run, store, tmp_path / "out"))
    (tmp_path / "recipe.toml").write_text(
        '[source]\npath = "out"\n[conformers]\nkeep = true\n[densities.predicted]\nengine = "file"\n'
        '[grid]\nbox = "file"\nspacing_angstrom = 0.4\nclasses = [16, 20]\n[store]\nround_to = 0\n'
    )
    made = tmp_path / "predicted.zarr"
    build_here(tmp_path / "recipe.toml", made)
    stored = open_dataset(made)["ethane_0#0"]
    np.testing.assert_array_equal(stored.channels["predicted"], read_npz(tmp_path / "out/ethane_0.npz").fields[FIELD])
    assert stored.grid == open_dataset(store)["ethane#0"].grid


def test_a_molecule_too_large_for_the_recipe_s_boxes_is_predicted(run: Path, tmp_path: Path) -> None:
    (one,) = predict(want(run, "CCCCCCCC", tmp_path / "octane.npz"))
    scene = read_npz(tmp_path / "octane.npz").scene
    assert max(scene.grid.shape) > 20
    assert one.electrons == pytest.approx(50, abs=0.3)


def test_elements_that_were_not_trained_on_are_told(run: Path, tmp_path: Path) -> None:
    (one,) = predict(want(run, "CS", tmp_path / "thiol.npz"))
    assert "expected NMAE unknown (trained without S)" in str(one)


def test_the_model_that_comes_along_knows_neutral_closed_shells(tmp_path: Path) -> None:
    (one,) = predict(want("qm9-gfn2", "CO", tmp_path / "methanol.npz"))
    assert one.expected_nmae == pytest.approx(0.0077, abs=0.002)  # the true one is 0.82 %
    assert str(one).startswith(f"{tmp_path / 'methanol.npz'}: 14.00")
    assert "valence electrons, expected NMAE 0." in str(one)
    for smiles, unseen in (("C[NH3+]", "charge +1"), ("[O-]C=O", "charge -1"), ("[CH3]", "1 unpaired electron")):
        (one,) = predict(want("qm9-gfn2", smiles, tmp_path / "ion.npz"))
        assert f"expected NMAE unknown (trained without {unseen})" in str(one)


def test_what_was_there_stays_whole(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "ammonia.npz"
    predict(want(run, "O", file))
    before = file.read_bytes()
    with pytest.raises(RequestError, match=r"ammonia.npz: is what is read, too: name another file"):
        predict(want(run, file, file))

    def fill_the_disk(path: Path, volume: object) -> None:  # noqa: ARG001
        path.write_bytes(b"half")
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setitem(WRITERS, "npz", fill_the_disk)
    with pytest.raises(RequestError, match=r"ammonia.npz: cannot be written \(No space left on device\): make room"):
        predict(want(run, "O", file))
    assert [path.name for path in tmp_path.iterdir()] == ["ammonia.npz"]
    assert file.read_bytes() == before


def test_a_molecule_too_large_ends_no_batch(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "three.smi").write_text("O a\nCCCCCC b\nN c\n")
    monkeypatch.setattr("training.models.prediction.WHOLE_BYTES", 150_000)  # 1 GiB is 7,158 cells
    wanted = want(run, tmp_path / "three.smi", tmp_path / "out")
    outcomes = [one.outcome for one in predict(replace(wanted, memory_gib=1))]
    assert outcomes == ["ok", "too_large", "ok"]
    rows = list(csv.DictReader((tmp_path / "out/predictions.csv").read_text().splitlines()))
    assert [row["outcome"] for row in rows] == outcomes
    assert "the densities alone of a box of" in rows[1]["message"]
    assert rows[0]["charge"] == rows[0]["unpaired"] == "0"


def test_a_long_smiles_is_no_file_s_name(run: Path, tmp_path: Path) -> None:
    with pytest.raises(RequestError, match="invalid_input"):
        predict(want(run, "O" * 300 + "(", tmp_path / "a.npz"))


def test_options_of_neural_fields_are_refused(run: Path, tmp_path: Path) -> None:
    said = rhoflow_here("predict", run, "O", tmp_path / "a.npz", "--level", "0.05", code=2)
    assert "--level 0.05: is for neural fields, but" in said


def test_geometries_that_were_not_trained_on_are_told(run: Path, tmp_path: Path) -> None:
    (tmp_path / "ammonia.xyz").write_text(XYZ)
    (tmp_path / "stretched.xyz").write_text(XYZ.replace("0.9376", "1.1376"))
    predicted = [
        predict(want(run, tmp_path / f"{name}.xyz", tmp_path / "a.npz"))[0] for name in ("ammonia", "stretched")
    ]
    assert predicted[0].expected_nmae
    assert predicted[1].expected_nmae is None
    assert predicted[1].message == "trained without N–H at 1.20 Å"
    (hydrogen,) = predict(want(run, "[H][H]", tmp_path / "hydrogen.npz"))
    assert "expected NMAE unknown (trained without H–H at 0.7" in str(hydrogen)


def test_a_model_that_is_not_calibrated_says_so(run: Path, tmp_path: Path) -> None:
    shutil.copytree(run, tmp_path / "run", ignore=shutil.ignore_patterns("calibration.json"))
    (one,) = predict(want(tmp_path / "run", "N", tmp_path / "a.npz"))
    assert "expected NMAE unknown (not calibrated: run `rhoflow evaluate` with the model and its store)" in str(one)
    (one,) = predict(want(tmp_path / "run", "CS", tmp_path / "a.npz"))
    assert "expected NMAE unknown (trained without S; not calibrated: run" in str(one)


@pytest.fixture
def flexible(run: Path, tmp_path: Path) -> Path:
    """The model as if it had been trained on cells of 0.28 to 0.52 Å."""
    shutil.copytree(run, tmp_path / "flexible")
    model = load_model(run)
    save_model(tmp_path / "flexible", replace(model, origin=replace(model.origin, spacing_range=0.3)))
    return tmp_path / "flexible"


def test_a_model_that_knows_other_cells_predicts_on_them(flexible: Path, tmp_path: Path) -> None:
    printed = rhoflow_here("predict", flexible, "CO", tmp_path / "a.npz", "--spacing-angstrom", "0.3")
    read = read_npz(tmp_path / "a.npz")
    assert read.scene.grid.spacing == pytest.approx([0.3 / 0.529177210903] * 3)
    assert read.fields[FIELD].sum() * read.scene.grid.cell_volume == pytest.approx(14, abs=0.1)
    assert "expected NMAE unknown (calibrated on cells of 0.4 Å only)" in printed
    predict_store(want(flexible, "CO", tmp_path / "a.zarr", spacing_angstrom=0.3), 0.0)
    stored = open_dataset(tmp_path / "a.zarr")["a#0"]
    assert stored.grid == read.scene.grid
    np.testing.assert_allclose(stored.channels["predicted"], read.fields[FIELD], atol=2**-20)


def test_classes_of_wider_cells_stay_even_and_apart(run: Path) -> None:
    origin = replace(load_model(run).origin, spacing_range=0.3)
    grid = {**origin.recipe["grid"], "multiple": 3, "classes": [16, 18, 20, 30]}
    recipe = read_guess_recipe(replace(origin, recipe={**origin.recipe, "grid": grid}), 0.5)
    assert recipe.grid.classes == (18, 24)
    assert recipe.grid.spacing_angstrom == 0.5


def test_cells_that_a_model_does_not_know_are_refused(flexible: Path, run: Path, store: Path, tmp_path: Path) -> None:
    for model, known in ((flexible, "0.28 Å to 0.52 Å"), (run, "0.4 Å")):
        with pytest.raises(RequestError, match=f"angstrom 0.2: the model was trained on cells of {known}: ask for"):
            predict(want(model, "CO", tmp_path / "a.npz", spacing_angstrom=0.2))
    with pytest.raises(RequestError, match=r"--spacing-angstrom 0.3: .*store.zarr has a grid: leave it out, or"):
        predict(want(flexible, store, tmp_path / "out", spacing_angstrom=0.3))
    with pytest.raises(RequestError, match=r"--spacing-angstrom 0.3: .*store.zarr has a grid: leave it out, or"):
        predict_store(want(flexible, store, tmp_path / "a.zarr", spacing_angstrom=0.3), 0.0)


def test_training_leaves_a_calibration(run: Path, store: Path) -> None:
    calibration = read_calibration(run)
    assert calibration
    assert calibration.step == load_model(run).step
    printed = rhoflow_here("evaluate", run, store)
    foresight = read_calibration(run).foresight  # type: ignore[union-attr]
    assert foresight
    assert foresight.expected_nmae == pytest.approx(foresight.true_nmae, rel=0.5)
    assert f"rank correlation {foresight.spearman:.2f}" in printed


def test_a_model_that_comes_along_has_a_name(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("training.trained.PRETRAINED", tmp_path)
    shutil.copytree(run, tmp_path / "tiny")
    (one,) = predict(want("tiny", "O", tmp_path / "ammonia.npz"))
    assert one.outcome == "ok"
    assert PRETRAINED.name == "pretrained"


@pytest.mark.parametrize(
    ("input", "out", "message"),
    [
        ("C(C", "a.cube", r"C\(C: invalid_input: .* is no SMILES of a molecule"),
        ("absent.xyz", "a.cube", "absent.xyz: there is no such file, and this is no SMILES: check the path"),
        ("O", "a.xsf", "the ending is none of .cube, .*: take one, or give --format"),
        ("O", "absent/a.npz", "there is no folder .*absent: make it, or check the path"),
        ("[U]", "a.cube", r"\[U\]: unsupported_element: "),
    ],
)  # fmt: skip
def test_a_wrong_request_says_what_to_do(run: Path, tmp_path: Path, input: str, out: str, message: str) -> None:
    with pytest.raises(RequestError, match=message):
        predict(want(run, input, tmp_path / out))
    assert not [file for file in tmp_path.rglob("*") if file.is_file()]


def test_an_unknown_model_and_several_molecules_for_a_file_are_refused(run: Path, tmp_path: Path) -> None:
    with pytest.raises(RequestError, match=r"qm9-gfn9: neither the folder of a training run nor a model that comes"):
        predict(want("qm9-gfn9", "O", tmp_path / "a.cube"))
    (tmp_path / "two.smi").write_text("O\nN\n")
    with pytest.raises(RequestError, match=r"two.smi holds 2 molecules, not one: let OUT be a folder"):
        predict(want(run, tmp_path / "two.smi", tmp_path / "a.cube"))


def test_where_every_molecule_fails_the_exit_code_says_so(run: Path, tmp_path: Path) -> None:
    (tmp_path / "bad.smi").write_text("[U]\nC(C\n")
    printed = rhoflow_here("predict", run, tmp_path / "bad.smi", tmp_path / "out", code=1)
    assert "unsupported_element" in printed
    assert "invalid_input" in printed
    (tmp_path / "bad.smi").write_text("[U]\nO\n")
    rhoflow_here("predict", run, tmp_path / "bad.smi", tmp_path / "out")


def test_the_command_has_help_with_an_example() -> None:
    printed = " ".join(rhoflow_here("predict", "--help").split()).replace("`", "")
    assert "Example: rhoflow predict qm9-gfn2 CCO ethanol.cube" in printed
