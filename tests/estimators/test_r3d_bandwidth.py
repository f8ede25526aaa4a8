"""Bandwidths of `r3d`: constants, oracle designs, equivariance, an independent least-squares oracle."""

import math

import numpy as np
import pytest
import statsmodels.api as sm
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize_scalar
from scipy.stats import norm

from causalsat.errors import DataError, NumericalError, OptionError, SingularWindowError
from causalsat.estimators.r3d_bandwidth import select_bandwidth, treatment_bandwidth
from causalsat.estimators.r3d_options import Bandwidth
from causalsat.estimators.r3d_pilot import (
    Side,
    kernel_constants,
    kernel_weights,
    population_bandwidth,
    preliminary_bandwidth,
)

KERNELS = ("triangular", "epanechnikov", "uniform")
LEVELS = np.arange(1, 10) / 10
CELLS = np.full(9, 0.1)
PILOTS = (Bandwidth(), Bandwidth(pilot="ladder", regularization=3.0))
TABLE = {
    "triangular": [(1 / 3, 4 / 3), (-1 / 10, 24 / 5), (1 / 35, 72 / 7), (-1 / 126, 160 / 9)],
    "epanechnikov": [(3 / 8, 6 / 5), (-11 / 95, 4.497982), (15 / 448, 9.816468), (-0.009362, 17.142358)],
    "uniform": [(1 / 2, 1.0), (-1 / 6, 4.0), (1 / 20, 9.0), (-1 / 70, 16.0)],
}


def curved(n, seed):
    rng = np.random.default_rng(seed)
    x = rng.uniform(-1.0, 1.0, n)
    mean = np.where(x >= 0.0, 4.0 * x**2, -2.0 * x**2) + rng.normal(size=n)
    return x, mean[:, None] + (1.0 + 0.3 * rng.normal(size=n))[:, None] * norm.ppf(LEVELS)[None, :]


def chosen(x, outcome, rule=None, groups=None, omega=None, **options):
    cells = CELLS if outcome.shape[1] == 9 else np.ones(outcome.shape[1])
    omega = np.ones(x.size) if omega is None else omega
    return select_bandwidth(x, x >= 0.0, outcome, cells, omega, groups, rule or Bandwidth(), **options)


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("order", range(4))
def test_constants_of_the_kernels(kernel, order):
    np.testing.assert_allclose(kernel_constants(kernel, order), TABLE[kernel][order], rtol=0, atol=5e-7)


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("order", [1, 2])
def test_closed_form_minimises_the_mean_squared_error_of_a_dense_design(kernel, order):
    n, power, sd = 400_000, order + 1, {1: 60.0, 2: 1.5}[order]
    size = (np.arange(n // 2) + 0.5) / (n // 2)
    jump = 4.0 - (-1.0) ** power * (-2.0)

    def mse(h):
        u = size / h
        weights = kernel_weights(u, kernel)
        columns = np.vander(u, order + 1, increasing=True)
        row = np.linalg.solve(columns.T @ (columns * weights[:, None]), np.eye(order + 1)[0])
        s = (columns @ row) * weights
        return (jump * (s @ size**power)) ** 2 + 2.0 * sd**2 * (s @ s)

    found = minimize_scalar(mse, bounds=(0.1, 0.99), method="bounded", options={"xatol": 1e-7}).x
    derivative = math.factorial(power) * np.array([[4.0], [-2.0]])
    closed = population_bandwidth(n, 0.5, np.full((2, 1), sd**2), derivative, np.ones(1), kernel=kernel, order=order)
    assert 0.12 < closed < 0.95
    assert found == pytest.approx(closed, rel=2e-4)


def test_closed_form_refuses_what_it_cannot_answer():
    flat = np.ones((2, 1))
    with pytest.raises(OptionError, match="cancel"):
        population_bandwidth(100, 0.5, flat, flat, np.ones(1))
    with pytest.raises(OptionError, match="density"):
        population_bandwidth(100, 0.0, flat, flat * np.array([[1.0], [2.0]]), np.ones(1))


@pytest.mark.parametrize(
    ("n", "rule", "median"),
    [(500, PILOTS[0], 0.430), (500, PILOTS[1], 0.298), (5000, PILOTS[0], 0.308), (5000, PILOTS[1], 0.271)],
)
def test_medians_of_the_curved_design(n, rule, median):
    found = np.median([chosen(*curved(n, seed), rule).h[0] for seed in range(60)])
    variance = np.tile(1.0 + 0.09 * norm.ppf(LEVELS) ** 2, (2, 1))
    oracle = population_bandwidth(n, 0.5, variance, np.array([[8.0] * 9, [-4.0] * 9]), CELLS)
    assert oracle == pytest.approx(0.490 if n == 500 else 0.309, abs=6e-4)
    assert found == pytest.approx(median, rel=0.03)
    if n == 5000:
        assert found == pytest.approx(oracle, rel=0.25)


@settings(max_examples=30, deadline=None)
@given(st.floats(1e-4, 1e4), st.sampled_from(PILOTS), st.sampled_from(KERNELS), st.sampled_from(["common", "two"]))
def test_units_of_the_running_variable(k, rule, kernel, sides):
    x, outcome = curved(200, 3)
    rule = Bandwidth(pilot=rule.pilot, regularization=rule.regularization, sides=sides)
    base, scaled = (chosen(a, outcome, rule, kernel=kernel) for a in (x, k * x))
    for name in ("h", "b", "c"):
        np.testing.assert_allclose(getattr(scaled, name), k * getattr(base, name), rtol=1e-10)


@settings(max_examples=30, deadline=None)
@given(
    st.floats(1e-3, 1e3), st.sampled_from([-1.0, 1.0]), st.floats(-1e3, 1e3), st.sampled_from(PILOTS),
    st.sampled_from(["imse", "mse"]),
)  # fmt: skip
def test_units_of_the_outcome(a, sign, b, rule, kind):
    x, outcome = curved(200, 4)
    rule = Bandwidth(kind=kind, pilot=rule.pilot, regularization=rule.regularization)
    # Adding b to values of size a rounds them at 1e-16 b: that much of h is lost.
    np.testing.assert_allclose(chosen(x, sign * a * outcome + b * a, rule).h, chosen(x, outcome, rule).h, rtol=1e-10)


@pytest.mark.parametrize("rule", PILOTS)
@pytest.mark.parametrize("slope", [1.0, 5.0, 20.0])
def test_a_jump_in_level_or_slope_does_not_move_it(rule, slope):
    x, outcome = curved(300, 5)
    moved = outcome + np.where(x >= 0.0, 7.0 + slope * x, 0.0)[:, None]
    np.testing.assert_allclose(chosen(x, moved, rule).h, chosen(x, outcome, rule).h, rtol=1e-10)


@pytest.mark.parametrize("sides", ["common", "two"])
def test_mirror_image_and_row_order(sides):
    x, outcome = curved(300, 6)
    rule = Bandwidth(sides=sides)
    base = chosen(x, outcome, rule)
    np.testing.assert_allclose(chosen(-x, outcome, rule).h, base.h[::-1], rtol=1e-10)
    shuffled = np.random.default_rng(0).permutation(300)
    np.testing.assert_allclose(chosen(x[shuffled], outcome[shuffled], rule).h, base.h, rtol=1e-10)


def test_two_sides_do_not_touch_each_other():
    x, outcome = curved(300, 7)
    rule = Bandwidth(sides="two")
    other = np.where((x < 0.0)[:, None], outcome**3, outcome)
    base, changed = chosen(x, outcome, rule), chosen(x, other, rule)
    assert changed.h[0] == pytest.approx(base.h[0], rel=1e-12)
    assert changed.h[1] != pytest.approx(base.h[1], rel=1e-3)
    assert base.B2.shape == (2, 9)
    assert np.ptp(chosen(x, outcome).h) == 0.0


def test_one_bandwidth_per_quantile_is_the_scalar_rule_of_each():
    x, outcome = curved(300, 8)
    for pilot in PILOTS:
        rule = Bandwidth(kind="mse", pilot=pilot.pilot, regularization=pilot.regularization)
        found = chosen(x, outcome, rule)
        assert found.h.shape == found.b.shape == (2, 9)
        for j in range(9):
            alone = chosen(x, outcome[:, [j]], pilot)
            np.testing.assert_allclose(found.h[:, j], alone.h, rtol=1e-10)
            np.testing.assert_allclose(found.b[:, j], alone.b, rtol=1e-10)


def test_weights_of_units():
    x, outcome = curved(300, 9)
    omega = np.random.default_rng(1).uniform(0.2, 3.0, 300)
    base = chosen(x, outcome, omega=omega)
    np.testing.assert_allclose(chosen(x, outcome, omega=17.0 * omega).h, base.h, rtol=1e-10)
    assert not np.allclose(base.h, chosen(x, outcome).h, rtol=1e-3)
    some = np.where(np.arange(300) % 3 == 0, 0.0, omega)
    kept = some > 0.0
    np.testing.assert_allclose(
        chosen(x, outcome, omega=some).h, chosen(x[kept], outcome[kept], omega=omega[kept]).h, rtol=1e-12
    )


def test_clusters():
    x, outcome = curved(300, 10)
    base = chosen(x, outcome)
    np.testing.assert_allclose(chosen(x, outcome, groups=np.arange(300)[::-1]).h, base.h, rtol=1e-10)
    # Every unit three times: as clusters they carry the information of one; on their own they look like three.
    thrice = np.repeat(np.arange(300), 3)
    rule = Bandwidth(regularization=0.0)
    options = {"rule": rule, "residuals": "hc0"}
    once = chosen(x, outcome, **options)
    joined = chosen(x[thrice], outcome[thrice], groups=thrice, **options)
    alone = chosen(x[thrice], outcome[thrice], **options)
    np.testing.assert_allclose(joined.V, once.V, rtol=0.02)
    np.testing.assert_allclose(joined.h, once.h, rtol=0.01)
    np.testing.assert_allclose(alone.V, joined.V / 3.0, rtol=1e-10)


def dense_gap(design, k, groups, errors, nu, residuals):
    """Contribution of every cluster, its block of the hat matrix taken apart as a whole."""
    maps = np.linalg.solve(design.T @ (design * k[:, None]), (design * k[:, None]).T)[nu]
    hat = design @ np.linalg.solve(design.T @ (design * k[:, None]), (design * k[:, None]).T)
    present = np.unique(groups)
    scale = 1.0
    if residuals == "hc1":
        n, p = design.shape
        scale = math.sqrt((n - 1) / (n - p) * present.size / (present.size - 1))
    sums = []
    for g in present:
        rows = np.flatnonzero(groups == g)
        block, e = np.eye(rows.size) - hat[np.ix_(rows, rows)], errors[rows]
        if residuals == "hc3":
            e = np.linalg.solve(block, e)
        if residuals == "hc2":
            root = np.sqrt(k[rows])
            values, vectors = np.linalg.eigh(root[:, None] * block / root[None, :])
            e = (vectors * values**-0.5) @ (vectors.T @ (root * e)) / root
        sums.append(scale * maps[rows] @ e)
    return np.array(sums)


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("residuals", ["hc0", "hc1", "hc2", "hc3"])
@pytest.mark.parametrize("grouped", [False, True])
def test_coefficients_are_those_of_weighted_least_squares(kernel, residuals, grouped):
    x, outcome = curved(120, 11)
    own, h, order, nu = x < 0.0, 0.7, 3, 2
    omega = np.random.default_rng(2).uniform(0.5, 2.0, 120)
    groups = np.arange(120) % 11 if grouped else None
    side = Side("left", x[own], outcome[own], omega[own], groups[own] if grouped else None, kernel, residuals)
    found = side.coefficient(h, order, nu)
    weights = omega * kernel_weights(x / h, kernel) * own
    inside = weights > 0.0
    u, k = x[inside] / h, weights[inside]
    design = np.vander(u, order + 1, increasing=True)
    for j in range(9):
        fit = sm.WLS(outcome[inside, j], design, weights=k).fit()
        assert found.value[j] == pytest.approx(fit.params[nu], rel=1e-9)
        if grouped:
            gap = dense_gap(design, k, groups[inside], fit.resid, nu, residuals)
            variance = gap @ gap
        else:
            variance = getattr(fit, f"cov_{residuals.upper()}")[nu, nu]
        assert found.variance[j] == pytest.approx(variance, rel=1e-8)
    maps = np.linalg.solve(design.T @ (design * k[:, None]), (design * k[:, None]).T)[nu]
    assert found.next_power == pytest.approx(maps @ u ** (order + 1), rel=1e-9)


def test_the_whole_rule_written_out():
    x, outcome = curved(250, 12)
    rule = Bandwidth(regularization=1.0)
    found = chosen(x, outcome, rule, residuals="hc3")
    c = 2.576 * min(x.std(ddof=1), np.subtract(*np.quantile(x, [0.75, 0.25])) / 1.349) * 250**-0.2

    def wls(own, h, order, j):
        inside = own & (np.abs(x) < h)
        design = np.vander(x[inside], order + 1, increasing=True)
        k = 1.0 - np.abs(x[inside]) / h
        fit = sm.WLS(outcome[inside, j], design, weights=k).fit()
        maps = np.linalg.solve(design.T @ (design * k[:, None]), (design * k[:, None]).T)
        return fit.params, np.diag(fit.cov_HC3), maps @ x[inside] ** (order + 1)

    def bandwidth(order, nu, h_v, h_b):
        above = below = 0.0
        for j in range(9):
            jump = 0.0
            for sign, own, wide in ((1.0, x >= 0.0, h_b[0]), (-1.0, x < 0.0, h_b[1])):
                variance, add = (wls(own, h_v, order, j)[at] for at in (1, 2))
                theta, spread = (wls(own, wide, order + 1, j)[at][-1] for at in (0, 1))
                # In raw units: variance C / h^(2 nu + 1), bias h^(o + 1 - nu) D.
                above += (2 * nu + 1) * variance[nu] * h_v ** (2 * nu + 1)
                const = add[nu] / h_v ** (order + 1 - nu)
                jump += sign * const * theta
                below += 2 * (order + 1 - nu) * const**2 * spread
            below += 2 * (order + 1 - nu) * jump**2
        return (above / below) ** (1 / (2 * order + 3))

    reach = [np.quantile(np.abs(x[own]), 0.95) for own in (x >= 0.0, x < 0.0)]
    b = bandwidth(2, 2, c, reach)
    h = bandwidth(1, 0, c, (b, b))
    np.testing.assert_allclose(found.c, c, rtol=1e-12)
    np.testing.assert_allclose(found.b, b, rtol=1e-8)
    np.testing.assert_allclose(found.h, h, rtol=1e-8)
    total = CELLS @ (found.B2 + found.R.sum(axis=0))
    assert (CELLS @ found.V.sum(axis=0) / total) ** 0.2 == pytest.approx(h, rel=1e-8)


def test_regularisation_and_coverage_shrink():
    x, outcome = curved(400, 13)
    h = [chosen(x, outcome, Bandwidth(regularization=rho)).h[0] for rho in (0.0, 1.0, 3.0, 30.0)]
    assert all(np.diff(h) < 0.0)
    for order in (1, 2):
        found = chosen(x, outcome, Bandwidth(order=order, coverage=True))
        plain = chosen(x, outcome, Bandwidth(order=order))
        rate = {1: -1 / 20, 2: -2 / 35}[order]
        np.testing.assert_allclose(found.h, plain.h * 400.0**rate, rtol=1e-12)
        np.testing.assert_array_equal(found.h_mse, plain.h)


def test_caps_are_reported():
    x, outcome = curved(200, 14)
    straight = np.repeat((1.0 + 2.0 * x)[:, None], 9, axis=1)
    found = chosen(x, straight)
    np.testing.assert_allclose(found.h, np.abs(x).max(), rtol=1e-12)
    assert "h" in found.capped
    assert chosen(x, outcome).capped == ()
    constant = chosen(x, np.column_stack([outcome[:, 0], np.ones(200)]), Bandwidth(kind="mse"))
    np.testing.assert_allclose(constant.h[:, 1], np.abs(x).max())
    assert np.isfinite(constant.h).all()


def test_thin_windows_are_widened_and_listed():
    rng = np.random.default_rng(15)
    x = np.concatenate([rng.uniform(0.0, 0.1, 300), -np.arange(1.0, 9.0)])
    outcome = rng.normal(size=(308, 1))
    found = chosen(x, outcome)
    rows = [row for row in found.widened if row["bandwidth"] == "c"]
    assert rows and rows[0]["side"] == "left" and rows[0]["to"] == 6.0
    np.testing.assert_array_equal(found.c, 6.0)
    two = chosen(x, outcome, Bandwidth(sides="two"))
    assert two.c[0] < 1.0 and two.c[1] == 6.0
    assert found.notes()["widened"] == [dict(row) for row in found.widened]


@pytest.mark.parametrize("rule", PILOTS)
@pytest.mark.parametrize("kernel", KERNELS)
def test_heavy_tails_and_whole_numbers(rule, kernel):
    for seed in range(20):
        rng = np.random.default_rng(seed)
        outcome = rng.normal(size=(150, 2))
        for x in (rng.standard_cauchy(150), np.rint(6.0 * rng.normal(size=150)), rng.exponential(size=150) - 0.4):
            found = chosen(x, outcome, rule, kernel=kernel)
            assert (found.h > 0.0).all() and (found.h <= np.abs(x).max()).all()
            assert (found.n_window > 0).all() and found.notes()["h"] == found.h.tolist()


def test_as_few_distinct_values_as_there_may_be():
    x = np.repeat(np.r_[-np.arange(1.0, 6.0), np.arange(5.0)], 20)
    outcome = np.random.default_rng(16).normal(size=(200, 1))
    for rule in PILOTS:
        assert np.isfinite(chosen(x, outcome, rule).h).all()
    with pytest.raises(SingularWindowError, match="left of the cutoff there are 4 distinct"):
        chosen(x[x != -1.0], outcome[x != -1.0])
    with pytest.raises(SingularWindowError, match="left of the cutoff there are 0"):
        chosen(np.abs(x), outcome)


def test_bad_data():
    x, outcome = curved(100, 17)
    outcome[3, 2] = np.nan
    with pytest.raises(DataError, match="finite"):
        chosen(x, outcome)
    with pytest.raises(OptionError, match="kernel"):
        chosen(x, outcome, kernel="gaussian")
    tied = np.r_[-np.linspace(0.1, 1.0, 50), 0.5 + 1e-9 * np.arange(9)]
    with pytest.raises(NumericalError, match="nearly tied"):
        chosen(tied, np.random.default_rng(0).normal(size=(59, 1)))


def test_treatment():
    x, _ = curved(400, 18)
    h = np.array([0.3, 0.4])
    sharp = (x >= 0.0).astype(float)
    args = (np.ones(400), None, Bandwidth(), h)
    got, report = treatment_bandwidth(x, x >= 0.0, sharp, *args)
    assert report is None
    np.testing.assert_array_equal(got, h)
    wide = np.stack([np.linspace(0.2, 0.6, 9)] * 2)
    np.testing.assert_allclose(treatment_bandwidth(x, x >= 0.0, sharp, *args[:3], wide)[0], 0.4)
    one_sided = sharp * (np.random.default_rng(3).uniform(size=400) < 0.7)
    got, report = treatment_bandwidth(x, x >= 0.0, one_sided, *args)
    assert report is not None
    np.testing.assert_allclose(got, chosen(x, one_sided[:, None]).h)
    assert (report.V[1] < 1e-25).all()
    two, _ = treatment_bandwidth(x, x >= 0.0, one_sided, np.ones(400), None, Bandwidth(sides="two"), h)
    assert two[1] == np.abs(x[x < 0.0]).max() and two[0] < 1.0


def test_the_preliminary_rule_where_quartiles_coincide():
    tied = np.r_[np.zeros(30), np.random.default_rng(19).normal(size=7)]
    assert preliminary_bandwidth(tied, "uniform") == pytest.approx(
        1.843 * tied.std(ddof=1) * np.unique(tied).size ** -0.2
    )
