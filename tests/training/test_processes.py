"""Real `rhoflow train` processes: killed at random, told to end, and several on one network."""

import csv
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from training.tensor_files import read_tensors

ROOT = Path(__file__).parents[2]
CONFIG = """
batch = 3
crop = 16
width = 4
depth = 1
steps = 60
checkpoint_steps = 7
device = "cpu"
"""
RHOFLOW = (sys.executable, "-m", "flows.cli")


def start(
    folder: Path, store: Path, *options: str, processes: int = 1, config: str = CONFIG, kind: str = "superres"
) -> subprocess.Popen[str]:
    """`rhoflow train` into `folder`/run."""
    folder.mkdir(exist_ok=True)
    (folder / "config.toml").write_text(config)
    several = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes), "-m", "flows.cli")
    command = RHOFLOW if processes == 1 else (sys.executable, *several)
    words = ("train", kind, folder / "config.toml", folder / "run", "--store", store, *options)
    return subprocess.Popen(
        [*command, *map(str, words)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip


def finish(process: subprocess.Popen[str]) -> str:
    said, _ = process.communicate(timeout=200)
    assert process.returncode == 0, said
    return said


def curve(run: Path) -> list[tuple[str, ...]]:
    with (run / "history.csv").open() as file:
        return [(row["step"], row["loss"], row["validation"]) for row in csv.DictReader(file)]


def weights(run: Path) -> dict[str, torch.Tensor]:
    state = read_tensors(run, "checkpoint.pt")
    return {f"{part} {name}": value for part in ("network", "averaged") for name, value in state[part].items()}


def wait_for(file: Path, process: subprocess.Popen[str], seconds: float = 60) -> None:
    """Until `file` is there, or the process has ended."""
    deadline = time.monotonic() + seconds
    while not file.exists() and process.poll() is None:
        assert time.monotonic() < deadline, f"{file} has not appeared in {seconds} s"
        time.sleep(0.01)


@pytest.fixture(scope="module")
def whole(store: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run of one process that nothing disturbed."""
    folder = tmp_path_factory.mktemp("whole")
    finish(start(folder, store))
    return folder / "run"


def test_a_training_killed_at_random_ends_in_the_same_bits(store: Path, whole: Path, tmp_path: Path) -> None:
    moments, kills = random.Random(time.time_ns()), 0
    for _ in range(2):
        process = start(tmp_path, store, *(["--resume"] if kills else []))
        before = (tmp_path / "run/checkpoint.pt").stat().st_mtime_ns if kills else 0
        wait_for(tmp_path / "run/checkpoint.pt", process)
        while process.poll() is None and (tmp_path / "run/checkpoint.pt").stat().st_mtime_ns == before:
            time.sleep(0.005)
        time.sleep(moments.uniform(0, 0.3))
        process.kill()
        process.communicate()
        kills += process.returncode == -signal.SIGKILL
    finish(start(tmp_path, store, "--resume"))
    assert kills > 0
    assert curve(tmp_path / "run") == curve(whole)
    assert all(torch.equal(value, weights(whole)[name]) for name, value in weights(tmp_path / "run").items())
    assert (tmp_path / "run/best.pt").read_bytes() == (whole / "best.pt").read_bytes()


def test_two_processes_learn_what_one_does(store: Path, whole: Path, tmp_path: Path) -> None:
    finish(start(tmp_path, store, processes=2))
    check_alike(tmp_path / "run", whole)


def test_two_told_to_end_leave_a_checkpoint_that_one_goes_on_from(store: Path, whole: Path, tmp_path: Path) -> None:
    process = start(tmp_path, store, processes=2)
    wait_for(tmp_path / "run/checkpoint.pt", process)
    process.terminate()
    said, _ = process.communicate(timeout=60)
    assert process.returncode != 0
    assert "told to end at step" in said
    assert "go on with --resume" in said
    finish(start(tmp_path, store, "--resume"))
    check_alike(tmp_path / "run", whole)


def check_alike(run: Path, whole: Path) -> None:
    """Sums are taken in another order: 2e-6 of the largest weight of a layer was measured after 60 steps."""
    theirs = weights(whole)
    for name, value in weights(run).items():
        assert float((value - theirs[name]).abs().max() / theirs[name].abs().max()) < 2e-5, name
    for mine, other in zip(curve(run), curve(whole), strict=True):
        assert [float(number or "0") for number in mine] == pytest.approx(
            [float(number or "0") for number in other], 1e-5
        )
