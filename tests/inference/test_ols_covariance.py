import numpy as np
import pandas as pd
import pytest
import statsmodels.api as sm
from hypothesis import given, settings
from hypothesis import strategies as st

from causalsat.errors import DataError, NumericalError, OptionError
from causalsat.inference.ols import absorbed_parameters, ols_covariance
from causalsat.inference.options import Sandwich
from causalsat.inference.sampling import Sampling
from tests.inference.conley_reference import dense

pytestmark = pytest.mark.filterwarnings("ignore::causalsat.errors.FewClustersWarning")


def regression(n=240, k=3, seed=0, weighted=False):
    rng = np.random.default_rng(seed)
    x = np.column_stack([np.ones(n), rng.normal(size=(n, k - 1))])
    y = x @ np.arange(1.0, k + 1) + rng.normal(size=n) * (1 + np.abs(x[:, -1]))
    w = rng.uniform(0.2, 3.0, n) if weighted else None
    root = np.ones(n) if w is None else np.sqrt(w)
    b = np.linalg.lstsq(x * root[:, None], y * root, rcond=None)[0]
    return x, y, y - x @ b, w, rng.integers(0, 32, n), rng.integers(0, 35, n)


@pytest.mark.parametrize("weighted", [False, True])
def test_heteroskedastic_forms_equal_statsmodels(weighted):
    x, y, e, w, _, _ = regression(weighted=weighted)
    fit = sm.WLS(y, x, weights=1.0 if w is None else w).fit()
    sampling = Sampling(240)
    for kind, expected in {
        "classical": fit.cov_params(),
        "hc0": fit.cov_HC0,
        "hc1": fit.cov_HC1,
        "hc3": fit.cov_HC3,
    }.items():
        got = ols_covariance(x, e, Sandwich(kind), sampling, weights=w)
        np.testing.assert_allclose(got.matrix, expected, rtol=1e-8)
        assert got.df == (np.inf if kind == "hc0" else 237)


@pytest.mark.parametrize("weighted", [False, True])
def test_clustered_forms_equal_statsmodels(weighted):
    x, y, e, w, one, two = regression(weighted=weighted)
    model = sm.WLS(y, x, weights=1.0 if w is None else w)
    cluster = ols_covariance(x, e, Sandwich("cluster"), Sampling(240, cluster=one), weights=w)
    expected = model.fit(cov_type="cluster", cov_kwds={"groups": one}).cov_params()
    np.testing.assert_allclose(cluster.matrix, expected, rtol=1e-8)
    assert cluster.df == 31
    twoway = ols_covariance(
        x, e, Sandwich("twoway", small_sample="none"), Sampling(240, cluster=one, second=two), weights=w
    )
    kwds = {"groups": np.column_stack([one, two]), "use_correction": False}
    expected = model.fit(cov_type="cluster", cov_kwds=kwds).cov_params()
    np.testing.assert_allclose(twoway.matrix, expected, rtol=1e-8)


@pytest.fixture(scope="module")
def feols():
    pyfixest = pytest.importorskip("pyfixest")
    return pyfixest.feols


def test_pyfixest_hc1_crv1_crv3_and_two_way(feols):
    x, y, e, _, one, two = regression()
    frame = pd.DataFrame({"y": y, "a": x[:, 1], "b": x[:, 2], "one": one, "two": two})
    sampling = Sampling(240, cluster=one, second=two)
    cases = [
        ("HC1", Sandwich("hc1")),
        ({"CRV1": "one"}, Sandwich("cluster")),
        ({"CRV1": "one"}, Sandwich("cluster", small_sample="pyfixest")),
        ({"CRV3": "one"}, Sandwich("crv3", small_sample="pyfixest")),
        ({"CRV1": "one + two"}, Sandwich("twoway")),
    ]
    for vcov, sandwich in cases:
        fit = feols("y ~ a + b", data=frame, vcov=vcov)
        got = ols_covariance(x, e, sandwich, sampling)
        np.testing.assert_allclose(got.matrix, fit._vcov, rtol=1e-8)


def test_pyfixest_with_absorbed_effects_nested_and_not(feols):
    rng = np.random.default_rng(4)
    n = 400
    unit, time = rng.integers(0, 50, n), rng.integers(0, 6, n)
    cluster = unit // 2
    a, b = rng.normal(size=n), rng.normal(size=n)
    y = a - b + 0.3 * unit + time + rng.normal(size=n)
    frame = pd.DataFrame({"y": y, "a": a, "b": b, "unit": unit, "time": time, "cluster": cluster})
    effects = np.column_stack([unit[:, None] == np.arange(50), time[:, None] == np.arange(1, 6)]).astype(float)
    demean = np.eye(n) - effects @ np.linalg.pinv(effects)
    x, y_within = demean @ np.column_stack([a, b]), demean @ y
    e = y_within - x @ np.linalg.lstsq(x, y_within, rcond=None)[0]
    used = absorbed_parameters([unit, time], cluster)
    assert (used.everywhere, used.unnested) == (55, 6)
    options = {"n_absorbed": used.everywhere, "n_absorbed_unnested": used.unnested}
    for vcov, sandwich in [
        ("iid", Sandwich("classical")),
        ("hetero", Sandwich("hc1")),
        ({"CRV1": "cluster"}, Sandwich("cluster")),
    ]:
        fit = feols("y ~ a + b | unit + time", data=frame, vcov=vcov, fixef_tol=1e-13)
        got = ols_covariance(x, e, sandwich, Sampling(n, cluster=cluster), **options)
        np.testing.assert_allclose(got.matrix, fit._vcov, rtol=1e-8)
    with pytest.raises(OptionError, match="nested"):
        ols_covariance(x, e, Sandwich("crv3"), Sampling(n, cluster=cluster), **options)
    with pytest.raises(OptionError, match="absorbed_leverage"):
        ols_covariance(x, e, Sandwich("hc3"), Sampling(n), **options)
    full = ols_covariance(np.column_stack([a, b, effects]), e, Sandwich("hc3"), Sampling(n))
    leverage = np.diag(effects @ np.linalg.pinv(effects))
    within = ols_covariance(x, e, Sandwich("hc3"), Sampling(n), absorbed_leverage=leverage, **options)
    np.testing.assert_allclose(within.std_error, full.std_error[:2], rtol=1e-8)


@given(seed=st.integers(0, 500), k=st.integers(1, 5), g=st.integers(3, 20), weighted=st.booleans())
@settings(max_examples=20, deadline=None)
def test_crv3_through_downdates_equals_leaving_clusters_out(seed, k, g, weighted):
    x, y, e, w, _, _ = regression(120, k, seed, weighted)
    cluster = np.random.default_rng(seed).permutation(np.arange(120) % g)
    root = np.ones(120) if w is None else np.sqrt(w)
    fit = lambda keep: np.linalg.lstsq((x * root[:, None])[keep], (y * root)[keep], rcond=None)[0]  # noqa: E731
    shifts = np.array([fit(cluster != c) - fit(cluster >= 0) for c in range(g)])
    got = ols_covariance(x, e, Sandwich("crv3"), Sampling(120, cluster=cluster), weights=w)
    np.testing.assert_allclose(got.matrix, (g - 1) / g * shifts.T @ shifts, rtol=1e-8, atol=1e-14)
    assert got.df == g - 1


def test_crv3_of_singletons_is_hc3_times_its_factor():
    x, _, e, _, _, _ = regression(60)
    crv3 = ols_covariance(x, e, Sandwich("crv3"), Sampling(60, cluster=np.arange(60)))
    hc3 = ols_covariance(x, e, Sandwich("hc3"), Sampling(60))
    np.testing.assert_allclose(crv3.matrix, 59 / 60 * hc3.matrix, rtol=1e-10)


def test_conley_equals_the_sandwich_of_all_pairs_and_sums_to_zero_with_a_constant():
    x, _, e, _, _, _ = regression(150)
    lonlat = np.random.default_rng(1).uniform(0, 5, (150, 2))
    sampling = Sampling(150, lonlat=lonlat)
    bread = np.linalg.inv(x.T @ x)
    got = ols_covariance(x, e, Sandwich("conley", cutoff_km=80.0), sampling)
    np.testing.assert_allclose(got.matrix, bread @ dense(x * e[:, None], lonlat, 80.0) @ bread, rtol=1e-8)
    assert (got.df, got.factor, got.cutoff_km) == (np.inf, 1.0, 80.0)
    wide = ols_covariance(x, e, Sandwich("conley", cutoff_km=20_000.0, kernel="uniform"), sampling)
    assert np.isnan(wide.std_error).all()


def test_units_of_regressors_and_outcome():
    x, _, e, _, one, _ = regression()
    scale = np.array([1.0, 1e-4, 3e5])
    sampling = Sampling(240, cluster=one)
    for kind in ("classical", "hc0", "hc1", "hc3", "cluster", "crv3"):
        base = ols_covariance(x, e, Sandwich(kind), sampling).std_error
        np.testing.assert_allclose(ols_covariance(x * scale, e, Sandwich(kind), sampling).std_error, base / scale)
        np.testing.assert_allclose(ols_covariance(x, 10 * e, Sandwich(kind), sampling).std_error, 10 * base)


def test_a_row_or_a_cluster_with_its_own_dummy():
    x, y, _, _, _, _ = regression(80)
    x = np.column_stack([x, np.arange(80) == 7])
    e = y - x @ np.linalg.lstsq(x, y, rcond=None)[0]
    hc3 = ols_covariance(x, e, Sandwich("hc3"), Sampling(80))
    assert list(hc3.unavailable) == [3]
    assert "leverage one" in hc3.unavailable[3]
    assert np.isfinite(hc3.std_error[:3]).all()
    crv3 = ols_covariance(x, e, Sandwich("crv3"), Sampling(80, cluster=np.arange(80) // 2))
    assert len(crv3.unavailable) == 4
    assert "without variation" in crv3.unavailable[0]


def test_refusals():
    x, _, e, _, _, _ = regression(60)
    with pytest.raises(NumericalError, match="linearly dependent"):
        ols_covariance(np.column_stack([x, x[:, 1] + x[:, 2]]), e, Sandwich("hc0"), Sampling(60))
    with pytest.raises(NumericalError, match="regressor 1 is zero"):
        ols_covariance(np.column_stack([x[:, 0], 0 * x[:, 1]]), e, Sandwich("hc0"), Sampling(60))
    with pytest.raises(DataError, match="no degree of freedom"):
        ols_covariance(x, e, Sandwich("hc1"), Sampling(60), n_absorbed=57)
    with pytest.raises(DataError, match="weights"):
        ols_covariance(x, e, Sandwich("hc0"), Sampling(60), weights=-np.ones(60))
    with pytest.raises(DataError, match="finite"):
        ols_covariance(x, np.full(60, np.nan), Sandwich("hc0"), Sampling(60))
    with pytest.raises(DataError, match="one cluster"):
        ols_covariance(x, e, Sandwich("crv3"), Sampling(60, cluster=np.zeros(60, int)))
