"""Checks of `r3d` that read data again: what they take over from the call, and what they refuse."""

import numpy as np
import pandas as pd
import pytest

import causalsat as cs
from causalsat.errors import DataError
from tests.estimators.r3d_verb import QUICK, ask, curve, units


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
