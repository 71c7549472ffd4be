"""What a training run was asked for: one small TOML file."""

import difflib
import math
import tomllib
from collections.abc import Mapping
from dataclasses import MISSING, asdict, dataclass, fields, replace
from pathlib import Path

from storage.errors import RequestError
from storage.objects import Json, Location, locate

Value = str | int | float | bool


@dataclass(frozen=True)
class SuperresConfig:
    """Everything a run can be told. What the data are (spacing, scale) comes from the store, never from here."""

    store: Location | None = None  # a path in the file is relative to the file
    input: str = "guess"  # the density the network starts from
    target: str = "target"  # the density it learns
    factor: int = 2  # fine cells along an edge of the coarse cells that the network works on
    steps: int = 3000
    batch: int = 2  # crops in one step
    crop: int = 24  # cells along an edge of a crop
    learning_rate: float = 2e-3
    width: int = 32  # features per coarse cell
    depth: int = 4  # residual blocks
    checkpoint_steps: int = 300  # steps between checkpoints, each with a validation
    seed: int = 1
    device: str = "auto"  # auto | cpu | cuda | cuda:N


def read_config(path: Path) -> SuperresConfig:
    """Raises RequestError naming file, key, value and remedy."""
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise RequestError(f"{path}: cannot be read ({error.strerror}): check the path") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise RequestError(f"{path}: is no TOML: {error}") from error
    config = parse_config(content, str(path))
    if isinstance(config.store, Path):
        return replace(config, store=path.parent / config.store)
    return config


def parse_config(content: Mapping[str, object], name: str) -> SuperresConfig:
    """A config from its keys. `name` is what errors call it."""
    kinds = {field.name: type(field.default) for field in fields(SuperresConfig) if field.default is not MISSING}
    values: dict[str, Value | Location] = {}
    for key, value in content.items():
        if key not in kinds:
            near = difflib.get_close_matches(key, kinds, n=1)
            remedy = f"did you mean {near[0]}?" if near else f"the keys are {', '.join(kinds)}"
            raise RequestError(f"{name}: {key} = {value!r}: unknown key; {remedy}")
        values[key] = _read_store(value, name) if key == "store" else _read_value(key, value, kinds[key], name)
    config = SuperresConfig(**values)  # type: ignore[arg-type]
    _check(config, name)
    return config


def config_values(config: SuperresConfig) -> dict[str, Json]:
    """Every key with its value, ready for JSON; the inverse of `parse_config`."""
    values = {**asdict(config), "store": None if config.store is None else str(config.store)}
    return {key: value for key, value in values.items() if value is not None}


def _read_store(value: object, name: str) -> Location:
    if not isinstance(value, str):
        raise RequestError(f"{name}: store = {value!r}: must be a path in quotes")
    return locate(value)


def _read_value(key: str, value: object, kind: type, name: str) -> Value:
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if not isinstance(value, kind) or isinstance(value, bool):
        wanted = {int: "a whole number", float: "a number", str: "text in quotes"}[kind]
        raise RequestError(f"{name}: {key} = {value!r}: must be {wanted}")
    assert isinstance(value, str | int | float)
    return value


def _check(config: SuperresConfig, name: str) -> None:
    for key in ("factor", "steps", "batch", "crop", "width", "depth", "checkpoint_steps", "learning_rate"):
        if not 0 < getattr(config, key) < math.inf:
            raise RequestError(f"{name}: {key} = {getattr(config, key)}: must be greater than 0")
    if config.seed < 0:
        raise RequestError(f"{name}: seed = {config.seed}: must be 0 or greater")
    if config.crop % config.factor:
        near = config.crop - config.crop % config.factor + config.factor
        raise RequestError(f"{name}: crop = {config.crop}: must be a multiple of factor = {config.factor}; use {near}")
    if config.crop < 4 * config.factor:
        raise RequestError(f"{name}: crop = {config.crop}: must be at least 4 × factor = {4 * config.factor}")
    if config.input == config.target:
        raise RequestError(f'{name}: target = "{config.target}": is the input too; name the density to be learned')
    if config.device not in ("auto", "cpu", "cuda") and not config.device.removeprefix("cuda:").isdigit():
        raise RequestError(f'{name}: device = "{config.device}": use auto, cpu, cuda or cuda:N')
