"""Fits the baselines of fingerprints with scikit-learn."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import nn

from storage.errors import RequestError
from storage.schema import FloatArray
from training.models.fitted import ForestArchitecture, ForestNetwork, RidgeArchitecture, RidgeNetwork

Learnt = tuple[FloatArray, FloatArray]  # fingerprints (samples, bits), standardised labels (samples, targets)
PENALTIES = tuple(10.0**power for power in range(-2, 5))
TREES = 200
NO_SKLEARN = "models of fingerprints need scikit-learn: run `pip install 'rhoflow[train]'`"


def fit_ridge(training: Learnt, validation: Learnt, seed: int) -> nn.Module:  # noqa: ARG001
    """For each target the penalty with the smallest mean absolute error on the validation split."""
    try:
        from sklearn.linear_model import Ridge
    except ImportError as error:
        raise RequestError(NO_SKLEARN) from error
    network = RidgeNetwork(RidgeArchitecture(training[0].shape[1], training[1].shape[1]))
    for target in range(training[1].shape[1]):
        learnt, judged = (_known(one, target) for one in (training, validation))
        fits = [Ridge(alpha=penalty).fit(*learnt) for penalty in PENALTIES]
        best = min(fits, key=lambda fit: float(np.abs(fit.predict(judged[0]) - judged[1]).mean()))
        network.linear.weight.data[target] = torch.from_numpy(best.coef_)
        network.linear.bias.data[target] = float(best.intercept_)
    return network


def fit_forest(training: Learnt, validation: Learnt, seed: int) -> nn.Module:  # noqa: ARG001
    """A random forest for each target, with scikit-learn's defaults but for the number of trees."""
    try:
        from sklearn.ensemble import RandomForestRegressor
    except ImportError as error:
        raise RequestError(NO_SKLEARN) from error
    forests: list[list[Any]] = []
    for target in range(training[1].shape[1]):
        forest = RandomForestRegressor(TREES, max_features=1 / 3, random_state=seed)
        forests.append([one.tree_ for one in forest.fit(*_known(training, target)).estimators_])
    return _take_apart(forests)


def _known(learnt: Learnt, target: int) -> Learnt:
    known = ~np.isnan(learnt[1][:, target])
    return learnt[0][known], learnt[1][known, target]


def _take_apart(forests: Sequence[Sequence[Any]]) -> ForestNetwork:
    nodes = max(tree.node_count for trees in forests for tree in trees)
    network = ForestNetwork(ForestArchitecture(TREES, nodes, len(forests)))
    children, bit, threshold, value = (
        getattr(network, name).numpy() for name in ("lower", "bit", "threshold", "value")
    )
    children[...] = np.arange(nodes)[:, None]
    for target, trees in enumerate(forests):
        for number, tree in enumerate(trees):
            inner = np.flatnonzero(tree.children_left >= 0)
            place = (target, number)
            children[place][inner] = np.stack([tree.children_left, tree.children_right], axis=1)[inner]
            bit[place][inner] = tree.feature[inner]
            threshold[place][: tree.node_count] = tree.threshold
            value[place][: tree.node_count] = tree.value[:, 0, 0]
    return network
