"""Probes of a field's latents: exact where a line explains a property, honest where nothing does."""

import numpy as np
import pandas as pd
import pytest

from flows.field.embedding import fit_ridge, probe_property
from pipeline.lipophilicity import crippen_logp

RANDOM = np.random.default_rng(4)


def probe(learnt: np.ndarray, asked: np.ndarray, inputs: list[np.ndarray]) -> float | None:
    found = probe_property("p", *inputs, pd.DataFrame({"p": learnt}), pd.DataFrame({"p": asked}))
    return None if found is None else found.r2


def test_a_line_is_found_and_chance_is_not() -> None:
    first, second = RANDOM.normal(size=(200, 10)), RANDOM.normal(size=(50, 10))
    first -= first.mean(axis=0)
    weights = np.arange(10.0)
    np.testing.assert_allclose(fit_ridge(first, first @ weights), weights, atol=0.01)
    assert probe(first @ weights + 3, second @ weights + 3, [first, second]) == pytest.approx(1, abs=1e-3)
    chance = probe(RANDOM.normal(size=200), RANDOM.normal(size=50), [first, second])
    assert chance is not None
    assert abs(chance) < 0.3


def test_a_property_that_does_not_vary_is_not_probed() -> None:
    first, second = RANDOM.normal(size=(20, 3)), RANDOM.normal(size=(5, 3))
    assert probe(np.zeros(20), np.arange(5.0), [first, second]) is None
    assert probe(np.full(20, np.nan), np.arange(5.0), [first, second]) is None


def test_logp_is_known_of_graphs_only() -> None:
    """Benzene's is six aromatic CH of 0.158 + 0.123 in the published table (C18, H1)."""
    values = crippen_logp(["c1ccccc1", "", "no graph"])
    assert values[0] == pytest.approx(6 * (0.1581 + 0.1230), abs=1e-3)
    assert np.isnan(values[1:]).all()
