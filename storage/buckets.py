"""Objects in a bucket of S3-compatible storage: each is put in one request, so that it appears whole or not at all."""

import os
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from functools import lru_cache
from typing import TYPE_CHECKING

from storage.errors import RequestError

if TYPE_CHECKING:
    from obstore import UpdateVersion
    from obstore.store import BackoffConfig, S3Store

SECONDS_PER_REQUEST = 120  # one object travels in one request
ATTEMPTS = 11  # of a request, over more than a minute, unless AWS_MAX_ATTEMPTS says otherwise
PAUSES: "BackoffConfig" = {"init_backoff": timedelta(seconds=1), "max_backoff": timedelta(seconds=15), "base": 3}


@dataclass(frozen=True)
class Bucket:
    """Where in object storage a store lies. Endpoint, region and credentials are the environment's: it holds none."""

    name: str
    prefix: str

    def __str__(self) -> str:
        return f"s3://{self.name}/{self.prefix}"


@dataclass(frozen=True)
class Tagged:
    """An object's content, and the tag that tells it from every other content."""

    content: bytes
    tag: str


# By bucket, what its claims have to say before anything is written: they raise StoreError where they are lost.
claims: dict[Bucket, list[Callable[[], None]]] = {}


def confirm_claims(bucket: Bucket) -> None:
    """Raises StoreError where a claim that this process held on the bucket is another's by now."""
    for confirm in tuple(claims.get(bucket, ())):
        confirm()


def put(bucket: Bucket, key: str, content: bytes) -> None:
    confirm_claims(bucket)
    connect(bucket).put(key, content, use_multipart=False)


def put_if(bucket: Bucket, key: str, content: bytes, tag: str) -> str:
    """Put in the place of the object of that tag, or where it is "", of none; the new tag, or "" if it was not so."""
    from obstore.exceptions import AlreadyExistsError, PreconditionError

    expected: UpdateVersion = {"e_tag": tag}
    try:
        written = connect(bucket).put(key, content, mode=expected if tag else "create")
    except (AlreadyExistsError, PreconditionError):
        return ""
    except FileNotFoundError as error:
        if tag and "NoSuchBucket" not in str(error):
            return ""
        raise
    return str(written["e_tag"])


def get(bucket: Bucket, key: str) -> Tagged:
    """Raises FileNotFoundError."""
    found = connect(bucket).get(key)
    return Tagged(bytes(found.bytes()), str(found.meta["e_tag"]))


def get_size(bucket: Bucket, key: str) -> int:
    """Bytes. Raises FileNotFoundError, also where `key` is but the beginning of others."""
    return connect(bucket).head(key)["size"]


def delete(bucket: Bucket, key: str) -> None:
    """What is not there is no error."""
    confirm_claims(bucket)
    connect(bucket).delete(key)


def list_all(bucket: Bucket, folder: str) -> list[str]:
    """Keys below `folder`; "" is the store itself."""
    return [entry["path"] for batch in connect(bucket).list(folder or None) for entry in batch]


def connect(bucket: Bucket) -> "S3Store":
    """A client with the settings of the environment. Raises RequestError where the library is not installed."""
    return _connect(bucket, os.environ.get("AWS_ENDPOINT_URL", ""))


@lru_cache(maxsize=8)
def _connect(bucket: Bucket, endpoint: str) -> "S3Store":
    try:
        from obstore.store import S3Store
    except ImportError as error:
        raise RequestError(f"{bucket}: object storage needs the extra s3: pip install 'rhoflow[s3]'") from error
    return S3Store(
        bucket.name,
        prefix=bucket.prefix,
        client_options={"timeout": f"{SECONDS_PER_REQUEST}s", "allow_http": endpoint.startswith("http://")},
        retry_config={"max_retries": int(os.environ.get("AWS_MAX_ATTEMPTS", ATTEMPTS)) - 1, "backoff": PAUSES},
    )
