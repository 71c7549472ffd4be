"""Training of neural fields: a tiny one is learned well, resumes exactly, and says what is missing."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from pipeline.units import BOHR_PER_ANGSTROM
from storage.errors import RequestError, StoreError
from tests.training.wavefunction_store import build_recipe
from training.batch import Draw
from training.catalog import read_catalog
from training.checkpoint import LAST, claim_run
from training.config import FieldConfig
from training.config_file import config_values, parse_config
from training.field.boxes import FieldBatch, FieldBoxes, grid_axis, name_latents
from training.field.model import load_field_model
from training.field.scaling import make_scaling
from training.field.scenes import Scene, StoredScenes, build_scene, read_fields
from training.field.task import FieldTask, measure_psnr, read_material, train_field
from training.loop import train
from training.losses import Share
from training.parallel import Team, assemble_team
from training.tensor_files import read_tensors

SMILES = {"methanol": "CO", "formaldehyde": "C=O", "fluoromethane": "CF", "water": "O"}
RECIPE = """
[source]
path = "molecules.csv"
id = "name"
[densities.atoms]
engine = "gaussian"
exponent = 0.8
[grid]
spacing_angstrom = 0.5
margin_angstrom = 2.0
classes = [12, 16, 20]
[splits]
train = 0.7
validation = 0.3
test = 0.0
"""
TINY = FieldConfig(
    batch=2,
    steps=120,
    learning_rate=1e-2,
    checkpoint_steps=40,
    channels=("H", "C", "O"),
    cells=12,
    crop=8,
    latent_cells=8,
    latent_features=6,
    width=24,
    depth=2,
    first_frequency=6.0,
    device="cpu",
)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("fields") / "store"
    build_recipe(folder, SMILES, RECIPE)
    return folder / "store.zarr"


def test_a_tiny_field_is_learned_well(store: Path, tmp_path: Path) -> None:
    """On the training grid and between its points: far better than zeros everywhere."""
    config = replace(TINY, store=(store,), steps=400, checkpoint_steps=200)
    train_field(config, tmp_path / "run")
    model = load_field_model(tmp_path / "run")
    scenes = StoredScenes(read_catalog([store], "train", ()), model.origin.described)
    axis = grid_axis(25, torch.device("cpu"))
    for number, id in enumerate(model.origin.ids):
        latents = model.encode(name_latents(number, device=torch.device("cpu")))
        scene = scenes[scenes.ids.index(id)]
        x, y, z = (axis * model.origin.edge / 2 + middle for middle in scene.centre.tolist())
        truth, values = scene.on_axes((x, y, z)), model.sample_grid(latents, 25)
        errors = [float((one - truth).square().mean().sqrt()) for one in (values, torch.zeros_like(truth))]
        assert measure_psnr(errors[0]) > measure_psnr(errors[1]) + 10


def test_an_interrupted_training_goes_on_to_the_same_weights(store: Path, tmp_path: Path) -> None:
    config = replace(TINY, store=(store,), coder="encoder", turn=True, cells=8, latent_cells=2, steps=12)
    config = replace(config, checkpoint_steps=6, positions="grid")
    train_field(config, tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        train_interrupted(config, tmp_path / "broken")
    train_field(config, tmp_path / "broken", resume=True)
    whole, broken = (read_tensors(tmp_path / name, LAST)["network"] for name in ("whole", "broken"))
    assert all(torch.equal(whole[name], broken[name]) for name in whole)


def test_a_process_without_a_part_of_a_batch_adds_nothing_to_the_loss(store: Path, tmp_path: Path) -> None:
    config = replace(TINY, store=(str(store),), batch=2)
    shares = []
    for rank in range(3):
        task = FieldTask(config, tmp_path, Team(torch.device("cpu"), rank, 3), read_material(config, tmp_path))
        shares.append(task.measure(task.network, next(task.batches(0))))
    whole = FieldTask(config, tmp_path, Team(torch.device("cpu")), read_material(config, tmp_path))
    expected = whole.measure(whole.network, next(whole.batches(0)))
    assert shares[2] == (0, 0)
    assert sum(share.total.item() for share in shares) == pytest.approx(expected.total.item(), rel=1e-5)
    assert sum(share.weight.item() for share in shares) == expected.weight.item()


class Interrupted(FieldTask):
    """Ends in the middle of the ninth step, after a checkpoint."""

    taken = 0

    def measure(self, network: nn.Module, batch: FieldBatch) -> Share:
        self.taken += 1
        if self.taken == 9:
            raise KeyboardInterrupt
        return super().measure(network, batch)


def train_interrupted(config: FieldConfig, run: Path) -> None:
    with assemble_team(config.device) as team:
        claim_run(run, config, False, team)
        train(Interrupted(config, run, team, read_material(config, run)), config, run, team)


def test_a_density_is_read_from_its_wavefunctions_wherever_it_is_asked(store: Path) -> None:
    """Against the analytic engine's own sum: every atom holds its valence electrons in exp(−0.8 r²)."""
    scenes = StoredScenes(read_catalog([store], "train", ()), read_fields(["density:atoms"], 0.5, ()))
    scene = scenes[0]
    axes = tuple(torch.tensor([low, low + 0.37], dtype=torch.float64) for low in (-0.9, 0.2, 0.4))
    values = scene.on_axes((axes[0], axes[1], axes[2]))[0]
    points = torch.stack(torch.meshgrid(*axes, indexing="ij"), dim=-1).numpy()
    first = scenes.catalog.first_atoms[0]
    numbers = scenes.catalog.numbers[first : first + len(scene.positions)]
    electrons = np.array([{1: 1, 6: 4, 8: 6, 9: 7}[number] for number in numbers.tolist()])
    squares = np.sum((points[..., None, :] - scene.positions) ** 2, axis=-1)
    expected = np.sum(electrons * (0.8 / np.pi) ** 1.5 * np.exp(-0.8 * squares), axis=-1)
    np.testing.assert_allclose(values.numpy(), expected, rtol=1e-4)


def test_a_turned_scene_is_the_field_at_turned_positions(store: Path) -> None:
    """A quarter turn about z through the box's centre: x takes the place of y, and y of −x."""
    fields = read_fields(["H", "radius", "density:atoms", "gradient:atoms"], 0.5, ())
    scene = StoredScenes(read_catalog([store], "train", ()), fields)[1]
    turned = scene.turned(np.array([[0.0, -1, 0], [1, 0, 0], [0, 0, 1]]))
    step = torch.linspace(-2, 2, 5, dtype=torch.float64)
    x, y, z = (step + middle for middle in scene.centre.tolist())
    before, after = scene.on_axes((x, y, z)), turned.on_axes((x, y, z))
    torch.testing.assert_close(after[:3], turn_quarter(before[:3]))
    along_x, along_y, along_z = turn_quarter(before[3:])
    torch.testing.assert_close(after[3:], torch.stack((-along_y, along_x, along_z)), rtol=1e-5, atol=1e-7)
    assert fields.labels == ("H", "radius", "density:atoms", *(f"gradient:atoms:{axis}" for axis in "xyz"))


def turn_quarter(values: torch.Tensor) -> torch.Tensor:
    """Values (fields, nx, ny, nz) carried from (x, y) to (−y, x)."""
    return values.transpose(1, 2).flip(1)


def test_positions_lie_in_the_box_and_come_again(store: Path) -> None:
    scenes = StoredScenes(read_catalog([store], "train", ()), read_fields(["H"], 0.5, ()))
    boxes = FieldBoxes(scenes, TINY, scenes.edge, make_scaling(("H",), [1.0]), torch.device("cpu"))
    for epoch in range(20):
        batch, again = (boxes.draw([Draw(0, epoch), Draw(1, epoch)]) for _ in range(2))
        for axis in batch.axes:
            assert axis.shape == (2, TINY.crop)
            assert bool((axis.diff() > 0).all())
            assert float(axis.abs().max()) <= 1
        torch.testing.assert_close(batch.target, again.target, rtol=0, atol=0)


def test_a_missing_density_is_named(store: Path, tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="no wavefunctions of 'target', only of: atoms"):
        train_field(replace(TINY, store=(store,), channels=("density:target",)), tmp_path / "run")


def test_an_element_without_the_property_is_named(store: Path, tmp_path: Path) -> None:
    with pytest.raises(RequestError, match="no wigner_seitz is known of"):
        train_field(replace(TINY, store=(store,), channels=("wigner_seitz",)), tmp_path / "run")


def test_configs_say_radii_in_words() -> None:
    config = parse_config({"radii": ["H=0.7"], "channels": ["C"]}, FieldConfig, "field.toml")
    assert read_fields(config.channels, config.beta, config.radii).radii == {1: 0.7}
    assert config_values(config)["radii"] == ["H=0.7"]
    with pytest.raises(RequestError, match="write an element and ångström"):
        read_fields(["C"], 0.5, ["H 0.7"])


@pytest.mark.parametrize(
    ("keys", "fault"),
    [
        ({"start": "run"}, "begins anew"),
        ({"paths": 0.5, "coder": "encoder"}, 'needs coder = "learned"'),
        ({"turn": True}, 'needs coder = "encoder"'),
    ],
)
def test_keys_that_do_not_go_together_are_refused(keys: dict[str, object], fault: str) -> None:
    with pytest.raises(RequestError, match=fault):
        parse_config(keys, FieldConfig, "field.toml")


def test_half_way_between_two_geometries_every_atom_is_half_way() -> None:
    """Two single atoms 2 bohr apart: between them one, as high and as wide."""
    fields, centre = read_fields(["C"], 0.5, ()), np.zeros(3)
    ends = [build_scene("C", np.array([6]), np.array([[x, 0.0, 0.0]]), centre, fields) for x in (-1.0, 1.0)]
    middle = ends[0].between(ends[1], 0.25)
    axis = torch.tensor([-0.5, 0.5], dtype=torch.float64)
    zero = torch.zeros(1, dtype=torch.float64)
    values = middle.on_axes((axis, zero, zero))[0, :, 0, 0]
    assert values[0] == pytest.approx(1)
    assert values[1] == pytest.approx(np.exp(-0.5 / BOHR_PER_ANGSTROM**2))


def test_straight_ways_lead_to_other_geometries_but_not_to_neighbours() -> None:
    fields, centre = read_fields(["C"], 0.5, ()), np.zeros(3)
    scenes = Listed([build_scene(str(k), np.array([6]), np.full((1, 3), k / 4), centre, fields) for k in range(4)])
    boxes = FieldBoxes(scenes, replace(TINY, paths=0.8), 6.0, make_scaling(("C",), [1.0]), torch.device("cpu"))
    sources = torch.cat([boxes.draw([Draw(0, epoch)]).source for epoch in range(40)])
    assert set(sources[:, 0].tolist()) == {0}
    assert set(sources[:, 1].tolist()) == {0, 2, 3}
    alone = sources[:, 1] == 0
    assert bool((sources[alone, 2] == 0).all())
    assert bool((sources[~alone, 2] > 0).all())


class Listed(list[Scene]):
    """Scenes that come from no store."""

    def __init__(self, scenes: list[Scene]) -> None:
        super().__init__(scenes)
        self.ids = self.groups = [scene.id for scene in scenes]
        self.fields = scenes[0].fields
