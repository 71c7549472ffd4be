"""Every command line in deploy/ and in the README is one that the programs of this environment accept."""

import importlib
import inspect
import json
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml
from distributed.cli import dask_scheduler, dask_worker

from flows.cli import app

ROOT = Path(__file__).parents[1]
DEPLOY = ROOT / "deploy"
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
