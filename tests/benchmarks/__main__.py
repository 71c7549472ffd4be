"""`make bench`: each figure is a ratio to a named peer, measured interleaved in one process on one thread.

The loader's are of wall time, with the processes and threads that it says.

`make bench ONLY="collocation dft"` runs some of them: collocation, growth, dft, builds, workers, codec, channels,
voxelizing, loader, predict, and those that are not run unless named, labels, scale and geometries.
"""

import os
import sys

os.environ.update({"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"})  # before NumPy is imported

from tests.benchmarks import (
    builds,
    channels,
    codec,
    collocation,
    dft,
    geometries,
    growth,
    labels,
    loader,
    predict,
    scale,
    voxelizing,
    workers,
)

BENCHMARKS = {
    "collocation": collocation.main,
    "growth": growth.main,
    "dft": dft.main,
    "builds": builds.main,
    "workers": workers.main,
    "codec": codec.main,
    "channels": channels.main,
    "voxelizing": voxelizing.main,
    "loader": loader.main,
    "predict": predict.main,
    "labels": labels.main,
    "scale": scale.main,
    "geometries": geometries.main,
}
ONLY_NAMED = ("labels", "scale", "geometries")


def main(names: list[str]) -> None:
    unknown = [name for name in names if name not in BENCHMARKS]
    if unknown:
        sys.exit(f"no benchmark {', '.join(unknown)}: there are {', '.join(BENCHMARKS)}")
    for name in names or [name for name in BENCHMARKS if name not in ONLY_NAMED]:
        print(f"\n{name}", flush=True)
        BENCHMARKS[name]()


if __name__ == "__main__":
    main(sys.argv[1:])
