"""Checks of `r3d` that read data again: what they take over from the call, and what they refuse."""

import numpy as np
import pandas as pd
import pytest

import causalsat as cs
from causalsat.errors import BandwidthWarning, DataError, OptionError
from causalsat.estimators.r3d_pictures import bandwidth_path, scatters
from causalsat.simulate.r3d import fuzzy
from tests.estimators.r3d_verb import QUICK, ask, curve, fuzzy_result, units


@pytest.fixture(scope="module")
def long():
    data, draws = units(n=200, k=60)
    rows = data.loc[np.repeat(np.arange(200), 60)].reset_index(drop=True)
    rows["score"] = rows["x"] + 50.0
    return rows.assign(
        value=draws.reshape(-1), earlier=(draws - 1.5 * (data["x"].to_numpy() >= 0)[:, None]).reshape(-1)
    )


def test_pre_period_keeps_cutoff_covariates_and_weights_of_units(long):
    options = {"running": "score", "unit": "unit", "cutoff": 50.0, "covariates": "w", "unit_weights": "size", **QUICK}
    check = cs.r3d(long, outcome="value", **options).check("pre_period", data=long, pre_outcome="earlier")
    earlier = cs.r3d(long, outcome="earlier", **options)
    wanted = earlier.table.where(term="mean")
    assert check.table["mean"][0] == pytest.approx(wanted["estimate"][0], abs=1e-10)
    assert check.table["std_error"][0] == pytest.approx(wanted["std_error"][0], abs=1e-10)
    assert check.statistic == earlier.tests["p_value"][0]


def test_dates_follow_the_units(long):
    data, draws = units(n=200)
    result = ask(data, draws)
    right = data["x"].to_numpy() >= 0
    image = np.where(right, np.datetime64("2021-01-01"), np.datetime64("2019-01-01"))
    start = np.where(right, np.datetime64("2020-06-01"), np.datetime64("2018-06-01"))
    found = result.check("dates", dates={"image": image}, treated_on=start, expected={"image": "after"})
    assert found.passed and found.table["older"] == [0] and found.table["newer"] == [200]
    for dates, when in (({"image": np.repeat(image, 60)}, start), ({"image": image}, start[:50])):
        with pytest.raises(DataError, match="200 units were read"):
            result.check("dates", dates=dates, treated_on=when, expected={"image": "after"})


def test_order_zero_is_the_difference_of_kernel_weighted_means():
    data, draws = units(n=300)
    result = ask(data, draws, order=0)
    assert result.bandwidths["pooled"]["selection"]["order"] == 0
    h = result.bandwidths["pooled"]["h"][0]
    x = data["x"].to_numpy()
    k = np.maximum(1.0 - np.abs(x) / h, 0.0)
    Q = np.quantile(draws, np.arange(1, 6) / 6, axis=1).T
    jump = np.average(Q[x >= 0], axis=0, weights=k[x >= 0]) - np.average(Q[x < 0], axis=0, weights=k[x < 0])
    np.testing.assert_allclose(curve(result)["estimate"], jump, atol=1e-10)
    assert isinstance(result.tests, pd.DataFrame)


def rows_of(table, term):
    return [int(i) for i in np.flatnonzero(table["term"] == term)]


def test_units_used_at_two_cutoffs_are_not_counted_twice():
    data, draws = units(n=160)
    twice = pd.concat([data.assign(c=-1.0), data.assign(c=3.0)], ignore_index=True)
    twice["score"] = twice["x"] + twice["c"]
    table = ask(twice, np.vstack([draws, draws]), running="score", cutoff="c", unit="unit", bandwidth=0.9).table
    _, one, two = rows_of(table, "mean")
    se = table["std_error"]
    assert se[one] == pytest.approx(se[two], rel=1e-12)
    assert table.contrast(f"b{one} - b{two}", method="normal")["std_error"][0] < 1e-6
    half = table.contrast(f"0.5*b{one} + 0.5*b{two}", method="normal")["std_error"][0]
    assert half == pytest.approx(se[one], rel=1e-12)


def test_cutoffs_without_units_or_clusters_in_common_are_independent():
    data, draws = units(n=320)
    data["c"] = np.where(np.arange(320) % 2, 3.0, -1.0)
    data["score"] = data["x"] + data["c"]
    options = {"running": "score", "cutoff": "c", "bandwidth": 0.9}
    table = ask(data, draws, **options).table
    _, one, two = rows_of(table, "mean")
    apart = table.contrast(f"b{one} - b{two}", method="normal")["std_error"][0]
    assert apart == pytest.approx(np.hypot(table["std_error"][one], table["std_error"][two]), rel=1e-12)
    data["province"] = np.arange(320) // 8
    shock = 2.0 * np.random.default_rng(5).normal(size=40)[data["province"]]
    shared = draws + (shock * np.sign(data["x"].to_numpy()))[:, None]
    table = ask(data, shared, cluster="province", **options).table
    apart = table.contrast(f"b{one} - b{two}", method="normal")["std_error"][0]
    assert apart < 0.9 * np.hypot(table["std_error"][one], table["std_error"][two])


@pytest.mark.parametrize("scheme", ["multiplier", "wild", "iid"])
def test_rows_and_labels_do_not_matter_with_a_coarse_running_variable(scheme):
    data, draws = units(n=200)
    data["x"] = data["x"].round(1)
    # More quantiles than units of a side: the draws come from multipliers of units.
    options = {"bandwidth": 0.75, "inference": cs.Bootstrap(n=199, scheme=scheme), "quantiles": 59, "unit": "unit"}
    base = ask(data, draws, **options).table
    turned = np.random.default_rng(3).permutation(200)
    again = data.iloc[turned].reset_index(drop=True).assign(unit=np.random.default_rng(4).permutation(200))
    other = ask(again, draws[turned], **options).table
    for name in ("estimate", "std_error", "conf_low", "band_low", "band_high"):
        np.testing.assert_allclose(other[name], base[name], rtol=1e-9, atol=1e-9)


def test_donut_says_how_far_the_fit_extrapolates():
    data, draws = units(n=300)
    with pytest.warns(BandwidthWarning, match="extrapolated over 20% of the bandwidth 0.8"):
        ask(data, draws, donut=0.16, bandwidth=0.8)


def test_pairs_and_numbers_of_any_kind():
    data, draws = units()
    wanted = ask(data, draws, bandwidth=0.8, test_range=(0.3, 0.7), thresholds=(4.0,))
    found = ask(data, draws, bandwidth=np.float32(0.8), test_range=np.array([0.3, 0.7]), thresholds=None)
    assert found.tests["n_levels"].tolist() == wanted.tests["n_levels"].tolist() == [3, 3]
    for bad in ({"bandwidth": ["a", 1]}, {"thresholds": "high"}, {"test_range": (0.1, "b")}, {"test_range": 0.5}):
        with pytest.raises(OptionError, match=next(iter(bad))):
            ask(data, draws, **bad)


@pytest.mark.filterwarnings("ignore")
def test_the_plot_of_bandwidths_passes_through_the_estimate():
    result, _ = fuzzy_result()
    result = result.refit(bandwidth=0.8, bandwidth_treatment=0.5)
    widths, effects, p_values, chosen = bandwidth_path(result.estimates[0], result.choices, levels=(0.5,))
    at = int(np.argmin(np.abs(widths - chosen)))
    assert effects["q = 0.5"][at] == pytest.approx(curve(result)["estimate"][2], abs=1e-12)
    assert p_values[at] == result.tests["p_value"][0]


def test_fitted_lines_meet_the_cutoff_at_the_limits_with_covariates_too():
    data, draws = units(n=300)
    result = ask(data, draws, covariates="w", bandwidth=0.8)
    found = result.estimates[0]
    for j, one in enumerate(scatters(found, result.choices, levels=(1 / 6, 0.5, 5 / 6))):
        ends = one.fit_y[one.fit_x >= 0.0][0], one.fit_y[one.fit_x < 0.0][-1]
        np.testing.assert_allclose(ends, found.fit.columns.raw[:, 2 * j], atol=1e-8)


@pytest.mark.filterwarnings("ignore")
def test_the_treatment_takes_over_the_rule_of_the_outcome():
    data, truth = fuzzy(n=500, n_draws=20, seed=3, long=False)
    data = pd.DataFrame(data)
    rule = cs.Bandwidth(coverage=True, sides="two")
    widths = [
        ask(data, truth["draws"], treatment="treatment", bandwidth=rule, bandwidth_treatment=own).bandwidths["pooled"]
        for own in (None, rule, cs.Bandwidth())
    ]
    assert widths[0]["h_treatment"] == widths[1]["h_treatment"] != widths[2]["h_treatment"]
    zero = ask(data, truth["draws"], treatment="treatment", order=0).bandwidths["pooled"]
    assert zero["selection_treatment"]["order"] == 0
