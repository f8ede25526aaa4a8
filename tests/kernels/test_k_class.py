"""Point functions of the k-class: mapped over simulated studies, and defined where textbook forms are not."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.linalg import eigh

from causalsat.kernels.k_class import k_class_point, liml_kappa, ridge_tsls_point


def moments(Z, X, y):
    """X'P_Z X, X'P_Z y, X'X, X'y and the two matrices of Y = [y X], all over n."""
    n = y.shape[0]
    basis = jnp.linalg.qr(Z)[0]
    Y = jnp.concatenate([y[:, None], X], axis=1)
    inside = basis.T @ Y
    projected, total = inside.T @ inside / n, Y.T @ Y / n
    return projected[1:, 1:], projected[1:, 0], total[1:, 1:], total[1:, 0], projected, total


def study(key, *, n=400, q=5, strength=0.15):
    """One simulated study with confounding 0.8 and effect 1."""
    one, two, three = jax.random.split(key, 3)
    Z, v = jax.random.normal(one, (n, q)), jax.random.normal(two, (n,))
    x = strength * Z.sum(axis=1) + v
    return Z, x[:, None], x + 0.8 * v + 0.6 * jax.random.normal(three, (n,))


def fits(key):
    """OLS, TSLS and LIML of one simulated study."""
    XPX, XPy, XX, Xy, projected, total = moments(*study(key))
    kappa = liml_kappa(projected, total, False)
    grid = jnp.stack([jnp.zeros(()), jnp.ones(()), kappa])
    return jax.vmap(lambda k: k_class_point(XPX, XPy, XX, Xy, k)[0])(grid)


def test_mapped_over_studies():
    keys = jax.random.split(jax.random.key(0), 600)
    found = np.asarray(jax.jit(jax.vmap(fits))(keys))
    np.testing.assert_allclose(found[7], fits(keys[7]), rtol=1e-10)
    ols, tsls, liml = np.median(found, axis=0) - 1.0
    assert ols == pytest.approx(0.8 / (1.0 + 5 * 0.15**2), abs=0.02)
    assert 0.03 < tsls < 0.12
    assert abs(liml) < 0.025


def test_liml_kappa_is_the_textbook_ratio():
    *_, projected, total = moments(*study(jax.random.key(4)))
    inside, everything = np.asarray(projected), np.asarray(total)
    textbook = eigh(everything, everything - inside, eigvals_only=True)[0]
    assert float(liml_kappa(projected, total, False)) == pytest.approx(textbook, rel=1e-12)
    assert float(liml_kappa(projected, total, True)) == 1.0


def test_liml_kappa_with_a_treatment_in_the_span_of_instruments():
    Z, X, y = study(jax.random.key(5))
    both = jnp.concatenate([X, Z[:, :1] + Z[:, 1:2]], axis=1)
    XPX, XPy, XX, Xy, projected, total = moments(Z, both, y)
    kappa = liml_kappa(projected, total, False)
    b = k_class_point(XPX, XPy, XX, Xy, kappa)
    assert 1.0 < float(kappa) < 1.1
    direction = jnp.concatenate([jnp.ones(1), -b])
    inside, everything = direction @ projected @ direction, direction @ total @ direction
    assert float(inside / (everything - inside)) == pytest.approx(float(kappa) - 1.0, rel=1e-8)


@pytest.mark.parametrize("penalty", [0.0, 1e-3, 1.0])
def test_ridge_is_the_ridge_solution(penalty):
    draw = np.random.default_rng(2)
    B, w = draw.normal(size=(6, 3)), draw.normal(size=6)
    expected = np.linalg.solve(B.T @ B + penalty * np.eye(3), B.T @ w)
    np.testing.assert_allclose(ridge_tsls_point(jnp.asarray(B), jnp.asarray(w), jnp.asarray(penalty)), expected, 1e-10)
