"""rdrobust, where it is installed: its bandwidths are the ladder's with one column, on the Senate data it carries.

Numbers are those of rdrobust 2.1.1; nothing of it is needed to run causalsat.
"""

import importlib.util
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from causalsat.estimators.r3d_bandwidth import select_bandwidth
from causalsat.estimators.r3d_fit import fit_curves
from causalsat.estimators.r3d_options import Bandwidth

LADDER = Bandwidth(pilot="ladder", regularization=3.0)
SENATE = [
    ("triangular", "hc0", 17.68257, 28.09026),
    ("triangular", "hc1", 17.70369, 28.12491),
    ("triangular", "hc2", 17.72355, 28.15057),
    ("triangular", "hc3", 17.76582, 28.20988),
    ("epanechnikov", "hc3", 16.20450, 27.02649),
    ("uniform", "hc0", 12.56585, 23.59760),
]


@pytest.fixture(scope="module")
def frame():
    found = importlib.util.find_spec("rdrobust")
    if found is None or not found.submodule_search_locations:
        pytest.skip("rdrobust is not installed: its Senate data and numbers are not compared")
    path = Path(found.submodule_search_locations[0]) / "data" / "rdrobust_RDsenate.csv"
    return pd.read_csv(path).dropna(subset=["vote", "margin"])


@pytest.fixture(scope="module")
def senate(frame):
    return tuple(frame[name].to_numpy() for name in ("margin", "vote", "state"))


def chosen(x, outcome, rule, groups=None, omega=None, **options):
    omega = np.ones(x.size) if omega is None else omega
    return select_bandwidth(x, x >= 0.0, outcome, np.ones(1), omega, groups, rule, **options)


@pytest.mark.parametrize(("kernel", "residuals", "h", "b"), SENATE)
def test_ladder_on_the_senate(senate, kernel, residuals, h, b):
    x, y, _ = senate
    assert x.size == 1297
    found = chosen(x, y[:, None], LADDER, kernel=kernel, residuals=residuals)
    np.testing.assert_allclose(found.h, h, atol=1e-4)
    np.testing.assert_allclose(found.b, b, atol=1e-4)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("order", [0, 1, 2])
@pytest.mark.parametrize(("rule", "sides"), [("mserd", "common"), ("msetwo", "two"), ("cerrd", "common")])
def test_ladder_is_that_of_rdrobust(senate, order, rule, sides):
    x, y, _ = senate
    rdrobust = pytest.importorskip("rdrobust", exc_type=ImportError)
    table = rdrobust.rdbwselect(y, x, p=order, kernel="tri", bwselect=rule, vce="hc2").bws
    left, right, b_left, b_right = (float(v) for v in np.asarray(table)[0])
    found = chosen(
        x, y[:, None],
        Bandwidth(pilot="ladder", regularization=3.0, order=order, sides=sides, coverage=rule == "cerrd"),
    )  # fmt: skip
    np.testing.assert_allclose(found.h, [right, left], rtol=1e-5)
    if rule != "cerrd":
        np.testing.assert_allclose(found.b, [b_right, b_left], rtol=1e-5)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("residuals", ["hc1", "hc2", "hc3"])
@pytest.mark.parametrize("dependence", ["weights", "cluster"])
def test_ladder_with_weights_or_clusters_is_that_of_rdrobust(senate, dependence, residuals):
    x, y, state = senate
    rdrobust = pytest.importorskip("rdrobust", exc_type=ImportError)
    weights = np.random.default_rng(0).uniform(0.2, 3.0, x.size)
    given_weights = {"weights": weights} if dependence == "weights" else {"cluster": state}
    vce = residuals if dependence == "weights" else residuals.replace("hc", "cr")
    table = rdrobust.rdbwselect(y, x, kernel="tri", vce=vce, **given_weights).bws
    left, right, b_left, b_right = (float(v) for v in np.asarray(table)[0])
    own = {"omega": weights} if dependence == "weights" else {"groups": np.unique(state, return_inverse=True)[1]}
    found = chosen(x, y[:, None], LADDER, residuals=residuals, **own)
    np.testing.assert_allclose(found.h, [right, left], rtol=1e-6)
    np.testing.assert_allclose(found.b, [b_right, b_left], rtol=1e-6)


def units(frame, covariates=None):
    x = frame["margin"].to_numpy()
    return SimpleNamespace(
        x=x, treated=x >= 0.0, Q=frame[["vote"]].to_numpy(), cells=np.ones(1), omega=np.ones(x.size),
        covariates=covariates, treatment=None,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("order", "h", "kernel", "value"),
    [
        (1, 20.0, "triangular", 7.270356), (2, 20.0, "triangular", 8.164466), (1, 10.0, "triangular", 7.984687),
        (2, 10.0, "triangular", 11.921820), (1, 16.79369, "triangular", 7.425304), (1, 20.0, "uniform", 7.028278),
        (2, 20.0, "uniform", 7.663639), (1, 17.7544, "triangular", 7.414131),
    ],
)  # fmt: skip
def test_senate_jumps(frame, order, h, kernel, value):
    assert fit_curves(units(frame), np.full(2, h), kernel=kernel, order=order).tau[0] == pytest.approx(value, abs=1e-5)


@pytest.mark.parametrize(
    ("order", "errors"), [(1, (1.376093, 1.381794, 1.387524)), (2, (1.955487, 1.969450, 1.983549))]
)
def test_senate_standard_errors(frame, order, errors):
    fit = fit_curves(units(frame), np.full(2, 20.0), order=order).columns
    assert [int((fit.limits[side] != 0.0).sum()) for side in (1, 0)] == [389, 346]
    weights = fit.limits[0] - fit.limits[1]
    for power, value in zip((0.0, 0.5, 1.0), errors, strict=True):
        terms = weights * fit.residuals[:, 0] / (1.0 - fit.leverage) ** power
        assert np.sqrt(terms @ terms) == pytest.approx(value, abs=2e-6)


@pytest.mark.parametrize(("order", "value"), [(1, 6.707217), (2, 6.983913)])
def test_senate_with_covariates(frame, order, value):
    some = frame.dropna(subset=["class", "termshouse", "termssenate"])
    covariates = some[["class", "termshouse", "termssenate"]].to_numpy(dtype=float)
    found = fit_curves(units(some, covariates=covariates), np.full(2, 20.0), order=order)
    assert found.tau[0] == pytest.approx(value, abs=2e-6)
