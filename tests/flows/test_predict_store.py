"""A model's densities in a store of their own: a dataset like any other, that says which model made it."""

import contextlib
import math
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import xarray as xr
import zarr
from rdkit import Chem
from rdkit.Chem import AllChem

from flows.care.recompute import recompute_samples
from flows.engines import build_engines
from flows.prediction.model_engine import ModelEngine
from flows.prediction.predict import FIELD, Wanted, predict
from flows.prediction.predict_store import add_classes, predict_store
from flows.recipe import read_recipe
from flows.workers.isolation import Child
from pipeline.failures import MoleculeFailed
from pipeline.formats import read_npz
from storage.errors import RequestError, StoreError
from storage.header import read_header
from storage.identity import identify
from storage.layout import receipt_key
from storage.objects import locate
from storage.reader import open_dataset
from storage.schema import Conformer
from storage.seal import is_sealed
from tests.flows.small_build import rhoflow_here
from tests.flows.small_model import want
from training.superres.calibration import read_calibration, write_calibration
from training.trained import checksum_model, load_model

ROWS = "CO methanol\nC(C oxidane\nN ammonia\nCS thiol\nOC again\n"


def predict_into(run: Path | str, input: Path | str, out: Path, **more: object) -> Wanted:
    wanted = want(run, input, out, **more)
    predict_store(wanted, 0.0)
    return wanted


@pytest.fixture(scope="module")
def predicted(tmp_path_factory: pytest.TempPathFactory, run: Path) -> Path:
    folder = tmp_path_factory.mktemp("out")
    (folder / "five.smi").write_text(ROWS)
    printed = rhoflow_here("predict", run, folder / "five.smi", folder / "out.zarr")
    assert "5: 4 done, 1 failed (1 invalid_input), 0 missing" in printed
    return folder / "out.zarr"


def test_molecules_larger_than_any_of_the_training_have_boxes(run: Path, tmp_path: Path) -> None:
    predict_into(run, "CCCCCCCC", tmp_path / "octane.zarr")
    sample = open_dataset(tmp_path / "octane.zarr")["octane#0"]
    assert max(sample.grid.shape) > max(load_model(run).origin.recipe["grid"]["classes"])
    assert sample.channels["predicted"].sum() * sample.grid.cell_volume == pytest.approx(50, abs=0.3)
    assert add_classes((32, 48, 96)) == (32, 48, 96, 120, 152, 192, 240)
    assert add_classes((300,)) == (300,)


def test_molecules_with_a_geometry_and_without_are_not_mixed(run: Path, tmp_path: Path) -> None:
    flat = Chem.MolFromSmiles("CO")
    solid = Chem.AddHs(Chem.MolFromSmiles("O"))
    AllChem.EmbedMolecule(solid, randomSeed=1)
    records = {name: Chem.MolToMolBlock(molecule) for name, molecule in (("flat", flat), ("solid", solid))}
    records["bad"] = "bad\n\n\nnonsense\n"
    for name in ("flat", "bad"):
        file = tmp_path / f"{name}.sdf"
        file.write_text("".join(f"{records[record]}$$$$\n" for record in (name, "solid")))
    with pytest.raises(RequestError, match=r"flat.sdf: 1 of the molecules have a geometry and 1 have none: predict"):
        predict_store(want(run, tmp_path / "flat.sdf", tmp_path / "flat.zarr"), 0.0)
    predict_store(want(run, tmp_path / "bad.sdf", tmp_path / "bad.zarr"), 0.0)
    dataset = open_dataset(tmp_path / "bad.zarr")
    (sample,) = (dataset[id] for id in dataset)
    distances = np.linalg.norm(sample.positions[1:] - sample.positions[0], axis=1)
    kept = solid.GetConformer().GetPositions() / 0.529177210903
    assert distances == pytest.approx(np.linalg.norm(kept[1:] - kept[0], axis=1), abs=1e-3)


def test_it_holds_guess_and_prediction_with_the_error_to_be_expected(
    run: Path, predicted: Path, tmp_path: Path
) -> None:
    dataset = open_dataset(predicted)
    assert dataset.ids == ["methanol#0", "ammonia#0", "thiol#0"]
    assert dataset.channels == ["guess", "predicted"]
    predict(want(run, predicted.with_name("five.smi"), tmp_path / "files"))
    expected = dataset.table["predicted_expected_nmae"]
    for name in ("methanol", "ammonia"):
        sample, file = dataset[f"{name}#0"], read_npz(tmp_path / "files" / f"{name}.npz")
        np.testing.assert_allclose(sample.channels["predicted"], file.fields[FIELD], atol=2**-20)  # rounded to it
        assert sample.grid == file.scene.grid
        with np.load(tmp_path / "files" / f"{name}.npz") as arrays:
            assert expected[sample.id] == pytest.approx(float(arrays["expected_nmae"]), rel=1e-5)
        box, summed = dataset.table.loc[sample.id, ["guess_box_electrons", "predicted_summed_electrons"]]
        assert summed == pytest.approx(box, abs=1e-4)
    assert math.isnan(expected["thiol#0"])  # trained without sulfur


def test_every_row_has_its_outcome(predicted: Path) -> None:
    rows = open_dataset(predicted).rows
    assert rows["outcome"].tolist() == ["ok", "invalid_input", "ok", "ok", "ok"]
    assert "'C(C' is no SMILES" in rows.loc["oxidane", "message"]
    assert rows.loc["again", "duplicate_of"] == "methanol#0"


def test_where_every_row_fails_the_exit_code_says_so(run: Path, tmp_path: Path) -> None:
    (tmp_path / "bad.smi").write_text("C(C oxidane\n")
    printed = rhoflow_here("predict", run, tmp_path / "bad.smi", tmp_path / "bad.zarr", code=1)
    assert "1: 0 done, 1 failed (1 invalid_input), 0 missing" in printed


def test_other_readers_see_it_and_which_model_made_it(run: Path, predicted: Path) -> None:
    group = zarr.open_group(predicted, mode="r")
    made = group.attrs["recipe"]["densities"]["predicted"]  # type: ignore[index, call-overload]
    assert made == {"engine": "model", "model": str(run), "input": "guess", "sha256": checksum_model(run)}
    for key in open_dataset(predicted).size_classes:
        seen = xr.open_zarr(predicted, group=f"cells_{key}")
        assert {"id", "guess", "predicted", "predicted_expected_nmae"} <= {*seen.variables}


def test_repeating_resuming_and_adding_give_the_same_store(run: Path, predicted: Path, tmp_path: Path) -> None:
    shutil.copy(predicted.with_name("five.smi"), tmp_path / "five.smi")
    wanted = predict_into(run, tmp_path / "five.smi", tmp_path / "out.zarr")
    whole = identify(predicted)
    assert identify(tmp_path / "out.zarr") == whole
    (tmp_path / "out.zarr" / receipt_key(0)).unlink()  # as a kill before the last receipt leaves it
    (tmp_path / "out.zarr" / "work" / "seal.json").unlink()
    predict_store(wanted, 0.0)
    assert identify(tmp_path / "out.zarr") == whole
    (tmp_path / "five.smi").write_text(ROWS + "O water\n")
    predict_store(wanted, 0.0)
    assert open_dataset(tmp_path / "out.zarr").ids[-1] == "water#0"
    assert open_dataset(tmp_path / "out.zarr", version=1).ids == open_dataset(predicted).ids


def test_a_smiles_becomes_a_store_of_one_sample(run: Path, predicted: Path, tmp_path: Path) -> None:
    out = tmp_path / "methanol.zarr"
    predict_into(run, "CO", out)
    predict_into(run, "CO", out)
    one, same = (open_dataset(place)["methanol#0"].channels["predicted"] for place in (out, predicted))
    np.testing.assert_array_equal(one, same)
    with pytest.raises(RequestError, match=r"methanol.zarr was begun with CO, not N: name a new store"):
        predict_into(run, "N", out)


def test_the_wavefunctions_of_a_store_are_taken_as_they_are(run: Path, store: Path, tmp_path: Path) -> None:
    predict_into(run, store, tmp_path / "out.zarr")
    made, given = open_dataset(tmp_path / "out.zarr"), open_dataset(store)
    assert made.ids == given.ids
    for id in given.ids:
        np.testing.assert_array_equal(made[id].channels["guess"], given[id].channels["guess"])
        np.testing.assert_array_equal(made[id].states["guess"].orbitals, given[id].states["guess"].orbitals)
    origin = read_header(tmp_path / "out.zarr").origin
    assert origin
    assert origin.store == str(store)
    target = given["ethane#0"].channels["target"]
    errors = [np.abs(made["ethane#0"].channels[name] - target).sum() for name in ("predicted", "guess")]
    assert errors[0] < 0.9 * errors[1]


def test_what_is_computed_again_is_the_same(predicted: Path) -> None:
    (again,) = recompute_samples(predicted, 1)
    assert again.is_sound
    assert not {**again.engines, **again.voxels}


def test_another_model_is_refused(run: Path, predicted: Path, tmp_path: Path) -> None:
    other = tmp_path / "run"
    shutil.copytree(run, other)
    (other / "calibration.json").unlink()
    shutil.copytree(predicted, tmp_path / "out.zarr")
    with pytest.raises(RequestError, match=r"was begun with another recipe: densities.predicted.model was .*sha256"):
        predict_into(other, predicted.with_name("five.smi"), tmp_path / "out.zarr")


def test_how_errors_fared_in_an_evaluation_makes_no_other_model(run: Path, store: Path, tmp_path: Path) -> None:
    other = tmp_path / "run"
    shutil.copytree(run, other)
    (tmp_path / "one.smi").write_text("CO methanol\n")
    predict_into(other, tmp_path / "one.smi", tmp_path / "out.zarr")
    rhoflow_here("evaluate", other, store)
    calibration = read_calibration(other)
    assert calibration
    assert calibration.foresight
    (tmp_path / "one.smi").write_text("CO methanol\nO water\n")
    predict_into(other, tmp_path / "one.smi", tmp_path / "out.zarr")
    assert open_dataset(tmp_path / "out.zarr").ids == ["methanol#0", "water#0"]
    write_calibration(other, replace(calibration, scale=2 * calibration.scale))
    assert checksum_model(other) != checksum_model(run)


def test_a_model_that_changes_during_a_build_ends_it(run: Path, store: Path) -> None:
    sample = open_dataset(store)["ethane#0"]
    conformer = Conformer("ethane#0", sample.numbers, sample.positions, 0, 0, "CC", "")
    what = conformer, sample.grid, sample.channels["guess"], 14.0
    with contextlib.closing(Child(8)) as child:
        report = child.run(ModelEngine(run, checksum_model(run), "guess", 8).refine, *what, seconds=60)
        assert not isinstance(report.end, MoleculeFailed)
        with pytest.raises(
            StoreError, match=r"the model .* has changed \(its sha256 is .*, not 00\): put the one back"
        ):
            child.run(ModelEngine(run, "00", "guess", 8).refine, *what, seconds=60)
        with pytest.raises(RequestError, match=r"nowhere holds no trained model"):
            child.run(ModelEngine(run / "nowhere", "00", "guess", 8).refine, *what, seconds=60)


def test_a_recipe_may_name_a_model_that_fits_it(run: Path, store: Path, tmp_path: Path) -> None:
    text = read_header(store).recipe_text + f'[densities.better]\nengine = "model"\nmodel = "{run}"\n'
    shutil.copy(store.with_name("molecules.csv"), tmp_path)

    def build(changed: str) -> object:
        (tmp_path / "recipe.toml").write_text(changed)
        return build_engines(read_recipe(tmp_path / "recipe.toml"))["better"]

    assert build(text) == ModelEngine(run, checksum_model(run), "guess", 8)
    with pytest.raises(RequestError, match=r"the recipe has grid.spacing_angstrom = 0.5, the model was trained on 0.4"):
        build(text.replace("spacing_angstrom = 0.4", "spacing_angstrom = 0.5"))
    with pytest.raises(RequestError, match=r"\[densities.better\] input names 'other', which is no density with orb"):
        build(text + 'input = "other"\n')
    with pytest.raises(RequestError, match=r"has changed \(its sha256 is .*, not 00\)"):
        build(text + 'sha256 = "00"\n')


def test_what_cannot_become_a_store_is_refused(run: Path, tmp_path: Path) -> None:
    (tmp_path / "a.zarr").write_text("something else")
    with pytest.raises(RequestError, match=r"a.zarr exists and is no rhoflow store"):
        predict_into(run, "O", tmp_path / "a.zarr")
    with pytest.raises(RequestError, match=r"--format npz: is for files, but .*b.zarr is a store"):
        predict_into(run, "O", tmp_path / "b.zarr", format="npz")
    with pytest.raises(RequestError, match=r"absent.xyz: there is no such file"):
        predict_into(run, "absent.xyz", tmp_path / "b.zarr")
    with pytest.raises(RequestError, match=r"only a store can be put there: let it end in .zarr"):
        predict(replace(want(run, "O", tmp_path), out=locate("s3://bucket/water.cube")))
    assert not is_sealed(tmp_path / "b.zarr")
