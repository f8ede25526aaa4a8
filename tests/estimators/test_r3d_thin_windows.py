"""Windows too thin for the estimate: a selected bandwidth grows to the smallest that carries it, a given one raises."""

import warnings

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import causalsat as cs
from causalsat.errors import BandwidthWarning, SingularWindowError
from causalsat.estimators.r3d_bandwidth import select_bandwidth, treatment_bandwidth
from causalsat.estimators.r3d_fit import fit_columns
from causalsat.estimators.r3d_options import Bandwidth
from causalsat.estimators.r3d_pilot import MARGIN, Side

KERNELS = ("triangular", "epanechnikov", "uniform")
DISCRETE, SPARSE = "discrete", "sparse"


def design(kind, seed=0, k=3):
    """A curved outcome on whole numbers, or with few units near the cutoff on the left."""
    g = np.random.default_rng(seed)
    if kind == DISCRETE:
        x = g.integers(-10, 10, 600).astype(float)
    else:
        x = np.concatenate([g.uniform(0.0, 1.0, 300), -np.array([0.02, 0.05, 0.4, 0.5, 0.6]), -g.uniform(0.7, 1.0, 60)])
    mean = 5.0 * np.sin(1.5 * x * (1.0 if kind == DISCRETE else 8.0) + 0.4)
    return x, mean[:, None] + np.arange(k)[None, :] + 0.3 * g.normal(size=(x.size, k))


def chosen(x, columns, rule=None, order=2, **options):
    rule = rule or Bandwidth()
    return select_bandwidth(
        x, x >= 0.0, columns, np.ones(columns.shape[1]), np.ones(x.size), None, rule, order=order, **options
    )  # fmt: skip


def held(x, h, side, kernel="triangular"):
    own = np.unique(np.abs(x[(x >= 0.0) == (side == 0)]))
    return int((own <= h[side] if kernel == "uniform" else own < h[side]).sum())


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("sides", ["common", "two"])
@pytest.mark.parametrize("kind", [DISCRETE, SPARSE])
@pytest.mark.parametrize("order", [1, 2, 4])
def test_a_selected_bandwidth_carries_the_estimate(kind, sides, kernel, order):
    x, columns = design(kind)
    found = chosen(x, columns, Bandwidth(sides=sides), order, kernel=kernel)
    grown = {row["side"]: row for row in found.widened if row["bandwidth"] == "h"}
    assert grown or kind == SPARSE
    for side, name in enumerate(("right", "left")):
        own = np.unique(np.abs(x[(x >= 0.0) == (side == 0)]))
        assert held(x, found.h, side, kernel) >= order + MARGIN
        if name in grown:
            # The value after the last one needed, which itself has no weight in kernels that vanish at the edge.
            assert grown[name]["to"] == own[order + MARGIN] > grown[name]["from"]
            assert held(x, found.h_mse, side, kernel) < order + MARGIN
    if sides == "common":
        expected = max([found.h_mse[0], *(row["to"] for row in grown.values())])
        np.testing.assert_allclose(found.h, expected)
    fit = fit_columns(x, x >= 0.0, np.ones(x.size), np.zeros((x.size, 0)), columns, found.h, kernel=kernel, order=order)
    assert np.isfinite(fit.raw).all()


def test_sides_of_their_own_grow_alone():
    x, columns = design(SPARSE)
    found = chosen(x, columns, Bandwidth(sides="two"))
    assert [row["side"] for row in found.widened if row["bandwidth"] == "h"] == ["left"]
    assert found.h[0] == found.h_mse[0] < 0.3 and found.h[1] > found.h_mse[1]


def test_windows_that_hold_enough_stay_as_they_are():
    g = np.random.default_rng(1)
    x = g.uniform(-1.0, 1.0, 400)
    columns = (x**2 + g.normal(size=400))[:, None]
    found = chosen(x, columns)
    np.testing.assert_array_equal(found.h, found.h_mse)
    assert not [row for row in found.widened if row["bandwidth"] == "h"]


@pytest.mark.parametrize("kernel", KERNELS)
def test_nearly_tied_values_do_not_count_as_several(kernel):
    x = np.concatenate([0.05 + 1e-9 * np.arange(40), np.linspace(0.3, 1.0, 50)])
    side = Side("right", x, np.zeros((90, 1)), np.ones(90), None, kernel, "hc2")
    h = side.least_for(2)
    assert side.held(0.1) == 40 and not side.carries(0.1, 2)
    assert 0.3 < h < 0.4 and side.carries(h, 2)
    hopeless = Side("right", x[:40], np.zeros((40, 1)), np.ones(40), None, kernel, "hc2")
    assert hopeless.least_for(2) >= 0.05 and not hopeless.carries(hopeless.least_for(2), 2)


@settings(max_examples=25, deadline=None)
@given(st.floats(1e-4, 1e4), st.sampled_from(KERNELS), st.sampled_from(["common", "two"]), st.sampled_from([0, 1]))
def test_units_of_the_running_variable(k, kernel, sides, which):
    x, columns = design((DISCRETE, SPARSE)[which])
    base, scaled = (chosen(a, columns, Bandwidth(sides=sides), kernel=kernel) for a in (x, k * x))
    np.testing.assert_allclose(scaled.h, k * base.h, rtol=1e-10)
    assert [row["side"] for row in scaled.widened] == [row["side"] for row in base.widened]


@pytest.mark.parametrize("kind", [DISCRETE, SPARSE])
def test_jumps_in_level_or_slope_and_mirror_images(kind):
    x, columns = design(kind)
    base = chosen(x, columns, Bandwidth(sides="two"))
    moved = columns + np.where(x >= 0.0, 7.0 + 5.0 * x, 0.0)[:, None]
    np.testing.assert_allclose(chosen(x, moved, Bandwidth(sides="two")).h, base.h, rtol=1e-10)
    mirrored = select_bandwidth(
        -x, x < 0.0, columns, np.ones(3), np.ones(x.size), None, Bandwidth(sides="two"), order=2
    )  # fmt: skip
    np.testing.assert_allclose(mirrored.h, base.h[::-1], rtol=1e-10)


def test_every_quantile_and_the_treatment_have_windows_of_their_own():
    x, columns = design(SPARSE)
    found = chosen(x, columns, Bandwidth(kind="mse"))
    assert found.h.shape == (2, 3) and all(held(x, found.h[:, j], 1) >= 2 + MARGIN for j in range(3))
    g = np.random.default_rng(4)
    received = (g.random(x.size) < 0.5 + 0.3 * np.sin(20.0 * x) + 0.2 * (x >= 0.0)).astype(float)
    h, report = treatment_bandwidth(x, x >= 0.0, received, np.ones(x.size), None, Bandwidth(), found.h, order=4)
    assert report is not None and held(x, h, 1) >= 4 + MARGIN


def test_too_few_values_at_any_bandwidth():
    x, columns = design(DISCRETE)
    few = (x >= -5.0) & (x <= 4.0)
    found = chosen(x[few], columns[few], order=3)
    # Five values a side carry a cubic and no more: all of them are used.
    assert held(x[few], found.h, 0) == held(x[few], found.h, 1) == 5
    with pytest.raises(SingularWindowError, match="polynomials of order 4 need 6"):
        chosen(x[few], columns[few], order=4)


@pytest.mark.parametrize("kind", [DISCRETE, SPARSE])
def test_the_verb_says_that_it_widened(kind):
    x, columns = design(kind, k=1)
    draws = columns + np.random.default_rng(3).normal(size=(x.size, 60))
    frame = pd.DataFrame({"x": x})
    options = {"outcome": draws, "running": "x", "quantiles": 5, "n_boot": 199, "checks": None}
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        result = cs.r3d(frame, **options)
    told = [str(w.message) for w in caught if issubclass(w.category, BandwidthWarning)]
    assert any("was widened to" in text and "left of the cutoff" in text for text in told)
    assert any("was widened to" in text for text in result.meta["warnings"])
    rows = [row for row in result.meta["bandwidth"]["widened"] if row["bandwidth"] == "h"]
    assert rows and rows == [row for row in result.bandwidths["pooled"]["selection"]["widened"] if row in rows]
    assert np.isfinite(result.table["std_error"]).all()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        check = result.check("bandwidth", factors=(1.0, 1.5), orders=(2,))
        assert "was widened to" in check.text
        assert "widened" not in result.refit(bandwidth=result.meta["h"]).check("bandwidth", factors=(1.0,)).text
    with pytest.raises(SingularWindowError, match="least workable"):
        cs.r3d(frame, bandwidth=rows[0]["from"] / 2.0, **options)
