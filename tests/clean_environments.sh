#!/bin/sh
# Three environments made from nothing, each with only the extras that its job names, do their part of one dataset:
#   1. plan, run --parts and seal with `chemistry` alone: no torch, no Prefect, no Dask;
#   2. rhoflow build with `chemistry` and `flow`: no torch;
#   3. rhoflow train superres, and voxels from wavefunctions, with `train` alone: no chemistry, no Prefect.
set -eu
python=${PYTHON:-python3.11}
here=$(cd "$(dirname "$0")/.." && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

make_environment() {  # name, extras
    "$python" -m venv "$work/$1"
    "$work/$1/bin/python" -m pip install --quiet "$here[$2]" 2>&1 | { grep -v -e '^WARNING' -e '^$' -e notice || true; }
}

refuse() {  # name, packages that must be absent
    name=$1; shift
    for package in "$@"; do
        if "$work/$name/bin/python" -c "import $package" 2>/dev/null; then
            echo "environment $name has $package, so it proves nothing"; exit 1
        fi
    done
}

cat >"$work/recipe.toml" <<'RECIPE'
[source]
path = "molecules.csv"
id = "name"
[densities.guess]
engine = "gfn2"
[densities.target]
engine = "gaussian"
[grid]
spacing_angstrom = 0.4
classes = [24, 32]
[splits]
train = 0.5
validation = 0.25
test = 0.25
[store]
shard_samples = 4
RECIPE
cp "$here/flows/demo/molecules.csv" "$work/molecules.csv"

make_environment worker chemistry
refuse worker torch prefect distributed
"$work/worker/bin/rhoflow" plan "$work/recipe.toml" "$work/parts.zarr"
"$work/worker/bin/rhoflow" run "$work/parts.zarr" --parts 1/2
"$work/worker/bin/rhoflow" run "$work/parts.zarr" --parts 2/2
"$work/worker/bin/rhoflow" seal "$work/parts.zarr"

make_environment flow chemistry,flow
refuse flow torch
PREFECT_HOME="$work/prefect" "$work/flow/bin/rhoflow" build "$work/recipe.toml" "$work/flow.zarr" --workers 2

make_environment trainer train
refuse trainer rdkit pyscf tblite prefect distributed
cat >"$work/superres.toml" <<CONFIG
store = "parts.zarr"
steps = 5
CONFIG
"$work/trainer/bin/rhoflow" train superres "$work/superres.toml" "$work/run"
"$work/trainer/bin/rhoflow" evaluate "$work/run" "$work/parts.zarr"
"$work/trainer/bin/python" -P - "$work/parts.zarr" <<'PYTHON'  # voxels from wavefunctions
import sys
from pathlib import Path
import torch
from training.batch import Draw
from training.catalog import read_catalog
from training.stored import Cutting
from training.wavefunctions import WavefunctionBoxes
catalog = read_catalog([Path(sys.argv[1])], "train", ("guess", "target"))
boxes = WavefunctionBoxes(catalog, "guess", "target", Cutting(crop=16, turn=True), torch.device("cpu"))
assert boxes.read([Draw(0, 0)]).target.sum() > 0
PYTHON
echo "clean environments: 3 passed"
