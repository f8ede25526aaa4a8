"""Simulators with distributions: the truths they state against large simulations of the designs as written."""

import numpy as np
import pytest
from scipy import stats

from causalsat.errors import OptionError
from causalsat.simulate import r3d as sim

LEVELS = np.array(sim.DECILES)
BIG = 60_000


def jump(x, columns, h=0.2):
    """Local linear jump at zero of columns (n, K) and its standard error, by plain weighted least squares."""
    out, variance = [], []
    for own in (x >= 0, x < 0):
        k = np.where(own, np.maximum(1 - np.abs(x) / h, 0), 0)
        R = np.column_stack([np.ones_like(x), x])
        S = np.linalg.solve(R.T @ (k[:, None] * R), R.T * k)
        fitted = S @ columns
        residuals = np.where((k > 0)[:, None], columns - R @ fitted, 0)
        out.append(fitted[0])
        variance.append((S[0] ** 2) @ residuals**2)
    return out[0] - out[1], np.sqrt(variance[0] + variance[1])


def quantiles(truth):
    return np.quantile(truth["draws"], truth["quantiles"], axis=1).T


@pytest.mark.parametrize(
    ("make", "options"),
    [
        (sim.normal, {"effect": 1.14}),
        (sim.mixture, {"effect": 1.86}),
        (sim.dispersion_jump, {"n_draws": 400}),
        (sim.slope_jump, {"kink": 8.0, "effect": 0.7}),
    ],
)
def test_stated_effects_are_the_jumps(make, options):
    n_draws = options.pop("n_draws", 100)
    data, truth = make(n=20_000, n_draws=n_draws, seed=5, long=False, **options)
    found, error = jump(data["x"], np.column_stack([quantiles(truth), truth["draws"].mean(axis=1)]))
    target = np.append(truth["tau"], truth["mean"])
    # Type-7 quantiles of finite samples are off by up to 2 % of the spread.
    slack = 0.02 * np.append(np.abs(truth["tau"] - truth["tau"][4]), 0.0)
    assert (np.abs(found - target) < 4.0 * error + slack).all(), (found, target, error)


def test_moments_of_the_normal_design_at_the_cutoff():
    rng = np.random.default_rng(0)
    sigma = np.abs(1.0 + rng.normal(size=2_000_000))
    assert sigma.mean() == pytest.approx(1.166631, abs=2e-3)
    assert sigma.var() == pytest.approx(0.638972, abs=3e-3)
    data, truth = sim.normal(n=BIG, n_draws=30, seed=1, long=False)
    near = np.abs(data["x"]) < 0.05
    assert truth["draws"][near].std(axis=1, ddof=1).mean() == pytest.approx(1.1666, abs=0.05)
    means = truth["draws"][near].mean(axis=1)
    assert means.mean() == pytest.approx(5.0, abs=0.08)
    # Variance of the means: between units 1, the slope in the strip, and noise within units.
    assert means.var() == pytest.approx(1.0 + 25 * 0.05**2 / 3 + (0.638972 + 1.166631**2) / 30, abs=0.08)


def test_tail_of_the_mixture_by_brute_force():
    rng = np.random.default_rng(3)
    tails = np.zeros(LEVELS.size)
    for rate in np.linspace(0.5, 1.5, 41)[:-1] + 0.0125:
        z, e = rng.normal(size=200_000), 2 * rng.exponential(size=200_000)
        tails += (np.quantile(z + e / (rate + 0.5), LEVELS) - np.quantile(z + e / rate, LEVELS)) / 40
    truth = sim.mixture(n=4, n_draws=2, effect=0.0)[1]
    assert truth["tau"] == pytest.approx(tails, abs=0.02)
    assert truth["mean"] == pytest.approx(2 * (np.log(2.0 / 1.0) - np.log(1.5 / 0.5)), abs=1e-9)
    assert sim.mixture(n=4, n_draws=2, effect=2.5)[1]["tau"] == pytest.approx(truth["tau"] + 2.5)
    assert sim.mixture(n=4, n_draws=2, rate_change=0.0)[1]["tau"] == pytest.approx(np.zeros(9), abs=1e-12)


def test_few_draws_shorten_a_dispersion_effect_by_the_tabulated_share():
    data, truth = sim.dispersion_jump(n=200_000, n_draws=10, seed=2, quantiles=(0.1, 0.25, 0.9), long=False)
    right = data["x"] >= 0
    Q = quantiles(truth) - data["x"][:, None]
    share = (Q[right].mean(axis=0) - Q[~right].mean(axis=0)) / truth["tau"]
    assert share == pytest.approx([1 - 0.177, 1 - 0.131, 1 - 0.177], abs=0.02)


@pytest.mark.parametrize("straddling", [False, True])
def test_clusters_share_their_shock(straddling):
    data, truth = sim.clusters(
        2_000, 10, n_draws=20, effect=1.0, intraclass=0.5, seed=4, straddling=straddling, long=False
    )
    rest = truth["draws"].mean(axis=1) - 5 - 2 * data["x"] - (data["x"] >= 0)
    groups = rest.reshape(2_000, 10)
    within = groups.var(axis=1, ddof=1).mean()
    between = groups.mean(axis=1).var(ddof=1) - within / 10
    assert between == pytest.approx(0.5, abs=0.06) and within == pytest.approx(0.5 + 1 / 20, abs=0.02)
    sides = (data["x"] >= 0).reshape(2_000, 10).mean(axis=1)
    assert np.isin(sides, (0.0, 1.0)).all() != straddling
    assert np.ptp(data["x"]) > 1.9


@pytest.mark.parametrize("weak", [False, True])
def test_fuzzy_effects_per_unit_of_treatment(weak):
    data, truth = sim.fuzzy(n=BIG, n_draws=40, seed=6, weak=weak, long=False)
    low, high = (0.45, 0.55) if weak else (0.2, 0.8)
    right = data["x"] >= 0
    assert data["treatment"][~right].mean() == pytest.approx(low, abs=0.01)
    assert data["treatment"][right].mean() == pytest.approx(high, abs=0.01)
    assert truth["first_stage"] == pytest.approx(high - low)
    columns = np.column_stack([truth["draws"].mean(axis=1), data["treatment"]])
    found, error = jump(data["x"], columns, h=0.5)
    assert abs(found[0] - truth["mean"] * found[1]) < 4 * error[0]
    assert truth["tau"] == pytest.approx(1.0 + 0.5 * stats.norm.ppf(LEVELS))
    # Selection: among treated units eagerness differs by side, so a comparison of the treated is no effect.
    treated = data["treatment"] == 1
    level = columns[:, 0] - 3 * data["x"]
    assert level[treated & ~right].mean() - level[treated & right].mean() > (0.05 if weak else 0.4)


@pytest.mark.parametrize("make", [sim.normal, sim.mixture, sim.dispersion_jump, sim.slope_jump, sim.fuzzy])
def test_shapes_and_seeds(make):
    data, truth = make(n=30, n_draws=7, seed=1)
    wide, again = make(n=30, n_draws=7, seed=1, long=False)
    assert len(data["value"]) == 210 and set(map(len, data.values())) == {210}
    np.testing.assert_array_equal(data["value"].reshape(30, 7), again["draws"])
    np.testing.assert_array_equal(data["x"][::7], wide["x"])
    assert not np.array_equal(make(n=30, n_draws=7, seed=2)[0]["x"], data["x"])
    assert truth["tau"].shape == truth["quantiles"].shape == (9,)
    assert make(n=30, n_draws=7, quantiles=(0.5,))[1]["tau"].shape == (1,)


def test_bad_numbers_are_refused():
    with pytest.raises(OptionError, match="n"):
        sim.normal(n=2)
    with pytest.raises(OptionError, match="intraclass"):
        sim.clusters(intraclass=1.5)
