"""Exposure to neighbours: the slow loop, the simulator's own share, rings, lags, edges."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import causalsat as cs
from causalsat.errors import DataError, OptionError
from causalsat.simulate.aid_grid import aid_grid
from causalsat.study.exposure import nearest_treated_km, neighbour_exposure
from causalsat.study.sphere import great_circle_km


def places(seed: int, n: int = 120):
    rng = np.random.default_rng(seed)
    lonlat = np.column_stack([rng.uniform(31, 32, n), rng.uniform(59.6, 60.4, n)])
    return lonlat, (rng.random(n) < 0.3).astype(float), rng.integers(0, 3, n)


def slow(lonlat, treated, rings, measure, period, lag):
    n = len(treated)
    found = np.full((n, len(rings)), np.nan)
    for i in range(n):
        then = np.flatnonzero((period == period[i] - lag) & np.isfinite(treated))
        if not len(then):
            continue
        km = great_circle_km(np.tile(lonlat[i], (len(then), 1)), lonlat[then])
        for r, (a, b) in enumerate(zip((0.001, *rings[:-1]), rings)):
            near = treated[then[(km > a) & (km <= b)]]
            values = {
                "share": near.mean() if len(near) else 0.0,
                "any": float(near.any()),
                "log_count": np.log1p(near.sum()),
            }
            found[i, r] = values[measure]
    return found


@pytest.mark.parametrize("measure", ["share", "any", "log_count"])
@pytest.mark.parametrize("lag", [0, 1])
def test_exposure_is_the_slow_loop(measure, lag):
    lonlat, treated, period = places(1)
    treated[::17] = np.nan
    lonlat[5] = lonlat[6]
    found = neighbour_exposure(lonlat, treated, (10, 25, 50), measure=measure, period=period, lag=lag)
    np.testing.assert_allclose(found, slow(lonlat, treated, (10, 25, 50), measure, period, lag), atol=1e-12)
    assert np.isnan(found[period == 0]).all() == bool(lag)


def test_exposure_is_the_simulators_own_share():
    data, _, _ = aid_grid(side=15, seed=1)
    anybody = np.max([v for k, v in data.items() if k.startswith("funder")], axis=0)
    lonlat = np.column_stack([data["longitude"], data["latitude"]])
    found = neighbour_exposure(lonlat, anybody, (25,), period=data["period"])
    np.testing.assert_allclose(found[:, 0], data["exposure"], atol=1e-12)


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 1000), st.sampled_from(["share", "any", "log_count"]))
def test_order_of_rows_and_chunks_change_nothing(seed, measure):
    lonlat, treated, period = places(seed, 60)
    order = np.random.default_rng(seed).permutation(60)
    base = neighbour_exposure(lonlat, treated, (10, 30), measure=measure, period=period)
    moved = neighbour_exposure(lonlat[order], treated[order], (10, 30), measure=measure, period=period[order])
    np.testing.assert_array_equal(moved, base[order])


def test_chunks_of_rows_change_nothing(monkeypatch):
    lonlat, treated, period = places(3)
    base = neighbour_exposure(lonlat, treated, (10, 30), period=period)
    monkeypatch.setattr("causalsat.study.exposure._CHUNK", 7)
    np.testing.assert_array_equal(neighbour_exposure(lonlat, treated, (10, 30), period=period), base)


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 1000))
def test_own_treatment_never_counts_and_more_treated_never_exposes_less(seed):
    lonlat, treated, _ = places(seed, 60)
    base = neighbour_exposure(lonlat, treated, (25,))
    flipped = treated.copy()
    flipped[0] = 1.0 - flipped[0]
    assert neighbour_exposure(lonlat, flipped, (25,))[0] == base[0]
    more = np.maximum(treated, (np.arange(60) % 5 == 0).astype(float))
    assert (neighbour_exposure(lonlat, more, (25,)) >= base).all()


def test_rings_add_up_to_the_disc():
    lonlat, treated, _ = places(7)
    rings = np.expm1(neighbour_exposure(lonlat, treated, (5, 20, 40), measure="log_count")).sum(axis=1)
    disc = np.expm1(neighbour_exposure(lonlat, treated, (40,), measure="log_count"))[:, 0]
    np.testing.assert_allclose(rings, disc, atol=1e-9)


def test_distance_to_the_nearest_treated():
    lonlat, treated, period = places(9, 50)
    treated[period == 2] = 0.0
    found = nearest_treated_km(lonlat, treated, period)
    assert np.isinf(found[period == 2]).all()
    for i in np.flatnonzero(period < 2):
        there = np.flatnonzero((period == period[i]) & (treated == 1))
        km = great_circle_km(np.tile(lonlat[i], (len(there), 1)), lonlat[there])
        assert found[i] == pytest.approx(km.min(), abs=1e-9)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"rings_km": (25, 10)}, "ascending"),
        ({"rings_km": ()}, "ascending"),
        ({"rings_km": (0, 10)}, "rings_km"),
        ({"measure": "shares"}, 'Did you mean "share"'),
        ({"role": "covariates"}, 'Did you mean "covariate"'),
        ({"lag": -1}, "lag"),
        ({"source": 3}, "source"),
    ],
)
def test_bad_options_are_refused(options, message):
    with pytest.raises(OptionError, match=message):
        cs.Exposure(**options)


def test_options_are_normalised_and_name_their_rings():
    option = cs.Exposure(rings_km=[10, 25], lag=1)
    assert option.rings_km == (10.0, 25.0)
    assert option.names("w") == ("exposure(w, 0-10 km, lag 1)", "exposure(w, 10-25 km, lag 1)")
    with pytest.raises(DataError, match="period"):
        neighbour_exposure(np.zeros((2, 2)), np.ones(2), (10,), lag=1)
