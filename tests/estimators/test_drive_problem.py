"""The metric of two-step GMM: Hansen's J without factors, and variances of the moments that have no inverse."""

from dataclasses import replace

import numpy as np
import pytest

import causalsat as cs
from causalsat.checks.iv_validity import hansen, sargan
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
    assert "from 7 clusters" in flags[0]
    assert all("two-way variance of the moments" in flag for flag in flags[1:])


def test_a_weight_needs_a_covariance_and_residuals():
    rows = study()
    with pytest.raises(OptionError, match="needs sandwich="):
        drive_problem(rows, metric="gmm")
    exact = replace(rows, y=np.zeros(N))
    with pytest.raises(NumericalError, match="residuals vanish"):
        drive_problem(exact, scale="raw", metric="gmm", sandwich=Sandwich("hc1"))


@pytest.mark.filterwarnings("ignore::causalsat.errors.FewClustersWarning")
def test_fewer_than_five_clusters_per_instrument_are_told():
    def flags(first, second=None, kind="cluster", q=4):
        codes = {"cluster": np.arange(N) % first, "second": None if second is None else np.arange(N) // (N // second)}
        return drive_problem(study(q=q, **codes), metric="gmm", sandwich=Sandwich(kind)).flags

    (text,) = flags(19)
    assert "weighs 4 instruments by a variance from 19 clusters, fewer than 5 per instrument" in text
    assert "cover too little" in text
    assert flags(20) == ()
    assert flags(4, q=1, kind="hc1") == ()
    assert "from 16 clusters" in flags(40, 16, "twoway")[0]
    assert flags(40, 25, "twoway") == ()


def test_the_flag_of_few_clusters_reaches_meta_and_summary():
    data, _ = iv(n=N, q=4, seed=0, clusters=12, concentration=4000.0)
    names = [f"z{k + 1}" for k in range(4)]
    roles = {"outcome": "y", "treatment": "x", "instruments": names, "cluster": "cluster"}
    with pytest.warns(FewClustersWarning):
        result = cs.drive(data, **roles, metric="gmm", n_boot=0, sets=())
    assert any("from 12 clusters, fewer than 5 per instrument" in text for text in result.meta["flags"])
    assert "fewer than 5 per instrument" in " ".join(str(result.summary()).split())


def test_with_unequal_weights_the_classical_metric_gives_sargans_statistic_and_not_hansens():
    rows = study(weights=np.random.default_rng(1).uniform(0.3, 2.0, N))
    problem = drive_problem(rows, metric="gmm", sandwich=Sandwich("classical"))
    spread = np.mean(problem.rows.weights * problem.rows.residuals(problem.rows.moments.b_tsls) ** 2)
    assert N * problem.j0 / spread == pytest.approx(sargan(rows).statistic, rel=1e-9)
    assert N * problem.j0 / spread != pytest.approx(hansen(rows, Sandwich("classical")).statistic, rel=1e-3)
