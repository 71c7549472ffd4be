"""Another loader's passes over the samples, in a process of its own: `loader_peers.py NAME FOLDER WORKERS`.

It writes the samples of FOLDER/samples.npy, shape (sample, 2, n, n, n), in the loader's own format, where that is not
done yet, and says "ready". For every line that it then hears it takes one pass, and says how many samples it saw in how
many seconds. It imports nothing of ours: the loaders of other projects need an environment of their own.
"""

import json
import sys
import time
import types
from collections.abc import Callable, Iterable, Iterator
from functools import cache
from importlib.machinery import ModuleSpec
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset, IterableDataset, get_worker_info

BATCH = 16
SHARD = 16  # samples
CHANNELS = ("guess", "target")
TORCHVISION = {
    "torchvision": [],
    "torchvision.datasets": ["VisionDataset"],
    "torchvision.transforms": [],
    "torchvision.transforms.functional": ["to_tensor"],
}

Loader = Callable[[int], Iterable[Any]]


class ZarrSamples(Dataset[Any]):
    """One sample at a time, in any order."""

    def __init__(self, group: Path) -> None:
        self.group = group

    @cache  # noqa: B019
    def arrays(self) -> list[Any]:
        import zarr

        return [zarr.open_array(self.group / channel, mode="r") for channel in CHANNELS]

    def __len__(self) -> int:
        return int(self.arrays()[0].shape[0])

    def __getitem__(self, row: int) -> list[torch.Tensor]:
        return [torch.from_numpy(array[row]) for array in self.arrays()]


class ZarrShards(ZarrSamples, IterableDataset[Any]):  # type: ignore[misc]
    """A whole shard at a time, its samples shuffled: the fastest way of reading Zarr in turns."""

    def __iter__(self) -> Iterator[list[torch.Tensor]]:
        worker, random = get_worker_info(), np.random.default_rng()
        number, count = (worker.id, worker.num_workers) if worker else (0, 1)
        starts = np.arange(0, len(self), SHARD)
        for start in random.permutation(starts)[number::count].tolist():
            shards = [array[start : start + SHARD] for array in self.arrays()]
            for k in random.permutation(len(shards[0])).tolist():
                yield [torch.from_numpy(shard[k]) for shard in shards]


def load(dataset: Any, workers: int, shuffle: bool | None = None) -> DataLoader[Any]:
    return DataLoader(dataset, BATCH, shuffle=shuffle, num_workers=workers, persistent_workers=workers > 0)


def open_zarr_random(folder: Path) -> Loader:
    return lambda workers: load(ZarrSamples(folder / "zarr"), workers, shuffle=True)


def open_zarr_shards(folder: Path) -> Loader:
    return lambda workers: load(ZarrShards(folder / "zarr"), workers)


def open_mosaic(folder: Path) -> Loader:
    """MDS shards, compressed with zstd; they are decompressed once, into the local cache, and stay so."""
    stand_in_for_torchvision()
    from streaming import MDSWriter, StreamingDataset
    from streaming.base.util import clean_stale_shared_memory

    samples, remote = read_samples(folder), str(folder / "mds")
    columns = {channel: f"ndarray:float32:{','.join(map(str, samples.shape[2:]))}" for channel in CHANNELS}
    if not Path(remote).exists():
        with MDSWriter(out=remote, columns=columns, compression="zstd:3", hashes=["xxh64"]) as writer:
            for sample in samples:
                writer.write(dict(zip(CHANNELS, sample, strict=True)))
    clean_stale_shared_memory()
    dataset = StreamingDataset(remote=remote, local=str(folder / "mds_local"), shuffle=True, batch_size=BATCH)
    return lambda workers: load(dataset, workers)


def stand_in_for_torchvision() -> None:
    """The package imports it for images, but its wheel does not load beside a torch without CUDA."""
    for name, members in TORCHVISION.items():
        module = types.ModuleType(name)
        module.__spec__ = ModuleSpec(name, None)
        for member in members:
            setattr(module, member, object)
        sys.modules[name] = module


def open_litdata(folder: Path, compression: str | None = None) -> Loader:
    from litdata import StreamingDataLoader, StreamingDataset
    from litdata.streaming.cache import Cache

    chunks = folder / f"litdata_{compression}"
    if not chunks.exists():
        cache = Cache(str(chunks), chunk_bytes="64MB", compression=compression)
        for number, sample in enumerate(read_samples(folder)):
            cache[number] = dict(zip(CHANNELS, sample, strict=True))
        cache.done()
        cache.merge()
    dataset = StreamingDataset(str(chunks), shuffle=True)
    return lambda workers: StreamingDataLoader(
        dataset, batch_size=BATCH, num_workers=workers, persistent_workers=workers > 0
    )


def open_litdata_zstd(folder: Path) -> Loader:
    return open_litdata(folder, "zstd")


def open_webdataset(folder: Path) -> Loader:
    import webdataset

    tars = folder / "tars"
    if not tars.exists():
        tars.mkdir()
        with webdataset.ShardWriter(f"{tars}/%04d.tar", maxcount=64, verbose=0) as writer:
            for number, sample in enumerate(read_samples(folder)):
                boxes = {f"{channel}.npy": box for channel, box in zip(CHANNELS, sample, strict=True)}
                writer.write({"__key__": f"{number:06d}", **boxes})
    urls = sorted(map(str, tars.iterdir()))
    dataset = webdataset.WebDataset(urls, shardshuffle=100).shuffle(64).decode()
    batches = (
        dataset.to_tuple(*(f"{channel}.npy" for channel in CHANNELS)).map_tuple(*[torch.from_numpy] * 2).batched(BATCH)
    )
    return lambda workers: webdataset.WebLoader(
        batches, batch_size=None, num_workers=workers, persistent_workers=workers > 0
    )


def read_samples(folder: Path) -> np.ndarray:
    return np.load(folder / "samples.npy", mmap_mode="r")


LOADERS: dict[str, Callable[[Path], Loader]] = {
    "DataLoader, zarr-python, random": open_zarr_random,
    "DataLoader, zarr-python, shards": open_zarr_shards,
    "mosaicml-streaming": open_mosaic,
    "litdata": open_litdata,
    "litdata, zstd": open_litdata_zstd,
    "webdataset": open_webdataset,
}


def main(name: str, folder: Path, workers: int) -> None:
    torch.set_num_threads(1)
    said, sys.stdout = sys.stdout, sys.stderr  # what the loaders print themselves
    loader = LOADERS[name](folder)(workers)
    print("ready", file=said, flush=True)
    for _ in sys.stdin:
        started, samples = time.perf_counter(), 0
        for batch in loader:
            boxes = list(batch.values()) if isinstance(batch, dict) else batch
            samples += len(boxes[0])
        print(json.dumps([samples, time.perf_counter() - started]), file=said, flush=True)


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]))
