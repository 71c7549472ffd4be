"""Fits with scikit-learn: the baselines of fingerprints, and the guess that a network of voxels starts from."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import nn

from storage.errors import RequestError
from storage.schema import FloatArray, IntArray
from training.models.fitted import ForestArchitecture, ForestNetwork, RidgeArchitecture, RidgeNetwork

Learnt = tuple[FloatArray, FloatArray]  # fingerprints (samples, bits), standardised labels (samples, targets)
PENALTIES = tuple(10.0**power for power in range(-2, 5))
PENALTIES_OF_FEW = tuple(10.0**power for power in range(-5, 5))  # where there are more molecules than numbers
FOLDS = 5
TREES = 200
NO_SKLEARN = "models of properties need scikit-learn: run `pip install 'rhoflow[train]'`"


def fit_ridge(training: Learnt, validation: Learnt, seed: int) -> nn.Module:  # noqa: ARG001
    """For each target the penalty with the smallest mean absolute error on the validation split."""
    network = RidgeNetwork(RidgeArchitecture(training[0].shape[1], training[1].shape[1]))
    for target in range(training[1].shape[1]):
        best = _choose_ridge(_known(training, target), _known(validation, target), PENALTIES)
        network.linear.weight.data[target] = torch.from_numpy(best.coef_)
        network.linear.bias.data[target] = float(best.intercept_)
    return network


def fit_guess(
    training: Learnt, validation: Learnt, groups: Sequence[object]
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """A ridge regression for each target: weights (targets, numbers), bias (targets,), guesses (samples, targets).

    The guesses of the training samples are made without the molecules of their groups, in folds: so they err as
    guesses of unseen molecules do.
    """
    numbers, targets = training[0].shape[1], training[1].shape[1]
    weights, bias, guesses = np.zeros((targets, numbers)), np.zeros(targets), np.zeros(training[1].shape)
    folds = _fold(groups)
    for target in range(targets):
        best = _choose_ridge(_known(training, target), _known(validation, target), PENALTIES_OF_FEW)
        weights[target], bias[target] = best.coef_, best.intercept_
        for fold in set(folds):
            rest = [one[folds != fold] for one in training]
            if np.isnan(rest[1][:, target]).all():
                continue  # no label is left to learn from: the guess is the mean
            known = _known((rest[0], rest[1]), target)
            guesses[folds == fold, target] = _ridge(best.alpha).fit(*known).predict(training[0][folds == fold])
    return weights, bias, guesses


def _fold(groups: Sequence[object]) -> IntArray:
    """The fold of each sample: groups stay together, unless there is one alone."""
    order = {group: number for number, group in enumerate(dict.fromkeys(groups))}
    numbers = [order[group] for group in groups] if len(order) > 1 else range(len(groups))
    return np.array(numbers, dtype=np.int64) % FOLDS


def _choose_ridge(learnt: Learnt, judged: Learnt, penalties: Sequence[float]) -> Any:
    fits = [_ridge(penalty).fit(*learnt) for penalty in penalties]
    return min(fits, key=lambda fit: float(np.abs(fit.predict(judged[0]) - judged[1]).mean()))


def _ridge(penalty: float) -> Any:
    try:
        from sklearn.linear_model import Ridge
    except ImportError as error:
        raise RequestError(NO_SKLEARN) from error
    return Ridge(alpha=penalty, solver="svd")


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
