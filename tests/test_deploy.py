"""Every command line in deploy/ and in the README is one that the programs of this environment accept."""

import csv
import importlib
import inspect
import json
import re
import shlex
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml
from distributed.cli import dask_scheduler, dask_worker

from flows.cli import app
from flows.engines import build_engines
from flows.recipe import parse_recipe, read_recipe
from flows.source import open_molecules
from pipeline.molecule import canonical_smiles, graph_charge, graph_composition, graph_group, read_graph
from storage.schema import Molecule
from storage.splits import assign_split

ROOT = Path(__file__).parents[1]
DEPLOY = ROOT / "deploy"
DATASETS = sorted(DEPLOY.glob("datasets/*.toml"))
DENSITIES = {
    "complexes.toml": {"promolecule", "ligand"},
    "maps.toml": {"map", "promolecule"},
    "freesolv.toml": {"xtb"},
    "qm9-channels.toml": {"xtb"},
    "qm9-study.toml": {"xtb"},
}  # of the other recipes: xtb, atomic, target
MANIFESTS = sorted(DEPLOY.glob("kubernetes/*.yaml"))


def command_lines() -> Iterator[tuple[str, list[str]]]:
    """File and words of every `rhoflow …` and `dask …` that is run anywhere."""
    readme = "".join(re.findall(r"```sh\n(.*?)```", (ROOT / "README.md").read_text(), flags=re.DOTALL))
    texts = [(file.name, file.read_text()) for file in sorted(DEPLOY.glob("*/*"))] + [("README.md", readme)]
    for name, text in texts:
        for line in re.findall(r"^(?:exec )?(rhoflow .*?)(?: +#.*)?$", text, flags=re.MULTILINE):
            yield name, shlex.split(line.replace('"$@"', ""))
        for line in re.findall(r"^CMD (.*)$", text, flags=re.MULTILINE):
            yield name, json.loads(line)
    for file in MANIFESTS:
        for words in containers_commands(read_manifests(file)):
            shell = re.fullmatch(r"exec (rhoflow .*)", words[-1])
            yield file.name, shlex.split(shell[1]) if shell else words


def read_manifests(file: Path) -> list[dict[str, Any]]:
    return list(yaml.safe_load_all(file.read_text()))


def containers_commands(part: object) -> Iterator[list[str]]:
    if isinstance(part, dict):
        for key, value in part.items():
            if key in ("command", "args"):
                yield value
            else:
                yield from containers_commands(value)
    elif isinstance(part, list):
        for value in part:
            yield from containers_commands(value)


def parse(words: list[str]) -> None:
    """As the program itself reads them, short of doing anything."""
    programs = {"worker": dask_worker.main, "scheduler": dask_scheduler.main}
    command: Any = programs[words[1]] if words[0] == "dask" else typer.main.get_command(app)
    given = [re.sub("^(--tls.*=).*", r"\1/dev/null", word) for word in words[2 if words[0] == "dask" else 1 :]]
    while given != ["--help"] and hasattr(command, "commands"):
        assert given[0] in command.commands, f"no command {given[0]}"
        command, given = command.commands[given[0]], given[1:]
    if given != ["--help"]:
        command.make_context(words[0], given).close()


LINES = list(command_lines())


def test_the_command_lines_are_found() -> None:
    found = {file for file, _ in LINES}
    assert {"plan.sbatch", "run.sbatch", "seal.sbatch", "cpu.Dockerfile", "gpu.Dockerfile", "README.md"} <= found
    assert {"plan.yaml", "array.yaml", "seal.yaml", "build.yaml", "dask.yaml"} <= found
    assert len(LINES) > 20


@pytest.mark.parametrize(
    "words", [words for _, words in LINES], ids=[f"{file}: {' '.join(words)}" for file, words in LINES]
)
def test_a_command_line_is_accepted(words: list[str]) -> None:
    parse(words)


def test_a_command_line_that_is_wrong_is_not() -> None:
    with pytest.raises(Exception, match="--nonsense"):
        parse(["rhoflow", "seal", "store.zarr", "--nonsense"])


@pytest.mark.parametrize("file", DATASETS, ids=lambda file: file.name)
def test_a_dataset_can_be_built_as_its_first_lines_say(file: Path) -> None:
    users_files = "beside this file" in " ".join(re.findall(r"^# (.*)$", file.read_text(), flags=re.MULTILINE))
    recipe = parse_recipe(file.read_text(), file) if users_files else read_recipe(file)
    assert set(build_engines(recipe)) == DENSITIES.get(file.name, {"xtb", "atomic", "target"})
    assert f"# rhoflow build deploy/datasets/{file.name} {file.stem}.zarr\n" in file.read_text()


def test_elements_are_of_four_families_with_sulfur_chlorine_or_a_net_charge() -> None:
    rows = list(csv.DictReader((DEPLOY / "datasets/elements.csv").read_text().splitlines()))
    graphs = [(row["family"], read_graph(row["smiles"])) for row in rows]
    assert len({canonical_smiles(graph) for _, graph in graphs}) == len({row["name"] for row in rows}) == 150
    assert min(Counter(family for family, _ in graphs).values()) >= 37
    for family, graph in graphs:
        numbers, charge = set(graph_composition(graph).tolist()), graph_charge(graph)
        told = {(True, False, 0): "sulfur", (False, True, 0): "chlorine", (False, False, 1): "ammonium"}
        assert told.get((16 in numbers, 17 in numbers, charge), "carboxylate" if charge == -1 else "") == family
        assert numbers <= {1, 6, 7, 8, 9, 16, 17}
        assert graph.GetNumHeavyAtoms() <= 7


def test_a_hundred_of_the_elements_are_training_molecules() -> None:
    assert count_splits("elements")["train"] >= 100
    assert count_splits("elements")["test"] >= 30


def test_a_thousand_of_small_qm9_are_training_molecules_and_the_conformers_are_of_them() -> None:
    fractions = read_recipe(DEPLOY / "datasets/qm9-small.toml").splits.fractions
    splits = {
        one.id: assign_split(graph_group(read_graph(str(one.smiles))), fractions) for one in molecules("qm9-small")
    }
    assert Counter(splits.values())["train"] >= 1000
    for name, split in (("conformers", "train"), ("conformers-unseen", "test")):
        chosen = list(molecules(name))
        assert len(chosen) == 20
        assert {splits[one.id] for one in chosen} == {split}
        assert count_splits(name) == {"test": 20}


def molecules(name: str) -> Iterator[Molecule]:
    return open_molecules(read_recipe(DEPLOY / f"datasets/{name}.toml").source)


def count_splits(name: str) -> Counter[str]:
    fractions = read_recipe(DEPLOY / f"datasets/{name}.toml").splits.fractions
    return Counter(assign_split(graph_group(read_graph(str(one.smiles))), fractions) for one in molecules(name))


@pytest.mark.parametrize("file", MANIFESTS, ids=lambda file: file.name)
def test_what_a_pod_mounts_is_one_of_its_volumes(file: Path) -> None:
    for pod in pods(read_manifests(file)):
        mounts = {mount["name"] for container in pod["containers"] for mount in container["volumeMounts"]}
        assert mounts == {volume["name"] for volume in pod["volumes"]}
        assert pod["securityContext"]["runAsNonRoot"]


def pods(part: object) -> Iterator[dict[str, Any]]:
    if isinstance(part, dict) and "containers" in part:
        yield part
    elif isinstance(part, dict | list):
        for value in part.values() if isinstance(part, dict) else part:
            yield from pods(value)


def test_deployments_name_flows_and_parameters_that_exist() -> None:
    (content,) = yaml.safe_load_all((DEPLOY / "prefect.yaml").read_text())
    for deployment in content["deployments"]:
        module, _, name = deployment["entrypoint"].rpartition(".")
        flow = getattr(importlib.import_module(module), name)
        inspect.signature(flow.fn).bind(**deployment["parameters"])
