"""One page tells a dataset: whole by itself, every failure named, nothing of the data taken for HTML."""

import html
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from flows.report.page import write_report
from storage.errors import RequestError
from storage.objects import read_record
from storage.reader import open_dataset
from tests.flows.small_build import rhoflow_here, write_recipe
from training.config import SuperresConfig
from training.superres.evaluation import compare_errors, evaluate_superres
from training.superres.task import train_superres

CHROMIUM = shutil.which("chromium")
HOSTILE = "<img src=x onerror=alert(1)>&"
HINT = "Canvas2D: Multiple readback"  # advice on speed that plotly's heat maps draw from Chromium
SOFTWARE_GL = ("--use-gl=angle", "--use-angle=swiftshader", "--enable-unsafe-swiftshader")


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve samples, and three rows that fail: one id that looks like HTML, no molecule at all, one too large."""
    folder = tmp_path_factory.mktemp("report")
    rows = (f"{HOSTILE},C1CC,0", "nonsense,not a molecule,0", f"giant,{'C' * 24},0")
    recipe = write_recipe(folder, rows)
    recipe.write_text(recipe.read_text() + "[splits]\ntrain = 0.4\nvalidation = 0.3\ntest = 0.3\n")
    built = folder / "small.zarr"
    for arguments in (("plan", recipe, built), ("run", built), ("seal", built)):
        rhoflow_here(*arguments)
    return built


@pytest.fixture(scope="module")
def page(store: Path) -> Path:
    path = store.parent / "report.html"
    write_report(store, None, path)
    return path


@pytest.fixture(scope="module")
def run(store: Path) -> Path:
    """Four steps of training, and their evaluation."""
    folder = store.parent / "run"
    config = SuperresConfig(store=(store,), steps=4, batch=1, crop=8, width=4, depth=1, checkpoint_steps=2)
    train_superres(config, folder)
    evaluate_superres(folder, store)
    return folder


@pytest.fixture(scope="module")
def run_page(store: Path, run: Path) -> Path:
    path = store.parent / "run.html"
    write_report(store, run, path)
    return path


def without_scripts(text: str) -> str:
    return re.sub(r"<script.*?</script>", "", text, flags=re.DOTALL)


def test_the_page_loads_nothing_from_elsewhere(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    opening = re.findall(r"<script[^>]*>", text)
    assert opening
    assert not [tag for tag in opening if "src" in tag]
    assert not re.findall(r"""(?:src|href)\s*=\s*["']?\s*(?:https?:)?//""", without_scripts(text))
    assert "@import" not in text.split("</style>")[0]
    assert "url(" not in text.split("</style>")[0]


def test_every_failed_row_is_named_with_its_reason(page: Path) -> None:
    text = without_scripts(page.read_text(encoding="utf-8"))
    for id, reason in ((HOSTILE, "invalid_input"), ("nonsense", "invalid_input"), ("giant#0", "too_large")):
        assert re.search(rf">{re.escape(html.escape(id))}</td><td[^>]*>{reason}</td>", text)


def test_what_comes_from_the_data_is_never_taken_for_html(page: Path) -> None:
    assert "<img" not in page.read_text(encoding="utf-8").split("</script>", 1)[1]


def test_counts_of_rows_and_samples_are_stated(page: Path) -> None:
    stated = dict(re.findall(r"<dt>([^<]*)</dt><dd>(\d+)", page.read_text(encoding="utf-8")))
    assert {name: stated[name] for name in ("rows", "done", "failed", "samples")} == {
        "rows": "15", "done": "12", "failed": "3", "samples": "12",
    }  # fmt: skip
    assert sum(int(stated[split]) for split in ("train", "validation", "test")) == 12


def test_molecules_of_the_test_split_are_shown_first(store: Path, page: Path) -> None:
    table = open_dataset(store).table
    shown = re.findall(r"<h3>([^ ]+) ", page.read_text(encoding="utf-8"))
    assert len(shown) == 6
    assert set(shown) >= set(table.index[table["split"] == "test"])


def test_the_recipe_stands_there_as_it_was_written(store: Path, page: Path) -> None:
    assert html.escape((store.parent / "recipe.toml").read_text()) in page.read_text(encoding="utf-8")


def test_a_run_shows_what_it_predicts_and_what_that_is_worth(store: Path, run: Path, run_page: Path) -> None:
    text = run_page.read_text(encoding="utf-8")
    assert '<option value="prediction">' in text
    assert '<option value="prediction − target">' in text
    evaluation = read_record(run, "evaluation.json")
    assert f"<b>{compare_errors(float(str(evaluation['factor'])))}</b>" in text
    table = open_dataset(store).table
    scores = text.split("scores-figure", 1)[1].split("history-figure", 1)[0]
    assert all(id in scores for id in table.index[table["split"] == "test"])


def test_a_run_that_is_not_evaluated_yet_says_so(store: Path, run: Path, tmp_path: Path) -> None:
    shutil.copytree(run, tmp_path / "run", ignore=shutil.ignore_patterns("evaluation.json"))
    write_report(store, tmp_path / "run", tmp_path / "page.html")
    assert "Not evaluated yet" in (tmp_path / "page.html").read_text(encoding="utf-8")


def test_a_run_that_took_no_step_says_so(store: Path, run: Path, tmp_path: Path) -> None:
    shutil.copytree(run, tmp_path / "run", ignore=shutil.ignore_patterns("history.csv"))
    write_report(store, tmp_path / "run", tmp_path / "page.html")
    assert "No step was taken" in (tmp_path / "page.html").read_text(encoding="utf-8")


def test_the_same_store_gives_the_same_page(store: Path, page: Path, tmp_path: Path) -> None:
    write_report(store, None, tmp_path / "again.html")
    assert (tmp_path / "again.html").read_bytes() == page.read_bytes()


def test_a_store_that_is_not_sealed_has_a_page_without_pictures(tmp_path: Path) -> None:
    recipe, store = write_recipe(tmp_path), tmp_path / "begun.zarr"
    rhoflow_here("plan", recipe, store)
    write_report(store, None, tmp_path / "begun.html")
    text = (tmp_path / "begun.html").read_text(encoding="utf-8")
    assert "not sealed yet" in text
    assert re.search(r"<dt>missing</dt><dd>12", text)


def test_what_is_no_store_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RequestError, match="no rhoflow store"):
        write_report(tmp_path / "nowhere.zarr", None, tmp_path / "page.html")


def test_a_page_in_a_missing_folder_is_refused_before_any_work(store: Path, tmp_path: Path) -> None:
    with pytest.raises(RequestError, match="does not exist"):
        write_report(store, None, tmp_path / "missing" / "page.html")


@pytest.mark.browser
@pytest.mark.skipif(CHROMIUM is None, reason="needs chromium")
def test_a_browser_draws_every_figure_without_complaint(run_page: Path, tmp_path: Path) -> None:
    assert CHROMIUM is not None
    arguments = (CHROMIUM, "--headless", "--no-sandbox", *SOFTWARE_GL, f"--user-data-dir={tmp_path}")
    arguments += ("--virtual-time-budget=20000", "--enable-logging=stderr", "--dump-dom", run_page.as_uri())
    ended = subprocess.run(arguments, capture_output=True, text=True, timeout=250, check=True)
    drawn = without_scripts(ended.stdout)
    figures = re.findall(r'<div id="([a-z]+-[a-z0-9]+)" class="plotly-graph-div', run_page.read_text(encoding="utf-8"))
    assert len(figures) > 8
    for name in figures:
        assert 'class="main-svg"' in drawn.split(f'<div id="{name}"', 1)[1][:2000], f"{name} was not drawn"
    surface = drawn.split('<div id="surface-stage"', 1)[1].split("</section>")[0]
    assert "<canvas" in surface
    assert "no-webgl" not in surface
    said = [line for line in ended.stderr.splitlines() if ":CONSOLE:" in line and "source: chrome://" not in line]
    assert not [line for line in said if HINT not in line]
