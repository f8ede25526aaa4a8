"""Point estimates of `r3d`: public reference numbers, weighted least squares, polynomials, monotone curves, windows."""

import re
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import statsmodels.api as sm
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.isotonic import IsotonicRegression

from causalsat.errors import SingularWindowError
from causalsat.estimators.r3d_fit import fit_columns, fit_curves, monotone

KERNELS = ("triangular", "epanechnikov", "uniform")


def units(n=160, m=7, seed=0, **over):
    rng = np.random.default_rng(seed)
    x = rng.uniform(-1.0, 1.0, n)
    outcome = np.sort(rng.normal(size=(n, m)), axis=1) + (np.sin(3.0 * x) + (x >= 0.0))[:, None]
    given_units = {
        "x": x, "treated": x >= 0.0, "Q": outcome, "cells": np.full(m, 1.0 / m), "omega": rng.uniform(0.5, 2.0, n),
        "covariates": None, "treatment": None,
    }  # fmt: skip
    return SimpleNamespace(**(given_units | over))


def kernel_of(u, kernel):
    inside = (np.abs(u) <= 1.0).astype(float)
    return inside * {"triangular": 1.0 - np.abs(u), "epanechnikov": 0.75 * (1.0 - u**2), "uniform": 0.5}[kernel]


def scalar(design, outcome, h, kernel, order, covariates=None):
    """Limits right and left, slopes and leverages by statsmodels, both sides in one regression."""
    width = np.where(design.treated, h[0], h[1])
    k = design.omega * kernel_of(design.x / width, kernel)
    inside = k > 0.0
    powers = np.vander(design.x / width, order + 1, increasing=True)
    columns = np.hstack([powers * design.treated[:, None], powers * ~design.treated[:, None]])
    if covariates is not None:
        columns = np.hstack([columns, covariates - (k @ covariates) / k.sum()])
    fit = sm.WLS(outcome[inside], columns[inside], weights=k[inside]).fit()
    return fit.params[[0, order + 1]], fit.params[2 * order + 2 :], fit, inside


def reference(real_data, name):
    data = pd.read_csv(real_data("r3d/ref_data_sharp_simple_20.csv"))
    result = pd.read_csv(real_data(f"r3d/ref_results_sharp_{name}_20.csv"))
    x, outcome = data["X"].to_numpy(), data.filter(regex=r"^Q\d+$").to_numpy()
    assert outcome.shape == (200, 20)
    design = units(200, 20, x=x, treated=x >= 0.0, Q=outcome, cells=np.full(20, 1 / 21), omega=np.ones(200))
    return design, result


def test_reference_curves_with_one_bandwidth(real_data):
    design, result = reference(real_data, "frechet")
    assert result["bw_num"].nunique() == 1
    found = fit_curves(design, np.full(2, result["bw_num"][0]), kernel="epanechnikov")
    assert found.tau[0] == pytest.approx(3.196430429, abs=1e-9)
    np.testing.assert_allclose(found.curves[:, 0], [7.278538325, 4.082107896], rtol=0, atol=1e-9)
    for mine, theirs in ((found.tau, "tau"), (found.curves[0], "int_plus"), (found.curves[1], "int_minus")):
        np.testing.assert_allclose(mine, result[theirs], rtol=0, atol=1e-9)


def test_reference_curves_with_one_bandwidth_per_quantile(real_data):
    design, result = reference(real_data, "simple")
    h, q = result["bw_num"].to_numpy(), result["q"].to_numpy()
    assert np.unique(h).size == 20
    found = fit_curves(design, np.stack([h, h]), estimator="pointwise", kernel="epanechnikov")
    # The package reads its curves back from 1,001 interpolated points; a sort differs from that by up to 2e-3.
    grid, levels = np.linspace(q[0], q[-1], 1001), (q - q[0]) / (q[-1] - q[0])
    for side, name in enumerate(("int_plus", "int_minus")):
        read_back = np.quantile(np.interp(grid, q, found.columns.raw[side]), levels)
        np.testing.assert_allclose(read_back, result[name], rtol=0, atol=1e-8)
        np.testing.assert_allclose(found.curves[side], result[name], rtol=0, atol=2e-3)


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize(("order", "by_column"), [(0, False), (1, False), (2, False), (3, False), (1, True), (2, True)])
def test_each_column_is_a_scalar_local_polynomial(kernel, order, by_column):
    design = units()
    h = np.array([0.5, 0.7])
    if by_column:
        h = h[:, None] * np.linspace(0.8, 1.2, 7)[None, :]
    found = fit_curves(design, h, estimator="pointwise", kernel=kernel, order=order).columns
    assert found.by_column is by_column
    for j in range(7):
        pair = h[:, j] if by_column else h
        limits, _, fit, inside = scalar(design, design.Q[:, j], pair, kernel, order)
        np.testing.assert_allclose(found.raw[:, j], limits, rtol=0, atol=1e-10)
        residuals = np.zeros(design.x.size)
        residuals[inside] = fit.resid
        np.testing.assert_allclose(found.residuals[:, j], residuals, rtol=0, atol=1e-10)
        leverage = found.leverage[j] if by_column else found.leverage
        hat = np.zeros(design.x.size)
        hat[inside] = np.einsum("ij,ji->i", fit.model.wexog, np.linalg.pinv(fit.model.wexog))
        np.testing.assert_allclose(leverage, hat, rtol=0, atol=1e-10)
        maps = found.limits[:, j] if by_column else found.limits
        np.testing.assert_allclose(maps @ design.Q[:, j], limits, rtol=0, atol=1e-10)
        own = np.stack([design.treated, ~design.treated])
        np.testing.assert_allclose(maps * ~own, 0.0, atol=1e-14)
        np.testing.assert_allclose(maps.sum(axis=1), 1.0, atol=1e-10)
        for power in range(1, order + 1):
            np.testing.assert_allclose(maps @ design.x**power, 0.0, atol=1e-10)


@settings(max_examples=40, deadline=None)
@given(
    st.floats(0.25, 3.0), st.sampled_from(KERNELS), st.integers(0, 3), st.integers(0, 10_000),
    st.sampled_from([1e-3, 1.0, 1e3]),
)  # fmt: skip
def test_polynomials_are_recovered(h, kernel, order, seed, unit):
    design = units(seed=seed % 7)
    rng = np.random.default_rng(seed)
    right, left = rng.normal(size=(2, order + 1, 7))
    powers = np.vander(design.x, order + 1, increasing=True)
    design.Q = np.where(design.treated[:, None], powers @ right, powers @ left)
    design.x = design.x * unit
    found = fit_curves(design, np.full(2, h * unit), kernel=kernel, order=order).columns
    np.testing.assert_allclose(found.raw, [right[0], left[0]], rtol=0, atol=1e-10)


def test_units_of_both_axes_and_the_mirror():
    design, h = units(), np.array([0.5, 0.6])
    base = fit_curves(design, h)
    scaled = fit_curves(units(x=40.0 * design.x), 40.0 * h)
    np.testing.assert_allclose(scaled.tau, base.tau, atol=1e-11)
    np.testing.assert_allclose(fit_curves(units(Q=3.0 * design.Q + 5.0), h).tau, 3.0 * base.tau, atol=1e-11)
    mirror = fit_curves(units(x=-design.x, treated=~design.treated), h[::-1])
    np.testing.assert_allclose(mirror.tau, -base.tau, atol=1e-11)
    turned = fit_curves(units(Q=-design.Q[:, ::-1]), h)
    np.testing.assert_allclose(turned.tau, -base.tau[::-1], atol=1e-11)
    moved = fit_curves(units(Q=design.Q + 2.5 * design.treated[:, None]), h)
    np.testing.assert_allclose(moved.tau, base.tau + 2.5, atol=1e-11)
    np.testing.assert_allclose(moved.columns.residuals, base.columns.residuals, atol=1e-11)


def test_weights_are_copies_of_units():
    design, h = units(), np.array([0.5, 0.6])
    twice = np.arange(160) % 3 == 0
    weighted = fit_curves(units(omega=np.where(twice, 2.0, 1.0)), h)
    rows = np.concatenate([np.arange(160), np.flatnonzero(twice)])
    copied = units(x=design.x[rows], treated=design.treated[rows], Q=design.Q[rows], omega=np.ones(rows.size))
    np.testing.assert_allclose(fit_curves(copied, h).tau, weighted.tau, atol=1e-12)
    np.testing.assert_allclose(
        fit_curves(units(omega=7.0 * design.omega), h).tau, fit_curves(design, h).tau, atol=1e-12
    )


@pytest.mark.parametrize("kernel", KERNELS)
def test_covariates_have_one_slope_for_both_sides(kernel):
    rng = np.random.default_rng(5)
    covariates = rng.normal(size=(160, 2))
    design = units(covariates=covariates)
    design.Q = design.Q + covariates @ np.array([[2.0], [-1.0]])
    h = np.array([0.6, 0.5])
    found = fit_curves(design, h, kernel=kernel, order=1).columns
    for j in range(7):
        limits, slopes, _, _ = scalar(design, design.Q[:, j], h, kernel, 1, covariates)
        np.testing.assert_allclose(found.raw[:, j], limits, atol=1e-10)
        np.testing.assert_allclose(found.slopes[:, j], slopes, atol=1e-10)
    # The origin of the covariates does not matter.
    shifted = fit_curves(units(Q=design.Q, covariates=covariates + 100.0), h, kernel=kernel, order=1).columns
    np.testing.assert_allclose(shifted.raw, found.raw, atol=1e-9)


def test_leverage_gives_the_residual_without_the_unit():
    design, h = units(60), np.array([0.9, 0.9])
    found = fit_curves(design, h, order=1).columns
    for i in np.flatnonzero(found.weights > 0.0)[::7]:
        omega = design.omega.copy()
        omega[i] = 0.0
        one = scalar(units(60, omega=omega), design.Q[:, 0], h, "triangular", 1)[2].params
        u = design.x[i] / 0.9
        own = one[:2] if design.treated[i] else one[2:]
        without = design.Q[i, 0] - own[0] - own[1] * u
        assert found.residuals[i, 0] / (1.0 - found.leverage[i]) == pytest.approx(without, abs=1e-10)


def test_further_columns_use_the_bandwidth_of_the_curve():
    design = units()
    extra = design.Q @ np.linspace(0.0, 1.0, 7)[:, None]
    found = fit_curves(design, np.array([0.5, 0.6]), extra=extra)
    np.testing.assert_allclose(found.extra[:, 0], found.columns.raw[:, :7] @ np.linspace(0.0, 1.0, 7), atol=1e-11)
    h = np.stack([np.linspace(0.4, 0.8, 7), np.linspace(0.5, 0.9, 7)])
    found = fit_curves(design, h, estimator="pointwise", extra=extra)
    limits = scalar(design, extra[:, 0], np.array([0.6, 0.7]), "triangular", 2)[0]
    np.testing.assert_allclose(found.extra[:, 0], limits, atol=1e-10)


def test_treatment():
    design, h = units(), np.array([0.5, 0.6])
    sharp = fit_curves(design, h)
    assert sharp.first_stage == 1.0
    found = fit_curves(units(treatment=design.treated), h, h_treatment=np.array([0.9, 0.4]))
    assert found.first_stage == pytest.approx(1.0, abs=1e-11)
    np.testing.assert_allclose(found.effect, sharp.tau, atol=1e-10)
    dose = np.random.default_rng(2).uniform(size=160) * 0.3 + 0.5 * design.treated
    found = fit_curves(units(treatment=dose), h, h_treatment=np.array([0.9, 0.4]))
    limits = scalar(design, dose, np.array([0.9, 0.4]), "triangular", 2)[0]
    assert found.first_stage == pytest.approx(limits[0] - limits[1], abs=1e-10)
    np.testing.assert_allclose(found.effect, sharp.tau / found.first_stage, rtol=1e-10)
    proportional = fit_curves(units(Q=3.0 * dose[:, None] * np.ones(7)[None, :], treatment=dose), h)
    np.testing.assert_allclose(proportional.effect, 3.0, atol=1e-10)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 100_000), st.sampled_from([1, 2, 9, 40]), st.booleans())
def test_projection_is_isotonic_regression(seed, m, even):
    rng = np.random.default_rng(seed)
    raw = np.round(rng.normal(size=(2, m)), 1) + 0.5 * np.linspace(0.0, 1.0, m)[None, :]
    cells = np.full(m, 1.0 / m) if even else rng.uniform(0.01, 1.0, m)
    found = monotone(raw, cells, "frechet")
    for side in (0, 1):
        oracle = IsotonicRegression().fit_transform(np.arange(m), raw[side], sample_weight=cells)
        np.testing.assert_allclose(found[side], oracle, rtol=0, atol=1e-12)
    np.testing.assert_allclose(found @ cells, raw @ cells, atol=1e-12)
    ordered = np.sort(raw, axis=1)
    np.testing.assert_allclose(monotone(ordered, cells, "frechet"), ordered, atol=1e-12)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 100_000), st.sampled_from([1, 2, 9, 40]), st.booleans())
def test_rearrangement_reads_sorted_cells_at_their_centres(seed, m, even):
    rng = np.random.default_rng(seed)
    raw = rng.normal(size=(2, m))
    cells = np.full(m, 1.0 / m) if even else rng.uniform(0.01, 1.0, m)
    found = monotone(raw, cells, "pointwise")
    if even:
        np.testing.assert_array_equal(found, np.sort(raw, axis=1))
    for side in (0, 1):
        ordered = np.argsort(raw[side])
        upper = np.cumsum(cells[ordered])
        centres = np.cumsum(cells) - cells / 2.0
        slow = [raw[side][ordered][next(k for k in range(m) if upper[k] >= c - 1e-12)] for c in centres]
        np.testing.assert_array_equal(found[side], slow)
    np.testing.assert_array_equal(monotone(np.sort(raw, axis=1), cells, "pointwise"), np.sort(raw, axis=1))


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("order", [0, 1, 2])
def test_singular_windows_raise_with_a_bandwidth_that_works(kernel, order):
    x = np.r_[-np.arange(1.0, 40.0) / 30.0, np.repeat(np.arange(0.0, 20.0) / 30.0, 3)]
    design = units(x.size, x=x, treated=x >= 0.0)
    design.omega[(x < 0.0) & (x > -0.2)] = 0.0
    narrow = np.array([0.5, 0.21])
    with pytest.raises(SingularWindowError, match="left of the cutoff") as raised:
        fit_curves(design, narrow, kernel=kernel, order=order)
    text = str(raised.value)
    assert f"it holds {1} distinct values" in text and f"{order + 2} are needed" in text
    least = float(re.search(r"least workable bandwidth is ([\d.]+)\.", text)[1])
    works = fit_curves(design, np.array([0.5, least]), kernel=kernel, order=order)
    assert np.isfinite(works.tau).all()
    with pytest.raises(SingularWindowError):
        fit_curves(design, np.array([0.5, least * (1.0 - 1e-4)]), kernel=kernel, order=order)
    with pytest.raises(SingularWindowError, match=r"right of the cutoff .* no bandwidth would do"):
        fit_columns(
            x, np.zeros(x.size, dtype=bool), design.omega, np.zeros((x.size, 0)), design.Q, narrow + 1.0,
            kernel=kernel, order=order,
        )  # fmt: skip


def test_collinear_up_to_rounding_is_an_error():
    x = np.r_[-np.linspace(0.1, 1.0, 30), 0.5 + 1e-9 * np.arange(30)]
    with pytest.raises(SingularWindowError, match=r"collinear .* nearly tied"):
        fit_curves(units(60, x=x, treated=x >= 0.0), np.full(2, 1.0))


def test_one_column_at_a_narrow_bandwidth_is_an_error_too():
    design = units()
    h = np.full((2, 7), 0.6)
    h[1, 3] = 1e-3
    with pytest.raises(SingularWindowError, match="left of the cutoff"):
        fit_curves(design, h, estimator="pointwise")
