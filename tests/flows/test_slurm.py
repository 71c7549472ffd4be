"""A real SLURM on this machine builds the same dataset as plain commands do, also where a node is lost in between."""

import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

import flows.workers.array
from flows.workers.array import Jobs, JobsError, await_job, submit_jobs
from flows.workers.cluster import read_array
from flows.workers.fleet import open_cluster
from storage.identity import identify
from storage.seal import is_sealed
from tests.flows.small_build import command, environment, rhoflow, rhoflow_here, write_recipe
from tests.flows.test_build import ask as inquire
from tests.flows.test_build import running
from tests.flows.test_schedule import await_completed, await_message

pytestmark = [
    pytest.mark.slurm,
    pytest.mark.skipif(
        os.geteuid() != 0 or not all(map(shutil.which, ("slurmctld", "slurmd", "munged", "sbatch"))),
        reason="needs slurm-wlm and munge, and to be root",
    ),
]

SLURM = Path(__file__).parents[2] / "deploy/slurm"
ROWS = ("broken,C(C)(C)(C)(C)C,1.5", "twin,OC,9.5")


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The identity of the store that one process makes."""
    folder = tmp_path_factory.mktemp("plain")
    recipe, store = write_recipe(folder, ROWS), folder / "store.zarr"
    rhoflow_here("plan", recipe, store)
    rhoflow_here("run", store)
    rhoflow_here("seal", store)
    return identify(store)


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The folder of a SLURM of two nodes."""
    networks = [address for name, addresses in psutil.net_if_addrs().items() if name != "lo" for address in addresses]
    if not any(address.family == socket.AF_INET for address in networks):
        pytest.skip("SLURM resolves no name where loopback is the only network")
    folder = tmp_path_factory.mktemp("slurm")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SLURM_FIRST_PORT", str(20000 + os.getpid() % 10000))  # beside others on this machine
        local_cluster("start", folder)
        patch.setenv("SLURM_CONF", str(folder / "slurm.conf"))
        patch.setenv("PATH", f"{Path(sys.executable).parent}:{os.environ['PATH']}")
        yield folder
    local_cluster("stop", folder)


def local_cluster(*words: str | Path) -> None:
    subprocess.run([SLURM / "local_cluster.sh", *words], check=True, timeout=60)


def ask(*words: str) -> str:
    return subprocess.run(words, check=True, capture_output=True, text=True, timeout=30).stdout.strip()


def submit(recipe: Path, store: Path, home: Path, **parameters: str) -> str:
    """The number of the job that seals."""
    return submit_all(recipe, store, home, **parameters)[-1]


def submit_all(recipe: Path, store: Path, home: Path, **parameters: str) -> list[str]:
    """The numbers of the plan, of the array and of the job that seals."""
    logs = {"LOGS": str(store.parent / "logs")}
    given = [SLURM / "submit.sh", recipe, store]
    ended = subprocess.run(
        given, env={**environment(home), **logs, **parameters}, check=True, capture_output=True, text=True, timeout=60
    )
    return ended.stdout.split()


def name_of(stage: str, store: Path) -> str:
    """Of the jobs of one store."""
    sums = subprocess.run(["cksum"], input=str(store), check=True, capture_output=True, text=True).stdout
    return f"rhoflow-{stage}-{sums.split()[0]}"


def never() -> bool:
    return False


def await_true(what: str, question: Callable[[], object], seconds: float = 150) -> None:
    deadline = time.monotonic() + seconds
    while not question():
        assert time.monotonic() < deadline, f"not within {seconds:g} s: {what}\n{ask('squeue')}\n{ask('sinfo', '-N')}"
        time.sleep(0.2)


def state_of(job: str) -> dict[str, str]:
    """Key and value, of a job or of its first array task, as scontrol tells them."""
    return states_of(job)[0]


def states_of(job: str) -> list[dict[str, str]]:
    """Of every task of an array."""
    told = ask("scontrol", "--oneliner", "show", "job", job).splitlines()
    return [dict(word.split("=", 1) for word in line.split() if "=" in word) for line in told]


def await_end(job: str) -> str:
    await_true(f"job {job} has ended", lambda: state_of(job)["JobState"] in ("COMPLETED", "FAILED", "CANCELLED"))
    return state_of(job)["JobState"]


def logs_of(store: Path) -> str:
    return "".join(f"{path.name}: {path.read_text()}\n" for path in sorted((store.parent / "logs").iterdir()))


@pytest.mark.usefixtures("cluster")
def test_a_job_array_builds_the_identical_store(plain: dict[str, str], home: Path, tmp_path: Path) -> None:
    recipe, store = write_recipe(tmp_path, ROWS), tmp_path / "store.zarr"
    seal = submit(recipe, store, home, PARTS="3")
    assert await_end(seal) == "COMPLETED", logs_of(store)
    assert identify(store) == plain


def test_a_node_that_dies_costs_nothing(cluster: Path, plain: dict[str, str], home: Path, tmp_path: Path) -> None:
    recipe, store = write_recipe(tmp_path, ROWS), tmp_path / "store.zarr"
    seal = submit(recipe, store, home, PARTS="7", AT_ONCE="2")
    kill_busy_node(cluster, store)
    local_cluster("revive", cluster, "one")
    assert await_end(seal) == "COMPLETED", logs_of(store)
    assert identify(store) == plain


def kill_busy_node(cluster: Path, store: Path) -> None:
    """Kill node one while it computes a shard; returns when its jobs are queued again."""
    running = (
        "squeue",
        "--noheader",
        "--states=R",
        f"--name={name_of('run', store)}",
        "--nodelist=one",
        "--format=%i %M",
    )
    begun = ("0:00", "0:01")
    await_true("one shard is done, another just begun", lambda: receipts(store) and ask(*running).endswith(begun))
    local_cluster("kill", cluster, "one")
    lost = [line.split()[0] for line in ask(*running).splitlines()]
    assert lost
    assert not is_sealed(store)
    await_true("its jobs are queued again", lambda: all(int(state_of(task)["Restarts"]) for task in lost))


def receipts(store: Path) -> list[Path]:
    return list(store.glob("work/receipts/*.json"))


@pytest.mark.usefixtures("cluster")
def test_what_a_failed_array_left_is_named_and_the_same_command_ends_it(
    plain: dict[str, str], home: Path, tmp_path: Path
) -> None:
    recipe, store = write_recipe(tmp_path, ROWS), tmp_path / "store.zarr"
    seal = submit(recipe, store, home, PARTS="7", AT_ONCE="1")
    await_true("a shard is done", lambda: receipts(store))
    ask("scancel", f"--name={name_of('run', store)}")
    assert await_end(seal) == "FAILED"
    assert "cannot be sealed" in logs_of(store)
    assert await_end(submit(recipe, store, home, PARTS="2")) == "COMPLETED", logs_of(store)
    assert identify(store) == plain


@pytest.mark.usefixtures("cluster")
def test_a_plan_that_fails_ends_the_array_and_the_seal(home: Path, tmp_path: Path) -> None:
    recipe = write_recipe(tmp_path)
    recipe.write_text(recipe.read_text() + "colour = 7\n")
    seal = submit(recipe, tmp_path / "store.zarr", home, PARTS="2")
    assert await_end(seal) == "FAILED"
    assert "unknown key" in logs_of(tmp_path / "store.zarr")


@pytest.mark.usefixtures("cluster")
def test_an_array_that_is_refused_leaves_no_plan_behind(home: Path, tmp_path: Path) -> None:
    recipe, store = write_recipe(tmp_path), tmp_path / "store.zarr"
    with pytest.raises(subprocess.CalledProcessError) as refused:
        submit(recipe, store, home, PARTS="5000")  # MaxArraySize is 1001
    assert "Invalid job array specification" in refused.value.stderr
    asked = ("squeue", "--noheader", "--states=all", f"--name={name_of('plan', store)}", "--format=%T")
    await_true("the plan is cancelled", lambda: ask(*asked) == "CANCELLED")


@pytest.mark.usefixtures("cluster")
def test_a_second_array_on_one_store_waits_for_the_first(home: Path, tmp_path: Path) -> None:
    recipe, store = write_recipe(tmp_path, ROWS), tmp_path / "store.zarr"
    _, first, _ = submit_all(recipe, store, home, PARTS="7", AT_ONCE="1")
    await_true("a shard is done", lambda: receipts(store))
    _, second, seal = submit_all(recipe, store, home, PARTS="2")
    assert await_end(seal) == "COMPLETED", logs_of(store)
    ended = max(task["EndTime"] for task in states_of(first))
    assert max(task["SubmitTime"] for task in states_of(second)) < ended
    assert ended <= min(task["StartTime"] for task in states_of(second))


def write_array_profile(folder: Path) -> Path:
    path = folder / "slurm-array.toml"
    path.write_text(f'kind = "slurm-array"\nparts = 7\nat_once = 2\nsubmit = "{SLURM}/submit.sh"\n')
    return path


def test_a_scheduled_run_outlives_a_node_and_the_next_submits_nothing(
    cluster: Path, plain: dict[str, str], api: str, tmp_path: Path
) -> None:
    recipe, store = write_recipe(tmp_path, ROWS), tmp_path / "store.zarr"
    nightly = command("schedule", recipe, store, "--cron", "0 2 * * *", "--cluster", write_array_profile(tmp_path))
    earlier = submitted_jobs()
    with running(nightly, tmp_path, PREFECT_RUNNER_POLL_FREQUENCY="1"):
        schedule_soon(api)
        kill_busy_node(cluster, store)
        local_cluster("revive", cluster, "one")
        await_completed(api, 2)
        await_message(api, f"{store} is sealed: nothing to compute")
    assert identify(store) == plain
    assert len(submitted_jobs() - earlier) == 1 + 7 + 1  # plan, array, seal of the first run


@pytest.mark.usefixtures("cluster")
def test_jobs_that_fail_say_why_and_leave_none_waiting(tmp_path: Path) -> None:
    recipe = write_recipe(tmp_path)
    recipe.write_text(recipe.read_text() + "colour = 7\n")
    profile = read_array(str(write_array_profile(tmp_path)))
    assert profile
    with (
        pytest.raises(JobsError, match="unknown key"),
        submit_jobs(profile, recipe, tmp_path / "store.zarr", {}) as jobs,
    ):
        await_job(jobs, jobs.plan, print, never)
    await_true("all are gone", lambda: not ask("squeue", "--noheader", f"--jobs={jobs.array},{jobs.seal}"))


@pytest.mark.usefixtures("cluster")
def test_an_array_that_is_cancelled_from_outside_is_a_failure_at_once(tmp_path: Path) -> None:
    recipe, profile = write_recipe(tmp_path), read_array(str(write_array_profile(tmp_path)))
    assert profile

    def cancel(said: str) -> None:
        if "running" in said:  # some of its tasks; of the others SLURM then keeps one record
            ask("scancel", f"--name={name_of('run', tmp_path / 'store.zarr')}")

    with submit_jobs(profile, recipe, tmp_path / "store.zarr", {}) as jobs:
        await_job(jobs, jobs.plan, print, never)
        began = time.monotonic()
        with pytest.raises(JobsError, match="cancelled"):
            await_job(jobs, jobs.array, cancel, never)
    assert time.monotonic() - began < 60


@pytest.mark.usefixtures("cluster")
def test_an_array_that_is_held_is_a_failure(tmp_path: Path) -> None:
    recipe, profile = write_recipe(tmp_path), read_array(str(write_array_profile(tmp_path)))
    assert profile
    with submit_jobs(profile, recipe, tmp_path / "store.zarr", {}) as jobs:
        ask("scontrol", "hold", jobs.array)
        with pytest.raises(JobsError, match="JobHeld"):
            await_job(jobs, jobs.array, print, never)


@pytest.mark.usefixtures("cluster")
def test_of_a_job_that_slurm_forgot_the_store_is_asked(tmp_path: Path) -> None:
    forgotten = Jobs("900001", "900002", "900003", tmp_path)
    await_job(forgotten, forgotten.plan, print, lambda: True)
    with pytest.raises(JobsError, match="knows no job 900001 any more"):
        await_job(forgotten, forgotten.plan, print, never)


def test_a_silent_slurm_is_named_once_and_then_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "slurm.conf").touch()  # names no controller
    monkeypatch.setenv("SLURM_CONF", str(tmp_path / "slurm.conf"))
    monkeypatch.setattr(flows.workers.array, "SECONDS_BETWEEN_LOOKS", 0.1)
    monkeypatch.setattr(flows.workers.array, "PATIENCE", 1.0)
    said: list[str] = []
    with pytest.raises(JobsError, match="has not answered for"):
        await_job(Jobs("1", "2", "3", tmp_path), "1", said.append, never)
    assert said == ["job 1: SLURM does not answer"]


def schedule_soon(api: str) -> None:
    """Let the only deployment's schedule fire every twenty seconds too, rather than at night alone."""
    await_true("it is deployed", lambda: inquire(f"{api}/deployments/filter", {}))
    (deployment,) = inquire(f"{api}/deployments/filter", {})
    inquire(f"{api}/deployments/{deployment['id']}/schedules", [{"schedule": {"interval": 20}}])


def submitted_jobs() -> set[str]:
    """Numbers of all jobs of the last minutes."""
    return {*ask("squeue", "--noheader", "--array", "--states=all", "--format=%i").split()}


PROFILE = """
kind = "slurm"
workers = 2
memory_gib = 1
walltime_minutes = 10
lifetime_minutes = {lifetime}
stagger_minutes = 0.05
[tls]
ca = "tls/ca.pem"
certificate = "tls/certificate.pem"
key = "tls/key.pem"
"""


def write_profile(folder: Path, lifetime: float) -> Path:
    """Two encrypted workers in jobs of their own."""
    subprocess.run([SLURM.parent / "certificates.sh", folder / "tls"], check=True, timeout=30)
    path = folder / "profile.toml"
    path.write_text(PROFILE.format(lifetime=lifetime))
    return path


@pytest.mark.usefixtures("cluster")
def test_dask_workers_in_jobs_build_the_identical_store(plain: dict[str, str], home: Path, tmp_path: Path) -> None:
    recipe, store = write_recipe(tmp_path, ROWS), tmp_path / "store.zarr"
    rhoflow(home, "build", recipe, store, "--cluster", write_profile(tmp_path, lifetime=5))
    assert identify(store) == plain
    await_true("its jobs are gone", lambda: not ask("squeue", "--noheader"))
    assert list((tmp_path / "logs").glob("dask-worker-*.err"))


def listening(process: int) -> list[str]:
    """Addresses at which others may connect to it."""
    connections = psutil.Process(process).net_connections("tcp")
    return [connection.laddr.ip for connection in connections if connection.status == psutil.CONN_LISTEN]


@pytest.mark.usefixtures("cluster")
def test_workers_listen_on_loopback_alone_and_are_replaced_at_the_end_of_their_lives(tmp_path: Path) -> None:
    with open_cluster(1, str(write_profile(tmp_path, lifetime=0.15))) as client:
        first = client.submit(os.getpid, pure=False).result(timeout=60)
        everyone = {os.getpid(), *client.run(os.getpid).values(), *client.run(os.getppid).values()}
        assert {address.partition(".")[0] for pid in everyone for address in listening(pid)} == {"127"}
        jobs = ask("squeue", "--noheader", "--format=%i").split()
        await_true("the first jobs have ended", lambda: not {*jobs} & {*ask("squeue", "-h", "-o", "%i").split()})
        assert client.submit(os.getpid, pure=False).result(timeout=100) != first
