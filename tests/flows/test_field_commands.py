"""Neural fields by the command line: trained, judged, and asked for grids and surfaces."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from flows.cli import app
from pipeline.formats import read_volume
from storage.errors import RequestError
from storage.objects import locate
from tests.training.wavefunction_store import build_recipe
from training.catalog import read_catalog

RECIPE = """
[source]
path = "molecules.csv"
id = "name"
[densities.atoms]
engine = "gaussian"
exponent = 0.3
[grid]
spacing_angstrom = 0.5
margin_angstrom = 2.0
classes = [12, 16, 20]
[splits]
train = 1.0
validation = 0.0
test = 0.0
"""
CONFIG = """
store = "store/store.zarr"
channels = ["density:atoms", "O"]
steps = 300
checkpoint_steps = 150
learning_rate = 0.01
loss = "mae"
batch = 2
cells = 12
crop = 8
latent_cells = 8
latent_features = 6
width = 24
depth = 2
first_frequency = 6
device = "cpu"
"""


def run(*words: str | Path) -> str:
    result = CliRunner().invoke(app, list(map(str, words)))
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == 0, result.output
    return result.output


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("commands")
    build_recipe(folder / "store", {"methanol": "CO", "water": "O"}, RECIPE)
    (folder / "field.toml").write_text(CONFIG)
    run("train", "field", folder / "field.toml", folder / "run")
    return folder


def test_an_evaluation_says_how_good_it_is_beside_zeros(folder: Path) -> None:
    text = run("evaluate", folder / "run", folder / "store/store.zarr")
    assert "never seen" not in text  # latents are of learned molecules only
    record = json.loads((folder / "run/evaluation.json").read_text())
    assert record["psnr_max"] == 1
    assert [score["factor"] for score in record["samples"]] == [1, 1, 2, 2, 4, 4]
    for score in record["samples"]:
        assert score["psnr"] > score["floor"] + 10
        assert score["nmae"] < 0.5  # zeros have 1
        assert abs(score["electrons"]) < 0.3
        assert 0.8 < score["ssim"] <= 1


def test_a_grid_of_any_spacing_is_predicted_with_its_molecule(folder: Path) -> None:
    out = folder / "water.cube"
    run("predict", folder / "run", "water#0", out, "--channel", "density:atoms", "--spacing-angstrom", "0.4")
    volume = read_volume(out)
    ((name, values),) = volume.fields.items()
    assert name == "density_atoms_electrons_per_bohr3"
    assert max(volume.scene.grid.spacing) <= 0.4 / 0.529177
    assert values.sum() * volume.scene.grid.cell_volume == pytest.approx(8, rel=0.15)
    catalog = read_catalog([locate(folder / "store/store.zarr")], "train", ())
    np.testing.assert_allclose(volume.scene.positions, catalog.positions_of(catalog.ids.index("water#0")), atol=1e-12)


def test_a_surface_is_where_the_field_has_its_value(folder: Path) -> None:
    """About water's oxygen: triangles of one closed surface, as far from the nucleus as exp(−β d²/r²) says."""
    out = folder / "water.ply"
    said = run(
        "predict", folder / "run", "water#0", out, "--channel", "O", "--level", "0.5", "--spacing-angstrom", 0.25
    )
    head, _, body = out.read_bytes().partition(b"end_header\n")
    points, triangles = (int(head.split(word)[1].split()[0]) for word in (b"vertex ", b"face "))
    assert f"{triangles} triangles" in said
    assert points - 3 * triangles / 2 + triangles == 2  # Euler
    catalog = read_catalog([locate(folder / "store/store.zarr")], "train", ())
    oxygen = catalog.positions_of(catalog.ids.index("water#0"))[0] * 0.529177
    places = np.frombuffer(body[: 12 * points], dtype="<f4").reshape(-1, 3)
    distance = np.linalg.norm(places - oxygen, axis=1)
    np.testing.assert_allclose(distance, 1.50 / 1.77 * np.sqrt(np.log(2) / 0.5), atol=0.15)


def test_the_way_to_another_molecule_is_measured_and_shown(folder: Path) -> None:
    out = folder / "way.html"
    words = ("--to", "methanol#0", "--channel", "density:atoms")
    said = run("predict", folder / "run", "water#0", out, *words)
    start, end = (float(word) for word in said.split("integral ")[1].split(", at most")[0].split(" to "))
    assert start == pytest.approx(8, rel=0.2)
    assert end == pytest.approx(14, rel=0.2)
    assert out.read_text().count('"name":"') >= 21


@pytest.mark.parametrize(
    ("words", "fault"),
    [
        (("ammonia#0", "a.cube"), "no sample of .* is called so"),
        (("water#0", "a.cube", "--channel", "C"), "the model has density:atoms, O"),
        (("water#0", "a.ply", "--channel", "O", "--level", "3"), "take a value between"),
        (("water#0", "a.cube", "--to", "methanol#0"), "let the file end in .html"),
    ],
)
def test_what_cannot_be_predicted_is_refused(folder: Path, words: tuple[str, ...], fault: str) -> None:
    with pytest.raises(RequestError, match=fault):
        run("predict", folder / "run", words[0], folder / words[1], *words[2:])


def test_an_encoder_is_judged_on_molecules_that_it_never_saw(folder: Path) -> None:
    recipe = RECIPE.replace("train = 1.0\nvalidation = 0.0\ntest = 0.0", "train = 0.5\nvalidation = 0.25\ntest = 0.25")
    smiles = {name: "C" * k + "O" for k, name in enumerate(("water", "methanol", "ethanol", "propanol", "butanol"))}
    dataset = build_recipe(folder / "alcohols", smiles, recipe)
    assert set(dataset.table["split"]) == {"train", "validation", "test"}
    config = CONFIG.replace("store/store", "alcohols/store").replace("steps = 300", "steps = 3").replace(
        "latent_cells = 8", 'latent_cells = 3\ncoder = "encoder"\nrefinements = 1\npositions = "grid"\nturn = true'
    )  # fmt: skip
    (folder / "encoder.toml").write_text(config)
    run("train", "field", folder / "encoder.toml", folder / "encoder")
    text = run("evaluate", folder / "encoder", dataset.store)
    assert "never seen" in text
    record = json.loads((folder / "encoder/evaluation.json").read_text())
    splits = {score["id"]: (dataset.table.loc[score["id"], "split"], score["seen"]) for score in record["samples"]}
    assert set(splits.values()) == {("train", True), ("test", False)}
    table = pd.read_csv(folder / "encoder/embedding.csv", index_col="id")
    assert set(table["split"]) == {"train", "test"}
    assert {f"latent_{k}" for k in range(12)} <= set(table.columns)  # six features, means and mean squares
