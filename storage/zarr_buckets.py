"""A bucket as zarr-python reads and writes it, one request for each object."""

from dataclasses import replace
from typing import Self

from obstore.store import S3Store
from zarr.core.buffer import Buffer
from zarr.storage import ObjectStore

from storage.buckets import Bucket, confirm_claims, connect


class BucketStore(ObjectStore[S3Store]):
    """Nothing is sent in several parts, of which a killed writer would leave some, and nothing without the claim."""

    def __init__(self, bucket: Bucket, key: str = "", *, read_only: bool = False) -> None:
        """What lies below `key`."""
        below = replace(bucket, prefix=f"{bucket.prefix}/{key}" if key else bucket.prefix)
        super().__init__(connect(below), read_only=read_only)
        self._bucket, self._key = bucket, key

    def with_read_only(self, read_only: bool = False) -> Self:
        return type(self)(self._bucket, self._key, read_only=read_only)

    async def set(self, key: str, value: Buffer) -> None:
        self._check_writable()
        confirm_claims(self._bucket)
        await self.store.put_async(key, value.as_buffer_like(), use_multipart=False)

    async def delete(self, key: str) -> None:
        confirm_claims(self._bucket)
        await super().delete(key)
