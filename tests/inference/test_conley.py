import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import causalsat.inference.tiles as tiles_module
from causalsat.errors import MovingUnitWarning, OptionError, SpatialCutoffWarning
from causalsat.inference.conley import serial_sum, spatial_sums
from causalsat.inference.covariance import influence_covariance
from causalsat.inference.options import CONLEY_KERNELS, Sandwich
from causalsat.inference.sampling import Sampling
from causalsat.inference.tiles import build_tiles, chord_of, merged, near_pairs, neighbour_order, unit_vectors
from tests.inference.conley_reference import dense, haversine_km, serial, tree

ONE_DEGREE_KM = 6371.01 * np.pi / 180


def scattered(n, seed=0, west=0.0, east=10.0, south=-5.0, north=5.0, k=2):
    rng = np.random.default_rng(seed)
    lonlat = np.stack([rng.uniform(west, east, n), rng.uniform(south, north, n)], axis=1)
    return rng.normal(size=(n, k)), lonlat


def one(scores, lonlat, cutoff, **options):
    return spatial_sums(scores, lonlat, np.array([cutoff]), **options).matrix[0]


def close(a, b, scores):
    np.testing.assert_allclose(a, b, rtol=0, atol=1e-10 * (scores**2).sum())


@pytest.mark.parametrize("kernel", CONLEY_KERNELS)
@pytest.mark.parametrize("n", [1, 7, 128, 129, 700])
def test_tiles_agree_with_all_pairs_and_with_the_tree(kernel, n):
    scores, lonlat = scattered(n, seed=n)
    tiled = one(scores, lonlat, 150.0, kernel=kernel)
    close(tiled, dense(scores, lonlat, 150.0, kernel), scores)
    close(tiled, tree(scores, lonlat, 150.0, kernel), scores)


@pytest.mark.parametrize(
    "box", [(170, 190, -5, 5), (-180, 180, 80, 90), (-180, 180, -90, 90), (-75.2, -74.8, 40, 40.2)]
)
@pytest.mark.parametrize("cutoff", [3.0, 800.0, 6000.0, 20_100.0])
def test_date_line_poles_globe_and_city(box, cutoff):
    scores, lonlat = scattered(400, 1, *box)
    for kernel in ("bartlett", "askey"):
        close(one(scores, lonlat, cutoff, kernel=kernel), dense(scores, lonlat, cutoff, kernel), scores)


def test_several_cutoffs_in_one_walk_equal_single_walks_in_any_order():
    scores, lonlat = scattered(600)
    cutoffs = np.array([300.0, 20.0, 75.5, 1000.0])
    many = spatial_sums(scores, lonlat, cutoffs)
    for j, cutoff in enumerate(cutoffs):
        close(many.matrix[j], one(scores, lonlat, cutoff), scores)
        inside = haversine_km(lonlat) <= cutoff
        assert many.pairs[j] == (inside.sum() - 600) // 2
        assert many.mean_neighbours[j] == pytest.approx(inside.sum() / 600 - 1)


def test_the_cutoff_is_inclusive_on_a_regular_grid():
    lonlat = np.stack([np.zeros(5), np.arange(5.0)], axis=1)
    sums = spatial_sums(np.ones((5, 1)), lonlat, np.array([ONE_DEGREE_KM]), kernel="uniform")
    assert sums.pairs[0] == 4
    assert sums.matrix[0, 0, 0] == 13.0


def test_rows_at_one_place_count_as_neighbours_at_distance_zero():
    scores, lonlat = scattered(60)
    lonlat = lonlat[np.arange(60) // 6]
    sums = spatial_sums(scores, lonlat, np.array([0.001]))
    assert sums.pairs[0] == 10 * 15
    close(sums.matrix[0], dense(scores, lonlat, 0.001), scores)
    turned = lonlat + np.where(np.arange(60) % 2 == 0, 360.0, 0.0)[:, None] * np.array([1.0, 0.0])
    uniform = one(scores, turned - np.array([180.0, 0.0]), 0.001, kernel="uniform")
    close(uniform, dense(scores, lonlat, 0.001, "uniform"), scores)


@given(
    seed=st.integers(0, 10_000),
    n=st.integers(2, 300),
    cutoff=st.floats(1.0, 3000.0),
    kernel=st.sampled_from(CONLEY_KERNELS),
    shift=st.floats(-180.0, 180.0),
)
@settings(max_examples=25, deadline=None)
def test_rotation_mirror_order_scale_and_references(seed, n, cutoff, kernel, shift):
    scores, lonlat = scattered(n, seed)
    base = one(scores, lonlat, cutoff, kernel=kernel)
    moved = np.stack([lonlat[:, 0] + shift, -lonlat[:, 1]], axis=1)
    close(one(scores, moved, cutoff, kernel=kernel), base, scores)
    order = np.random.default_rng(seed).permutation(n)
    close(one(scores[order], lonlat[order], cutoff, kernel=kernel), base, scores)
    close(one(-3.0 * scores, lonlat, cutoff, kernel=kernel), 9.0 * base, 3.0 * scores)
    close(base, dense(scores, lonlat, cutoff, kernel), scores)


def test_a_vanishing_cutoff_is_hc0_and_says_so():
    scores, lonlat = scattered(50)
    sampling = Sampling(50, lonlat=lonlat)
    hc0 = influence_covariance(scores, Sandwich("hc0"), sampling)
    with pytest.warns(SpatialCutoffWarning, match="cutoff_km=0.01"):
        tiny = influence_covariance(scores, Sandwich("conley", cutoff_km=0.01), sampling)
    assert tiny.kind == "hc0"
    assert tiny.cutoff_km == 0.01
    np.testing.assert_array_equal(tiny.matrix, hc0.matrix)


def test_sites_far_apart_with_a_uniform_kernel_are_clusters():
    rng = np.random.default_rng(3)
    site = np.repeat(np.arange(40), 5)
    centre = np.stack([2.0 * (np.arange(40) % 8), 2.0 * (np.arange(40) // 8)], axis=1)
    lonlat = centre[site] + rng.uniform(-0.1, 0.1, (200, 2))
    sampling = Sampling(200, cluster=site, lonlat=lonlat)
    scores = rng.normal(size=(200, 3))
    conley = influence_covariance(scores, Sandwich("conley", cutoff_km=60.0, kernel="uniform"), sampling)
    cluster = influence_covariance(scores, Sandwich("cluster"), sampling)
    np.testing.assert_allclose(conley.matrix, cluster.matrix, rtol=1e-12)


def test_a_uniform_kernel_beyond_the_extent_collects_the_total():
    scores, lonlat = scattered(300)
    total = scores.sum(axis=0)
    close(one(scores, lonlat, 20_000.0, kernel="uniform"), np.outer(total, total), scores)
    centred = scores - scores.mean(axis=0)
    sandwich = Sandwich("conley", cutoff_km=20_000.0, kernel="uniform")
    covariance = influence_covariance(centred, sandwich, Sampling(300, lonlat=lonlat))
    assert np.isnan(covariance.std_error).all()
    assert set(covariance.unavailable) == {0, 1}


def panel(units=30, periods=6, seed=0, drop=0.2):
    rng = np.random.default_rng(seed)
    unit, time = np.repeat(np.arange(units), periods), np.tile(np.arange(periods), units)
    kept = rng.uniform(size=unit.size) > drop
    places = np.stack([rng.uniform(0, 3, units), rng.uniform(0, 3, units)], axis=1)
    return unit[kept], time[kept], places[unit[kept]], rng.normal(size=(int(kept.sum()), 2))


def test_a_panel_without_lag_is_the_sum_of_its_periods():
    unit, time, lonlat, scores = panel()
    sampling = Sampling(unit.size, lonlat=lonlat, unit=unit, time=time)
    got = influence_covariance(scores, Sandwich("conley", cutoff_km=100.0), sampling).matrix * unit.size**2
    by_period = sum(one(scores[time == t], lonlat[time == t], 100.0) for t in range(6))
    close(got, by_period, scores)
    close(got, dense(scores, lonlat, 100.0, time=time), scores)


@pytest.mark.parametrize("lag", [1, 3, 9])
def test_space_and_time_are_added(lag):
    unit, time, lonlat, scores = panel(seed=lag)
    sampling = Sampling(unit.size, lonlat=lonlat, unit=unit, time=time)
    sandwich = Sandwich("conley", cutoff_km=100.0, kernel="epanechnikov", lag=lag)
    got = influence_covariance(scores, sandwich, sampling).matrix * unit.size**2
    close(got, dense(scores, lonlat, 100.0, "epanechnikov", time) + serial(scores, unit, time, lag), scores)


def test_lonely_units_leave_the_serial_sum():
    unit, time, _, scores = panel()
    lonlat = np.stack([1.0 * unit, np.zeros(unit.size)], axis=1)
    sampling = Sampling(unit.size, lonlat=lonlat, unit=unit, time=time)
    with pytest.warns(SpatialCutoffWarning):
        covariance = influence_covariance(scores, Sandwich("conley", cutoff_km=50.0, lag=2), sampling)
    assert covariance.kind == "conley"
    expected = scores.T @ scores + serial(scores, unit, time, 2)
    close(covariance.matrix * unit.size**2, expected, scores)


def test_serial_sum_respects_gaps_offsets_and_repeated_cells():
    rng = np.random.default_rng(0)
    unit = np.array([5, 5, 5, 9, 9, 5, 9])
    time = np.array([2000, 2001, 2004, 2001, 2003, 2001, 2002])
    scores = rng.normal(size=(7, 2))
    for lag in (0, 1, 2, 5):
        close(serial_sum(scores, unit, time, lag), serial(scores, unit, time, lag), scores)


def test_pooling_a_panel_is_refused_and_movers_are_named():
    unit, time, lonlat, scores = panel()
    with pytest.raises(OptionError, match="pooling the periods"):
        influence_covariance(scores, Sandwich("conley", cutoff_km=9.0), Sampling(unit.size, lonlat=lonlat, unit=unit))
    with pytest.raises(OptionError, match="needs unit and time"):
        influence_covariance(scores, Sandwich("conley", cutoff_km=9.0, lag=1), Sampling(unit.size, lonlat=lonlat))
    lonlat = lonlat.copy()
    lonlat[-1] += 1.0
    sampling = Sampling(unit.size, lonlat=lonlat, unit=unit, time=time)
    with pytest.warns(MovingUnitWarning, match="1 of 30 units"):
        influence_covariance(scores, Sandwich("conley", cutoff_km=100.0), sampling)


def test_coordinates_are_needed_and_cutoffs_positive():
    with pytest.raises(OptionError, match="coordinates"):
        influence_covariance(np.ones((3, 1)), Sandwich("conley", cutoff_km=1.0), Sampling(3))
    with pytest.raises(OptionError, match="positive"):
        spatial_sums(np.ones((3, 1)), np.zeros((3, 2)), np.array([0.0]))


def test_kilometres_and_metres_are_one_distance():
    scores, lonlat = scattered(100)
    np.testing.assert_array_equal(one(scores, lonlat, 150.0), one(scores, lonlat, 150_000.0 / 1000.0))


def test_only_askey_is_positive_definite():
    # Alternating scores on a line whose spacing the cutoff just reaches: neighbours outweigh the diagonal.
    lonlat = np.stack([np.zeros(40), 0.01 * np.arange(40.0)], axis=1)
    scores = ((-1.0) ** np.arange(40))[:, None]
    spacing = 0.01 * ONE_DEGREE_KM
    assert one(scores, lonlat, spacing, kernel="uniform")[0, 0] < 0
    assert one(scores, lonlat, 1.5 * spacing, kernel="epanechnikov")[0, 0] < 0
    sampling = Sampling(40, lonlat=lonlat)
    covariance = influence_covariance(scores, Sandwich("conley", cutoff_km=spacing, kernel="uniform"), sampling)
    assert np.isnan(covariance.std_error[0])
    assert "negative" in covariance.unavailable[0]
    for seed in range(20):
        _, places = scattered(80, seed, -180, 180, -90, 90)
        for cutoff in (500.0, 5000.0, 20_000.0):
            weight = spatial_sums(np.eye(80), places, np.array([cutoff]), kernel="askey").matrix[0]
            assert np.linalg.eigvalsh(weight).min() > -1e-12


def test_bartlett_is_not_positive_definite_in_the_plane():
    # (1 - r)_+ in two dimensions: its Fourier transform is negative for some frequencies, so a fine grid shows it.
    side = np.arange(24) * 0.02
    lonlat = np.stack(np.meshgrid(side, side), axis=-1).reshape(-1, 2)
    scores = np.ones((576, 1))
    weight = spatial_sums(np.eye(576), lonlat, np.array([10.0]), kernel="bartlett").matrix[0]
    values, vectors = np.linalg.eigh(weight)
    assert values[0] < -1e-6
    scores = vectors[:, :1]
    covariance = influence_covariance(scores, Sandwich("conley", cutoff_km=10.0), Sampling(576, lonlat=lonlat))
    assert np.isnan(covariance.std_error[0])


def test_bit_equal_from_run_to_run_and_process_to_process():
    code = (
        "import numpy as np\n"
        "from causalsat.inference.conley import spatial_sums\n"
        "r = np.random.default_rng(0)\n"
        "out = spatial_sums(r.normal(size=(3000, 2)), r.uniform(0, 5, (3000, 2)), np.array([30.0, 90.0]))\n"
        "print(out.matrix.tobytes().hex())\n"
    )
    runs = {
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout for _ in "ab"
    }
    rng = np.random.default_rng(0)
    here = spatial_sums(rng.normal(size=(3000, 2)), rng.uniform(0, 5, (3000, 2)), np.array([30.0, 90.0]))
    assert runs == {here.matrix.tobytes().hex() + "\n"}


def test_the_users_jax_settings_are_untouched():
    code = (
        "import jax, jax.numpy as jnp, numpy as np\n"
        "from causalsat.inference.conley import spatial_sums\n"
        "spatial_sums(np.ones((9, 1)), np.arange(18.0).reshape(9, 2), np.array([300.0]))\n"
        "assert jnp.ones(1).dtype == jnp.float32\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_tiles_hold_every_point_once_and_pairs_miss_nothing():
    scores, lonlat = scattered(1000, k=1)
    order = neighbour_order(unit_vectors(lonlat))
    assert np.array_equal(np.sort(order), np.arange(1000))
    period = np.repeat([0, 1], 500)
    totals, places, when, sizes = merged(scores, lonlat, period)
    tiles = build_tiles(totals, places, when, sizes)
    assert tiles.sizes.sum() == 1000
    ((left, right, first),) = near_pairs(tiles, chord_of(np.array([50.0, 200.0])))
    listed = set(zip(left.tolist(), right.tolist(), strict=True))
    assert len(listed) == left.size
    assert (np.diff(first) >= 0).all()
    assert all(tiles.period[a] == tiles.period[b] for a, b in listed)


def test_lists_of_bounded_length_add_up(monkeypatch):
    scores, lonlat = scattered(3000)
    whole = spatial_sums(scores, lonlat, np.array([40.0, 400.0]))
    monkeypatch.setattr(tiles_module, "_BOX_ROWS", 4)
    monkeypatch.setattr(tiles_module, "_LONGEST_LIST", 20)
    parts = spatial_sums(scores, lonlat, np.array([40.0, 400.0]))
    close(parts.matrix, whole.matrix, scores)
    np.testing.assert_array_equal(parts.pairs, whole.pairs)


def test_few_compilations_serve_many_sizes():
    from causalsat.kernels.conley import tile_pair_sums

    tile_pair_sums.clear_cache()
    for n in range(300, 1500, 100):
        scores, lonlat = scattered(n, k=1)
        one(scores, lonlat, 100.0)
    assert tile_pair_sums._cache_size() <= 4


def test_real_places_many_rows_per_place_and_clumped(real_data):
    import pandas as pd

    people = pd.read_csv(real_data("uganda/people.csv")).dropna(subset=["outcome", "longitude", "latitude"])
    lonlat = people[["longitude", "latitude"]].to_numpy()
    treated, y = people["treated"].to_numpy(), people["outcome"].to_numpy()
    phi = np.where(treated == 1, (y - y[treated == 1].mean()) / treated.mean(), 0.0)
    phi = (phi - np.where(treated == 0, (y - y[treated == 0].mean()) / (1 - treated.mean()), 0.0))[:, None]
    for cutoff in (5.0, 60.0, 400.0):
        close(one(phi, lonlat, cutoff), tree(phi, lonlat, cutoff), phi)
    place = np.unique(lonlat, axis=0, return_inverse=True)[1].reshape(-1)
    sampling = Sampling(y.size, cluster=place, lonlat=lonlat)
    site = influence_covariance(phi, Sandwich("cluster"), sampling)
    near = influence_covariance(phi, Sandwich("conley", cutoff_km=0.0001, kernel="uniform"), sampling)
    # The nearest two places are 17 cm apart: ten centimetres is clustering by place.
    np.testing.assert_allclose(near.std_error, site.std_error, rtol=1e-9)
