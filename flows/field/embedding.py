"""What a field's latents know of molecules: a table of them, a map in two dimensions, and linear probes."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from pipeline.lipophilicity import crippen_logp
from storage.errors import StoreError
from storage.objects import Location, write_object
from storage.schema import FloatArray
from training.catalog import Catalog, read_catalog
from training.field.model import FieldModel
from training.field.read import open_reader
from training.field.scenes import StoredScenes
from training.subsets import choose_samples

TABLE, MAP = "embedding.csv", "embedding.html"
MOST = 2000  # molecules of a split
RIDGES = 10.0 ** np.arange(-4, 5)  # of the probes, relative; the training molecules choose


@dataclass(frozen=True)
class Probe:
    """How well a straight line through the latents tells a property of molecules that were never seen."""

    property: str
    molecules: int
    r2: float  # 1: perfectly; 0: no better than the mean of the training molecules

    def __str__(self) -> str:
        return f"{self.property:<18} R² {self.r2:6.3f} on {self.molecules} molecules"


def embed_molecules(model: FieldModel, store: Location, split: str, run: Path) -> list[Probe]:
    """Write table and map of the molecules of training and of a split; probe what their latents tell of the split's.

    Raises StoreError where every molecule of the split was trained on.
    """
    seen, rest = (choose_samples(read_catalog([store], part, ()), MOST) for part in ("train", split))
    known_groups = set(model.origin.groups)
    unknown = np.flatnonzero([str(group) not in known_groups for group in rest.table["group"]])
    if not len(unknown):
        raise StoreError(f'{store}: every molecule of split "{split}" was trained on: name another split or store')
    unseen = rest.take(unknown)
    latents = [pool_latents(model, catalog) for catalog in (seen, unseen)]
    mean, spread = latents[0].mean(axis=0), latents[0].std(axis=0) + 1e-12
    first, second = ((one - mean) / spread for one in latents)
    known, wanted = describe_molecules(seen), describe_molecules(unseen)
    names = [str(name) for name in known.columns]
    axes = np.linalg.eigh(first.T @ first)[1].T[:-3:-1]  # the two directions of most spread
    tables = []
    for catalog, values, properties, name in ((seen, first, known, "train"), (unseen, second, wanted, split)):
        flat = pd.DataFrame(values @ axes.T, columns=["map_x", "map_y"], index=catalog.table.index)
        columns = pd.DataFrame(values, columns=[f"latent_{k}" for k in range(values.shape[1])], index=flat.index)
        tables.append(pd.concat([flat.assign(split=name), properties.set_axis(flat.index), columns], axis=1))
    table = pd.concat(tables)
    write_object(run, TABLE, table.to_csv(index_label="id").encode())
    write_object(run, MAP, draw_map(table, names).encode())
    return [probe for name in names if (probe := probe_property(name, first, second, known, wanted)) is not None]


def pool_latents(model: FieldModel, catalog: Catalog) -> FloatArray:
    """Shape (molecules, features)."""
    reader = open_reader(model, StoredScenes(catalog, model.origin.described))
    return np.stack([reader.pool(number) for number in range(len(catalog))])


def describe_molecules(catalog: Catalog) -> pd.DataFrame:
    """What the probes ask for, one row per molecule."""
    table = catalog.table
    return pd.DataFrame(
        {
            "atoms": catalog.atoms.astype(np.float64),
            "charge": table["charge"].to_numpy(dtype=np.float64),
            "logP (Crippen)": crippen_logp([str(one) for one in table["smiles"]]),
        }
    )


def probe_property(
    name: str, first: FloatArray, second: FloatArray, known: pd.DataFrame, wanted: pd.DataFrame
) -> Probe | None:
    """A ridge regression, whose strength leaving one out chooses; None where the property does not vary."""
    learnt, asked = known[name].to_numpy(), wanted[name].to_numpy()
    here, there = np.isfinite(learnt), np.isfinite(asked)
    if here.sum() < 2 or there.sum() < 2 or np.ptp(learnt[here]) == 0 or np.ptp(asked[there]) == 0:
        return None
    middle = learnt[here].mean()
    weights = fit_ridge(first[here], learnt[here] - middle)
    errors = asked[there] - middle - second[there] @ weights
    return Probe(name, int(there.sum()), float(1 - np.sum(errors**2) / np.sum((asked[there] - middle) ** 2)))


def fit_ridge(inputs: FloatArray, values: FloatArray) -> FloatArray:
    """Weights (features,) of the ridge with the least error when each molecule is left out in turn."""
    left, sizes, right = np.linalg.svd(inputs, full_matrices=False)
    best, weights = np.inf, np.zeros(inputs.shape[1])
    for ridge in RIDGES * len(inputs):
        shrunk = sizes**2 / (sizes**2 + ridge)
        fitted = left @ (shrunk * (left.T @ values))
        leverage = np.sum(left**2 * shrunk, axis=1) + 1 / len(inputs)
        error = float(np.sum(((values - fitted) / np.maximum(1 - leverage, 1e-6)) ** 2))
        if error < best:
            best, weights = error, right.T @ (sizes / (sizes**2 + ridge) * (left.T @ values))
    return np.asarray(weights)


def draw_map(table: pd.DataFrame, properties: list[str]) -> str:
    """A page with all molecules in the plane in which latents vary most, coloured by one property at a time."""
    names = [f"{id}, {split}" for id, split in zip(table.index, table["split"], strict=True)]
    figure = go.Figure()
    for number, name in enumerate(properties):
        marker = {"color": table[name].tolist(), "colorscale": "Viridis", "showscale": True, "size": 7}
        figure.add_scatter(
            x=table["map_x"].tolist(),
            y=table["map_y"].tolist(),
            mode="markers",
            text=names,
            marker=marker,
            name=name,
            visible=number == 0,
        )
    buttons = [
        {"label": name, "method": "update", "args": [{"visible": [name == other for other in properties]}]}
        for name in properties
    ]
    figure.update_layout(
        title="Latents of a neural field, in the plane in which they vary most",
        updatemenus=[{"buttons": buttons, "x": 1, "y": 1.12}],
        xaxis_title="first principal component",
        yaxis_title="second",
        template="simple_white",
    )
    return str(figure.to_html(include_plotlyjs=True))
