"""Density jump: the formula against a slow one, published Senate numbers, size and power by simulation."""

import importlib.util
import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from causalsat.checks.rd_density import density_bandwidth, density_check, density_jump
from causalsat.errors import DataError, SingularWindowError

DESIGNS = {
    "uniform": lambda rng, n: rng.uniform(-1.0, 1.0, n),
    "normal": lambda rng, n: rng.standard_normal(n) - 0.5,
    "beta": lambda rng, n: 2.0 * rng.beta(2, 4, n) - 1.0,
    "exponential": lambda rng, n: rng.exponential(1.0, n) - 0.7,
    "heavy tails": lambda rng, n: rng.standard_t(3, n) + 0.3,
    "two modes": lambda rng, n: np.where(rng.random(n) < 0.5, -1.2, 1.2) + 0.6 * rng.standard_normal(n),
}


def slow(x, right, h, order=3):
    """The same numbers from pairs of units, with an explicit weighted regression on each side."""
    n = x.size
    below = (x[:, None] <= x[None, :]).astype(float)
    np.fill_diagonal(below, 0.0)
    cdf = below.sum(axis=0) / (n - 1)
    found, moves = [], []
    for own, width in ((right, h[1]), (~right, h[0])):
        inside = own & (np.abs(x) < width)
        root = np.sqrt(1.0 - np.abs(x[inside]) / width)
        powers = np.vander(x[inside], order + 1, increasing=True)
        g = np.zeros(n)
        g[inside] = np.linalg.pinv(powers * root[:, None])[1] * root
        found.append(g @ cdf)
        moves.append(((x[:, None] <= x[None, :]) - cdf[None, :]) @ g / (n - 1))
    se = math.sqrt(((moves[0] - moves[1]) ** 2).sum())
    return found[0], found[1], (found[0] - found[1]) / se


@pytest.mark.parametrize("ties", [False, True])
def test_formula(ties):
    x = np.random.default_rng(0).standard_normal(150)
    x = np.round(x, 1) if ties else x
    found = density_jump(x, x >= 0.0, h=(0.9, 1.3))
    expected = slow(x, x >= 0.0, (0.9, 1.3))
    np.testing.assert_allclose((*found.density, found.statistic), expected, rtol=1e-9)
    assert found.n_distinct == np.unique(x).size


@pytest.fixture(scope="module")
def margin():
    found = importlib.util.find_spec("rdrobust")
    if found is None or not found.submodule_search_locations:
        pytest.skip("rdrobust is not installed: its Senate data are not there")
    frame = pd.read_csv(Path(found.submodule_search_locations[0]) / "data" / "rdrobust_RDsenate.csv")
    return frame["margin"].to_numpy(dtype=np.float64)


def test_senate(margin):
    """Cattaneo, Jansson and Ma's own program prints .018138, .021686, T -.8753 and p .3814 on all 1,390 races."""
    assert margin.size == 1390
    found = density_jump(margin, margin >= 0.0, h=(19.841108, 27.118787))
    np.testing.assert_allclose(found.density, (0.018138, 0.021686), atol=5e-7)
    assert abs(found.statistic + 0.8753) < 1e-3 and abs(found.p_value - 0.3814) < 1e-3
    assert density_check(margin, margin >= 0.0).passed


def test_scale_and_reflection():
    x = np.random.default_rng(1).gamma(3.0, 1.0, 400) - 2.5
    base = density_jump(x, x >= 0.0)
    for k in (1e-4, 1e4):
        scaled = density_jump(k * x, x >= 0.0)
        np.testing.assert_allclose(scaled.h, k * base.h, rtol=1e-8)
        assert scaled.statistic == pytest.approx(base.statistic, rel=1e-7)
    mirrored = density_jump(-x, x < 0.0)
    assert mirrored.statistic == pytest.approx(-base.statistic, rel=1e-6)
    np.testing.assert_allclose(mirrored.h, base.h[::-1], rtol=1e-6)


def test_order_of_rows_does_not_matter():
    rng = np.random.default_rng(2)
    x = rng.standard_normal(300)
    turn = rng.permutation(300)
    assert density_jump(x[turn], x[turn] >= 0).statistic == pytest.approx(density_jump(x, x >= 0).statistic, rel=1e-9)


def test_clusters_widen_the_error():
    rng = np.random.default_rng(3)
    codes = np.repeat(np.arange(100), 5)
    x = rng.standard_normal(100)[codes] + 0.01 * rng.standard_normal(500)
    alone, joined = (density_jump(x, x >= 0, h=(1.0, 1.0), groups=g) for g in (None, codes))
    assert joined.std_error.min() > 1.5 * alone.std_error.max()
    own = density_jump(x, x >= 0, h=(1.0, 1.0), groups=np.arange(500))
    assert own.statistic == pytest.approx(alone.statistic, rel=1e-12)


@pytest.mark.parametrize("kernel", ["triangular", "epanechnikov", "uniform"])
def test_bandwidth_shrinks_with_the_sample_at_the_fifth_root_or_faster(kernel):
    def median(n):
        found = []
        for r in range(9):
            x = np.random.default_rng([r, n]).standard_normal(n)
            found.append(density_bandwidth(x, x >= 0.0, kernel=kernel))
        return np.median(found)

    assert median(8000) < 0.95 * median(1000)


@pytest.mark.parametrize("design", ["uniform", "normal", "exponential"])
def test_size(design):
    p = []
    for r in range(200):
        x = DESIGNS[design](np.random.default_rng([r, 11]), 400)
        p.append(density_jump(x, x >= 0.0).p_value)
    # Binomial quantiles at 1e-3 around .05 for R = 200, and room below: bandwidths leave the variance a little large.
    assert (np.array(p) < 0.05).sum() <= 21
    assert 0.25 < np.mean(np.array(p) < 0.5) < 0.65


@pytest.mark.calibration
@pytest.mark.parametrize("n", [200, 500, 2000])
@pytest.mark.parametrize("design", sorted(DESIGNS))
def test_size_long(design, n):
    x = [DESIGNS[design](np.random.default_rng([r, n, 7]), n) for r in range(2000)]
    rejected = np.mean([density_jump(v, v >= 0.0).p_value < 0.05 for v in x])
    assert 0.008 < rejected < 0.07


def test_power():
    rejected = 0
    for r in range(40):
        rng = np.random.default_rng(r)
        x = rng.uniform(-1.0, 1.0, 2000)
        move = (x > -0.3) & (x < 0.0) & (rng.random(2000) < 0.7)
        x[move] = rng.uniform(0.0, 0.3, int(move.sum()))
        rejected += density_check(x, x >= 0.0).passed is False
    assert rejected >= 36


def test_text_and_table():
    x = np.random.default_rng(4).uniform(-1, 1, 500)
    found = density_check(x, x >= 0.0, h=(0.4, 0.6))
    assert found.name == "density" and found.table["side"] == ["right", "left"] and found.table["h"] == [0.6, 0.4]
    assert "0.6 and 0.4" in found.text


def test_rounded_values_are_not_judged():
    x = np.round(np.random.default_rng(5).uniform(-1, 1, 600), 1)
    found = density_check(x, x >= 0.0)
    assert found.passed is None and "mass_points" in found.text


def test_thin_windows():
    x = np.linspace(-1, 1, 40)
    found = density_check(x, x >= 0.0, h=(0.05, 0.5))
    assert found.passed is None and "left of the cutoff" in found.text
    with pytest.raises(SingularWindowError, match="give a wider window"):
        density_jump(x, x >= 0.0, h=(0.05, 0.5))
    few = np.concatenate([np.linspace(-1, -0.1, 5), np.linspace(0.1, 1, 60)])
    assert density_check(few, few >= 0.0).passed is None
    with pytest.raises(DataError, match="both sides"):
        density_jump(x, np.ones(40, dtype=bool))
