"""Draws of few clusters: the spread of the clustered sandwich whatever is held, and the tails of t(g - 1)."""

import logging
from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

import causalsat as cs
from causalsat.errors import AboveThresholdWarning, FewClustersWarning
from causalsat.estimators.drive_draws import plain_draws, recentred_draws
from causalsat.estimators.drive_fit import solve_drive
from causalsat.estimators.drive_law import t_factors
from causalsat.estimators.drive_problem import drive_problem
from causalsat.estimators.drive_spread import tail_factors
from causalsat.estimators.k_class import comparator
from causalsat.inference.iv_rows import IvRows
from causalsat.inference.options import Bootstrap, Sandwich
from causalsat.inference.sampling import Sampling
from causalsat.simulate.iv import iv

LOG = logging.getLogger(__name__)
RHO = 0.05
pytestmark = pytest.mark.filterwarnings("ignore::causalsat.errors.FewClustersWarning")


def study(g=8, q=1, seed=0, noise=0, size=20):
    """Strong instruments; a part of every column is shared by the cluster; ``noise`` covariates without effect."""
    rng = np.random.default_rng(seed)
    n, codes = g * size, np.arange(g * size) // size
    Z = rng.standard_normal((n, q)) + rng.standard_normal((g, q))[codes]
    u = rng.standard_normal(n) + rng.standard_normal(g)[codes]
    x = Z.sum(axis=1) + 0.5 * u + rng.standard_normal(n)
    C = np.column_stack([np.ones(n), rng.standard_normal((n, noise))])
    basis = np.linalg.qr(C)[0]
    y, X, Z = (a - basis @ (basis.T @ a) for a in (x + u, x[:, None], Z))
    return IvRows(y, X, Z, np.ones(n), C, 1 + noise, 1 + noise, Sampling(n, cluster=codes))


def ratio(rows, scheme):
    """Standard deviation of the TSLS draws over the clustered error, and the factor in it."""
    problem = drive_problem(rows)
    draws = recentred_draws(problem, RHO, Bootstrap(10_000, scheme), seed=1)
    error = comparator("tsls", rows, Sandwich("cluster")).covariance.std_error[0]
    return problem.to_raw(draws.values[:, 1:]).std() / error, draws.notes.get("held_factor")


@pytest.mark.parametrize("noise", [0, 1])
def test_multipliers_take_the_factor_of_clusters_with_a_constant_only_and_with_a_covariate(noise):
    found, factor = ratio(study(noise=noise), "multiplier")
    LOG.info(f"{noise} covariates: sd over the clustered error {found:.3f}")
    assert factor == pytest.approx(8.0 / 7.0 * 159.0 / (158.0 - noise))
    assert found == pytest.approx(1.0, abs=0.03)
    assert ratio(replace(study(noise=noise), dof="none"), "multiplier")[1] is None


def test_the_factor_of_bayesian_weights_is_exact_where_the_projection_does_not_move():
    g, size = 8, 10
    n = g * size
    z = np.tile([1.0, -1.0], n // 2)
    y = np.random.default_rng(0).standard_normal(g).repeat(size) * z
    rows = IvRows(
        y, z[:, None], z[:, None], np.ones(n), np.zeros((n, 0)), 0, 0, Sampling(n, cluster=np.arange(n) // size)
    )
    found, factor = ratio(rows, "bayes")
    assert factor == pytest.approx(9.0 / 7.0)
    assert found == pytest.approx(1.0, abs=0.03)


@pytest.mark.parametrize(
    ("scheme", "low", "high"), [("multiplier", 0.98, 1.02), ("cluster", 0.95, 1.1), ("bayes", 0.92, 1.02)]
)
def test_draws_of_eight_clusters_spread_as_the_sandwich_in_many_studies(scheme, low, high):
    found = np.median([ratio(study(seed=seed), scheme)[0] for seed in range(40)])
    LOG.info(f"{scheme}: median of sd over the clustered error in 40 studies {found:.3f}")
    assert low < found < high


@pytest.mark.parametrize("scheme", ["multiplier", "cluster", "bayes"])
def test_intervals_of_eight_clusters_cover_as_the_limit_law_does(scheme):
    runs, plain, tails = 200, 0, 0
    for seed in range(runs):
        rows = study(seed=seed)
        problem = drive_problem(rows)
        draws = recentred_draws(problem, RHO, Bootstrap(399, scheme), seed=seed)
        shifts = problem.to_raw(draws.values[:, :1] - problem.b_tsls)
        estimate = problem.to_raw(solve_drive(problem, RHO).b)
        for factors in (1.0, tail_factors(rows, draws)):
            low, high = estimate - np.quantile(shifts * factors, [0.975, 0.025])
            covered = bool(low <= 1.0 <= high)
            plain, tails = (plain + covered, tails) if isinstance(factors, float) else (plain, tails + covered)
    LOG.info(f"{scheme}: {tails}/{runs} with the tails of t(7), {plain}/{runs} with those of the draws")
    assert tails >= (174 if scheme == "multiplier" else 164)
    assert tails > plain


def test_the_factors_are_a_stream_of_their_own_and_follow_the_draws():
    rows = study(q=2)
    problem, bootstrap = drive_problem(rows), Bootstrap(120, "cluster")
    whole = tail_factors(rows, recentred_draws(problem, RHO, bootstrap, seed=3))
    part = tail_factors(rows, recentred_draws(problem, RHO, bootstrap, seed=3, first=50, count=20))
    np.testing.assert_array_equal(part, whole[50:70])
    assert np.abs(whole[:, 0] - t_factors(120, 7.0, 3)).min() > 0.0
    many = tail_factors(rows, recentred_draws(problem, RHO, Bootstrap(20_000, "multiplier"), seed=3))
    assert stats.kstest(7.0 / many[:, 0] ** 2, stats.chi2(7).cdf).pvalue > 1e-3
    for scheme in ("iid", "bayes", "multiplier"):
        alone = replace(rows, sampling=Sampling(rows.n))
        drawn = recentred_draws(drive_problem(alone), RHO, Bootstrap(20, scheme), seed=3)
        np.testing.assert_array_equal(tail_factors(alone, drawn), np.ones((20, 1)))


def table_row(result, method):
    at = [
        i for i, key in enumerate(zip(result.table["method"], result.table["interval"], strict=True)) if key == method
    ]
    return at[0]


def test_the_table_has_t_tails_around_standard_errors_of_the_draws():
    data, _ = iv(n=400, q=4, seed=0, clusters=8, concentration=4000.0)
    roles = {"outcome": "y", "treatment": "x", "instruments": ["z1", "z2", "z3", "z4"], "n_boot": 399, "sets": ()}
    with pytest.warns(FewClustersWarning):
        result = cs.drive(data, **roles, cluster="cluster", rho=RHO)
    equation = result.equations[0]
    draws, problem = equation.draws, equation.problem
    shifts = problem.to_raw(draws.values - problem.b_tsls[0])
    at, tsls = table_row(result, ("drive", "recentred")), table_row(result, ("tsls", "wald"))
    assert result.table["std_error"][at] == pytest.approx(shifts[:, 0].std(ddof=1), rel=1e-12)
    tails = tail_factors(equation.rows, draws)[:, 0]
    for i, column in ((at, 0), (tsls, 1)):
        wanted = result.table["estimate"][i] + shifts[:, column] * tails
        np.testing.assert_allclose(result.table.draws[:, i], wanted, rtol=1e-10)
    alone = cs.drive(data, **roles, rho=RHO)
    drawn = alone.equations[0]
    wanted = drawn.problem.to_raw(drawn.draws.values[:, :1] - drawn.problem.b_tsls[None, :])
    at = table_row(alone, ("drive", "recentred"))
    np.testing.assert_array_equal(alone.table.draws[:, at], alone.table["estimate"][at] + wanted[:, 0])


def test_plain_draws_of_multipliers_are_scaled_around_the_estimate():
    problem = drive_problem(study())
    bare = plain_draws(drive_problem(replace(study(), dof="none")), 5.0, Bootstrap(50, "multiplier"), seed=2)
    scaled = plain_draws(problem, 5.0, Bootstrap(50, "multiplier"), seed=2)
    centre = np.concatenate([solve_drive(problem, 5.0).b, problem.b_tsls])
    factor = scaled.notes["held_factor"]
    np.testing.assert_allclose(scaled.values - centre, np.sqrt(factor) * (bare.values - centre), rtol=1e-9, atol=1e-14)


def test_above_the_threshold_multipliers_have_no_interval():
    data, _ = iv(n=400, q=4, seed=0, concentration=4000.0)
    roles = {"outcome": "y", "treatment": "x", "instruments": ["z1", "z2", "z3", "z4"], "sets": ()}
    found = {}
    for scheme in ("iid", "bayes", "multiplier"):
        with pytest.warns(AboveThresholdWarning):
            result = cs.drive(data, **roles, rho=50.0, inference=Bootstrap(399, scheme))
        found[scheme] = result.table["std_error"][0]
        if scheme == "multiplier":
            # Draws that hold A spread by .0001, those of rows by .0020.
            assert "multipliers hold the strength" in str(result.table.meta["unavailable"]["0"])
    assert np.isnan(found["multiplier"])
    assert found["bayes"] == pytest.approx(found["iid"], rel=0.15)
