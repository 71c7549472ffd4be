"""Reads what a comparison consists of: small TOML files whose every key is known and checked."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

from storage.errors import RequestError
from storage.objects import Json, Location, locate
from training.checkpoint import FREE_KEYS
from training.comparison.kind import Judge, Kind
from training.comparison.property import Property
from training.comparison.superres import Superres
from training.config import TrainingConfig
from training.config_file import check_key, config_values, parse_config, place_config, read_toml

KINDS: Mapping[str, Kind[Any]] = {"superres": Superres(), "property": Property()}
KEYS = ("kind", "title", "molecules", "seeds", "learning_rates", "seconds", "train", "variants", "judges")
OWN_KEYS = {
    "molecules": "molecules",
    "seed": "seeds",
}  # what a comparison sets of a training, and by which key


@dataclass(frozen=True)
class Cell:
    """One training: an ordinary run, in a folder of its own."""

    variant: str
    molecules: int | None  # None: all
    seed: int

    @property
    def folder(self) -> str:
        return f"{self.variant}/{'all' if self.molecules is None else self.molecules}/{self.seed}"


@dataclass(frozen=True)
class Comparison:
    """Variants × training molecules × seeds, and where each is scored."""

    kind: str
    title: str
    molecules: tuple[int | None, ...]  # None: all; 0: no training
    seeds: tuple[int, ...]
    learning_rates: tuple[float, ...]  # tried for each variant; none: each keeps its own
    seconds: float  # of each training; 0: it takes the steps of its config
    variants: Mapping[str, TrainingConfig]
    judges: Mapping[str, Judge]

    def cells(self) -> Iterator[Cell]:
        """Without training there are neither seeds, nor a model where a variant starts from none."""
        for variant, config in self.variants.items():
            for molecules in self.molecules:
                seeds = self.seeds[:1] if molecules == 0 else self.seeds
                if molecules != 0 or config.start:
                    yield from (Cell(variant, molecules, seed) for seed in seeds)


def read_comparison(path: Path) -> Comparison:
    """Raises RequestError naming file, key, value and remedy."""
    content = read_toml(path)
    for key, value in content.items():
        check_key(key, value, KEYS, str(path))
    reader = _Reader(content, path)
    comparison = reader.read()
    _check_together(comparison, reader.tables("variants"), reader.table("train"), str(path))
    return comparison


def comparison_values(comparison: Comparison) -> dict[str, Json]:
    """What must stay the same when a comparison goes on, but for seeds behind its own; where data lie may change."""
    variants = {name: config_values(config) for name, config in comparison.variants.items()}
    values: dict[str, Json] = {
        "kind": comparison.kind,
        "molecules": list(comparison.molecules),
        "seeds": list(comparison.seeds),
        "learning_rates": list(comparison.learning_rates),
        "seconds": comparison.seconds,
    }
    for name, config in variants.items():
        values |= {f"variants.{name}.{key}": value for key, value in config.items() if key not in FREE_KEYS}
    for name, judge in comparison.judges.items():
        free = {"store": judge.store is not None}  # its own, or the variant's
        values |= {f"judges.{name}.{key}": value for key, value in {**vars(judge), **free}.items()}
    return values


@dataclass(frozen=True)
class _Reader:
    content: Mapping[str, Any]
    path: Path

    def read(self) -> Comparison:
        kind = self.text("kind", "superres")
        if kind not in KINDS:
            raise self.fault("kind", kind, f"use {' or '.join(KINDS)}")
        molecules = self.numbers("molecules", int, least=0)
        return Comparison(
            kind=kind,
            title=self.text("title", self.path.stem),
            molecules=tuple(sorted(molecules)) or (None,),
            seeds=self.numbers("seeds", int, least=0) or (1,),
            learning_rates=self.numbers("learning_rates", float, above=0),
            seconds=(*self.numbers("seconds", float, above=0), 0.0)[0],
            variants=self.variants(KINDS[kind]),
            judges=self.judges(),
        )

    def variants(self, kind: Kind[Any]) -> dict[str, TrainingConfig]:
        shared, variants = self.table("train"), {}
        for name, own in self.tables("variants").items():
            _check_name(name, f"{self.path}: variants")
            place = f"{self.path}: variants.{name}"
            config = parse_config({**shared, **own}, kind.config, place)
            variants[name] = place_config(config, self.path.parent)
            if not config.store:
                raise RequestError(f'{place}: no store is named: add store = "PATH" to [train]')
        if not variants:
            raise self.fault("variants", {}, "name at least one, as in [variants.ours]")
        return variants

    def judges(self) -> dict[str, Judge]:
        judges = {}
        for name, table in self.tables("judges").items():
            _check_name(name, f"{self.path}: judges")
            place = f"{self.path}: judges.{name}"
            for key, value in table.items():
                check_key(key, value, [field.name for field in fields(Judge)], place)
                _check_type(key, value, {"rotations": int, "conformers_of_training": bool}.get(key, str), place)
            judge = Judge(**table)
            if judge.rotations < 0:
                raise RequestError(f"{place}: rotations = {judge.rotations}: must be 0 or greater")
            judges[name] = replace(judge, store=self.place(table["store"]) if "store" in table else None)
        return judges or {"test": Judge()}

    def place(self, store: str) -> Location:
        location = locate(store)
        return self.path.parent / location if isinstance(location, Path) else location

    def text(self, key: str, default: str) -> str:
        value = self.content.get(key, default)
        _check_type(key, value, str, str(self.path))
        return str(value)

    def numbers(self, key: str, kind: type, **limits: float) -> tuple[Any, ...]:
        """One or several; none where the key is left out."""
        value = self.content.get(key, [])
        several = value if isinstance(value, list) else [value]
        for one in several:
            _check_type(key, one, kind, str(self.path))
            if one < limits.get("least", 0) or ("above" in limits and one <= limits["above"]):
                raise self.fault(key, value, "each must be 0 or greater" if "least" in limits else "must be above 0")
        if len(set(several)) < len(several):
            raise self.fault(key, value, "each number once")
        return tuple(kind(one) for one in several)

    def table(self, key: str) -> Mapping[str, Any]:
        value = self.content.get(key, {})
        if not isinstance(value, dict):
            raise self.fault(key, value, f"must be a table, [{key}]")
        return value

    def tables(self, key: str) -> Mapping[str, Mapping[str, Any]]:
        value = self.table(key)
        for name, one in value.items():
            if not isinstance(one, dict):
                raise self.fault(f"{key}.{name}", one, f"must be a table, [{key}.{name}]")
        return value

    def fault(self, key: str, value: object, remedy: str) -> RequestError:
        return RequestError(f"{self.path}: {key} = {value!r}: {remedy}")


def _check_together(
    comparison: Comparison, variants: Mapping[str, Mapping[str, Any]], shared: Mapping[str, Any], name: str
) -> None:
    """What single values cannot tell."""
    taken = dict(OWN_KEYS)
    if comparison.learning_rates:
        taken["learning_rate"] = "learning_rates"
    if comparison.seconds:
        taken["steps"] = "seconds"
    for place, table in {"train": shared, **{f"variants.{one}": own for one, own in variants.items()}}.items():
        for key, own in taken.items():
            if key in table:
                raise RequestError(f"{name}: {place}.{key} = {table[key]!r}: the comparison's own {own} says it")
    if not all(config.start for config in comparison.variants.values()) and set(comparison.molecules) == {0}:
        raise RequestError(f"{name}: molecules = [0]: no training at all needs a model to start from: add start")


def _check_name(name: str, place: str) -> None:
    """It names a folder."""
    if not name.strip() or name.startswith(".") or "/" in name:
        raise RequestError(f"{place}.{name!r}: names a folder: use letters, digits, spaces and hyphens")


def _check_type(key: str, value: object, kind: type, place: str) -> None:
    wanted = {int: "whole numbers", float: "numbers", str: "text in quotes", bool: "true or false"}
    accepted = (int, float) if kind is float else (kind,)
    if type(value) not in accepted:
        raise RequestError(f"{place}: {key} = {value!r}: must be {wanted[kind]}")
