"""Every config of a neural field in deploy/fields can be read, and says in its first line how to run it."""

from pathlib import Path

import pytest

from flows.recipe import parse_recipe
from training.config import FieldConfig
from training.config_file import read_config
from training.field.scenes import read_fields
from training.models.field import FieldArchitecture, FieldNetwork

FOLDER = Path(__file__).parents[1] / "deploy/fields"
DATASET = FOLDER / "freesolv-dataset.toml"
CONFIGS = sorted(set(FOLDER.glob("*.toml")) - {DATASET})


@pytest.mark.parametrize("file", CONFIGS, ids=lambda file: file.name)
def test_a_field_can_be_trained_as_its_first_line_says(file: Path) -> None:
    config = read_config(file, FieldConfig)
    if config.channels != ("map",):
        read_fields(config.channels, config.beta, config.radii)
    assert f"deploy/fields/{file.name} " in file.read_text().partition("\n")[0]


@pytest.mark.parametrize("name", ["complex-published.toml", "freesolv-published.toml"])
def test_the_papers_networks_have_one_vector_of_512_numbers(name: str) -> None:
    config = read_config(FOLDER / name, FieldConfig)
    keys = ("cells", "latent_cells", "latent_features", "refinements", "width", "depth")
    network = FieldNetwork(
        FieldArchitecture(
            fields=2,
            molecules=1,
            first_frequency=config.first_frequency,
            frequency=config.frequency,
            modulation=config.modulation,
            **{key: getattr(config, key) for key in keys},
        )
    )
    assert [latents.shape for latents in network.latents] == [(512, 1, 1, 1)]
    assert network.architecture.is_global


def test_the_dataset_of_freesolv_is_a_recipe() -> None:
    recipe = parse_recipe(DATASET.read_text(), DATASET)
    assert recipe.conformers.keep
    assert recipe.grid.orient
