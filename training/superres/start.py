"""Training that begins where another model ended: with its weights, its normalisation, and what it has seen."""

from dataclasses import replace

from storage.errors import RequestError
from training.distances import add_distances
from training.models.build import Network, architecture_values
from training.trained import Model, Origin
from training.unseen import check_spacing

SET_BY_DATA = "peak"  # of an architecture: the normalisation, which stays the started model's


def check_start(name: str, model: Model, network: Network, origin: Origin) -> None:
    """Whether a model, called `name`, can take the place of a new network of a training on `origin`.

    Raises RequestError where it is of another architecture or learnt something else, StoreError where its cells differ.
    """
    begun, wanted = (architecture_values(one.architecture) for one in (model.network, network))
    for key, value in wanted.items():
        if key != SET_BY_DATA:
            _check(name, key, begun.get(key), value)
    for key in ("input", "target"):
        _check(name, key, getattr(model.origin, key), getattr(origin, key))
    check_spacing(replace(model.origin, spacing_range=0.0), origin.spacing, origin.stores[0])


def add_origins(origin: Origin, before: Origin) -> Origin:
    """What was seen in either training counts as seen."""
    groups = {*origin.groups, *before.groups}
    return replace(
        origin,
        stores=list(dict.fromkeys([*origin.stores, *before.stores])),
        groups=sorted(groups),
        chosen_by=sorted(groups - origin.trained - before.trained),
        elements=sorted({*origin.elements, *before.elements}),
        charges=sorted({*origin.charges, *before.charges}),
        unpaired=sorted({*origin.unpaired, *before.unpaired}),
        distances=add_distances(origin.distances, before.distances),
        spacing_range=max(origin.spacing_range, before.spacing_range),
    )


def _check(name: str, key: str, begun: object, wanted: object) -> None:
    if begun != wanted:
        raise RequestError(
            f'start = "{name}": has {key} = {begun!r}, not {wanted!r}: make the config like it, or start from another'
        )
