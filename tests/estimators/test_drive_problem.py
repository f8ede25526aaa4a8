"""The metric of two-step GMM: Hansen's J without factors, and variances of the moments that have no inverse."""

from dataclasses import replace

import numpy as np
import pytest

from causalsat.checks.iv_validity import hansen
from causalsat.errors import DataError, FewClustersWarning, NumericalError, OptionError
from causalsat.estimators.drive_problem import drive_problem
from causalsat.inference.iv_rows import IvRows
from causalsat.inference.iv_weight import weight_variance
from causalsat.inference.options import Sandwich
from causalsat.inference.sampling import Sampling
from causalsat.simulate.iv import iv

N = 400
CONLEY = Sandwich("conley", cutoff_km=400.0, kernel="uniform")


def study(seed=0, q=4, weights=None, **sampling):
    data, _ = iv(n=N, q=q, seed=seed)
    w = np.ones(N) if weights is None else weights / weights.mean()

    def net(a):
        return a - np.average(a, axis=0, weights=w)

    Z = net(np.column_stack([data[f"z{k + 1}"] for k in range(q)]))
    return IvRows(net(data["y"]), net(data["x"][:, None]), Z, w, np.ones((N, 1)), 1, 1, Sampling(N, **sampling))


def places(seed=0):
    return np.random.default_rng(seed).uniform(0.0, 3.0, (N, 2))


@pytest.mark.parametrize("kind", ["classical", "hc0", "hc1", "cluster"])
@pytest.mark.parametrize("weighted", [False, True])
def test_j0_over_the_variance_is_hansens_j_whatever_the_small_sample_factor(kind, weighted):
    weights = np.random.default_rng(1).uniform(0.3, 2.0, N) if weighted and kind != "classical" else None
    rows = study(weights=weights, cluster=np.arange(N) // 8)
    problem = drive_problem(rows, metric="gmm", sandwich=Sandwich(kind))
    spread = np.mean(problem.rows.weights * problem.rows.residuals(problem.rows.moments.b_tsls) ** 2)
    assert N * problem.j0 / spread == pytest.approx(hansen(rows, Sandwich(kind)).statistic, rel=1e-9)


def test_the_weight_does_not_depend_on_units_or_on_the_instruments_chosen_for_their_span():
    rows = study(lonlat=places())
    turn = np.array([[2.0, 0.3, 0.0, 1e3], [0.0, 1.0, 0.5, 0.0], [0.1, 0.0, 1e-3, 0.0], [0.0, 0.2, 0.0, 5.0]])
    turned = replace(rows, y=10.0 * rows.y, Z=rows.Z @ turn)
    for sandwich in (Sandwich("hc1"), CONLEY):
        one, two = (drive_problem(r, metric="gmm", sandwich=sandwich) for r in (rows, turned))
        np.testing.assert_allclose(one.A, two.A, rtol=1e-8)
        assert one.b_tsls == pytest.approx(two.b_tsls, rel=1e-8)
        assert one.flags == two.flags


@pytest.mark.filterwarnings("ignore::causalsat.errors.FewClustersWarning")
@pytest.mark.parametrize("g", [3, 4])
def test_no_more_clusters_than_instruments_is_a_named_error(g):
    rows = study(cluster=np.arange(N) % g)
    with pytest.raises(DataError, match=f"moments of 4 instruments, and {g} clusters cannot"):
        drive_problem(rows, metric="gmm", sandwich=Sandwich("cluster"))


def test_five_clusters_are_enough_for_an_inverse():
    with pytest.warns(FewClustersWarning):
        problem = drive_problem(study(cluster=np.arange(N) % 5), metric="gmm", sandwich=Sandwich("cluster"))
    assert np.isfinite(problem.root).all()


def test_an_indefinite_conley_variance_is_mended_and_told():
    rows = study(lonlat=places())
    problem = drive_problem(rows, metric="gmm", sandwich=CONLEY)
    assert np.linalg.svd(problem.root)[1].max() < 20.0
    assert len(problem.flags) == 1
    assert "Conley variance of the moments is not positive in 1 of 4 directions" in problem.flags[0]
    definite = drive_problem(rows, metric="gmm", sandwich=Sandwich("conley", cutoff_km=20.0, kernel="askey"))
    assert definite.flags == ()


@pytest.mark.filterwarnings("ignore::causalsat.errors.FewClustersWarning")
@pytest.mark.parametrize("seed", range(5))
def test_two_ways_of_few_clusters_have_a_weight(seed):
    rng = np.random.default_rng(seed)
    rows = study(seed, cluster=rng.integers(0, 8, N), second=rng.integers(0, 7, N))
    variance, flags = weight_variance(rows, rows.moments.b_tsls, Sandwich("twoway"))
    white = np.linalg.solve(rows.moments.L, np.linalg.solve(rows.moments.L, variance).T)
    assert np.linalg.eigvalsh(white)[0] > 1e-4
    assert all("two-way variance of the moments" in flag for flag in flags)


def test_a_given_variance_is_guarded_too():
    rows = study()
    with pytest.raises(NumericalError, match="singular or not finite"):
        drive_problem(rows, metric="gmm", variance=np.ones((4, 4)))
    with pytest.raises(NumericalError, match="singular or not finite"):
        drive_problem(rows, metric="gmm", variance=np.full((4, 4), np.nan))
    with pytest.raises(OptionError, match="needs the variance"):
        drive_problem(rows, metric="gmm")
    exact = replace(rows, y=np.zeros(N))
    with pytest.raises(NumericalError, match="residuals vanish"):
        drive_problem(exact, scale="raw", metric="gmm", sandwich=Sandwich("hc1"))
