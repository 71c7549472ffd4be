"""The config of a training run."""

from pathlib import Path

import pytest

from storage.errors import RequestError
from training.config import SuperresConfig
from training.config_file import config_values, parse_config, read_config


def test_a_config_is_read_with_its_defaults(tmp_path: Path) -> None:
    file = tmp_path / "superres.toml"
    file.write_text('store = "molecules.zarr"\nsteps = 7\nlearning_rate = 1\n')
    config = read_config(file, SuperresConfig)
    assert config == SuperresConfig(store=(tmp_path / "molecules.zarr",), steps=7, learning_rate=1.0)
    assert parse_config(config_values(config), SuperresConfig, "run") == config


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("stepz = 5", r"superres.toml: stepz = 5: unknown key; did you mean steps\?"),
        ("zzz = 5", r"zzz = 5: unknown key; the keys are store, batch, window"),
        ("steps = -1", r"superres.toml: steps = -1: must be 0 or greater"),
        ("steps = 1.5", r"steps = 1.5: must be a whole number"),
        ("steps = true", r"steps = True: must be a whole number"),
        ("learning_rate = nan", r"learning_rate = nan: must be greater than 0"),
        ("crop = 25", r"crop = 25: must be a multiple of factor = 2; use 26"),
        ("crop = 4", r"crop = 4: must be at least 4 × factor = 8, or 0 for whole boxes"),
        ('target = "guess"', r'target = "guess": is the input too'),
        ('device = "gpu"', r'device = "gpu": use auto, cpu, cuda or cuda:N'),
        ("store = 3", r"store = 3: must be a path in quotes, or a list of them"),
        ('store = ["a.zarr", 3]', r"store = \['a.zarr', 3\]: must be a path in quotes, or a list of them"),
        ("batch = -1", r"batch = -1: must be greater than 0"),
        ("workers = -1", r"workers = -1: must be 0 or greater"),
        ("warm_up = 1", r"warm_up = 1.0: must be less than 1"),
        ("averaging = -0.1", r"averaging = -0.1: must be 0 or greater"),
        ("clip = inf", r"clip = inf: must be finite"),
        ("compile = 1", r"compile = 1: must be true or false"),
        ("factor = 3", r"factor = 3: use 2 or 4"),
        ('optimiser = "sgd"', r"optimiser = 'sgd': use adam or adamw"),
        ('precision = "tf32"', r"precision = 'tf32': use float32 or bfloat16"),
        ('loss = "l1"', r"loss = 'l1': use nmae or mae or mse or smooth"),
        ("weight_decay = 0.1", r'weight_decay = 0.1: needs optimiser = "adamw"'),
        (
            'charges = 0.5\nloss = "mse"',
            r'charges = 0.5: is in parts of the electrons, as loss = "nmae" or "smooth" are',
        ),
        ("spacing_range = 0.2", r'spacing_range = 0.2: needs voxels = "device": stored voxels have one width'),
        ("spacing_range = 1", r"spacing_range = 1.0: must be less than 0.5"),
        ("fine_inputs = true", r'fine_inputs = true: is for model = "published"'),
        ("steps = ", r"superres.toml: is no TOML"),
    ],
)
def test_a_wrong_config_names_file_key_value_and_remedy(tmp_path: Path, text: str, message: str) -> None:
    file = tmp_path / "superres.toml"
    file.write_text(text)
    with pytest.raises(RequestError, match=message):
        read_config(file, SuperresConfig)


def test_a_missing_config_is_named(tmp_path: Path) -> None:
    with pytest.raises(RequestError, match=r"none.toml: cannot be read \(No such file"):
        read_config(tmp_path / "none.toml", SuperresConfig)


def test_every_default_is_allowed_and_comes_back() -> None:
    config = SuperresConfig()
    assert parse_config(config_values(config), SuperresConfig, "defaults") == config


def test_several_stores_keep_their_order(tmp_path: Path) -> None:
    file = tmp_path / "superres.toml"
    file.write_text('store = ["b.zarr", "s3://bucket/a.zarr", "/data/c.zarr"]\n')
    stores = read_config(file, SuperresConfig).store
    assert [str(store) for store in stores] == [str(tmp_path / "b.zarr"), "s3://bucket/a.zarr", "/data/c.zarr"]
