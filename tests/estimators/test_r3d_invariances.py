"""What must not change `r3d`, or must change it in a known way."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import causalsat as cs
from tests.estimators.r3d_verb import LEVELS, ask, curve, units


@settings(max_examples=5, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.sampled_from([1e-4, 0.03, 12.0, 1e4]), st.floats(-100, 100), st.integers(0, 3))
def test_unit_of_the_running_variable(k, shift, seed):
    data, draws = units(seed=seed)
    here = ask(data, draws)
    there = ask(data.assign(x=k * (data["x"] + shift)), draws, cutoff=k * shift)
    np.testing.assert_allclose(there.meta["h"], k * here.meta["h"], rtol=1e-6)
    for name in ("estimate", "std_error", "band_low", "band_high", "p_value"):
        np.testing.assert_allclose(curve(there)[name], curve(here)[name], rtol=1e-6, atol=1e-8)


@settings(max_examples=5, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.sampled_from([0.01, 3.0, 500.0]), st.floats(-50, 50), st.integers(0, 3))
def test_unit_of_the_outcome_and_its_mirror(a, b, seed):
    data, draws = units(seed=seed)
    here, there = ask(data, draws), ask(data, a * draws + b)
    assert there.meta["h"] == pytest.approx(here.meta["h"], rel=1e-8)
    for name in ("estimate", "std_error", "band_low", "band_high"):
        np.testing.assert_allclose(curve(there)[name], a * curve(here)[name], rtol=1e-7, atol=1e-9 * a)
    np.testing.assert_allclose(there.tests["p_value"], here.tests["p_value"], atol=1e-12)
    turned = ask(data, -a * draws + b)
    np.testing.assert_allclose(curve(turned)["estimate"], -a * curve(here)["estimate"][::-1], rtol=1e-7, atol=1e-9 * a)


@settings(max_examples=4, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.floats(-20, 20), st.integers(0, 3))
def test_moving_the_treated_and_turning_the_axis(d, seed):
    data, draws = units(seed=seed)
    here = ask(data, draws, bandwidth=0.7)
    moved = ask(data, draws + d * (data["x"].to_numpy() >= 0)[:, None], bandwidth=0.7)
    np.testing.assert_allclose(curve(moved)["estimate"], curve(here)["estimate"] + d, atol=1e-9)
    width = [curve(r)["band_high"] - curve(r)["band_low"] for r in (here, moved)]
    np.testing.assert_allclose(width[1], width[0], rtol=1e-8)
    turned = ask(data.assign(x=-data["x"]), draws, bandwidth=0.7)
    np.testing.assert_allclose(curve(turned)["estimate"], -curve(here)["estimate"], atol=1e-10)
    np.testing.assert_allclose(curve(turned)["std_error"], curve(here)["std_error"], rtol=1e-9)


@settings(max_examples=4, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.integers(0, 100))
def test_order_and_labels_of_rows_do_not_matter(seed):
    data, draws = units(n=120, k=50)
    order = np.random.default_rng(seed).permutation(120)
    names = {"unit": [f"u{7 * i % 120}" for i in range(120)], "group": (np.arange(120) * 11) % 40 + 5}
    here = ask(data, draws, cluster="group", bandwidth=0.8)
    there = ask(data.assign(**names).iloc[order], draws[order], cluster="group", bandwidth=0.8)
    for name in ("estimate", "std_error", "band_low", "band_high", "p_value"):
        np.testing.assert_allclose(curve(there)[name], curve(here)[name], rtol=1e-10)


def test_five_shapes_agree():
    data, draws = units(n=120, k=50)
    h = {"bandwidth": 0.8, "functionals": ()}
    wide = ask(data, draws, **h)
    long = pd.DataFrame({"value": draws.ravel(), "unit": np.repeat(data["unit"], 50), "x": np.repeat(data["x"], 50)})
    shapes = [
        ask(long.reset_index(drop=True), "value", unit="unit", **h),
        ask(data, dict(zip(data["unit"], draws, strict=True)), unit="unit", **h),
        ask(data, list(draws), **h),
        ask(data, cs.QuantileMatrix(np.quantile(draws, LEVELS, axis=1).T, LEVELS), **h),
    ]
    for shape in shapes:
        for name in ("estimate", "std_error", "band_low"):
            np.testing.assert_allclose(curve(shape)[name], curve(wide)[name], rtol=1e-10, atol=1e-12)


def test_higher_level_wider_band():
    data, draws = units()
    widths = []
    for level in (0.8, 0.9, 0.95, 0.99):
        rows = curve(ask(data, draws, bandwidth=0.8, level=level, n_boot=999))
        widths.append(rows["band_high"] - rows["band_low"])
        assert (rows["band_high"] >= rows["conf_high"]).all()
    assert (np.diff(np.stack(widths), axis=0) > 0).all()
    constant = curve(ask(data, draws, bandwidth=0.8, band="constant"))
    assert np.ptp(constant["band_high"] - constant["band_low"]) < 1e-12
    none = ask(data, draws, bandwidth=0.8, band=None)
    assert "band_low" not in none.table.columns and np.isfinite(none.tests["p_value"]).all()
