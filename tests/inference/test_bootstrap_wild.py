"""The wild cluster bootstrap against a loop of refits, its interval against its p-values."""

import numpy as np
import pytest

from causalsat.errors import FewClustersWarning, NumericalError, OptionError
from causalsat.inference.intervals import interval
from causalsat.inference.options import Bootstrap
from causalsat.inference.resampling import resampling_weights
from causalsat.inference.sampling import Sampling
from causalsat.inference.wild import wild_draws, wild_interval


def study(groups=30, size=4, seed=0, slope=0.5):
    g = np.random.default_rng(seed)
    cluster = np.repeat(np.arange(groups), size)
    n = cluster.size
    x = g.normal(size=groups)[cluster] + 0.5 * g.normal(size=n)
    X = np.column_stack([np.ones(n), x, g.normal(size=n)])
    y = slope * x + g.normal(size=groups)[cluster] + g.normal(size=n)
    return X, y, Sampling(n, cluster=cluster)


def ols(X, y, cluster):
    bread = np.linalg.inv(X.T @ X)
    beta = bread @ X.T @ y
    e = y - X @ beta
    sums = np.array([X[cluster == c].T @ e[cluster == c] for c in np.unique(cluster)])
    return beta, np.sqrt(np.diag(bread @ sums.T @ sums @ bread)), e


@pytest.mark.parametrize("impose", [True, False])
@pytest.mark.parametrize("null", [0.0, 0.3])
def test_draws_equal_a_loop_of_refits(impose, null):
    X, y, s = study()
    bootstrap = Bootstrap(scheme="wild", n=60)
    out = wild_draws(X, y, bootstrap, s, seed=4, coefficients=(1,), null=null, impose_null=impose)
    xi = resampling_weights(bootstrap, s, seed=4)
    beta, se, e = ols(X, y, s.cluster)
    np.testing.assert_allclose([out.estimate[0], out.std_error[0]], [beta[1], se[1]], rtol=1e-9)
    centre, fitted, residual = beta[1], X @ beta, e
    if impose:
        others = X[:, [0, 2]]
        residual = ols(others, y - null * X[:, 1], s.cluster)[2]
        fitted, centre = y - residual, null
    for b in range(60):
        again, error, _ = ols(X, fitted + residual * xi[b], s.cluster)
        np.testing.assert_allclose(out.draws.values[b, 0], beta[1] + again[1] - centre, rtol=1e-8)
        np.testing.assert_allclose(out.draws.std_error[b, 0], error[1], rtol=1e-8)


def test_studentized_interval_reads_the_draws():
    X, y, s = study()
    out = wild_draws(X, y, Bootstrap(scheme="wild", n=399), s, seed=1, impose_null=False)
    limits = interval(
        "studentized",
        out.estimate,
        out.std_error,
        level=0.9,
        draws=out.draws.values,
        draw_std_error=out.draws.std_error,
    )
    assert (limits.low < out.estimate).all()
    assert (limits.high > out.estimate).all()


@pytest.mark.parametrize("level", [0.8, 0.95])
def test_interval_holds_the_nulls_that_are_not_rejected(level):
    X, y, s = study()
    bootstrap = Bootstrap(scheme="wild", n=199)
    limits = wild_interval(X, y, bootstrap, s, seed=2, level=level, coefficients=(1,))
    width = limits.high[0] - limits.low[0]
    for r, inside in [(limits.low[0], 1), (limits.high[0], -1)]:
        for step, expected in ((inside * 1e-3 * width, True), (-inside * 1e-3 * width, False)):
            p = wild_draws(X, y, bootstrap, s, seed=2, coefficients=(1,), null=r + step).p_value[0]
            assert (p > 1 - level) == expected
    assert limits.p_value[0] == wild_draws(X, y, bootstrap, s, seed=2, coefficients=(1,)).p_value[0]


def test_enumerated_p_values_are_multiples_and_symmetric():
    X, y, s = study(groups=6)
    bootstrap = Bootstrap(scheme="wild", law="rademacher")
    with pytest.warns(FewClustersWarning):
        out = wild_draws(X, y, bootstrap, s, seed=0, coefficients=(1,))
    assert len(out.draws) == 64
    assert out.p_value[0] >= 2 / 64
    assert (out.p_value[0] * 64) % 2 == pytest.approx(0.0)
    with pytest.warns(FewClustersWarning):
        limits = wild_interval(X, y, bootstrap, s, seed=0, level=0.99, coefficients=(1,))
    assert "too few clusters" in limits.unavailable[0]


def test_default_law_and_scaling():
    X, y, s = study(groups=10)
    with pytest.warns(FewClustersWarning):
        one = wild_draws(X, y, Bootstrap(scheme="wild", n=99), s, seed=0)
    with pytest.warns(FewClustersWarning):
        two = wild_draws(X, -3 * y, Bootstrap(scheme="wild", n=99), s, seed=0)
    assert one.draws.law == "webb"
    np.testing.assert_allclose(two.draws.values, -3 * one.draws.values, rtol=1e-8, atol=1e-10)
    np.testing.assert_array_equal(one.p_value, two.p_value)


def test_weights_are_repeated_rows():
    X, y, s = study()
    twice = np.repeat(np.arange(s.n), 2)
    a = wild_draws(X, y, Bootstrap(scheme="wild", n=50), s, seed=0, weights=np.full(s.n, 2.0))
    b = wild_draws(
        X[twice], y[twice], Bootstrap(scheme="wild", n=50), Sampling(2 * s.n, cluster=s.cluster[twice]), seed=0
    )
    np.testing.assert_allclose(a.draws.values, b.draws.values, rtol=1e-8)
    np.testing.assert_allclose(a.std_error, b.std_error, rtol=1e-8)


def test_refusals():
    X, y, s = study()
    with pytest.raises(OptionError, match="needs Bootstrap"):
        wild_draws(X, y, Bootstrap(), s, seed=0)
    with pytest.raises(NumericalError, match="collinear"):
        wild_draws(np.column_stack([X, X[:, 1]]), y, Bootstrap(scheme="wild"), s, seed=0)
    with pytest.raises(OptionError, match="at least"):
        wild_interval(X, y, Bootstrap(scheme="wild", n=10), s, seed=0, level=0.95)
