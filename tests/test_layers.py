"""The walls of the house: who may import whom, and where each heavy library lives."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
ROOMS = ("flows", "pipeline", "storage", "training")

# Rooms and files of ours that a room may import.
MAY_IMPORT = {
    "storage": (),
    "pipeline": ("storage.schema", "storage.errors"),
    "training": (
        "storage",
        "pipeline.collocation",
        "pipeline.elements",
        "pipeline.failures",
        "pipeline.fields",
        "pipeline.fingerprints",
        "pipeline.rotation",
        "pipeline.units",
    ),
    "flows": ("storage", "pipeline", "training"),
}

# The only rooms (or files) that may import a heavy library.
HOMES = {
    "zarr": ("storage",),
    "xarray": ("storage",),
    "obstore": ("storage",),
    "torch": ("training",),
    "torch_geometric": ("training/models/schnet.py",),
    "sklearn": ("training/property/fit.py",),
    "prefect": (
        "flows/dataset.py",
        "flows/workers/array_stages.py",
        "flows/artifacts.py",
        "flows/schedule.py",
        "flows/comparison/flow.py",
    ),
    "matplotlib": ("flows/comparison/plot.py",),
    "distributed": ("flows",),
    "dask": ("flows",),
    "typer": ("flows/commands",),
    "pydantic": ("flows/recipe.py", "flows/workers/cluster.py"),
    "plotly": ("flows",),
    "skimage": ("flows",),
    "rdkit": ("pipeline",),
    "tblite": ("pipeline/engines",),
    "xtb": ("pipeline/engines",),
    "pyscf": ("pipeline/engines",),
    "gemmi": ("pipeline",),
}

# What a command may load before it is told what to do: each environment installs only a part.
LAZY = (
    "prefect",
    "dask",
    "distributed",
    "torch",
    "rdkit",
    "pyscf",
    "tblite",
    "xtb",
    "plotly",
    "skimage",
    "obstore",
    "matplotlib",
)


def source_files(room: str) -> list[Path]:
    return sorted((ROOT / room).rglob("*.py"))


def imports_of(file: Path) -> list[str]:
    """Full names of every module that a file imports anywhere, inside functions too."""
    names = []
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file}: relative import"
            names += [f"{node.module}.{alias.name}" for alias in node.names]
    return names


def is_within(name: str, allowed: str) -> bool:
    return name == allowed or name.startswith(allowed + ".")


@pytest.mark.parametrize("room", ROOMS)
def test_rooms_import_in_one_direction(room: str) -> None:
    for file in source_files(room):
        for name in imports_of(file):
            other = name.split(".")[0]
            if other in ROOMS and other != room:
                assert any(is_within(name, allowed) for allowed in MAY_IMPORT[room]), f"{file} imports {name}"


@pytest.mark.parametrize("library", sorted(HOMES))
def test_each_heavy_library_has_one_home(library: str) -> None:
    for room in ROOMS:
        for file in source_files(room):
            if any(is_within(name, library) for name in imports_of(file)):
                place = file.relative_to(ROOT).as_posix()
                homes = HOMES[library]
                assert any(place == home or place.startswith(home + "/") for home in homes), (
                    f"{place} imports {library}"
                )


def test_what_training_takes_from_the_pipeline_knows_neither_torch_nor_chemistry() -> None:
    names = ("collocation", "elements", "failures", "fields", "rotation", "units")
    rooms = [ROOT / f"pipeline/{name}.py" for name in names]
    for file in rooms:  # and every file of ours that these import
        for name in imports_of(file):
            outside = name.split(".")[0]
            assert outside in {
                "array_api_compat", "collections", "dataclasses", "functools", "itertools", "math", "numpy",
                "pipeline", "scipy", "storage", "typing",
            }, f"{file} imports {name}"  # fmt: skip
            inside = ROOT / "pipeline" / f"{name.split('.')[1]}.py" if outside == "pipeline" else file
            if inside not in rooms:
                rooms.append(inside)


def test_only_the_controls_of_fingerprints_bring_chemistry_to_training() -> None:
    """`rhoflow train` works where RDKit is not installed; these say what to install."""
    users = [file for file in source_files("training") if any("fingerprints" in name for name in imports_of(file))]
    assert [file.name for file in users] == ["molecule_boxes.py"]


def test_the_command_line_loads_nothing_heavy_by_itself() -> None:
    for file in (ROOT / "flows/cli.py", *(ROOT / "flows/commands").glob("*.py")):
        tree = ast.parse(file.read_text())
        top = [node for node in tree.body if isinstance(node, ast.Import | ast.ImportFrom)]
        names = [getattr(node, "module", None) or node.names[0].name for node in top]  # type: ignore[union-attr]
        ours = [name for name in names if not is_within(name, "flows.commands")]
        assert not [name for name in ours if name.split(".")[0] in (*LAZY, "flows", "pipeline", "training")], file


def test_package_initialisers_are_empty() -> None:
    for room in ROOMS:
        for file in (ROOT / room).rglob("__init__.py"):
            assert not file.read_text(), f"{file} is not empty"
