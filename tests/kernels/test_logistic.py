"""Logistic fits: statsmodels without penalty, scikit-learn with, separation, batches, calibration lines."""

import jax.numpy as jnp
import numpy as np
import pytest
import statsmodels.api as sm
from sklearn.linear_model import LogisticRegression

from causalsat.kernels.logistic import (
    Batch,
    batch_coefficients,
    fixed_hessian_logistic,
    logistic,
    platt_line,
)
from causalsat.kernels.ridge_path import Basis, ridge_basis


@pytest.fixture(scope="module")
def sample():
    rng = np.random.default_rng(11)
    x = rng.normal(size=(400, 6)) @ rng.normal(size=(6, 6)) + 1.0
    y = (rng.random(400) < 1 / (1 + np.exp(-(0.5 * x[:, 0] - 0.3 * x[:, 1])))).astype(float)
    return x, y, rng.integers(1, 4, size=400).astype(float)


def test_matches_statsmodels_without_penalty(sample):
    x, y, w = sample
    peer = sm.GLM(y, sm.add_constant(x), family=sm.families.Binomial(), freq_weights=w).fit(tol=1e-14)
    fit = logistic(x, y, w)
    assert bool(fit.converged)
    np.testing.assert_allclose(np.asarray(fit.coefficients), peer.params, rtol=1e-8, atol=1e-10)


@pytest.mark.parametrize("penalty", [0.01, 1.0, 100.0])
def test_matches_scikit_learn_with_penalty(sample, penalty):
    x, y, w = sample
    peer = LogisticRegression(C=1 / penalty, tol=1e-12, max_iter=10_000, solver="newton-cholesky").fit(
        x, y, sample_weight=w
    )
    fit = logistic(x, y, w, penalty)
    np.testing.assert_allclose(np.asarray(fit.coefficients), [peer.intercept_[0], *peer.coef_[0]], rtol=1e-7, atol=1e-9)


def test_standardised_penalty_ignores_units(sample):
    x, y, w = sample
    units = 10.0 ** np.linspace(-4, 4, 6)
    plain, scaled = (np.asarray(logistic(z, y, w, 5.0, standardize=True).coefficients) for z in (x, x * units))
    np.testing.assert_allclose(scaled[1:] * units, plain[1:], rtol=1e-7, atol=1e-10)


def test_separation_is_reported_only_without_penalty():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(80, 2))
    y = (x[:, 0] > 0).astype(float)
    assert not bool(logistic(x, y, np.ones(80)).converged)
    assert bool(logistic(x, y, np.ones(80), 0.1).converged)
    dummy = np.column_stack([x[:, 1], np.arange(80) < 10])
    partly = np.where(np.arange(80) < 10, 1.0, (rng.random(80) < 0.5).astype(float))
    assert not bool(logistic(dummy, partly, np.ones(80)).converged)


def test_fixed_hessian_batch_reaches_the_newton_solution(sample):
    x, y, _ = sample
    v = np.column_stack([np.ones(len(y)), x])
    sets = np.stack([np.ones(len(y)), (np.arange(len(y)) % 4 > 0).astype(float)])
    bases = [ridge_basis((v.T * share) @ v, 0) for share in sets]
    stacked = Basis(*(jnp.stack(parts) for parts in zip(*bases, strict=True)))
    penalty = jnp.array([[1.0, 50.0], [1.0, 50.0]])
    tiles, order = 4, np.argsort(np.arange(len(y)) % 4, kind="stable")
    cross = jnp.asarray(sets @ (v * y[:, None]))
    batch = Batch(stacked, cross, penalty, jnp.asarray(sets[:, order].reshape(2, tiles, -1)[:, :, 0].T))
    shaped = [jnp.asarray(a[order].reshape(tiles, 100, *a.shape[1:])) for a in (v, y, np.ones(len(y)))]
    theta, done = fixed_hessian_logistic(*shaped, batch, jnp.zeros((2, 2, 7)), rtol=1e-10, max_steps=2000)
    assert bool(done.all())
    found = np.asarray(batch_coefficients(batch, theta))
    for s, share in enumerate(sets):
        for i, lam in enumerate((1.0, 50.0)):
            peer = logistic(x, y, share, lam, standardize=True).coefficients
            np.testing.assert_allclose(found[s, i], peer, rtol=1e-7, atol=1e-8)


def test_platt_line_is_logistic_regression_on_the_logit_and_never_inverts(sample):
    x, y, w = sample
    logit = 2.0 * x[:, 0] + 1.0
    peer = sm.GLM(y, sm.add_constant(logit), family=sm.families.Binomial(), freq_weights=w).fit(tol=1e-14).params
    np.testing.assert_allclose(np.asarray(platt_line(logit, y, w)), peer, rtol=1e-8)
    share = np.average(y, weights=w)
    np.testing.assert_allclose(np.asarray(platt_line(-logit, y, w)), [np.log(share / (1 - share)), 0.0], rtol=1e-12)
    np.testing.assert_array_equal(np.asarray(platt_line(np.where(y > 0, 3.0, -3.0), y, w)), [0.0, 1.0])
