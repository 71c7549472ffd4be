"""What a disk or an object storage refuses, in words: which file or object, what was wrong, and the remedy."""

import errno
import re
from collections.abc import Iterator
from contextlib import contextmanager

from storage.errors import RhoflowError
from storage.objects import Location

AGAIN = "What is made is kept: run the same command again then"
REMEDIES = {
    errno.ENOSPC: "make room there",
    errno.EDQUOT: "make room within the quota",
    errno.EFBIG: "raise the limit of file sizes (ulimit -f)",
    errno.EROFS: "make it writable, or take another folder",
    errno.EACCES: "give this user the right to it",
    errno.EPERM: "give this user the right to it",
    errno.ENOTDIR: "name a folder",
    errno.EIO: "check the disk, then `rhoflow verify`",
    errno.ESTALE: "mount it again",
    errno.ENODEV: "mount it again",
    errno.ENOLCK: "mount it with locks (Lustre: flock), or take another file system",
    errno.ENOSYS: "mount it with locks (Lustre: flock), or take another file system",
    errno.EOPNOTSUPP: "mount it with locks (Lustre: flock), or take another file system",
    errno.EMFILE: "raise the limit of open files (ulimit -n)",
}
BUCKET_REMEDIES = {
    "NoSuchBucket": "there is no such bucket: make it, or check the URL and AWS_ENDPOINT_URL",
    "PermissionDeniedError": "access is denied: check AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, and what they allow",
    "UnauthenticatedError": "the credentials are not accepted: check AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY",
    "ExpiredToken": "the credentials have expired: renew AWS_SESSION_TOKEN",
}
REQUEST = re.compile(r"performing (\w+) (\S+?)(?:\?\S*)? in ")
ANSWER = (re.compile(r"<Code>(\w+)</Code>"), re.compile(r"status code: (\d+)"))


class StorageFault(RhoflowError):
    """Where the store lies is full, closed or out of reach: no fault of the store, nor of the request."""


@contextmanager
def name_place(store: Location) -> Iterator[None]:
    """What the system says without naming a file, as of a full disk, is said of the store."""
    try:
        yield
    except OSError as error:
        if error.errno and not error.filename:
            error.filename = str(store)
        raise


def explain_fault(error: Exception) -> StorageFault | None:
    """None where it is no fault of a storage that its user can mend."""
    if type(error).__module__.startswith("obstore") or "NoSuchBucket" in str(error):
        return StorageFault(_explain_refusal(error))
    if isinstance(error, OSError) and error.errno in REMEDIES:
        place = error.filename or "a disk"
        return StorageFault(f"{place}: {error.strerror}: {REMEDIES[error.errno]}. {AGAIN}")
    return None


def _explain_refusal(error: Exception) -> str:
    """Of an object storage; what it answered, without what was sent."""
    said = str(error)
    request, answer = REQUEST.search(said), next(filter(None, (pattern.search(said) for pattern in ANSWER)), None)
    what = " ".join(request.groups()) if request else "object storage"
    words = f" ({answer[1]})" if answer else ""
    signs = f"{type(error).__name__} {said}"
    other = "refused, for a reason of its own" if answer else "no answer: check the network and AWS_ENDPOINT_URL"
    remedy = next((remedy for sign, remedy in BUCKET_REMEDIES.items() if sign in signs), other)
    return f"{what}{words}: {remedy}. {AGAIN}"
