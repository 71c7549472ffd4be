"""Cluster profiles: TOML files that say where the Dask workers of a build come from."""

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


Profile: TypeAlias = Local | Address | Slurm


class _File(Table):
    """What pydantic needs to choose by kind."""

    profile: Annotated[Profile, Field(discriminator="kind")]


def check_cluster(cluster: str | None) -> None:
    """Raises ProfileError where `cluster` is neither an address nor the file of a right profile."""
    if cluster is not None and "://" not in cluster:
        read_profile(Path(cluster))


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
    if not isinstance(profile, Local) and profile.tls is not None:
        files = {name: folder / getattr(profile.tls, name) for name in ("ca", "certificate", "key")}
        for name, file in files.items():
            if not file.exists():
                raise ProfileError(
                    f"{path}: tls.{name} = '{file}': no such file; deploy/certificates.sh makes all three"
                )
        changed["tls"] = Tls(**files)
    if isinstance(profile, Slurm):
        changed["logs"] = folder / profile.logs
    return profile.model_copy(update=changed)


def _explain(error: pydantic.ValidationError) -> Iterator[str]:
    for problem in error.errors():
        key, value = ".".join(map(str, problem["loc"][2:])), problem["input"]
        if problem["type"].startswith("union_tag"):
            kind = value.get("kind")
            yield f"kind = {kind!r}: must be local, address or slurm"
        elif problem["type"] == "extra_forbidden":
            yield f"{key} = {value!r}: unknown key; deploy/profiles shows those there are"
        elif problem["type"] == "missing":
            yield f"{key}: must be given; deploy/profiles shows examples"
        elif problem["type"] == "value_error":
            yield f"{key + ': ' if key else ''}{problem['msg'].removeprefix('Value error, ')}"
        else:
            yield f"{key} = {value!r}: {problem['msg'][0].lower()}{problem['msg'][1:]}"
