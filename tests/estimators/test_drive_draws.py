"""Draws of DRIVE: equal to explicit resampling, the same bits in any chunk, failures counted."""

import numpy as np
import pytest
from numpy.testing import assert_allclose

from causalsat.errors import BootstrapFailureWarning, FewClustersWarning, OptionError
from causalsat.estimators import drive_draws
from causalsat.estimators.drive_draws import DriveMoments, plain_draws, recentred_draws
from causalsat.estimators.drive_fit import solve_drive
from causalsat.estimators.drive_problem import DriveProblem, drive_problem
from causalsat.inference.iv_rows import IvRows
from causalsat.inference.options import Bootstrap, Sandwich
from causalsat.inference.resampling import resampling_weights
from causalsat.inference.sampling import Sampling
from causalsat.kernels import replicates

N, RHO = 300, 0.05


def rows_of(m=3, q=4, p=2, *, seed=0, weighted=False, cluster=None):
    g = np.random.default_rng(seed)
    C = np.column_stack([np.ones(N), g.normal(size=(N, m - 1))]) if m else np.zeros((N, 0))
    Z = g.normal(size=(N, q)) + 0.3 * C.sum(axis=1)[:, None]
    u = g.normal(size=N)
    X = 0.5 * Z @ g.normal(size=(q, p)) + g.normal(size=(N, p)) + u[:, None]
    y = X.sum(axis=1) + u + C.sum(axis=1)
    weights = g.uniform(0.5, 1.5, N) if weighted else np.ones(N)
    weights /= weights.mean()
    sampling = Sampling(N, cluster=cluster, lonlat=g.uniform(0.0, 3.0, (N, 2)))
    parts = (net(a, C, weights) for a in (y, X, Z))
    return IvRows(*parts, weights, C, m, m, sampling)


def net(a, C, weights):
    root = np.sqrt(weights)
    return a - C @ np.linalg.lstsq(C * root[:, None], (a.T * root).T, rcond=None)[0] if C.shape[1] else a


def refitted(problem, draw, recentre, controls=True):
    """DRIVE and TSLS on the rows as resampled: covariates partialled out again, moments recentred by hand.

    Without recentring the zero target is solved on the draw's own unit scale.
    """
    rows = problem.rows
    omega = rows.weights * draw
    omega = omega / omega.mean()
    C = rows.controls if controls else rows.controls[:, :0]
    y, X, Z = (net(a, C, omega) for a in (rows.y, rows.X, rows.Z))
    taken = rows.Z.T @ (rows.weights * rows.residuals(problem.b_tsls)) / N if recentre else 0.0
    S = (Z.T * omega) @ Z / N
    root = problem.root if problem.metric == "gmm" else np.linalg.inv(np.linalg.cholesky(S))
    B, w = root @ ((Z.T * omega) @ X / N), root @ ((Z.T * omega) @ y / N - taken)
    own = not recentre and problem.shrink_to == "zero"
    sd_y = np.sqrt(np.mean(omega * y**2)) if own else 1.0
    sd_x = np.sqrt(np.mean(omega[:, None] * X**2, axis=0)) if own else np.ones(rows.p)
    B, w = B / sd_x, w / sd_y
    kept = omega > 0.0
    y, X, Z, omega = y[kept], X[kept], Z[kept], omega[kept] / omega[kept].mean()
    again = IvRows(y, X, Z, omega, rows.controls, rows.m, rows.m, rows.sampling)
    shown = DriveProblem(again, root, B, w, problem.shrink_to, problem.metric, 1.0, np.ones(rows.p))
    return np.concatenate([solve_drive(shown, RHO).b * sd_y / sd_x, shown.b_tsls * sd_y / sd_x])


CODES = np.random.default_rng(0).integers(0, 40, N)
DESIGNS = {
    "iid": ({}, Bootstrap(60)),
    "weighted": ({"weighted": True}, Bootstrap(60)),
    "without covariates": ({"m": 0}, Bootstrap(60)),
    "just identified": ({"q": 2}, Bootstrap(60)),
    "clusters": ({"cluster": CODES, "weighted": True}, Bootstrap(60, "cluster")),
    "large clusters": ({"cluster": CODES // 5}, Bootstrap(60, "cluster")),
    "blocks": ({}, Bootstrap(60, "block", block_km=50.0)),
    "bayes": ({"p": 1}, Bootstrap(60, "bayes")),
}


@pytest.mark.filterwarnings("ignore::causalsat.errors.FewClustersWarning")
@pytest.mark.parametrize(
    ("name", "target"),
    [*((name, "zero") for name in DESIGNS), ("weighted", "ols"), ("just identified", "ols"), ("clusters", "ols")],
)
def test_draws_are_explicit_refits(name, target):
    options, bootstrap = DESIGNS[name]
    rows = rows_of(**options)
    problem = drive_problem(rows, shrink_to=target)
    weights = resampling_weights(bootstrap, rows.sampling, seed=3, count=6)
    for recentre, draw in ((True, recentred_draws), (False, plain_draws)):
        draws = draw(problem, RHO, bootstrap, seed=3)
        assert draws.n_failed == {}
        assert_allclose(draws.values[:6], [refitted(problem, w, recentre) for w in weights], rtol=1e-10, atol=1e-10)


def test_the_weight_matrix_of_gmm_is_held():
    rows = rows_of()
    problem = drive_problem(rows, metric="gmm", sandwich=Sandwich("hc1"))
    weights = resampling_weights(Bootstrap(60), rows.sampling, seed=3, count=6)
    draws = recentred_draws(problem, RHO, Bootstrap(60), seed=3)
    assert_allclose(draws.values[:6], [refitted(problem, w, True) for w in weights], rtol=1e-10, atol=1e-10)


def test_nuisances_held_and_wide_designs_use_residual_moments(monkeypatch):
    problem = drive_problem(rows_of())
    weights = resampling_weights(Bootstrap(60), problem.rows.sampling, seed=3, count=6)
    rows, centre = problem.rows, np.tile(problem.b_tsls, 2)
    factor = N / (N - rows.m - rows.p)
    explicit = np.array([refitted(problem, w, True, controls=False) for w in weights])
    expected = centre + np.sqrt(factor) * (explicit - centre)
    held = recentred_draws(problem, RHO, Bootstrap(60, refit=False), seed=3)
    assert not held.refit
    assert held.notes["held_factor"] == factor
    assert_allclose(held.values[:6], expected, rtol=1e-10, atol=1e-10)
    monkeypatch.setattr(drive_draws, "WIDEST_REFIT", 5)
    wide = recentred_draws(problem, RHO, Bootstrap(60), seed=3)
    assert not wide.refit
    assert_allclose(wide.values[:6], expected, rtol=1e-10, atol=1e-10)


def test_unit_sums_are_the_same_by_products_and_by_small_grams():
    g = np.random.default_rng(0)
    D, omega = g.normal(size=(200, 6)), g.uniform(0.5, 1.5, 200)
    moments = DriveMoments(2, 2, 1, "ols", False)
    whole = moments.contributions((D, omega))
    order = g.permutation(200)
    for starts in (np.arange(0, 200, 4), np.arange(0, 200, 100)):
        summed = moments.aggregated((D, omega), order, starts)
        assert_allclose(summed, np.add.reduceat(whole[order], starts, axis=0), rtol=1e-11, atol=1e-11)


def test_one_gram_per_draw_where_products_would_fill_the_memory(monkeypatch):
    problem = drive_problem(rows_of())
    by_products = recentred_draws(problem, RHO, Bootstrap(60), seed=3)
    monkeypatch.setattr(drive_draws, "MOST_BYTES", 1000)
    monkeypatch.setattr(drive_draws, "_ROWS", 128)
    by_grams = recentred_draws(problem, RHO, Bootstrap(60), seed=3)
    assert_allclose(by_grams.values, by_products.values, rtol=1e-11, atol=1e-12)


def test_the_radius_can_be_chosen_again_in_each_draw():
    problem = drive_problem(rows_of())
    bias = 0.01 * np.eye(2)
    draws = recentred_draws(problem, 99.0, Bootstrap(5), seed=3, reselect=(0.5, bias)).values
    weights = resampling_weights(Bootstrap(5), problem.rows.sampling, seed=3, count=1)[0]
    C, omega = problem.rows.controls, weights / weights.mean()
    X, Z = net(problem.rows.X, C, omega), net(problem.rows.Z, C, omega)
    B = np.linalg.solve(np.linalg.cholesky((Z.T * omega) @ Z / N), (Z.T * omega) @ X / N)
    rho = 0.5 * max(np.linalg.eigvalsh(B.T @ B - bias)[0], 0.0)
    fixed = recentred_draws(problem, rho, Bootstrap(5), seed=3).values
    assert_allclose(draws[0], fixed[0], rtol=1e-10)
    assert np.abs(draws[1:] - fixed[1:]).max() > 1e-8
    with pytest.raises(OptionError, match="reselect"):
        recentred_draws(drive_problem(rows_of(), shrink_to="ols"), RHO, Bootstrap(5), seed=3, reselect=(0.5, bias))


@pytest.mark.parametrize("scheme", ["iid", "cluster", "multiplier"])
def test_a_longer_run_keeps_its_prefix_to_the_bit(scheme):
    problem = drive_problem(rows_of(cluster=CODES))
    whole = recentred_draws(problem, RHO, Bootstrap(120, scheme), seed=1).values
    for n in (1, 49, 51):
        part = recentred_draws(problem, RHO, Bootstrap(n, scheme), seed=1).values
        np.testing.assert_array_equal(part, whole[:n])
    assert np.abs(recentred_draws(problem, RHO, Bootstrap(120, scheme), seed=2).values - whole).max() > 1e-3


def test_any_chunk_has_the_same_bits():
    problem = drive_problem(rows_of())
    whole = recentred_draws(problem, RHO, Bootstrap(120), seed=1).values
    for first, count in ((0, 10), (45, 20), (119, 1)):
        part = recentred_draws(problem, RHO, Bootstrap(120), seed=1, first=first, count=count)
        np.testing.assert_array_equal(part.values, whole[first : first + count])


def test_another_radius_compiles_nothing():
    problem = drive_problem(rows_of())
    recentred_draws(problem, RHO, Bootstrap(10), seed=1)
    before = replicates.moment_tile._cache_size()
    for rho in (0.0, 0.1, 2.0):
        recentred_draws(problem, rho, Bootstrap(10), seed=1)
    assert replicates.moment_tile._cache_size() == before


def test_recentred_tsls_draws_scatter_around_the_estimate_with_their_sandwich_spread():
    problem = drive_problem(rows_of(p=1))
    rows, b = problem.rows, problem.b_tsls
    draws = recentred_draws(problem, RHO, Bootstrap(4000), seed=0).values
    x = rows.Z @ np.linalg.lstsq(rows.Z, rows.X[:, 0], rcond=None)[0]
    error = np.sqrt(np.sum((x * rows.residuals(b)) ** 2)) / (x @ x)
    assert draws[:, 1].std() / error == pytest.approx(1.0, abs=3.3 / np.sqrt(8000) + 0.05)
    assert abs(draws[:, 1].mean() - b[0]) < 0.2 * error
    perturbed = recentred_draws(problem, RHO, Bootstrap(4000, "multiplier"), seed=0)
    assert perturbed.values[:, 1].std() / error == pytest.approx(1.0, abs=3.3 / np.sqrt(8000) + 0.02)
    assert not perturbed.refit


def test_no_radius_gives_the_draws_of_tsls():
    draws = recentred_draws(drive_problem(rows_of()), 0.0, Bootstrap(60), seed=0).values
    assert_allclose(draws[:, :2], draws[:, 2:], rtol=1e-12)


def test_a_draw_without_an_instrument_is_singular_and_counted():
    rows = rows_of(cluster=np.arange(N) % 12)
    Z = rows.Z.copy()
    Z[:, 0] = np.where(rows.sampling.cluster < 2, rows.Z[:, 0], 0.0)
    rows = IvRows(rows.y, rows.X, Z, rows.weights, rows.controls[:, :0], 0, 0, rows.sampling)
    problem = drive_problem(rows)
    with pytest.warns(FewClustersWarning), pytest.warns(BootstrapFailureWarning, match="singular"):
        draws = recentred_draws(problem, RHO, Bootstrap(400, "cluster"), seed=0)
    with pytest.warns(FewClustersWarning):
        weights = resampling_weights(Bootstrap(400, "cluster"), rows.sampling, seed=0)
    gone = ~(weights[:, np.arange(N) % 12 < 2] > 0).any(axis=1)
    assert draws.n_failed == {"singular": int(gone.sum())}
    np.testing.assert_array_equal(np.isnan(draws.values).all(axis=1), gone)
