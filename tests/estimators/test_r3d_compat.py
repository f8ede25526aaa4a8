"""compat="R3D-0.1.0": the package's public results, and its residuals, band and tests written out by hand."""

import math

import numpy as np
import pandas as pd
import pytest
from sklearn.isotonic import IsotonicRegression

import causalsat as cs
from causalsat.errors import CompatibilityWarning, OptionError
from causalsat.simulate.r3d import fuzzy, normal

COMPAT = "R3D-0.1.0"


def compat(*arguments, **options):
    with pytest.warns(CompatibilityWarning, match="reproduces old results"):
        return cs.r3d(*arguments, compat=COMPAT, checks=None, **options)


def kernel(u):
    return np.maximum(1.0 - np.abs(u), 0.0)


def by_hand(x, outcome, right, h, order=2):
    """Weights of the limit (n,) and fitted values (n, K) of one side, zero elsewhere."""
    k = kernel(x / h) * right
    powers = np.vander(x, order + 1, increasing=True)
    inverse = np.linalg.solve(powers.T @ (k[:, None] * powers), powers.T * k)
    return inverse[0], powers @ (inverse @ outcome)


@pytest.mark.filterwarnings("ignore::causalsat.errors.BandwidthWarning")
@pytest.mark.parametrize(("name", "estimator"), [("frechet", "frechet"), ("simple", "pointwise")])
def test_public_results_of_the_package(real_data, name, estimator):
    data = pd.read_csv(real_data("r3d/ref_data_sharp_simple_20.csv"))
    theirs = pd.read_csv(real_data(f"r3d/ref_results_sharp_{name}_20.csv"))
    h = theirs["bw_num"].to_numpy() if estimator == "pointwise" else float(theirs["bw_num"][0])
    matrix = cs.QuantileMatrix(data.filter(regex=r"^Q\d+$").to_numpy(), theirs["q"].to_numpy())
    result = compat(
        data[["X"]], outcome=matrix, running="X", kernel="epanechnikov", estimator=estimator, bandwidth=h, n_boot=199
    )
    np.testing.assert_allclose(result.table.where(term="laqte")["estimate"], theirs["tau"], rtol=0, atol=1e-8)
    averages = result.average_quantiles
    np.testing.assert_allclose(averages.where(term="above")["estimate"], theirs["int_plus"], rtol=0, atol=1e-8)
    np.testing.assert_allclose(averages.where(term="below")["estimate"], theirs["int_minus"], rtol=0, atol=1e-8)
    assert result.meta["compat"] == COMPAT and result.meta["residuals"] == "hc0"
    assert any("reproduces old results" in text for text in result.meta["warnings"])


def test_sharp_band_and_tests_by_hand():
    data, _ = normal(n=150, n_draws=60, effect=1.0, seed=4)
    result = compat(data, outcome="value", running="x", unit="unit", quantiles=9, bandwidth=0.7, n_boot=299, seed=2)
    one = result.estimates[0]
    x, Q, right = one.design.x, one.design.Q, one.design.treated
    expected = np.zeros_like(Q)
    for side in (right, ~right):
        s, fitted = by_hand(x, Q, side, 0.7)
        for i in np.flatnonzero(s > 0.0):
            expected[i] = s[i] * (Q[i] - IsotonicRegression().fit_transform(np.arange(9), fitted[i]))
    variance = (expected**2).sum(axis=0)
    rows = result.table.where(term="laqte")
    np.testing.assert_allclose(rows["std_error"], np.sqrt(variance), rtol=1e-9)
    sups = np.sort(np.abs(result.draws).max(axis=1))
    c = sups[math.ceil(0.95 * 300) - 1]
    np.testing.assert_allclose(rows["band_high"] - rows["estimate"], c, rtol=1e-12)
    np.testing.assert_allclose(rows["estimate"] - rows["band_low"], c, rtol=1e-12)
    tests = result.tests.set_index("name")
    tau = rows["estimate"]
    assert tests.loc["nullity", "statistic"] == pytest.approx(np.abs(tau).max(), rel=1e-12)
    assert tests.loc["nullity", "p_value"] == pytest.approx((sups >= np.abs(tau).max()).mean(), abs=1e-15)
    assert tests.loc["nullity", "critical_value"] == pytest.approx(np.quantile(sups, 0.95), rel=1e-12)
    moved = np.abs(result.draws - result.draws.mean(axis=1)[:, None]).max(axis=1)
    assert tests.loc["homogeneity", "p_value"] == pytest.approx((moved >= np.abs(tau - tau.mean()).max()).mean())
    # What the defaults add: residuals of units with negative weight, leverage, the t law.
    usual = cs.r3d(
        data, outcome="value", running="x", unit="unit", quantiles=9, bandwidth=0.7, n_boot=299, checks=None, seed=2
    ).table.where(term="laqte")
    assert (usual["std_error"] > rows["std_error"]).all()
    np.testing.assert_allclose(usual["estimate"], rows["estimate"], rtol=1e-10)


@pytest.mark.parametrize("estimator", ["frechet", "pointwise"])
def test_fuzzy_residuals_of_the_treatment_carry_the_weights_of_the_outcome(estimator):
    data, _ = fuzzy(n=500, n_draws=60, seed=3)
    h, h_t = 0.7, 0.5
    result = compat(
        data, outcome="value", running="x", unit="unit", treatment="treatment", quantiles=5, bandwidth=h,
        bandwidth_treatment=h_t, estimator=estimator, n_boot=199,
    )  # fmt: skip
    one = result.estimates[0]
    x, Q, right, T = one.design.x, one.design.Q, one.design.treated, one.design.treatment
    total, jump, first = np.zeros_like(Q), np.zeros(x.size), 0.0
    for side, sign in ((right, 1.0), (~right, -1.0)):
        s, fitted = by_hand(x, Q, side, h)
        own, fitted_t = by_hand(x, T[:, None], side, h_t)
        first += sign * (own @ T)
        for i in np.flatnonzero(s > 0.0):
            curve = fitted[i]
            if estimator == "frechet":
                curve = IsotonicRegression().fit_transform(np.arange(5), curve)
            total[i] = sign * s[i] * (Q[i] - curve)
            jump[i] = sign * s[i] * (T[i] - fitted_t[i, 0])
    rows = result.table.where(term="laqte")
    expected = np.sqrt((((total - jump[:, None] * rows["estimate"][None, :]) / first) ** 2).sum(axis=0))
    np.testing.assert_allclose(result.table.row(term="first_stage")["estimate"], first, rtol=1e-10)
    np.testing.assert_allclose(rows["std_error"], expected, rtol=1e-8)


def test_one_quantile_and_other_sides_of_the_door():
    data, _ = normal(n=120, n_draws=60, seed=1)
    given = {"outcome": "value", "running": "x", "unit": "unit", "bandwidth": 0.8, "n_boot": 199}
    alone = compat(data, quantiles=[0.5], estimator="pointwise", **given)
    assert np.isfinite(alone.table.where(term="laqte")["band_low"]).all()
    assert alone.tests.set_index("name").loc["homogeneity", "unavailable"]
    bare = compat(data, quantiles=5, band=None, tests=(), **given)
    assert bare.tests.empty and "band_low" not in bare.table.columns


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"bandwidth": "imse"}, "given bandwidth"),
        ({"covariates": "w"}, "covariates"),
        ({"unit_weights": "size"}, "unit_weights"),
        ({"cluster": "group"}, "clusters"),
        ({"quantile_rule": "type9"}, "quantile_rule"),
        ({"small_sample": "half"}, "small_sample"),
        ({"tests": "dominance"}, "dominance"),
        ({"inference": cs.Bootstrap(199, "wild")}, "wild"),
        ({"treatment": "t", "bandwidth_treatment": "imse"}, "bandwidth_treatment"),
    ],
)
def test_what_the_package_did_not_know_is_refused(changes, words):
    g = np.random.default_rng(0)
    n = 120
    data = {
        "x": g.uniform(-1, 1, n), "w": g.normal(size=n), "size": g.uniform(1, 2, n), "group": np.arange(n) % 30,
        "t": g.integers(0, 2, n),
    }  # fmt: skip
    options = {"outcome": g.normal(size=(n, 60)), "running": "x", "quantiles": 3, "bandwidth": 0.8} | changes
    with pytest.raises(OptionError, match=words):
        cs.r3d(data, compat=COMPAT, checks=None, **options)
