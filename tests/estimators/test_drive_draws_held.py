"""What is held in the draws counts: their spread is that of the sandwich with its degrees of freedom."""

import logging
from dataclasses import replace

import numpy as np
import pytest
from numpy.testing import assert_allclose

from causalsat.estimators.drive_draws import WIDEST_REFIT, plain_draws, recentred_draws
from causalsat.estimators.drive_fit import solve_drive
from causalsat.estimators.drive_problem import drive_problem
from causalsat.estimators.k_class import comparator
from causalsat.inference.iv_rows import IvRows
from causalsat.inference.options import Bootstrap, Sandwich
from causalsat.inference.sampling import Sampling

LOG = logging.getLogger(__name__)
RHO = 0.05


def columns(n, q, seed):
    g = np.random.default_rng(seed)
    Z, v, u = g.standard_normal((n, q)), g.standard_normal(n), g.standard_normal(n)
    x = Z @ np.full(q, 0.5) + v
    return x + u, x[:, None], Z


def pairs(seed=0, n=400, q=3, cluster=None):
    """Rows net of n/2 effects of two rows each, which no draw estimates again."""

    def net(a):
        halves = a.reshape(n // 2, 2, -1)
        return (halves - halves.mean(axis=1, keepdims=True)).reshape(a.shape)

    y, X, Z = (net(a) for a in columns(n, q, seed))
    return IvRows(y, X, Z, np.ones(n), np.zeros((n, 0)), n // 2, n // 2, Sampling(n, cluster=cluster))


def wide(seed=0, n=300, m=100):
    """Rows net of more controls than a draw partials out again."""
    y, X, Z = columns(n, 3, seed)
    C = np.column_stack([np.ones(n), np.random.default_rng(seed + 1000).standard_normal((n, m - 1))])
    basis = np.linalg.qr(C)[0]
    y, X, Z = (a - basis @ (basis.T @ a) for a in (y, X, Z))
    return IvRows(y, X, Z, np.ones(n), C, m, m, Sampling(n))


def ratio(rows, bootstrap, sandwich="hc1"):
    """Standard deviation of the TSLS draws over the standard error of the sandwich."""
    problem = drive_problem(rows)
    draws = recentred_draws(problem, RHO, bootstrap, seed=1)
    error = comparator("tsls", rows, Sandwich(sandwich)).covariance.std_error[0]
    return problem.to_raw(draws.values[:, 1:]).std() / error, draws


@pytest.mark.parametrize("scheme", ["iid", "bayes", "multiplier"])
def test_absorbed_pairs_cost_the_draws_their_degrees_of_freedom(scheme):
    rows = pairs()
    found, draws = ratio(rows, Bootstrap(4000, scheme))
    LOG.info(f"{scheme}: sd of the draws over the hc1 error {found:.3f}; without the factor {found / 2**0.5:.3f}")
    assert found == pytest.approx(1.0, abs=0.06)
    assert draws.notes["held_factor"] == pytest.approx(400.0 / (400.0 - 200.0 - 1.0))
    assert "n/(n - 201)" in draws.notes["flags"][0]


def test_wide_controls_and_controls_held_on_request():
    rows = wide()
    assert rows.controls.shape[1] > WIDEST_REFIT
    for given in (rows, replace(rows, controls=rows.controls[:, :0])):
        found, draws = ratio(given, Bootstrap(4000))
        assert found == pytest.approx(1.0, abs=0.07)
        assert draws.notes["held_factor"] == pytest.approx(300.0 / 199.0)


def test_intervals_of_studies_with_absorbed_pairs_cover():
    runs, covered = 100, 0
    for seed in range(runs):
        problem = drive_problem(pairs(seed, q=3))
        rho = 0.2 * float(problem.A[0, 0])
        shifts = recentred_draws(problem, rho, Bootstrap(299), seed=seed).values[:, 0] - problem.b_tsls[0]
        truth = float(problem.to_solver(np.ones(1))[0])
        low, high = solve_drive(problem, rho).b[0] - np.quantile(shifts, [0.975, 0.025])
        covered += low <= truth <= high
    LOG.info(f"coverage of the recentred interval with absorbed pairs: {covered}/{runs}")
    assert covered >= 88


@pytest.mark.parametrize("scheme", ["cluster", "multiplier", "bayes"])
def test_clusters_take_the_factor_of_the_clustered_sandwich(scheme):
    codes = np.arange(400) % 50
    rows = pairs(cluster=codes)
    sampled = replace(rows, sampling=Sampling(400, cluster=codes))
    found, draws = ratio(sampled, Bootstrap(4000, scheme), "cluster")
    # The weights of "bayes" have the variance (g - 1)/(g + 1), those of the others (g - 1)/g or one.
    factor = (51.0 if scheme == "bayes" else 50.0) / 49.0 * 399.0 / (400.0 - 201.0)
    assert draws.notes["held_factor"] == pytest.approx(factor)
    assert found == pytest.approx(1.0, abs=0.08)


def test_nothing_is_scaled_where_nothing_is_held():
    rows = wide(m=5)
    for given in (
        rows,
        replace(rows, controls=rows.controls[:, :0], dof="none"),
        replace(rows, controls=rows.controls[:, :0], n_partialled=0, n_partialled_clustered=0),
        replace(
            rows,
            controls=rows.controls[:, :0],
            n_partialled_clustered=1,
            sampling=Sampling(300, cluster=np.arange(300) // 6),
        ),
    ):
        scheme = "iid" if given.sampling.cluster is None else "cluster"
        assert "held_factor" not in recentred_draws(drive_problem(given), RHO, Bootstrap(20, scheme), seed=1).notes


def test_plain_draws_spread_from_the_estimates_themselves():
    rows = pairs()
    problem = drive_problem(rows)
    scaled = plain_draws(problem, 5.0, Bootstrap(50), seed=2)
    bare = plain_draws(drive_problem(replace(rows, dof="none")), 5.0, Bootstrap(50), seed=2)
    centre = np.concatenate([solve_drive(problem, 5.0).b, problem.b_tsls])
    factor = scaled.notes["held_factor"]
    assert_allclose(scaled.values - centre, np.sqrt(factor) * (bare.values - centre), rtol=1e-10)
