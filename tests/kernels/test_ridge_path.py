"""Ridge from moments: scikit-learn, leave-one-out by hand, invariances, limits."""

import numpy as np
import pytest
from sklearn.linear_model import LinearRegression, Ridge, RidgeCV

from causalsat.kernels.ridge_path import gcv_scores, loo_errors, ols, path_coefficients, ridge_basis, ridge_path

PENALTIES = np.array([1e-3, 0.1, 1.0, 30.0, 1e4])


@pytest.fixture(scope="module")
def sample():
    rng = np.random.default_rng(7)
    x = rng.normal(size=(120, 9)) @ rng.normal(size=(9, 9)) + 3.0
    y = x @ rng.normal(size=9) + rng.normal(size=120) + 10.0
    return x, y, rng.uniform(0.5, 2.0, size=120)


def test_matches_scikit_learn_at_every_penalty(sample):
    x, y, w = sample
    ours = np.asarray(ridge_path(x, y, w, PENALTIES, standardize=False))
    for row, penalty in zip(ours, PENALTIES, strict=True):
        peer = Ridge(alpha=penalty).fit(x, y, sample_weight=w)
        np.testing.assert_allclose(row, [peer.intercept_, *peer.coef_], rtol=1e-8, atol=1e-9)


def test_standardised_matches_scikit_learn_on_scaled_columns(sample):
    x, y, _ = sample
    ours = np.asarray(ridge_path(x, y, np.ones(len(y)), PENALTIES, standardize=True))
    scaled = (x - x.mean(0)) / x.std(0)
    for row, penalty in zip(ours, PENALTIES, strict=True):
        peer = Ridge(alpha=penalty).fit(scaled, y)
        np.testing.assert_allclose(row[0] + x @ row[1:], peer.predict(scaled), rtol=1e-8)


def test_free_columns_carry_no_penalty(sample):
    x, y, w = sample
    free, rest = x[:, :3], x[:, 3:]
    ours = np.asarray(ridge_path(rest, y, w, np.array([50.0]), free=free, standardize=False))[0]
    design = np.column_stack([np.ones(len(y)), free, rest])
    ridge = np.diag([0.0] * 4 + [50.0] * 6)
    np.testing.assert_allclose(ours, np.linalg.solve((design.T * w) @ design + ridge, design.T @ (w * y)), rtol=1e-7)


def test_leave_one_out_is_the_explicit_loop_and_the_rule_of_ridge_cv(sample):
    x, y, w = (a[:40] for a in sample)
    ours = np.asarray(loo_errors(x, y, w, PENALTIES))
    keep = ~np.eye(len(y), dtype=bool)
    explicit = [
        sum(
            w[i] * (y[i] - Ridge(alpha=p).fit(x[k], y[k], sample_weight=w[k]).predict(x[i : i + 1])[0]) ** 2
            for i, k in enumerate(keep)
        )
        for p in PENALTIES
    ]
    np.testing.assert_allclose(ours, explicit, rtol=1e-8)
    assert (
        PENALTIES[np.argmin(np.asarray(loo_errors(x, y, np.ones(40), PENALTIES)))]
        == RidgeCV(PENALTIES).fit(x, y).alpha_
    )


def test_gcv_is_its_formula(sample):
    x, y, _ = sample
    v = np.column_stack([np.ones(len(y)), x])
    basis = ridge_basis(v.T @ v, 0, standardize=False)
    ours = np.asarray(gcv_scores(basis, v.T @ v, v.T @ y, y @ y, PENALTIES))
    for value, penalty in zip(ours, PENALTIES, strict=True):
        hat = v @ np.linalg.solve(v.T @ v + np.diag([0.0] + [penalty] * 9), v.T)
        expected = np.mean((y - hat @ y) ** 2) / (1 - np.trace(hat) / len(y)) ** 2
        np.testing.assert_allclose(value, expected, rtol=1e-8)


def test_rotation_leaves_predictions_when_not_standardised(sample):
    x, y, w = sample
    turn, _ = np.linalg.qr(np.random.default_rng(1).normal(size=(9, 9)))
    plain = np.asarray(ridge_path(x, y, w, PENALTIES, standardize=False))
    turned = np.asarray(ridge_path(x @ turn, y, w, PENALTIES, standardize=False))
    np.testing.assert_allclose(
        turned[:, :1] + turned[:, 1:] @ (x @ turn).T, plain[:, :1] + plain[:, 1:] @ x.T, rtol=1e-8
    )


def test_rescaled_columns_leave_predictions_when_standardised(sample):
    x, y, w = sample
    units = 10.0 ** np.linspace(-6, 6, 9)
    plain = np.asarray(ridge_path(x, y, w, PENALTIES, standardize=True))
    scaled = np.asarray(ridge_path(x * units, y, w, PENALTIES, standardize=True))
    np.testing.assert_allclose(
        scaled[:, :1] + scaled[:, 1:] @ (x * units).T, plain[:, :1] + plain[:, 1:] @ x.T, rtol=1e-8
    )


def test_limits_are_least_squares_and_the_mean(sample):
    x, y, w = sample
    small, large = np.asarray(ridge_path(x, y, w, np.array([1e-12, 1e16])))
    peer = LinearRegression().fit(x, y, sample_weight=w)
    np.testing.assert_allclose(small, [peer.intercept_, *peer.coef_], rtol=1e-7, atol=1e-8)
    np.testing.assert_allclose(large[0] + x @ large[1:], np.average(y, weights=w), rtol=1e-8)
    np.testing.assert_allclose(np.asarray(ols(x, y, w)), [peer.intercept_, *peer.coef_], rtol=1e-8)


def test_ols_matches_statsmodels_and_survives_collinear_columns(sample):
    import statsmodels.api as sm

    x, y, w = sample
    peer = sm.WLS(y, sm.add_constant(x), weights=w).fit().params
    np.testing.assert_allclose(np.asarray(ols(x, y, w)), peer, rtol=1e-8)
    doubled = np.column_stack([x, x[:, 0] + x[:, 1], np.full(len(y), 4.0)])
    ours = np.asarray(ols(doubled, y, w))
    np.testing.assert_allclose(ours[0] + doubled @ ours[1:], peer[0] + x @ peer[1:], rtol=1e-8)


def test_weights_doubling_is_neutral_and_integers_are_copies(sample):
    x, y, w = sample
    v = np.column_stack([np.ones(len(y)), x])
    basis = ridge_basis((v.T * w) @ v, 0)
    twice = ridge_basis((v.T * (2 * w)) @ v, 0)
    np.testing.assert_allclose(float(twice.scale), 2 * float(basis.scale), rtol=1e-12)
    one = path_coefficients(basis, v.T @ (w * y), 3.0 * basis.scale[None])
    two = path_coefficients(twice, v.T @ (2 * w * y), 3.0 * twice.scale[None])
    np.testing.assert_allclose(one, two, rtol=1e-9, atol=1e-10)
    copies = np.random.default_rng(0).integers(0, 4, size=len(y))
    long = np.repeat(np.arange(len(y)), copies)
    weighted = ridge_path(x, y, copies.astype(float), PENALTIES)
    np.testing.assert_allclose(
        weighted, ridge_path(x[long], y[long], np.ones(len(long)), PENALTIES), rtol=1e-8, atol=1e-9
    )


def test_more_columns_than_rows():
    rng = np.random.default_rng(3)
    x, y = rng.normal(size=(30, 80)), rng.normal(size=30)
    ours = np.asarray(ridge_path(x, y, np.ones(30), np.array([0.5, 20.0]), standardize=False))
    for row, penalty in zip(ours, (0.5, 20.0), strict=True):
        peer = Ridge(alpha=penalty).fit(x, y)
        np.testing.assert_allclose(row[1:], peer.coef_, rtol=1e-8, atol=1e-10)
