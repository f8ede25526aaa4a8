import itertools

import numpy as np
import pytest

from causalsat.errors import DataError, OptionError, SpatialCutoffWarning
from causalsat.inference.bandwidth import bandwidth_sweep, default_cutoffs
from causalsat.inference.covariance import influence_covariance
from causalsat.inference.options import Sandwich
from causalsat.inference.sampling import Sampling
from causalsat.inference.spatial_range import covariogram, covariogram_range, extent_km, neighbour_distances
from tests.inference.conley_reference import haversine_km


def field(n, range_km, seed=0, side=10.0):
    """A Gaussian field with covariance exp(-3 d / range), which is 5% at the range."""
    rng = np.random.default_rng(seed)
    lonlat = rng.uniform(0, side, (n, 2))
    root = np.linalg.cholesky(np.exp(-3.0 * haversine_km(lonlat) / range_km) + 1e-9 * np.eye(n))
    return (root @ rng.normal(size=n))[:, None], lonlat, rng


def test_the_columns_equal_single_covariances():
    phi, lonlat, rng = field(300, 200.0)
    sampling = Sampling(300, cluster=rng.integers(0, 60, 300), lonlat=lonlat)
    sweep = bandwidth_sweep(phi, sampling, kernel="epanechnikov")
    assert sweep.kind[:3] == ("hc0", "cluster", "conley")
    assert len(sweep.kind) == 14
    np.testing.assert_array_equal(sweep.cutoff_km[2:], default_cutoffs(lonlat))
    for i, (kind, cutoff) in enumerate(zip(sweep.kind, sweep.cutoff_km, strict=True)):
        options = {} if np.isnan(cutoff) else {"cutoff_km": cutoff, "kernel": "epanechnikov"}
        single = influence_covariance(phi, Sandwich(kind, **options), sampling)
        np.testing.assert_allclose(sweep.std_error[i], single.std_error, rtol=1e-10)
    assert (np.diff(sweep.pairs[2:]) >= 0).all()
    assert np.isnan(sweep.mean_neighbours[:2]).all()
    np.testing.assert_allclose(sweep.mean_neighbours[2:], 2 * sweep.pairs[2:] / 300)


def test_own_cutoffs_and_negative_variances_are_kept():
    lonlat = np.stack([np.zeros(40), 0.01 * np.arange(40.0)], axis=1)
    phi = ((-1.0) ** np.arange(40))[:, None]
    sweep = bandwidth_sweep(phi, Sampling(40, lonlat=lonlat), cutoffs_km=np.array([5.0, 1.2]), kernel="uniform")
    assert sweep.cutoff_km[1:].tolist() == [5.0, 1.2]
    assert np.isnan(sweep.std_error[2, 0])
    assert "negative" in sweep.unavailable[2, 0]
    with pytest.raises(OptionError, match="positive"):
        bandwidth_sweep(phi, Sampling(40, lonlat=lonlat), cutoffs_km=np.array([0.0]))
    with pytest.raises(OptionError, match="coordinates"):
        bandwidth_sweep(phi, Sampling(40))


def test_default_cutoffs_span_spacing_to_a_third_of_the_extent():
    _, lonlat, _ = field(200, 100.0)
    cutoffs = default_cutoffs(lonlat)
    distance = haversine_km(lonlat)
    np.fill_diagonal(distance, np.inf)
    assert cutoffs.size == 12
    assert cutoffs[0] == pytest.approx(np.median(distance.min(axis=1)), rel=1e-9)
    np.fill_diagonal(distance, 0.0)
    assert distance.max() * 0.97 <= extent_km(lonlat) <= distance.max() * (1 + 1e-12)
    assert cutoffs[-1] == pytest.approx(extent_km(lonlat) / 3)
    with pytest.raises(DataError, match="one place"):
        neighbour_distances(np.zeros((5, 2)))
    with pytest.raises(DataError, match="too few places"):
        default_cutoffs(np.array([[0.0, 0.0], [0.0, 1.0]]))


def test_covariogram_by_brute_force():
    phi, lonlat, _ = field(250, 300.0)
    found = covariogram(phi, lonlat)
    z = (phi[:, 0] - phi[:, 0].mean()) / phi[:, 0].std()
    i, j = np.triu_indices(250, 1)
    distance = haversine_km(lonlat)[i, j]
    inside = distance <= extent_km(lonlat) / 3
    order = np.argsort(distance[inside])
    product = (z[i] * z[j])[inside][order]
    edges = np.linspace(0, order.size, 21).astype(int)
    expected = [product[a:b].mean() for a, b in itertools.pairwise(edges)]
    np.testing.assert_allclose(found.covariance, expected, atol=1e-12)
    assert found.pairs.sum() == order.size


def test_the_range_follows_the_field_and_ignores_units_order_and_orientation():
    ranges = []
    for true in (150.0, 400.0):
        phi, lonlat, _ = field(900, true, seed=5)
        found = covariogram_range(phi, lonlat)
        ranges.append(found)
        order = np.random.default_rng(0).permutation(900)
        assert covariogram_range(-7.0 * phi[order] + 3.0, lonlat[order]) == found
        assert covariogram_range(phi, lonlat + np.array([120.0, 0.0])) == found
        # Bins reach 22% of 500 km at first and the field is one draw: a factor of two is what a range can be known to.
        assert true / 2 < found < true * 2
    assert ranges[0] < ranges[1]


def test_white_scores_have_a_short_range():
    rng = np.random.default_rng(0)
    lonlat = rng.uniform(0, 10, (4000, 2))
    assert covariogram_range(rng.normal(size=(4000, 1)), lonlat) < 0.06 * extent_km(lonlat)


def test_a_trend_has_no_range_and_warns():
    rng = np.random.default_rng(0)
    lonlat = rng.uniform(0, 10, (300, 2))
    with pytest.warns(SpatialCutoffWarning, match="no distance cutoff"):
        assert covariogram_range(lonlat[:, :1] ** 1, lonlat) == pytest.approx(extent_km(lonlat) / 3, rel=0.1)


def test_pairs_of_different_periods_are_left_out():
    rng = np.random.default_rng(0)
    places = rng.uniform(0, 10, (150, 2))
    lonlat, time = np.tile(places, (2, 1)), np.repeat([0, 1], 150)
    found = covariogram(rng.normal(size=300), lonlat, time=time)
    alone = covariogram(rng.normal(size=150), places)
    assert found.pairs.sum() == 2 * alone.pairs.sum()


def test_the_default_cutoff_is_the_range_and_is_stated():
    phi, lonlat, _ = field(400, 300.0)
    got = influence_covariance(phi, Sandwich("conley"), Sampling(400, lonlat=lonlat))
    assert got.cutoff_km == covariogram_range(phi, lonlat)
    assert got.notes["cutoff"] == "covariogram range"


def test_scores_without_variation_have_no_range():
    rng = np.random.default_rng(0)
    with pytest.raises(DataError, match="do not vary"):
        covariogram_range(np.ones((50, 1)), rng.uniform(0, 1, (50, 2)))
    with pytest.raises(DataError, match="too few"):
        covariogram_range(rng.normal(size=3), rng.uniform(0, 1, (3, 2)))
