"""Resampling weights: exact laws, units, strata, places, and the same bits for every way of asking."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from causalsat.errors import DataError, FewClustersWarning, OptionError
from causalsat.inference.options import Bootstrap
from causalsat.inference.planar import equal_area, unit_vectors
from causalsat.inference.resampling import resampling_weights
from causalsat.inference.sampling import Sampling
from causalsat.inference.schemes import CHOLESKY_PLACES, bucket, default_law, make_plan

LAWS = ("rademacher", "mammen", "webb", "normal", "exponential")
RARE = 1e-3


def places(n, seed=0, side=3.0):
    g = np.random.default_rng(seed)
    return np.column_stack([g.uniform(30, 30 + side, n), g.uniform(0, side, n)])


def sampling(n=120, seed=0):
    g = np.random.default_rng(seed)
    return Sampling(n, cluster=g.permutation(np.repeat(np.arange(40), n // 40)), lonlat=places(n, seed))


ALL = [
    Bootstrap(scheme="iid", n=120),
    Bootstrap(scheme="cluster", n=120),
    Bootstrap(scheme="bayes", n=120),
    Bootstrap(scheme="block", block_km=60.0, n=120),
    Bootstrap(scheme="dependent", block_km=60.0, n=120),
    *[Bootstrap(scheme="multiplier", law=law, n=120) for law in LAWS],
    Bootstrap(scheme="wild", n=120),
]


@pytest.mark.parametrize("bootstrap", ALL, ids=lambda b: f"{b.scheme}-{b.law}")
def test_any_request_gives_the_same_bits(bootstrap):
    whole = resampling_weights(bootstrap, sampling(), seed=3)
    for first, number in [(0, 1), (0, 10), (37, 1), (49, 2), (60, 60), (119, 1)]:
        part = resampling_weights(bootstrap, sampling(), seed=3, first=first, count=number)
        np.testing.assert_array_equal(part, whole[first : first + number])
    longer = Bootstrap(bootstrap.n + 33, bootstrap.scheme, bootstrap.block_km, law=bootstrap.law)
    np.testing.assert_array_equal(resampling_weights(longer, sampling(), seed=3)[:120], whole)
    assert not np.array_equal(resampling_weights(bootstrap, sampling(), seed=4), whole)


@given(n=st.integers(2, 4000), seed=st.integers(0, 2**40))
@settings(max_examples=15, deadline=None)
def test_iid_counts_sum_to_n(n, seed):
    w = resampling_weights(Bootstrap(n=3), Sampling(n), seed=seed)
    assert (w.sum(axis=1) == n).all()
    assert (w == np.floor(w)).all()
    assert (w >= 0).all()


@pytest.mark.parametrize("n", [40, 3000])
def test_iid_counts_have_the_binomial_law(n):
    """Chi-square of all counts against Binomial(n, 1/n); 3000 rows go through the fast path."""
    b = 200_000 // n
    counts = resampling_weights(Bootstrap(n=b), Sampling(n), seed=11).ravel().astype(int)
    cells = np.array([*stats.binom.pmf(np.arange(5), n, 1 / n), stats.binom.sf(4, n, 1 / n)]) * counts.size
    found = np.bincount(np.minimum(counts, 5), minlength=6)
    # Counts of one draw are negatively correlated, which makes the statistic smaller: the test is one-sided.
    assert ((found - cells) ** 2 / cells).sum() < stats.chi2.ppf(1 - RARE, 5)


def test_fast_counts_have_the_covariance_of_the_multinomial():
    n, b = 2500, 3000
    w = resampling_weights(Bootstrap(n=b), Sampling(n), seed=5)
    v = np.sin(np.arange(n) * 0.7)[:, None] * np.array([[1.0, 0.0]]) + np.cos(np.arange(n) * 1.3)[:, None] * [
        [0.0, 1.0]
    ]
    v = v - v.mean(axis=0)
    z = w @ v
    ratio = z.var(axis=0) / (v**2).sum(axis=0)
    assert (np.abs(ratio - 1) < 3.29 * np.sqrt(2 / b)).all()
    assert abs(np.corrcoef(z.T)[0, 1] - np.corrcoef(v.T)[0, 1]) < 3.29 / np.sqrt(b)


def test_cluster_copies_count():
    s = sampling()
    w = resampling_weights(Bootstrap(scheme="cluster", n=60), s, seed=1)
    first = np.array([np.flatnonzero(s.cluster == c)[0] for c in range(40)])
    np.testing.assert_array_equal(w, w[:, first][:, s.cluster])
    assert (w[:, first].sum(axis=1) == 40).all()
    assert (w[:, first] == 2).any()


def test_cluster_weights_do_not_depend_on_the_order_of_rows():
    s = sampling()
    order = np.random.default_rng(9).permutation(s.n)
    moved = Sampling(s.n, cluster=s.cluster[order], lonlat=s.lonlat[order])
    for bootstrap in ALL[1:5]:
        a = resampling_weights(bootstrap, s, seed=2)
        np.testing.assert_array_equal(resampling_weights(bootstrap, moved, seed=2), a[:, order])


@pytest.mark.parametrize("clustered", [False, True])
def test_bayes_weights_are_dirichlet(clustered):
    s = sampling() if clustered else Sampling(120)
    w = resampling_weights(Bootstrap(scheme="bayes", n=2000), s, seed=1)
    np.testing.assert_allclose(w.mean(axis=1), 1.0, rtol=1e-12)
    g = 40 if clustered else 120
    share = w[:, 0] / g
    # One coordinate of Dirichlet(1, ..., 1) is Beta(1, g - 1).
    assert stats.kstest(share, stats.beta(1, g - 1).cdf).pvalue > RARE


@pytest.mark.parametrize("scheme", ["iid", "cluster", "bayes"])
def test_strata_keep_their_totals(scheme):
    s = sampling()
    strata = (s.cluster % 3) if scheme != "iid" else np.arange(s.n) % 4
    bootstrap = Bootstrap(scheme=scheme, n=70, strata="region")
    w = resampling_weights(bootstrap, s, seed=1, strata=strata)
    for level in np.unique(strata):
        np.testing.assert_allclose(w[:, strata == level].sum(axis=1), (strata == level).sum(), rtol=1e-12)
    with pytest.raises(OptionError, match="passes no strata"):
        resampling_weights(bootstrap, s, seed=1)


def test_a_cluster_lies_in_one_stratum():
    with pytest.raises(DataError, match="another stratum"):
        resampling_weights(Bootstrap(scheme="cluster"), sampling(), strata=np.arange(120) % 2)
    with pytest.raises(OptionError, match="has no strata"):
        resampling_weights(Bootstrap(scheme="block", block_km=5), sampling(), strata=np.zeros(120, dtype=int))


@pytest.mark.parametrize("law", LAWS)
def test_laws_have_mean_zero_and_variance_one(law):
    xi = resampling_weights(Bootstrap(scheme="multiplier", law=law, n=500), Sampling(200), seed=8).ravel()
    fourth = {
        "rademacher": 1.0,
        "mammen": 3.0,
        "webb": (2 * 1.5**2 + 2 + 2 * 0.25) / 6,
        "normal": 3.0,
        "exponential": 9.0,
    }
    third = {"mammen": 1.0, "exponential": 2.0}.get(law, 0.0)
    assert abs(xi.mean()) < 3.29 / np.sqrt(xi.size)
    assert abs((xi**2).mean() - 1) <= 3.29 * np.sqrt((fourth[law] - 1) / xi.size) + 1e-12
    sixth = {"rademacher": 1, "mammen": 10, "webb": 2, "normal": 15, "exponential": 265}[law]
    assert abs((xi**3).mean() - third) < 3.29 * np.sqrt(sixth / xi.size)


def test_default_laws_and_enumeration():
    assert [default_law("wild", 11), default_law("multiplier", 11)] == ["webb", "webb"]
    assert [default_law("wild", 12), default_law("multiplier", 12)] == ["rademacher", "normal"]
    few = Sampling(30, cluster=np.repeat(np.arange(6), 5))
    with pytest.warns(FewClustersWarning, match="6 clusters are few"):
        xi = resampling_weights(Bootstrap(scheme="multiplier", law="rademacher", n=999), few)
    assert xi.shape == (64, 30)
    assert len(np.unique(xi, axis=0)) == 64
    np.testing.assert_array_equal(xi[:, ::5].T @ xi[:, ::5] / 64, np.eye(6))
    with pytest.warns(FewClustersWarning), pytest.raises(OptionError, match="the scheme has 64"):
        resampling_weights(Bootstrap(scheme="multiplier", law="rademacher"), few, first=60, count=10)


def test_blocks_are_squares_with_fresh_origins():
    n, km = 300, 80.0
    s = Sampling(n, lonlat=places(n))
    w = resampling_weights(Bootstrap(scheme="block", block_km=km, n=400), s, seed=0)
    assert (w == np.floor(w)).all()
    plane = equal_area(s.lonlat)
    apart = np.abs(plane[:, None, :] - plane[None, :, :]).max(axis=2)
    together = (w[:, :, None] == w[:, None, :]).mean(axis=0)
    assert together[apart < 0.02 * km].min() > 0.9
    assert together[apart > 2 * km].max() < 0.75
    # A row's weight has mean one; with about 25 tiles its variance is about 0.96.
    assert np.abs(w.mean(axis=0) - 1.0).max() < 4.5 * np.sqrt(1.0 / 400)
    assert abs(w.mean() - 1.0) < 3.29 * np.sqrt(w.mean(axis=1).var() / 400)


def test_blocks_draw_as_many_tiles_as_are_not_empty():
    """Places on a lattice of one per tile, whatever the origin: the counts are multinomial over the places."""
    grid = np.stack(np.meshgrid(np.arange(6), np.arange(5)), axis=-1).reshape(-1, 2) * 0.09
    s = Sampling(30, lonlat=grid)
    w = resampling_weights(Bootstrap(scheme="block", block_km=9.9, n=100), s, seed=0)
    assert (w.sum(axis=1) == 30).all()


def test_block_rows_at_one_place_stay_together_and_too_large_blocks_are_refused():
    lonlat = np.repeat(places(60), 2, axis=0)
    w = resampling_weights(Bootstrap(scheme="block", block_km=40.0, n=20), Sampling(120, lonlat=lonlat), seed=0)
    np.testing.assert_array_equal(w[:, ::2], w[:, 1::2])
    with pytest.raises(OptionError, match="larger than the extent"):
        resampling_weights(Bootstrap(scheme="block", block_km=4000.0), Sampling(120, lonlat=lonlat))


def test_dependent_multipliers_have_the_askey_covariance():
    n, km, b = 60, 100.0, 20_000
    s = Sampling(n, lonlat=places(n))
    xi = resampling_weights(Bootstrap(scheme="dependent", block_km=km, n=b), s, seed=0)
    p = unit_vectors(s.lonlat)
    chord = np.sqrt(((p[:, None] - p[None]) ** 2).sum(axis=2))
    kernel = np.clip(1 - chord / (2 * np.sin(km / (2 * 6371.01))), 0, None) ** 2
    error = (xi.T @ xi / b - kernel) / np.sqrt((1 + kernel**2) / b)
    assert np.abs(error).max() < stats.norm.isf(RARE / 2 / (n * (n + 1) / 2))


def test_dependent_multipliers_are_independent_across_periods():
    lonlat, time = np.tile(places(20), (3, 1)), np.repeat(np.arange(3), 20)
    s = Sampling(60, lonlat=lonlat, time=time)
    xi = resampling_weights(Bootstrap(scheme="dependent", block_km=100.0, n=4000), s, seed=0)
    covariance = xi.T @ xi / 4000
    assert np.abs(covariance[:20, 20:40]).max() < 4.5 / np.sqrt(4000)
    np.testing.assert_allclose(np.diag(covariance), 1.0, atol=4.5 * np.sqrt(2 / 4000))


def test_dependent_on_a_grid_has_unit_variance_and_compact_range():
    n, km = CHOLESKY_PLACES + 1, 30.0
    s = Sampling(n, lonlat=places(n))
    plan = make_plan(Bootstrap(scheme="dependent", block_km=km), s)
    assert plan.notes["kernel"].startswith("autocorrelation")
    xi = resampling_weights(Bootstrap(scheme="dependent", block_km=km, n=200), s, seed=0)
    assert abs((xi**2).mean() - 1.0) < 0.05
    plane = equal_area(s.lonlat)[:400]
    apart = np.sqrt(((plane[:, None] - plane[None]) ** 2).sum(axis=2))
    covariance = xi[:, :400].T @ xi[:, :400] / 200
    assert abs(covariance[apart > 1.1 * km].mean()) < 0.02
    assert covariance[(apart < 0.1 * km) & (apart > 0)].mean() > 0.8


def test_plane_keeps_distances_and_areas():
    a = equal_area(np.array([[30.0, 1.0], [30.0, 2.0], [31.0, 1.0], [31.0, 2.0]]))
    assert np.linalg.norm(a[1] - a[0]) == pytest.approx(6371.01 * np.pi / 180, rel=1e-4)
    turned = equal_area(np.array([[179.5, 1.0], [179.5, 2.0], [-179.5, 1.0], [-179.5, 2.0]]))
    np.testing.assert_allclose(turned, a, atol=1e-6)
    with pytest.raises(DataError, match="regional"):
        equal_area(np.array([[0.0, 0.0], [180.0, 0.0], [90.0, 0.0], [-90.0, 0.0]]))


def test_one_cluster_and_missing_roles_are_refused():
    with pytest.raises(DataError, match="at least two clusters"):
        resampling_weights(Bootstrap(scheme="cluster"), Sampling(9, cluster=np.zeros(9, dtype=int)))
    with pytest.raises(OptionError, match="cluster="):
        resampling_weights(Bootstrap(scheme="cluster"), Sampling(9))
    with pytest.raises(OptionError, match="coords="):
        resampling_weights(Bootstrap(scheme="block", block_km=5), Sampling(9))
    with pytest.raises(DataError, match="at least two rows"):
        resampling_weights(Bootstrap(), Sampling(1))


@given(n=st.integers(1, 10**7))
@settings(max_examples=200, deadline=None)
def test_buckets_are_few_even_and_close(n):
    assert bucket(n) >= n
    assert bucket(n) % 2 == 0
    assert bucket(n) <= max(16, 1.125 * n + 2)
