"""Bands, step-down p-values, Wald tests: peers, closed forms, order relations."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from statsmodels.stats.multitest import multipletests

from causalsat.errors import DataError, NumericalError, OptionError
from causalsat.inference.joint import ADJUSTMENTS, adjusted_p_values, sup_t, wald


def family(seed=0, k=5, b=999, rho=0.5):
    g = np.random.default_rng(seed)
    covariance = rho + (1 - rho) * np.eye(k)
    estimate = g.normal(size=k) * 1.5
    draws = estimate + g.multivariate_normal(np.zeros(k), covariance, size=b)
    return estimate, np.ones(k), draws, covariance


def test_one_row_family_is_percentile_t():
    estimate, se, draws, _ = family(k=1)
    bands = sup_t(estimate, se, level=0.95, draws=draws)
    assert bands.critical == np.sort(np.abs(draws[:, 0] - estimate[0]))[949]


@given(seed=st.integers(0, 1000), k=st.integers(2, 8))
@settings(max_examples=20, deadline=None)
def test_sup_t_is_at_least_pointwise_and_grows_with_the_family(seed, k):
    estimate, se, draws, _ = family(seed, k)
    whole = sup_t(estimate, se, level=0.9, draws=draws).critical
    parts = [sup_t(estimate[:j], se[:j], level=0.9, draws=draws[:, :j]).critical for j in range(1, k)]
    assert all(a <= b for a, b in zip(parts, [*parts[1:], whole]))


def test_critical_value_of_independent_normals():
    exact = stats.norm.ppf(0.5 + 0.95 ** (1 / 3) / 2)
    bands = sup_t(np.zeros(3), np.ones(3), level=0.95, covariance=np.eye(3))
    # Monte Carlo sd of a quantile: sqrt(p(1 - p)/100000)/density, density of the maximum there about 0.13.
    assert abs(bands.critical - exact) < 3.3 * np.sqrt(0.95 * 0.05 / 1e5) / 0.12
    again = sup_t(np.zeros(3), np.ones(3), level=0.95, covariance=np.eye(3))
    np.testing.assert_array_equal(bands.low, again.low)


def test_perfect_correlation_needs_no_correction():
    bands = sup_t(np.zeros(3), np.ones(3), level=0.95, covariance=np.ones((3, 3)))
    assert abs(bands.critical - stats.norm.ppf(0.975)) < 0.02
    one = sup_t(np.zeros(1), np.ones(1), level=0.95, covariance=np.eye(1), df=7.0)
    assert one.critical == pytest.approx(stats.t.ppf(0.975, 7), rel=1e-12)


def test_rows_without_numbers_leave_the_family():
    estimate, se, draws, covariance = family()
    estimate[1], se[3] = np.nan, 0.0
    for extra in ({"draws": draws}, {"covariance": covariance}):
        bands = sup_t(estimate, se, level=0.9, **extra)
        assert bands.n_family == 3
        assert np.isnan(bands.low[[1, 3]]).all()
        assert np.isfinite(bands.low[[0, 2, 4]]).all()
    nothing = sup_t(np.full(2, np.nan), np.ones(2), level=0.9, covariance=np.eye(2))
    assert nothing.n_family == 0
    assert nothing.reason


def test_failed_draws_withhold_bands_above_a_tenth():
    estimate, se, draws, _ = family()
    draws[:50] = np.nan
    assert sup_t(estimate, se, level=0.9, draws=draws).n_failed == 50
    draws[:150] = np.nan
    bands = sup_t(estimate, se, level=0.9, draws=draws)
    assert np.isnan(bands.critical)
    assert "150 of 999" in bands.reason


def test_bands_need_a_joint_law_and_enough_draws():
    estimate, se, draws, _ = family()
    with pytest.raises(OptionError, match="neither"):
        sup_t(estimate, se, level=0.9)
    with pytest.raises(OptionError, match="at least 19 draws"):
        sup_t(estimate, se, level=0.95, draws=draws[:18])


@given(seed=st.integers(0, 1000))
@settings(max_examples=30, deadline=None)
def test_romano_wolf_lies_between_unadjusted_and_bonferroni(seed):
    estimate, se, draws, _ = family(seed)
    t_star = np.abs(draws - estimate)
    raw = (1 + (t_star >= np.abs(estimate)).sum(axis=0)) / (len(draws) + 1)
    adjusted = adjusted_p_values("romano_wolf", estimate, se, raw, draws)
    assert (adjusted >= raw - 1e-12).all()
    order = np.argsort(-np.abs(estimate))
    # Bonferroni with the draws' own tails: at most the sum over effects of Pr*(|t*_l| >= |t_(j)|), carried forward.
    tails = (1 + (t_star[:, None, :] >= np.abs(estimate)[order][None, :, None]).sum(axis=0)) / (len(draws) + 1)
    assert (adjusted[order] <= np.maximum.accumulate(tails.sum(axis=1)) + 1e-12).all()
    assert (np.diff(adjusted[order]) >= 0).all()


def test_romano_wolf_by_hand():
    estimate, se = np.array([3.0, 1.0]), np.ones(2)
    deviations = np.array([[0.5, 3.5], [1.5, 0.2], [3.2, 0.1], [0.1, 0.9]])
    adjusted = adjusted_p_values("romano_wolf", estimate, se, np.ones(2), estimate + deviations)
    np.testing.assert_allclose(adjusted, [(1 + 2) / 5, (1 + 2) / 5])
    with pytest.raises(OptionError, match="draws"):
        adjusted_p_values("romano_wolf", estimate, se, np.ones(2))


@pytest.mark.parametrize(
    ("kind", "method"), [("bh", "fdr_bh"), ("by", "fdr_by"), ("holm", "holm"), ("bonferroni", "bonferroni")]
)
def test_statsmodels_adjustments_without_missing_rows(kind, method):
    p = np.random.default_rng(0).random(9) ** 3
    p[4] = np.nan
    ours = adjusted_p_values(kind, np.ones(9), np.ones(9), p)
    kept = np.delete(np.arange(9), 4)
    np.testing.assert_array_equal(ours[kept], multipletests(p[kept], method=method)[1])
    assert np.isnan(ours[4])


def test_null_shifts_the_hypothesis():
    estimate, se, draws, _ = family(2)
    one = adjusted_p_values("romano_wolf", estimate, se, np.ones(5), draws, null=0.4)
    two = adjusted_p_values("romano_wolf", estimate - 0.4, se, np.ones(5), draws - 0.4)
    np.testing.assert_array_equal(one, two)
    with pytest.raises(OptionError, match="allowed"):
        adjusted_p_values("sidak", estimate, se, np.ones(5))
    assert len(ADJUSTMENTS) == 5


def test_wald_closed_form_units_and_rank():
    g = np.random.default_rng(0)
    root = g.normal(size=(4, 4))
    covariance, theta = root @ root.T, g.normal(size=4)
    out = wald(theta, covariance)
    assert out.chi2 == pytest.approx(theta @ np.linalg.solve(covariance, theta), rel=1e-9)
    assert out.df == 4
    scale = np.diag([1e6, 1.0, 1e-6, 1.0])
    assert wald(scale @ theta, scale @ covariance @ scale).chi2 == pytest.approx(out.chi2, rel=1e-6)
    doubled = np.vstack([np.eye(4), np.eye(4)[:1]])
    again = wald(doubled @ theta, doubled @ covariance @ doubled.T)
    assert again.df == 4
    assert again.chi2 == pytest.approx(out.chi2, rel=1e-8)
    one = wald(theta, covariance, R=np.eye(4)[:1])
    assert one.p_value == pytest.approx(2 * stats.norm.sf(abs(theta[0]) / np.sqrt(covariance[0, 0])), rel=1e-9)


def test_wald_refuses_what_has_no_answer():
    with pytest.raises(NumericalError, match="no positive variance"):
        wald(np.ones(2), np.zeros((2, 2)))
    with pytest.raises(NumericalError, match="finite"):
        wald(np.array([np.nan]), np.eye(1))
    with pytest.raises(DataError, match="shape"):
        wald(np.ones(2), np.eye(3))
