"""Where the reference data lie, which skips are allowed, and one thread to each of the processes that test."""

import os

os.environ.update({"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"})  # before any library starts its threads

from pathlib import Path

import pytest

REFERENCE = Path(__file__).parents[2] / "shared" / "reference"


@pytest.fixture
def reference() -> Path:
    """The folder of reference data; tests that use it are skipped where it is absent."""
    if not REFERENCE.is_dir():
        pytest.skip(f"{REFERENCE} is absent")
    return REFERENCE


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> object:
    """Where RHOFLOW_NO_SKIPS is set, a skip fails, unless the reference data are absent and the test needs them."""
    report = yield
    allowed = item.get_closest_marker("reference") and not REFERENCE.is_dir()
    if os.environ.get("RHOFLOW_NO_SKIPS") and report.skipped and not hasattr(report, "wasxfail") and not allowed:
        report.outcome = "failed"
        report.longrepr = f"skipped where every test must run: {report.longrepr}"
    return report
