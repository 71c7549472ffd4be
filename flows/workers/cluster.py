"""Cluster profiles: TOML files that say where a build computes."""

import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal, TypeAlias

import pydantic
from pydantic import Field, PositiveFloat, PositiveInt, model_validator

from flows.recipe import Table
from storage.errors import RequestError

LOOPBACK = ("127.", "localhost", "[::1]")


class ProfileError(RequestError):
    """The profile is wrong; the message names file, key, value and remedy."""


class Tls(Table):
    """PEM files, relative to the profile. Who holds a certificate of this authority may join, nobody else."""

    ca: Path
    certificate: Path
    key: Path


class Local(Table):
    """Processes of this machine."""

    kind: Literal["local"]
    workers: PositiveInt


class Address(Table):
    """A scheduler that runs already."""

    kind: Literal["address"]
    address: str = Field(description="tls://host:port, or tcp://127.0.0.1:port on this machine")
    tls: Tls | None = None

    @model_validator(mode="after")
    def _leaves_the_machine_encrypted(self) -> "Address":
        protocol, _, host = self.address.partition("://")
        if protocol == "tls":
            if self.tls is None:
                raise ValueError(f"address = {self.address!r}: add a table [tls] with ca, certificate and key")
        elif protocol != "tcp" or not host.startswith(LOOPBACK):
            raise ValueError(f"address = {self.address!r}: beyond this machine it must be tls://host:port")
        return self


class Slurm(Table):
    """Jobs that a scheduler in this process submits, and submits again where they end before the work does."""

    kind: Literal["slurm"]
    workers: PositiveInt = Field(description="processes in all")
    cores: PositiveInt = Field(1, description="processes of one job, each on a core of its own")
    memory_gib: PositiveFloat = Field(description="of one job")
    walltime_minutes: PositiveFloat
    lifetime_minutes: PositiveFloat = Field(description="after which a worker hands back its work and its job ends")
    stagger_minutes: PositiveFloat = Field(description="lifetimes differ by up to this, so that not all end at once")
    queue: str | None = None
    account: str | None = None
    directives: tuple[str, ...] = Field((), description='further options of sbatch, such as "--constraint=avx512"')
    setup: tuple[str, ...] = Field((), description="shell lines before the worker starts, such as module load")
    interface: str = Field("lo", description="network interface of scheduler and workers; lo: this machine alone")
    logs: Path = Field(Path("logs"), description="folder of the jobs' logs, relative to the profile")
    tls: Tls | None = None

    @model_validator(mode="after")
    def _lives_shorter_than_the_job(self) -> "Slurm":
        if self.lifetime_minutes + self.stagger_minutes >= self.walltime_minutes:
            raise ValueError(
                f"lifetime_minutes = {self.lifetime_minutes:g} and stagger_minutes = {self.stagger_minutes:g} reach "
                f"walltime_minutes = {self.walltime_minutes:g}: SLURM would kill workers in the middle of a shard"
            )
        return self

    @model_validator(mode="after")
    def _leaves_the_machine_encrypted(self) -> "Slurm":
        if self.interface != "lo" and self.tls is None:
            raise ValueError(f"interface = {self.interface!r}: add a table [tls] with ca, certificate and key")
        return self


class SlurmArray(Table):
    """Jobs of SLURM alone, without Dask: one that plans, an array that computes, one that seals."""

    kind: Literal["slurm-array"]
    parts: PositiveInt = Field(description="tasks of the array; no more than there are shards are of use")
    at_once: PositiveInt | None = Field(None, description="of these, how many may run at the same time; None: all")
    queue: str | None = None
    account: str | None = None
    submit: Path = Field(
        description="deploy/slurm/submit.sh or a copy, relative to the profile; times and memory: there"
    )
    logs: Path = Field(Path("logs"), description="folder of the jobs' logs, relative to the profile")


Workers: TypeAlias = Local | Address | Slurm  # of Dask
Profile: TypeAlias = Workers | SlurmArray


class _File(Table):
    """What pydantic needs to choose by kind."""

    profile: Annotated[Profile, Field(discriminator="kind")]


def check_cluster(cluster: str | None) -> None:
    """Raises ProfileError where `cluster` is neither a right address nor the file of a right profile."""
    if cluster is not None and "://" in cluster:
        check_address(cluster)
    elif cluster is not None:
        read_profile(Path(cluster))


def check_address(address: str) -> None:
    """Raises ProfileError where the way there is not encrypted, or would need certificates."""
    try:
        Address(kind="address", address=address)
    except pydantic.ValidationError as error:
        raise ProfileError(
            f"--cluster {address}: the address of a scheduler on this machine, such as tcp://127.0.0.1:8786, or a "
            "profile: deploy/profiles/address.toml names one elsewhere, with its certificates"
        ) from error


def read_array(cluster: str | None) -> SlurmArray | None:
    """The profile, where it asks for jobs instead of Dask workers. Raises ProfileError."""
    profile = None if cluster is None or "://" in cluster else read_profile(Path(cluster))
    return profile if isinstance(profile, SlurmArray) else None


def check_workers(cluster: str | None) -> None:
    """As `check_cluster`, where only Dask workers serve."""
    if cluster is not None and "://" in cluster:
        check_address(cluster)
    elif cluster is not None:
        read_workers(Path(cluster))


def read_workers(path: Path) -> Workers:
    """Raises ProfileError, also where the profile asks for no Dask workers."""
    profile = read_profile(path)
    if isinstance(profile, SlurmArray):
        raise ProfileError(
            f"{path}: kind = 'slurm-array' serves build and schedule alone: here, give one of Dask workers"
        )
    return profile


def read_profile(path: Path) -> Profile:
    """Raises ProfileError naming file, key, value and remedy."""
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ProfileError(
            f"--cluster {path}: cannot be read ({error.strerror}): give a profile, or an address such as "
            "tcp://127.0.0.1:8786"
        ) from error
    except tomllib.TOMLDecodeError as error:
        raise ProfileError(f"{path}: is no TOML: {error}") from error
    try:
        profile = _File.model_validate({"profile": content}).profile
    except pydantic.ValidationError as error:
        raise ProfileError("\n".join(f"{path}: {line}" for line in _explain(error))) from error
    return _with_paths_from(path, profile)


def _with_paths_from(path: Path, profile: Profile) -> Profile:
    folder = path.parent.resolve()
    changed: dict[str, Any] = {}
    if isinstance(profile, Address | Slurm) and profile.tls is not None:
        files = {name: folder / getattr(profile.tls, name) for name in ("ca", "certificate", "key")}
        for name, file in files.items():
            _check_file(path, f"tls.{name}", file, "deploy/certificates.sh makes all three")
        changed["tls"] = Tls(**files)
    if isinstance(profile, SlurmArray):
        changed["submit"] = folder / profile.submit
        _check_file(path, "submit", changed["submit"], "name deploy/slurm/submit.sh, or a copy of that folder")
    if isinstance(profile, Slurm | SlurmArray):
        changed["logs"] = folder / profile.logs
    return profile.model_copy(update=changed)


def _check_file(path: Path, key: str, file: Path, remedy: str) -> None:
    if not file.exists():
        raise ProfileError(f"{path}: {key} = '{file}': no such file; {remedy}")


def _explain(error: pydantic.ValidationError) -> Iterator[str]:
    for problem in error.errors():
        key, value = ".".join(map(str, problem["loc"][2:])), problem["input"]
        if problem["type"].startswith("union_tag"):
            kind = value.get("kind")
            yield f"kind = {kind!r}: must be local, address, slurm or slurm-array"
        elif problem["type"] == "extra_forbidden":
            yield f"{key} = {value!r}: unknown key; deploy/profiles shows those there are"
        elif problem["type"] == "missing":
            yield f"{key}: must be given; deploy/profiles shows examples"
        elif problem["type"] == "value_error":
            yield f"{key + ': ' if key else ''}{problem['msg'].removeprefix('Value error, ')}"
        else:
            yield f"{key} = {value!r}: {problem['msg'][0].lower()}{problem['msg'][1:]}"
