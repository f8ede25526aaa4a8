"""Covariates in the choice of a bandwidth: rdrobust's ladder, the oracle of what they leave, invariances."""

import numpy as np
import pandas as pd
import pytest

import causalsat as cs
from causalsat.estimators.r3d_bandwidth import select_bandwidth, treatment_bandwidth
from causalsat.estimators.r3d_options import Bandwidth
from causalsat.estimators.r3d_pilot import population_bandwidth

LADDER = Bandwidth(pilot="ladder", regularization=3.0)


def curved(n, seed, size=2.0):
    """Curvature 8 right and -4 left, noise of variance .25, and covariates that move the outcome."""
    g = np.random.default_rng(seed)
    x = g.uniform(-1.0, 1.0, n)
    W = np.column_stack([g.normal(size=n) + x**2, g.normal(size=n) + 0.5 * x * (x < 0.0)])
    y = np.where(x >= 0.0, 4.0 * x**2, -2.0 * x**2) + W @ np.array([size, 1.0]) + 0.5 * g.normal(size=n)
    return x, y[:, None], W


def chosen(x, columns, covariates, rule=None, omega=None, groups=None, **options):
    return select_bandwidth(
        x, x >= 0.0, columns, np.ones(columns.shape[1]), np.ones(x.size) if omega is None else omega, groups,
        rule or Bandwidth(), covariates=covariates, **options,
    )  # fmt: skip


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(("rule", "sides"), [("mserd", "common"), ("msetwo", "two")])
@pytest.mark.parametrize("residuals", ["hc0", "hc1", "hc2", "hc3"])
@pytest.mark.parametrize("weighted", [False, True])
def test_ladder_with_covariates_is_that_of_rdrobust(rule, sides, residuals, weighted):
    rdrobust = pytest.importorskip("rdrobust", exc_type=ImportError)
    x, y, W = curved(800, 0)
    weights = np.random.default_rng(1).uniform(0.2, 3.0, x.size) if weighted else None
    table = rdrobust.rdbwselect(
        y[:, 0], x, covs=W, kernel="tri", bwselect=rule, vce=residuals, weights=weights
    ).bws  # fmt: skip
    left, right, b_left, b_right = (float(v) for v in np.asarray(table)[0])
    own = Bandwidth(pilot="ladder", regularization=3.0, sides=sides)
    found = chosen(x, y, W, own, omega=weights, residuals=residuals)
    np.testing.assert_allclose(found.h, [right, left], rtol=1e-5)
    np.testing.assert_allclose(found.b, [b_right, b_left], rtol=1e-5)
    assert found.covariates == "taken out" and found.notes()["covariates"] == "taken out"
    assert not np.allclose(found.h, chosen(x, y, None, own, omega=weights, residuals=residuals).h, rtol=1e-4)


@pytest.mark.parametrize("rule", [Bandwidth(), LADDER])
def test_covariates_bring_it_to_the_oracle_of_what_they_leave(rule):
    n = 1200
    oracle = population_bandwidth(n, 0.5, np.full((2, 1), 0.25), np.array([[8.0], [-4.0]]), np.ones(1))
    medians = []
    for size in (0.0, 2.0):
        cases = [curved(n, seed, size) for seed in range(30)]
        # The covariates' own curves belong to the outcome: what is left has curvature 8 and -4 alone.
        medians.append(np.median([chosen(x, y, W, rule).h[0] for x, y, W in cases]))
    np.testing.assert_allclose(medians[0], medians[1], rtol=1e-9)
    assert medians[1] == pytest.approx(oracle, rel=0.15)
    assert np.median([chosen(x, y, None).h[0] for x, y, _ in cases]) > 1.15 * oracle


@pytest.mark.parametrize("rule", [Bandwidth(), LADDER, Bandwidth(sides="two"), Bandwidth(kind="mse")])
def test_what_covariates_explain_does_not_move_it(rule):
    x, y, W = curved(400, 3)
    columns = np.column_stack([y, y**2 / 4.0, np.random.default_rng(4).normal(size=400)])
    base = chosen(x, columns, W, rule).h
    added = columns + W @ np.array([[5.0, -1.0, 0.3], [2.0, 7.0, 0.0]])
    np.testing.assert_allclose(chosen(x, added, W, rule).h, base, rtol=1e-8)
    scaled = W * np.array([1e5, 1e-4]) + np.array([3e5, -2.0])
    np.testing.assert_allclose(chosen(x, columns, scaled, rule).h, base, rtol=1e-8)
    np.testing.assert_allclose(chosen(7.0 * x, columns, W, rule).h, 7.0 * base, rtol=1e-8)
    twice = np.column_stack([W, W[:, 0] - 2.0 * W[:, 1], np.ones(400)])
    np.testing.assert_allclose(chosen(x, columns, twice, rule).h, base, rtol=1e-6)
    np.testing.assert_allclose(
        chosen(x, columns + np.where(x >= 0.0, 3.0 + 9.0 * x, 0.0)[:, None], W, rule).h, base, rtol=1e-8
    )


def test_few_units_leave_covariates_in():
    x, y, _ = curved(120, 5)
    W = np.random.default_rng(6).normal(size=(120, 20))
    plain, found = chosen(x, y, None), chosen(x, y, W)
    np.testing.assert_array_equal(found.h, plain.h)
    assert found.covariates.startswith("left in: a side's window") and "200 are asked for" in found.covariates
    assert plain.covariates == "none" and chosen(x, y, W[:, :0]).covariates == "none"
    # Clusters count once, however many units they have.
    groups = np.arange(120) % 12
    assert chosen(x, y, W[:, :2], groups=groups).covariates.startswith("left in")
    assert chosen(x, y, W[:, :2]).covariates == "taken out"


def test_the_treatment_has_them_taken_out_too():
    x, _, W = curved(600, 7)
    received = (np.random.default_rng(8).random(600) < 1.0 / (1.0 + np.exp(-3.0 * W[:, 0] - (x >= 0.0)))).astype(float)
    args = (x, x >= 0.0, received, np.ones(600), None, Bandwidth(), np.full(2, 0.4))
    with_them, report = treatment_bandwidth(*args, covariates=W)
    assert report is not None and report.covariates == "taken out"
    assert not np.allclose(with_them, treatment_bandwidth(*args)[0], rtol=1e-3)


def test_the_verb_passes_them_on():
    x, y, W = curved(300, 9)
    frame = pd.DataFrame({"x": x, "a": W[:, 0], "b": W[:, 1]})
    draws = y + np.random.default_rng(10).normal(size=(300, 60))
    options = {"outcome": draws, "running": "x", "quantiles": 5, "n_boot": 199, "checks": None}
    result, plain = cs.r3d(frame, covariates=["a", "b"], **options), cs.r3d(frame, **options)
    assert result.meta["bandwidth"]["covariates"] == "taken out" and plain.meta["bandwidth"]["covariates"] == "none"
    design = result.estimates[0].design
    alone = select_bandwidth(
        design.x, design.treated, design.Q, design.cells, design.omega, None, Bandwidth(), order=2,
        covariates=design.covariates,
    )  # fmt: skip
    assert result.meta["h"] == alone.h[0] != plain.meta["h"]
