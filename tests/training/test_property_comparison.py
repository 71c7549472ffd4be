"""Representations and controls are compared on the same molecules, with the mean predictor beside them."""

import csv
import json
from pathlib import Path

import pytest
import torch

from flows.comparison.compare import compare
from storage.errors import RequestError
from tests.training.property_store import build_chains
from training.comparison.kind import Judge
from training.comparison.property import Property
from training.config import PropertyConfig
from training.parallel import Team
from training.property.evaluation import evaluate_property

CONFIG = """
kind = "property"
molecules = [10, 20]
seeds = [1, 2]
[train]
store = "chains/store.zarr"
targets = ["worth_kcal", "rare_D"]
batch = 4
steps = 4
checkpoint_steps = 2
width = 4
levels = 2
workers = 0
device = "cpu"
[variants.density]
representation = ["density"]
[variants.joint]
representation = ["density", "gradient", "shape"]
[variants."Morgan and ridge"]
model = "ridge"
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("comparison")
    build_chains(folder / "chains")
    return folder


def test_variants_and_the_mean_are_judged_by_the_same_molecules(folder: Path) -> None:
    (folder / "compare.toml").write_text(CONFIG)
    text = compare(folder / "compare.toml", folder / "run", workers=1, resume=False)
    with (folder / "run" / "comparison.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert {row["method"] for row in rows if row["is_trained"] == "True"} == {"density", "joint", "Morgan and ridge"}
    assert "mean predictor" in {row["method"] for row in rows}
    assert {row["measure"] for row in rows} == {"worth_kcal, kcal/mol", "rare_D, D"}
    assert len({row["judged_molecules"] for row in rows}) == 1
    assert "Morgan and ridge" in text
    before = (folder / "run" / "comparison.json").read_bytes()
    compare(folder / "compare.toml", folder / "run", workers=1, resume=True)
    assert (folder / "run" / "comparison.json").read_bytes() == before


def test_a_cell_says_what_its_evaluation_says(folder: Path) -> None:
    run, store = folder / "run" / "joint" / "20" / "2", folder / "chains" / "store.zarr"
    judgement = Property().judge_run(run, store, Judge())
    evaluate_property(run, store)
    record = json.loads((run / "evaluation.json").read_text())["targets"]["rare_D"]
    errors = judgement.model.errors["rare_D, D"]
    assert sum(errors) / len(errors) == pytest.approx(record["mae"]["mean"])
    floor = judgement.floors["mean predictor"].errors["rare_D, D"]
    assert sum(floor) / len(floor) == pytest.approx(record["mean_predictor_mae"]["mean"])


def test_what_is_fitted_in_one_go_takes_no_time_for_steps(tmp_path: Path) -> None:
    config = PropertyConfig(model="ridge", targets=("worth_kcal",))
    with pytest.raises(RequestError, match='seconds: model = "ridge" is fitted without steps'):
        Property().open(config, tmp_path, Team(torch.device("cpu")))
