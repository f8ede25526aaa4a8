"""From rows to coefficients: covariates, weights, scales, raw arrays, paths."""

import dataclasses

import numpy as np
import pytest
from numpy.testing import assert_allclose

from causalsat.estimators.drive_fit import default_grid, fast_fit, solve_drive, solve_path
from causalsat.estimators.drive_problem import drive_problem
from causalsat.inference.iv_rows import IvRows
from causalsat.inference.options import Sandwich
from causalsat.inference.sampling import Sampling


def raw(n=240, m=3, q=4, p=2, seed=0):
    g = np.random.default_rng(seed)
    C = np.column_stack([np.ones(n), g.normal(size=(n, m - 1))])
    Z = g.normal(size=(n, q)) + 0.3 * C.sum(axis=1)[:, None]
    u = g.normal(size=n)
    X = 0.5 * Z @ g.normal(size=(q, p)) + g.normal(size=(n, p)) + u[:, None]
    return X @ np.linspace(1.0, -0.5, p) + u + C.sum(axis=1), X, Z, C


def net(a, C, weights):
    root = np.sqrt(weights)
    return a - C @ np.linalg.lstsq(C * root[:, None], (a.T * root).T, rcond=None)[0]


def rows_of(y, X, Z, C, weights=None):
    n = y.shape[0]
    weights = np.ones(n) if weights is None else weights / weights.mean()
    m = C.shape[1]
    return IvRows(*(net(a, C, weights) for a in (y, X, Z)), weights, C, m, m, Sampling(n))


def coefficients(y, X, Z, C, weights=None, *, rho=0.05, **choices):
    problem = drive_problem(rows_of(y, X, Z, C, weights), **choices)
    return problem.to_raw(solve_drive(problem, rho).b)


def test_partialling_out_equals_unpenalised_covariates_in_a_conic_solver():
    cvxpy = pytest.importorskip("cvxpy")
    y, X, Z, C = raw()
    n, rho = y.size, 0.3
    Q = np.linalg.qr(np.column_stack([C, Z]))[0]
    b, d = cvxpy.Variable(2), cvxpy.Variable(3)
    loss = cvxpy.norm(Q.T @ y - (Q.T @ X) @ b - (Q.T @ C) @ d) / np.sqrt(n)
    penalty = np.sqrt(rho) * cvxpy.norm(cvxpy.hstack([np.ones(1), b]))
    tight = {"tol_gap_abs": 1e-12, "tol_gap_rel": 1e-12, "tol_feas": 1e-12}
    cvxpy.Problem(cvxpy.Minimize(loss + penalty)).solve(solver=cvxpy.CLARABEL, **tight)
    assert_allclose(coefficients(y, X, Z, C, rho=rho, scale="raw"), b.value, atol=1e-6)


@pytest.mark.parametrize("scale", ["unit", "raw"])
@pytest.mark.parametrize(("q", "rho"), [(4, 0.1), (2, 0.01), (2, 3.0)])
def test_raw_arrays_give_the_same_coefficients(scale, q, rho):
    y, X, Z, C = raw(q=q)
    assert_allclose(fast_fit(y, X, Z, rho, C, scale), coefficients(y, X, Z, C, rho=rho, scale=scale), rtol=1e-9)


def test_raw_arrays_without_covariates():
    y, X, Z, _ = raw()
    rows = IvRows(y, X, Z, np.ones(y.size), np.zeros((y.size, 0)), 0, 0, Sampling(y.size))
    problem = drive_problem(rows, scale="raw")
    assert_allclose(fast_fit(y, X, Z, 0.2, None, "raw"), solve_drive(problem, 0.2).b, rtol=1e-10)


@pytest.mark.parametrize("choices", [{}, {"shrink_to": "ols"}, {"metric": "gmm"}], ids=str)
def test_what_must_not_matter_does_not(choices):
    y, X, Z, C = raw()
    g = np.random.default_rng(1)
    given = dict(choices)
    if "metric" in choices:
        given["sandwich"] = Sandwich("hc1")
    b = coefficients(y, X, Z, C, **given)
    close = {"rtol": 1e-10, "atol": 1e-12}
    shift = g.normal(size=3)
    assert_allclose(
        coefficients(y + C @ shift, X + (C @ shift)[:, None], Z + (C @ shift)[:, None], C, **given), b, **close
    )
    assert_allclose(coefficients(-y, X, Z, C, **given), -b, **close)
    order = g.permutation(y.size)
    assert_allclose(coefficients(y[order], X[order], Z[order], C[order], **given), b, **close)
    twice = np.tile(np.arange(y.size), 2)
    assert_allclose(coefficients(y[twice], X[twice], Z[twice], C[twice], **given), b, **close)
    assert_allclose(coefficients(y, X, Z, C, np.full(y.size, 3.0), **given), b, **close)
    mix = g.normal(size=(4, 4))
    assert_allclose(coefficients(y, X, Z @ mix, C, **given), b, **close)


def test_whole_weights_are_repeated_rows():
    y, X, Z, C = raw()
    counts = np.random.default_rng(2).integers(1, 4, y.size)
    rows = np.repeat(np.arange(y.size), counts)
    repeated = coefficients(y[rows], X[rows], Z[rows], C[rows])
    assert_allclose(coefficients(y, X, Z, C, counts.astype(float)), repeated, rtol=1e-11)


def test_units_matter_on_the_raw_scale_only():
    y, X, Z, C = raw()
    assert_allclose(10.0 * coefficients(y, 10.0 * X, Z, C), coefficients(y, X, Z, C), rtol=1e-11)
    assert (
        np.abs(10.0 * coefficients(y, 10.0 * X, Z, C, scale="raw") - coefficients(y, X, Z, C, scale="raw")).max() > 1e-3
    )


def test_one_treatment_on_unit_scale_is_the_partial_r2():
    y, X, Z, C = raw(p=1)
    problem = drive_problem(rows_of(y, X, Z, C))
    x = problem.rows.X[:, 0]
    inside = problem.rows.Z @ np.linalg.lstsq(problem.rows.Z, x, rcond=None)[0]
    assert problem.A[0, 0] == pytest.approx(inside @ inside / (x @ x), rel=1e-12)


@pytest.mark.parametrize("singular", [False, True])
def test_towards_least_squares_the_k_class_condition_holds_and_ends_at_ols(singular):
    y, X, Z, C = raw(seed=3)
    if singular:
        X[:, 0] = Z @ np.arange(1.0, 5.0)
    problem = drive_problem(rows_of(y, X, Z, C), shrink_to="ols")
    rows, moments = problem.rows, problem.rows.moments
    ols = np.linalg.lstsq(rows.X, rows.y, rcond=None)[0]

    def ratio(b):
        inside = moments.w - moments.B @ b
        left = moments.My - moments.MX @ b
        return np.linalg.norm(left) / np.sqrt(rows.n) / np.linalg.norm(inside)

    end = float(ratio(ols) ** 2)
    for share in (0.01, 0.5, 0.99):
        fit = solve_drive(problem, share * end)
        left = moments.My - moments.MX @ fit.b
        gap = rows.X.T @ (rows.residuals(fit.b) - fit.kappa * left) / rows.n
        assert_allclose(gap, 0.0, atol=1e-10)
        assert fit.kappa == pytest.approx(1.0 - np.sqrt(share * end) / ratio(fit.b), abs=1e-10)
        assert not fit.clipped
    assert_allclose(solve_drive(problem, end).b, ols, rtol=1e-8)
    beyond = solve_drive(problem, 2.0 * end)
    assert (beyond.clipped, beyond.kappa, beyond.status) == (True, 0.0, 0)
    assert_allclose(beyond.b, ols, rtol=1e-9)


def test_no_radius_is_tsls_for_every_target_and_metric():
    rows = rows_of(*raw())
    for target in ("zero", "ols"):
        for metric in ("tsls", "gmm"):
            problem = drive_problem(rows, shrink_to=target, metric=metric, sandwich=Sandwich("hc1"))
            fit = solve_drive(problem, 0.0)
            assert_allclose(fit.b, problem.b_tsls, rtol=1e-12)
            assert fit.lam == 0.0
            assert np.isnan(fit.kappa) if target == "zero" else fit.kappa == 1.0


def test_the_path_is_its_fits_and_the_grid_spans_the_thresholds():
    problem = drive_problem(rows_of(*raw()))
    values = np.linalg.eigvalsh(problem.A)
    rhos = default_grid(problem, values[0], 3.0)
    assert (rhos.shape, rhos[0]) == ((122,), 0.0)
    assert_allclose(rhos[[1, -1]], [1e-4 * values[0], 30.0], rtol=1e-12)
    path = solve_path(problem, rhos)
    assert path.b.shape == (122, 2)
    assert (np.diff(np.linalg.norm(path.b, axis=1)) <= 1e-12).all()
    fit = solve_drive(problem, rhos[60])
    assert_allclose(path.b[60], fit.b, rtol=1e-13)
    assert fit.objective == pytest.approx(fit.s + np.sqrt(fit.rho) * fit.t)
    for lambda_min, rho_hat in ((0.0, 3.0), (values[0], np.inf)):
        grid = default_grid(problem, lambda_min, rho_hat)
        assert np.isfinite(grid).all()
        assert (np.diff(grid) > 0.0).all()


def test_the_answer_does_not_depend_on_the_users_float_setting():
    problem = drive_problem(rows_of(*raw()))
    small = dataclasses.replace(problem, B=problem.B.astype(np.float64), w=problem.w.astype(np.float64))
    assert solve_drive(small, 0.1).b.dtype == np.float64
