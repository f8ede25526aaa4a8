"""Canonical correlations against scikit-learn, correlations, and invariance."""

import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from causalsat.kernels.canonical import canonical_correlations


def study(seed, n=200):
    rng = np.random.default_rng(seed)
    common = rng.standard_normal((n, 2))
    a = np.column_stack([common + rng.standard_normal((n, 2)), rng.standard_normal(n)])
    b = common @ rng.standard_normal((2, 2)) + rng.standard_normal((n, 2))
    return a, b, rng.random(n) + 0.5


def test_one_column_each_is_the_absolute_correlation():
    a, b, _ = study(1)
    found = canonical_correlations(jnp.asarray(a[:, :1]), jnp.asarray(-b[:, :1]), jnp.ones(200), 0.0)
    assert float(found[0]) == pytest.approx(abs(np.corrcoef(a[:, 0], b[:, 0])[0, 1]), abs=1e-12)
    small = canonical_correlations(jnp.asarray(a[:, :1]), jnp.asarray(b[:, :1]), jnp.ones(200))
    assert float(small[0] * (1 + 1e-6)) == pytest.approx(float(found[0]), abs=1e-12)


def test_squares_are_the_eigenvalues_of_the_product_of_regressions():
    a, b, _ = study(2)
    a, b = a - a.mean(axis=0), b - b.mean(axis=0)
    product = np.linalg.solve(b.T @ b, b.T @ a) @ np.linalg.solve(a.T @ a, a.T @ b)
    expected = np.sqrt(np.sort(np.linalg.eigvals(product).real)[::-1])
    found = canonical_correlations(jnp.asarray(a), jnp.asarray(b), jnp.ones(200), 0.0)
    np.testing.assert_allclose(found, expected, atol=1e-10)


@given(st.integers(0, 10_000))
@settings(max_examples=15, deadline=None)
def test_linear_maps_shifts_and_weights_that_count_rows(seed):
    a, b, _ = study(seed)
    rng = np.random.default_rng(seed)
    mixed = 3 * a @ np.linalg.qr(rng.standard_normal((3, 3)))[0] + 5
    plain = canonical_correlations(jnp.asarray(a), jnp.asarray(b), jnp.ones(200))
    np.testing.assert_allclose(
        canonical_correlations(jnp.asarray(mixed), jnp.asarray(b), jnp.ones(200)), plain, atol=1e-9
    )
    counts = rng.integers(0, 3, 200)
    weighted = canonical_correlations(jnp.asarray(a), jnp.asarray(b), jnp.asarray(counts, dtype=float))
    copies = [jnp.asarray(np.repeat(v, counts, axis=0)) for v in (a, b)]
    np.testing.assert_allclose(weighted, canonical_correlations(*copies, jnp.ones(counts.sum())), atol=1e-10)
    assert np.all((np.asarray(plain) >= 0) & (np.asarray(plain) <= 1))
