"""Fits the baselines of fingerprints, with scikit-learn, and the guess that a network of voxels starts from."""

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
GUESS_PENALTIES = tuple(10.0**power for power in range(-5, 8))  # the last leave the mean alone
FOLDS = 5
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


def fit_guess(
    learnt: Learnt, groups: Sequence[object], penalties: Sequence[float] = GUESS_PENALTIES
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Ridge regressions: weights (targets, numbers), bias (targets,), guesses of the training labels.

    The guesses, (samples, targets), are made in five folds without the molecules of the same group, so that they err as
    guesses of other molecules do. For each target they choose the penalty: that with the smallest mean absolute error.
    """
    numbers, labels = learnt
    weights, bias = np.zeros((labels.shape[1], numbers.shape[1])), np.zeros(labels.shape[1])
    guesses, folds = np.zeros(labels.shape), _fold(groups)
    for target, wanted in enumerate(labels.T):
        known, guessed = ~np.isnan(wanted), np.zeros((len(penalties), len(wanted)))
        for fold in set(folds):
            rest, judged = known & (folds != fold), folds == fold
            slopes, starts = _fit_ridges(numbers[rest], wanted[rest], penalties)
            guessed[:, judged] = slopes @ numbers[judged].T + starts[:, None]
        best = int(np.abs(guessed[:, known] - wanted[known]).mean(axis=1).argmin())
        slopes, starts = _fit_ridges(numbers[known], wanted[known], penalties[best : best + 1])
        weights[target], bias[target], guesses[:, target] = slopes[0], starts[0], guessed[best]
    return weights, bias, guesses


def _fit_ridges(numbers: FloatArray, labels: FloatArray, penalties: Sequence[float]) -> tuple[FloatArray, FloatArray]:
    """One for each penalty: slopes (penalties, numbers), starts (penalties,); all zero where there are no labels."""
    if not len(labels):
        return np.zeros((len(penalties), numbers.shape[1])), np.zeros(len(penalties))
    centre, mean = numbers.mean(axis=0), labels.mean()
    left, sizes, right = np.linalg.svd(numbers - centre, full_matrices=False)
    slopes = sizes / (sizes**2 + np.array(penalties)[:, None]) * (left.T @ (labels - mean)) @ right
    return slopes, mean - slopes @ centre


def _fold(groups: Sequence[object]) -> IntArray:
    """The fold of each sample: groups stay together, unless there is one alone."""
    order = {group: number for number, group in enumerate(dict.fromkeys(groups))}
    numbers = [order[group] for group in groups] if len(order) > 1 else range(len(groups))
    return np.array(numbers, dtype=np.int64) % FOLDS


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
