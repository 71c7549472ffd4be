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
        ("steps = 0", r"superres.toml: steps = 0: must be greater than 0"),
        ("steps = 1.5", r"steps = 1.5: must be a whole number"),
        ("steps = true", r"steps = True: must be a whole number"),
        ("learning_rate = nan", r"learning_rate = nan: must be greater than 0"),
        ("crop = 25", r"crop = 25: must be a multiple of factor = 2; use 26"),
        ("crop = 4", r"crop = 4: must be at least 4 × factor = 8"),
        ('target = "guess"', r'target = "guess": is the input too'),
        ('device = "gpu"', r'device = "gpu": use auto, cpu, cuda or cuda:N'),
        ("store = 3", r"store = 3: must be a path in quotes"),
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
