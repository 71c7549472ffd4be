"""Reads training configs: small TOML files whose every key is known and checked."""

import difflib
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import Field, asdict, fields, replace
from pathlib import Path
from typing import Any, TypeVar

from storage.errors import RequestError
from storage.objects import Json, Location, locate
from training.config import Allowed, FieldConfig, PropertyConfig, SuperresConfig, TrainingConfig

Config = TypeVar("Config", bound=TrainingConfig)

WANTED = {
    int: "a whole number",
    float: "a number",
    str: "text in quotes",
    bool: "true or false",
    tuple: "a list of texts in quotes",
}


def read_config(path: Path, kind: type[Config]) -> Config:
    """Raises RequestError naming file, key, value and remedy."""
    return place_config(parse_config(read_toml(path), kind, str(path)), path.parent)


def read_toml(path: Path) -> dict[str, Any]:
    """Raises RequestError where there is no such file, or it is no TOML."""
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise RequestError(f"{path}: cannot be read ({error.strerror}): check the path") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise RequestError(f"{path}: is no TOML: {error}") from error


def place_config(config: Config, folder: Path) -> Config:
    """Paths of a config that lies in `folder`, as seen from here."""
    stores = (folder / store if isinstance(store, Path) else store for store in config.store)
    start = str(folder / config.start) if config.start and (folder / config.start).is_dir() else config.start
    return replace(config, store=tuple(stores), start=start)


def parse_config(content: Mapping[str, object], kind: type[Config], name: str) -> Config:
    """A config from its keys. `name` is what errors call it."""
    keys: dict[str, Field[Any]] = {one.name: one for one in fields(kind)}
    values: dict[str, Any] = {}
    for key, value in content.items():
        check_key(key, value, keys, name)
        values[key] = _read_stores(value, name) if key == "store" else _read_value(keys[key], value, name)
    config = kind(**values)
    check_together(config, name)
    return config


def check_key(key: str, value: object, known: Iterable[str], name: str) -> None:
    """Raises RequestError where it is unknown, with the nearest one."""
    if key not in (keys := list(known)):
        near = difflib.get_close_matches(key, keys, n=1)
        remedy = f"did you mean {near[0]}?" if near else f"the keys are {', '.join(keys)}"
        raise RequestError(f"{name}: {key} = {value!r}: unknown key; {remedy}")


def config_values(config: TrainingConfig) -> dict[str, Json]:
    """Every key with its value, ready for JSON; the inverse of `parse_config`."""
    values = {key: list(value) if isinstance(value, tuple) else value for key, value in asdict(config).items()}
    return {**values, "store": [str(store) for store in config.store]}


def check_together(config: TrainingConfig, name: str) -> None:
    """What single values cannot tell. Raises RequestError."""
    if config.device not in ("auto", "cpu", "cuda") and not config.device.removeprefix("cuda:").isdigit():
        raise RequestError(f'{name}: device = "{config.device}": use auto, cpu, cuda or cuda:N')
    if config.weight_decay and config.optimiser != "adamw":
        raise RequestError(f'{name}: weight_decay = {config.weight_decay}: needs optimiser = "adamw"')
    if isinstance(config, SuperresConfig):
        _check_superres(config, name)
    if isinstance(config, FieldConfig):
        _check_field(config, name)
    if isinstance(config, PropertyConfig):
        _check_property(config, name)


def _check_superres(config: SuperresConfig, name: str) -> None:
    if config.input == config.target:
        raise RequestError(f'{name}: target = "{config.target}": is the input too; name the density to be learned')
    if config.fine_inputs and config.model != "published":
        raise RequestError(f'{name}: fine_inputs = true: is for model = "published"; the others always have them')
    if config.spacing_range and config.voxels != "device":
        raise RequestError(
            f'{name}: spacing_range = {config.spacing_range}: needs voxels = "device": stored voxels have one width'
        )
    if config.charges and config.loss not in ("nmae", "smooth"):
        raise RequestError(
            f'{name}: charges = {config.charges}: is in parts of the electrons, as loss = "nmae" or "smooth" are'
        )
    if config.crop % config.factor:
        near = config.crop - config.crop % config.factor + config.factor
        raise RequestError(f"{name}: crop = {config.crop}: must be a multiple of factor = {config.factor}; use {near}")
    if 0 < config.crop < 4 * config.factor:
        raise RequestError(
            f"{name}: crop = {config.crop}: must be at least 4 × factor = {4 * config.factor}, or 0 for whole boxes"
        )


def _check_field(config: FieldConfig, name: str) -> None:
    if config.start:
        raise RequestError(f'{name}: start = "{config.start}": a neural field begins anew; leave it out')
    if config.paths and config.coder != "learned":
        raise RequestError(f'{name}: paths = {config.paths}: needs coder = "learned", whose latents can be mixed')
    if config.turn and config.coder == "learned":
        raise RequestError(f'{name}: turn = true: needs coder = "encoder": learned latents do not turn along')


def _check_property(config: PropertyConfig, name: str) -> None:
    if config.start:
        raise RequestError(f'{name}: start = "{config.start}": models of properties begin with fresh weights')
    if not config.targets:
        raise RequestError(f'{name}: targets = []: name the labels to be learned, for example targets = ["gap_Ha"]')
    for key in ("targets", "representation"):
        values = getattr(config, key)
        if len(set(values)) < len(values):
            raise RequestError(f"{name}: {key} = {list(values)}: each may be named once")
    if not config.representation:
        raise RequestError(f'{name}: representation = []: name channels, for example representation = ["density"]')


def _read_stores(value: object, name: str) -> tuple[Location, ...]:
    several = value if isinstance(value, list) else [value]
    paths = [one for one in several if isinstance(one, str)]
    if len(paths) < len(several):
        raise RequestError(f"{name}: store = {value!r}: must be a path in quotes, or a list of them")
    return tuple(locate(path) for path in paths)


def _read_value(key: Field[Any], value: object, name: str) -> object:
    kind: type = type(key.default)
    if kind is float and type(value) is int:
        value = float(value)
    if kind is tuple and isinstance(value, list) and all(isinstance(one, str) for one in value):
        value = tuple(value)
    if type(value) is not kind:
        raise RequestError(f"{name}: {key.name} = {value!r}: must be {WANTED[kind]}")
    allowed: Allowed = key.metadata.get("allowed", Allowed())
    if fault := allowed.find_fault(value):
        raise RequestError(f"{name}: {key.name} = {value!r}: {fault}")
    return value
