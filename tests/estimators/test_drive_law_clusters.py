"""The limit law under few clusters and indefinite variances: t draws, what was clipped, what does not exist."""

import logging

import numpy as np
import pytest
from scipy import stats

from causalsat.estimators.drive_law import limit_law, t_factors
from causalsat.estimators.drive_problem import drive_problem
from causalsat.estimators.k_class import comparator
from causalsat.inference.iv_rows import IvRows
from causalsat.inference.options import Sandwich
from causalsat.inference.sampling import Sampling
from causalsat.simulate.iv import iv
from tests.estimators.test_drive_problem import CONLEY, places
from tests.estimators.test_drive_problem import study as unclustered

LOG = logging.getLogger(__name__)
N = 400


def study(clusters, seed=0):
    data, _ = iv(n=N, q=4, seed=seed, clusters=clusters)
    codes = np.unique(data["cluster"], return_inverse=True)[1]
    y, X = data["y"], data["x"][:, None]
    Z = np.column_stack([data[f"z{k + 1}"] for k in range(4)])
    y, X, Z = y - y.mean(), X - X.mean(axis=0), Z - Z.mean(axis=0)
    return IvRows(y, X, Z, np.ones(N), np.ones((N, 1)), 1, 1, Sampling(N, cluster=codes))


@pytest.mark.filterwarnings("ignore::causalsat.errors.FewClustersWarning")
@pytest.mark.parametrize("g", [5, 8, 10, 50])
def test_without_a_radius_the_ends_are_those_of_the_wald_interval(g):
    rows = study(g)
    problem, sandwich = drive_problem(rows), Sandwich("cluster")
    draws = 200_000
    law = limit_law(problem, 0.0, sandwich, n_law=draws, seed=0)
    tsls = comparator("tsls", rows, sandwich)
    error, level = tsls.covariance.std_error[0], 0.975
    assert law.notes["df"] == tsls.df == g - 1.0
    ends = problem.to_raw(np.quantile(law.draws[:, 0], [1.0 - level, level])) / np.sqrt(N)
    wanted = stats.t.ppf(level, g - 1) * error
    slack = 5.0 * error * np.sqrt(level * (1.0 - level) / draws) / stats.t.pdf(stats.t.ppf(level, g - 1), g - 1)
    LOG.info(f"{g} clusters: ends {ends} against {wanted:.5f} ({slack:.5f})")
    assert ends == pytest.approx([-wanted, wanted], abs=slack)
    assert problem.to_raw(law.sd)[0] / np.sqrt(N) == pytest.approx(error, rel=5.0 / np.sqrt(2.0 * draws))


def test_independent_rows_keep_the_normal_law_and_two_ways_take_the_fewer_clusters():
    rng = np.random.default_rng(0)
    rows = study(40)
    assert "df" not in limit_law(drive_problem(rows), 0.1, Sandwich("hc1"), n_law=10, seed=0).notes
    both = unclustered(cluster=rng.integers(0, 80, N), second=rng.integers(0, 40, N))
    assert limit_law(drive_problem(both), 0.1, Sandwich("twoway"), n_law=10, seed=0).notes["df"] == 39.0


def test_factors_are_a_chi_squared_of_their_own_stream():
    factors = t_factors(100_000, 4.0, 7)
    assert stats.kstest(4.0 / factors**2, stats.chi2(4).cdf).pvalue > 1e-3
    np.testing.assert_array_equal(t_factors(1000, 4.0, 7), factors[:1000])
    assert np.abs(t_factors(1000, 4.0, 8) - factors[:1000]).max() > 0.1


def test_a_longer_law_starts_with_the_bits_of_a_shorter_one():
    problem, sandwich = drive_problem(study(40)), Sandwich("cluster")
    long, short = (limit_law(problem, 0.05, sandwich, n_law=n, seed=3).draws for n in (5000, 200))
    np.testing.assert_array_equal(long[:200], short)


def test_clipped_eigenvalues_are_told():
    problem = drive_problem(unclustered(lonlat=places()))
    law = limit_law(problem, 0.05, CONLEY, n_law=100, seed=0)
    assert law.valid
    assert law.notes["clipped_eigenvalues"] == 1
    assert "1 of 4 eigenvalues of the Conley variance" in law.flags[0]
    assert limit_law(problem, 0.05, Sandwich("hc1"), n_law=100, seed=0).flags == ()


@pytest.mark.filterwarnings("ignore::causalsat.errors.FewClustersWarning")
def test_no_law_where_the_variance_of_tsls_is_negative():
    found = []
    for seed in range(8):
        rng = np.random.default_rng(seed)
        rows = unclustered(seed, cluster=rng.integers(0, 8, N), second=rng.integers(0, 7, N))
        law = limit_law(drive_problem(rows), 0.05, Sandwich("twoway"), n_law=100, seed=0)
        error = comparator("tsls", rows, Sandwich("twoway")).covariance.std_error[0]
        assert law.valid == np.isfinite(error)
        assert np.isfinite(law.draws).all() == law.valid
        assert law.valid or "does not exist" in law.notes["reason"]
        found.append(law.valid)
    assert 0 < sum(found) < len(found)


def test_classical_with_unequal_weights_is_told():
    weights = np.exp(np.random.default_rng(2).standard_normal(N))
    law = limit_law(drive_problem(unclustered(weights=weights)), 0.05, Sandwich("classical"), n_law=100, seed=0)
    assert "weights for precisions" in law.flags[0]
