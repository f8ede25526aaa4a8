"""AUC, its influence values and its leave-one-cluster-out values, against scikit-learn and brute force."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score

from causalsat.kernels.rank import auc, auc_influence, auc_without, wins


def study(seed, n=80):
    rng = np.random.default_rng(seed)
    d = (rng.random(n) < 0.4).astype(float)
    d[:6] = 0, 1, 0, 1, 0, 1
    m = np.round(rng.random(n) * 0.8 + 0.1 * d, 1)  # many ties
    fold, cluster = np.arange(n) % 3, rng.integers(0, 12, n)
    cluster[:12] = np.arange(12)
    return m, d, rng.random(n) + 0.5, fold, cluster


def to_jax(*arrays):
    return [jnp.asarray(a) for a in arrays]


@given(st.integers(0, 10_000))
@settings(max_examples=20, deadline=None)
def test_matches_scikit_learn_with_ties_and_weights(seed):
    m, d, w, _, _ = study(seed)
    assert float(auc(*to_jax(m, d, w))) == pytest.approx(roc_auc_score(d, m, sample_weight=w), abs=1e-12)


@given(st.integers(0, 10_000))
@settings(max_examples=20, deadline=None)
def test_reversed_scores_give_one_minus_auc_and_monotone_maps_change_nothing(seed):
    m, d, w, fold, _ = study(seed)
    value = float(auc(*to_jax(m, d, w, fold)))
    assert float(auc(*to_jax(1 - m, d, w, fold))) == pytest.approx(1 - value, abs=1e-12)
    assert float(auc(*to_jax(np.exp(3 * m), d, w, fold))) == pytest.approx(value, abs=1e-12)
    assert float(auc(*to_jax(m, 1 - d, w, fold))) == pytest.approx(1 - value, abs=1e-12)


def test_folds_are_averaged_by_their_pairs():
    m, d, _, fold, _ = study(1)
    one = np.ones_like(m)
    parts = [
        (roc_auc_score(d[fold == f], m[fold == f]), d[fold == f].sum() * (1 - d[fold == f]).sum()) for f in range(3)
    ]
    expected = sum(a * n for a, n in parts) / sum(n for _, n in parts)
    assert float(auc(*to_jax(m, d, one, fold))) == pytest.approx(expected, abs=1e-12)


def test_influence_is_the_derivative_and_the_printed_formula():
    m, d, w, fold, _ = study(2)
    jm, jd, jw, jf = to_jax(m, d, w / w.mean(), fold)
    value, phi = auc_influence(jm, jd, jw, jf)
    slope = jax.grad(lambda v: auc(jm, jd, v, jf))(jw)
    np.testing.assert_allclose(phi, slope * jw * m.size, rtol=1e-10, atol=1e-12)
    ones = jnp.ones_like(jw)
    value, phi = auc_influence(jm, jd, ones)
    p = d.mean()
    f0 = np.array([((m[d == 0] < v) + 0.5 * (m[d == 0] == v)).mean() for v in m])
    f1 = np.array([((m[d == 1] < v) + 0.5 * (m[d == 1] == v)).mean() for v in m])
    expected = d / p * (f0 - float(value)) + (1 - d) / (1 - p) * (1 - f1 - float(value))
    np.testing.assert_allclose(phi, expected, atol=1e-12)


def test_leaving_a_cluster_out_is_exact():
    m, d, w, fold, cluster = study(3)
    found = auc_without(*to_jax(m, d, w, fold, cluster), 12)
    for c in range(12):
        kept = cluster != c
        again = float(auc(*to_jax(m[kept], d[kept], w[kept], fold[kept])))
        assert float(found[c]) == pytest.approx(again, abs=1e-12)


def test_a_group_with_one_arm_has_no_pairs():
    m, d, w = np.array([0.1, 0.2, 0.3]), np.array([1.0, 1.0, 0.0]), np.ones(3)
    beaten, rivals = wins(*to_jax(m, d, w, np.array([0, 1, 1])))
    np.testing.assert_array_equal(rivals, [0, 1, 1])
    np.testing.assert_array_equal(beaten, [0, 0, 0])
