"""Profiles say where workers come from, and refuse what would be unsafe or unknown, by file, key, value and remedy."""

import shutil
import subprocess
from pathlib import Path

import pytest

from flows.workers.cluster import Address, ProfileError, Slurm, read_profile
from flows.workers.fleet import count_slots, open_cluster
from tests.flows.small_build import rhoflow, rhoflow_here, write_recipe

DEPLOY = Path(__file__).parents[2] / "deploy"
SLURM = (
    'kind = "slurm"\nworkers = 4\nmemory_gib = 8\nwalltime_minutes = 60\nlifetime_minutes = 50\nstagger_minutes = 5\n'
)


def write(folder: Path, text: str) -> Path:
    path = folder / "profile.toml"
    path.write_text(text)
    return path


@pytest.mark.parametrize("name", sorted(path.stem for path in DEPLOY.glob("profiles/*.toml")))
def test_the_profiles_that_are_shipped_are_right(tmp_path: Path, name: str) -> None:
    shutil.copytree(DEPLOY, tmp_path, dirs_exist_ok=True)
    subprocess.run([DEPLOY / "certificates.sh", tmp_path / "profiles/tls"], check=True, timeout=30)
    profile = read_profile(tmp_path / f"profiles/{name}.toml")
    assert profile.kind == name
    if isinstance(profile, Address | Slurm):
        assert profile.tls is not None
        assert profile.tls.key == tmp_path / "profiles/tls/key.pem"
        assert profile.tls.key.stat().st_mode & 0o077 == 0  # for its owner's eyes


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('kind = "pbs"\n', "kind = 'pbs': must be local, address, slurm or slurm-array"),
        ('kind = "slurm-array"\nparts = 3\nsubmit = "nowhere.sh"\n', "nowhere.sh': no such file"),
        ("workers = 2\n", "kind = None"),
        ('kind = "local"\nworkers = 2\ncolour = 7\n', "colour = 7: unknown key"),
        ('kind = "local"\nworkers = 0\n', "workers = 0: "),
        ('kind = "local"\n', "workers: must be given"),
        ('kind = "address"\naddress = "tcp://10.0.0.5:8786"\n', "tcp://10.0.0.5:8786': beyond this machine"),
        ('kind = "address"\naddress = "tls://10.0.0.5:8786"\n', "add a table [tls]"),
        (SLURM + 'interface = "eth0"\n', "interface = 'eth0': add a table [tls]"),
        (SLURM.replace("lifetime_minutes = 50", "lifetime_minutes = 55"), "reach walltime_minutes = 60"),
        (SLURM + '[tls]\nca = "a.pem"\ncertificate = "b.pem"\nkey = "c.pem"\n', "a.pem': no such file"),
        ("kind", "is no TOML"),
    ],
)
def test_what_is_wrong_is_named(tmp_path: Path, text: str, said: str) -> None:
    path = write(tmp_path, text)
    with pytest.raises(ProfileError) as refusal:
        read_profile(path)
    assert said in str(refusal.value)
    assert str(path) in str(refusal.value)


def test_what_runs_on_dask_workers_alone_refuses_jobs_without_them(tmp_path: Path) -> None:
    profile, old, new = DEPLOY / "profiles/slurm-array.toml", tmp_path / "old.zarr", tmp_path / "new.zarr"
    assert "'slurm-array' serves build and schedule alone" in rhoflow_here(
        "voxelize", old, new, "--cluster", profile, code=2
    )


def test_a_build_with_a_wrong_profile_begins_nothing(tmp_path: Path) -> None:
    recipe, store = write_recipe(tmp_path), tmp_path / "store.zarr"
    assert "colour = 7: unknown key" in rhoflow(
        tmp_path, "build", recipe, store, "--cluster", write(tmp_path, 'kind = "local"\ncolour = 7\n'), code=2
    )
    assert "no-such.toml" in rhoflow(tmp_path, "build", recipe, store, "--cluster", "no-such.toml", code=2)
    for address in ("tcp://10.0.0.5:8786", "tls://10.0.0.5:8786"):
        printed = rhoflow_here("build", recipe, store, "--cluster", address, code=2)
        assert f"--cluster {address}: the address of a scheduler on this machine" in printed
        with pytest.raises(ProfileError), open_cluster(1, address):
            pass
    assert not store.exists()


def test_defaults_keep_everything_on_this_machine(tmp_path: Path) -> None:
    profile = read_profile(write(tmp_path, SLURM))
    assert isinstance(profile, Slurm)
    assert profile.interface == "lo"
    loopback = read_profile(write(tmp_path, 'kind = "address"\naddress = "tcp://127.0.0.1:8786"\n'))
    assert isinstance(loopback, Address)


def test_a_local_profile_gives_its_workers(tmp_path: Path) -> None:
    with open_cluster(1, str(write(tmp_path, 'kind = "local"\nworkers = 2\n'))) as client:
        assert count_slots(client) == 2
