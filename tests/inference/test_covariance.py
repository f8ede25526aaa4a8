import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from causalsat.errors import DataError, FewClustersWarning, OptionError
from causalsat.inference.covariance import influence_covariance, positive_part
from causalsat.inference.options import Sandwich
from causalsat.inference.sampling import Sampling

# Few clusters are the point of small designs here; the warning has its own test.
quiet = pytest.mark.filterwarnings("ignore::causalsat.errors.FewClustersWarning")


def rows(n=300, k=2, seed=0):
    rng = np.random.default_rng(seed)
    phi = rng.normal(size=(n, k))
    return phi - phi.mean(axis=0), rng.integers(0, 40, n), rng.integers(0, 35, n)


def brute(phi, together):
    return phi.T @ together.astype(float) @ phi / phi.shape[0] ** 2


def same(codes):
    return codes[:, None] == codes[None, :]


def test_hc0_hc1_cluster_and_twoway_by_brute_force():
    phi, one, two = rows()
    sampling = Sampling(300, cluster=one, second=two)
    hc0 = influence_covariance(phi, Sandwich("hc0"), sampling)
    np.testing.assert_allclose(hc0.matrix, phi.T @ phi / 300**2, rtol=1e-12)
    assert (hc0.df, hc0.factor, hc0.n_clusters) == (np.inf, 1.0, None)
    hc1 = influence_covariance(phi, Sandwich("hc1"), sampling, n_parameters=3)
    np.testing.assert_allclose(hc1.matrix, hc0.matrix * 300 / 297, rtol=1e-12)
    assert hc1.df == 297
    cluster = influence_covariance(phi, Sandwich("cluster"), sampling)
    np.testing.assert_allclose(cluster.matrix, brute(phi, same(one)), rtol=1e-10)
    assert (cluster.df, cluster.factor, cluster.n_clusters) == (np.inf, 1.0, 40)
    twoway = influence_covariance(phi, Sandwich("twoway"), sampling)
    np.testing.assert_allclose(twoway.matrix, brute(phi, same(one) | same(two)), rtol=1e-10)
    assert twoway.n_clusters == 35
    assert twoway.notes["clusters"][:2] == (40, 35)
    parts = twoway.notes["first"] + twoway.notes["second"] - twoway.notes["intersection"]
    np.testing.assert_allclose(parts, np.diag(twoway.matrix), rtol=1e-12)


def test_small_sample_factors_and_reference_laws():
    phi, one, two = rows()
    sampling = Sampling(300, cluster=one, second=two)
    plain = influence_covariance(phi, Sandwich("cluster"), sampling)
    expected = {
        "none": (1.0, np.inf),
        "cluster": (40 / 39, 39),
        "crv1": (299 / 297 * 40 / 39, 39),
        "pyfixest": (299 / 297 * 40 / 39, 39),
    }
    for name, (factor, df) in expected.items():
        got = influence_covariance(phi, Sandwich("cluster", small_sample=name), sampling, n_parameters=3)
        assert got.factor == pytest.approx(factor, rel=1e-14)
        assert got.df == df
        np.testing.assert_allclose(got.matrix, factor * plain.matrix, rtol=1e-12)
    two_way = influence_covariance(phi, Sandwich("twoway", small_sample="cluster"), sampling)
    assert two_way.factor == pytest.approx(35 / 34)
    assert two_way.df == 34
    with pytest.raises(OptionError, match="has none"):
        influence_covariance(phi, Sandwich("hc0", small_sample="crv1"), sampling)
    with pytest.raises(OptionError, match="crv3"):
        influence_covariance(phi, Sandwich("crv3", small_sample="crv1"), sampling)


@quiet
def test_one_step_crv3_is_the_jackknife_of_a_mean():
    rng = np.random.default_rng(1)
    y, cluster = rng.normal(size=90) + 1.0, np.sort(rng.integers(0, 12, 90))
    phi = (y - y.mean())[:, None]
    left_out = np.array([y[cluster != c].mean() for c in range(12)]) - y.mean()
    expected = 11 / 12 * (left_out**2).sum()
    got = influence_covariance(phi, Sandwich("crv3"), Sampling(90, cluster=cluster))
    assert got.matrix[0, 0] == pytest.approx(expected, rel=1e-12)
    assert (got.df, got.factor) == (11, 11 / 12)


@given(seed=st.integers(0, 1000), n=st.integers(4, 80), scale=st.floats(1e-3, 1e3))
@settings(max_examples=40, deadline=None)
@quiet
def test_labels_order_scale_and_degenerate_clusters(seed, n, scale):
    rng = np.random.default_rng(seed)
    phi = rng.normal(size=(n, 2))
    one, two = rng.integers(0, 3, n), rng.integers(0, 4, n)
    one[:2], two[:2] = (0, 1), (0, 1)
    sampling = Sampling(n, cluster=one, second=two)
    order, shuffled = rng.permutation(n), rng.permutation(3) * 7 - 5
    relabelled = Sampling(n, cluster=shuffled[one][order], second=-two[order])
    for kind in ("cluster", "twoway", "crv3"):
        base = influence_covariance(phi, Sandwich(kind), sampling)
        moved = influence_covariance(phi[order], Sandwich(kind), relabelled)
        np.testing.assert_allclose(moved.matrix, base.matrix, rtol=1e-9, atol=1e-12)
        scaled = influence_covariance(scale * phi, Sandwich(kind), sampling)
        np.testing.assert_allclose(scaled.matrix, scale**2 * base.matrix, rtol=1e-9, atol=1e-12 * scale**2)
    single = Sampling(n, cluster=np.arange(n), second=np.arange(n))
    hc0 = influence_covariance(phi, Sandwich("hc0"), single)
    for kind in ("cluster", "twoway"):
        np.testing.assert_allclose(influence_covariance(phi, Sandwich(kind), single).matrix, hc0.matrix, rtol=1e-12)
    equal = Sampling(n, cluster=one, second=one + 10)
    one_way = influence_covariance(phi, Sandwich("cluster"), equal)
    np.testing.assert_allclose(
        influence_covariance(phi, Sandwich("twoway"), equal).matrix, one_way.matrix, rtol=1e-9, atol=1e-13
    )


@quiet
def test_doubled_rows():
    phi, one, _ = rows(60, 1)
    twice, again = np.concatenate([phi, phi]), np.concatenate([one, one])
    iid = influence_covariance(phi, Sandwich("hc0"), Sampling(60)).std_error
    doubled = influence_covariance(twice, Sandwich("hc0"), Sampling(120)).std_error
    np.testing.assert_allclose(doubled, iid / np.sqrt(2), rtol=1e-12)
    first = influence_covariance(phi, Sandwich("cluster"), Sampling(60, cluster=one)).std_error
    second = influence_covariance(twice, Sandwich("cluster"), Sampling(120, cluster=again)).std_error
    np.testing.assert_allclose(first, second, rtol=1e-12)


@quiet
def test_a_negative_two_way_variance_is_withheld_with_its_parts():
    # Pairs of opposite rows share a cluster in either way, never in both: V1 = V2 = 0 < V12.
    one, two = np.array([0, 0, 1, 1]), np.array([0, 1, 0, 1])
    phi = np.array([[1.0, 0.0], [-1.0, 0.0], [-1.0, 1.0], [1.0, 1.0]])
    got = influence_covariance(phi, Sandwich("twoway"), Sampling(4, cluster=one, second=two))
    assert np.isnan(got.std_error[0])
    assert np.isfinite(got.std_error[1])
    assert np.isnan(got.matrix[0]).all()
    assert np.isnan(got.matrix[:, 0]).all()
    assert "negative" in got.unavailable[0]
    assert "0 before" in got.unavailable[0]
    assert got.notes["intersection"][0] == pytest.approx(4 / 16)


def test_columns_that_are_not_finite_or_zero():
    phi, one, _ = rows(300, 3)
    phi[4, 1] = np.nan
    phi[:, 2] = 0.0
    got = influence_covariance(phi, Sandwich("cluster"), Sampling(300, cluster=one))
    assert np.isnan(got.std_error[1])
    assert "not finite" in got.unavailable[1]
    assert got.std_error[2] == 0.0
    assert got.std_error[0] > 0


def test_few_clusters_one_cluster_and_singletons():
    phi, _, _ = rows(60)
    with pytest.raises(DataError, match="one cluster"):
        influence_covariance(phi, Sandwich("cluster"), Sampling(60, cluster=np.zeros(60, int)))
    with pytest.warns(FewClustersWarning, match="12 clusters"):
        influence_covariance(phi, Sandwich("cluster"), Sampling(60, cluster=np.arange(60) % 12))
    codes = np.maximum(np.arange(60) - 10, 0)
    notes = influence_covariance(phi, Sandwich("cluster"), Sampling(60, cluster=codes)).notes
    assert (notes["singletons"], notes["largest_cluster"]) == (49, 11)


def test_what_a_kind_lacks_is_named():
    phi, one, _ = rows(60)
    with pytest.raises(OptionError, match="a cluster column"):
        influence_covariance(phi, Sandwich("cluster"), Sampling(60))
    with pytest.raises(OptionError, match="second cluster column"):
        influence_covariance(phi, Sandwich("twoway"), Sampling(60, cluster=one))
    for kind in ("classical", "hc3"):
        with pytest.raises(OptionError, match="leverages"):
            influence_covariance(phi, Sandwich(kind), Sampling(60))
    with pytest.raises(DataError, match=r"shape \(60, 2\)"):
        influence_covariance(phi, Sandwich("hc0"), Sampling(61))


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"cluster": np.zeros(3)}, "float64"),
        ({"cluster": np.zeros(4, int)}, "shape"),
        ({"lonlat": np.zeros((3, 3))}, "shape"),
        ({"lonlat": np.full((3, 2), np.nan)}, "3 of 3 rows"),
        ({"lonlat": np.array([[0.0, 95.0]] * 3)}, "degrees"),
    ],
)
def test_sampling_refuses(fields, message):
    with pytest.raises(DataError, match=message):
        Sampling(3, **fields)


def test_positive_part_counts_what_it_clips():
    matrix = np.array([[1.0, 2.0], [2.0, 1.0]])
    clipped, count = positive_part(matrix)
    assert count == 1
    np.testing.assert_allclose(clipped, np.full((2, 2), 1.5), rtol=1e-12)
    unchanged, none = positive_part(np.eye(3))
    assert none == 0
    np.testing.assert_allclose(unchanged, np.eye(3))
