"""Permutation null: what is kept, what is moved, size and power."""

import numpy as np
import pytest

from causalsat.checks.permutation import permutation_check, shuffled_treatment
from causalsat.errors import DataError


def test_rows_move_inside_blocks_only():
    rng = np.random.default_rng(0)
    d, block = (rng.random(200) < 0.4).astype(float), rng.integers(0, 5, 200)
    moved = shuffled_treatment(d, rng, block=block)
    assert not np.array_equal(moved, d)
    np.testing.assert_array_equal(np.bincount(block, moved), np.bincount(block, d))


def test_clusters_with_one_arm_move_as_wholes():
    rng = np.random.default_rng(1)
    cluster = np.repeat(np.arange(40), 3)
    d = (np.arange(40) % 4 == 0).astype(float)[cluster]
    block = cluster // 10
    moved = shuffled_treatment(d, rng, cluster, block)
    assert all(np.ptp(moved[cluster == c]) == 0 for c in range(40))
    np.testing.assert_array_equal(np.bincount(block, moved), np.bincount(block, d))
    assert not np.array_equal(moved, d)
    with pytest.raises(DataError, match="two blocks"):
        shuffled_treatment(d, rng, cluster, np.arange(120) % 2)


def test_mixed_clusters_are_shuffled_inside():
    rng = np.random.default_rng(2)
    cluster, d = np.repeat(np.arange(20), 4), np.tile([0.0, 1.0, 1.0, 0.0], 20)
    moved = shuffled_treatment(d, rng, cluster)
    np.testing.assert_array_equal(np.bincount(cluster, moved), np.bincount(cluster, d))


def gap(x):
    return lambda d: abs(x[d == 1].mean() - x[d == 0].mean())


def test_power_and_prefix():
    rng = np.random.default_rng(3)
    x = rng.standard_normal(200)
    d = (x + 0.5 * rng.standard_normal(200) > 0).astype(float)
    found = permutation_check("w", gap(x), d, seed=4)
    assert (found.passed, found.statistic) == (False, 0.01)
    short = permutation_check("w", gap(x), d, n=10, seed=4)
    assert short.table["shuffled"] == found.table["shuffled"][:10]


def test_p_values_are_uniform_under_the_null():
    rng = np.random.default_rng(5)
    rejected = 0
    for r in range(300):
        x, d = rng.standard_normal(40), np.tile([0.0, 1.0], 20)
        rejected += permutation_check("w", gap(x), d, n=19, seed=r).statistic <= 0.05
    # P(p <= 1/20) is exactly .05: binomial quantiles at two-sided error 1e-3 for R = 300.
    assert 4 <= rejected <= 29
