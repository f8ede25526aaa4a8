"""Covariates, effective units, mass points, atoms, and runs made again: verdicts, tables, what cannot be judged."""

import math

import numpy as np
import pytest
from scipy import stats

from causalsat.checks.rd_checks import atoms_check, covariates_check, effective_n_check, mass_points_check
from causalsat.checks.rd_refits import (
    Refit,
    bandwidth_check,
    blocks_check,
    dates_check,
    placebo_check,
    placebo_cutoffs,
    pre_period_check,
    small_units_check,
)
from causalsat.errors import DataError, SingularWindowError


def test_one_covariate_is_its_t_test():
    found = covariates_check(["rain"], np.array([2.1]), np.array([[1.0]]), df=12.0)
    assert found.statistic == pytest.approx(2 * stats.t.sf(2.1, 12), rel=1e-9)
    assert found.table["p_value"][0] == pytest.approx(found.statistic, rel=1e-9)
    assert found.passed and "rain" in found.text


def test_covariates_are_judged_together():
    jumps = np.full(4, 1.8)
    found = covariates_check(list("abcd"), jumps, np.eye(4))
    assert min(found.table["p_value"]) > 0.05 and found.passed is False
    assert found.statistic == pytest.approx(stats.chi2.sf(4 * 1.8**2, 4), rel=1e-9)
    thin = covariates_check(list("abcd"), jumps, np.eye(4), df=8.0)
    assert thin.statistic == pytest.approx(stats.f.sf(1.8**2, 4, 8.0), rel=1e-9)
    assert all(a >= b for a, b in zip(found.table["p_holm"], found.table["p_value"], strict=True))


def test_covariates_that_do_not_vary_or_do_not_exist():
    assert covariates_check([], np.zeros(0), np.zeros((0, 0))).passed is None
    assert covariates_check(["a"], np.zeros(1), np.zeros((1, 1))).passed is None
    mixed = covariates_check(["a", "b"], np.array([0.0, 5.0]), np.diag([0.0, 1.0]))
    assert mixed.passed is False and math.isnan(mixed.table["p_value"][0])


def test_collinear_covariates_count_once():
    once = covariates_check(["a"], np.array([1.5]), np.ones((1, 1)))
    twice = covariates_check(["a", "b"], np.array([1.5, 1.5]), np.ones((2, 2)))
    assert twice.statistic == pytest.approx(once.statistic, rel=1e-9)


def test_the_joint_test_of_covariates_has_its_size(monkeypatch):
    # statsmodels collects garbage in every call, which takes half a second in a large process.
    monkeypatch.setattr("gc.collect", lambda *generation: 0)
    rng = np.random.default_rng(0)
    root = rng.standard_normal((3, 3))
    v, p = root @ root.T, []
    for _ in range(400):
        scale = np.sqrt(rng.chisquare(15) / 15)
        p.append(covariates_check(list("abc"), root @ rng.standard_normal(3), v * scale**2, df=15.0).statistic)
    assert stats.kstest(p, "uniform").pvalue > 0.01


def test_effective_units():
    def check(n=(40, 50), df=11.0):
        return effective_n_check(np.array(n), np.array([9.5, 12.0]), np.array([0.2, 0.1]), df, h=np.array([1.0, 2.0]))

    assert check().passed and check().statistic == 9.5 and check().table["h"] == [1.0, 2.0]
    assert check(n=(19, 50)).passed is False and check(df=3.9).passed is False
    assert "Widen the window" in check(df=3.9).text


def test_mass_points():
    x = np.random.default_rng(0).uniform(-1, 1, 200)
    fine = mass_points_check(x, x >= 0)
    assert fine.passed and fine.statistic == 0.0 and sum(fine.table["units"]) == 200
    rounded = np.round(x, 1)
    found = mass_points_check(rounded, rounded >= 0)
    assert found.passed is False and found.statistic == pytest.approx(1 - np.unique(rounded).size / 200)
    assert "coarse" in found.text
    x[:30] = 0.0
    held = mass_points_check(x, x >= 0, np.abs(x) < 0.5)
    assert held.passed is False and 'tie="drop"' in held.text
    assert held.table["largest_mass"][0] == 30


def test_atoms():
    rng = np.random.default_rng(1)
    levels = np.arange(1, 10) / 10
    Q = np.sort(rng.gamma(2.0, 1.0, (60, 9)), axis=1)
    fine = atoms_check(Q, levels)
    assert fine.passed and fine.statistic == pytest.approx(1 / 60)
    Q[:40, :3] = 0.0
    dark = atoms_check(Q, levels)
    assert dark.passed is False and dark.statistic == pytest.approx(40 / 60) and "q = 0.1 to 0.3" in dark.text
    np.testing.assert_allclose(dark.table["at_minimum"][:4], [40 / 60] * 3 + [0.0])
    assert atoms_check(Q, levels, np.arange(60) >= 40).passed
    Q[:, 8] = 63.0
    assert atoms_check(Q, levels).table["at_maximum"][8] == 1.0
    inner = np.sort(rng.gamma(2.0, 1.0, (60, 9)), axis=1)
    inner[:45, 4] = 2.5
    assert atoms_check(inner, levels).table["commonest"][4] == 45 / 60


def refit(p=0.5, mean=1.0, se=0.2, **more):
    return Refit(2.0, p, mean, se, np.array([20.0, 25.0]), np.array([1.0, 1.0]), **more)


def test_placebo_cutoffs_are_medians_of_each_sides_own_units():
    x = np.concatenate([np.linspace(-4, -0.1, 41), np.linspace(0.0, 2.0, 41)])
    places = placebo_cutoffs(x, x >= 0)
    assert [name for name, _, _ in places] == ["right", "left"]
    assert [cutoff for _, cutoff, _ in places] == [1.0, pytest.approx(-2.05)]
    assert (places[0][2] == (x >= 0)).all() and (places[1][2] == (x < 0)).all()


def test_placebo_p_values_are_adjusted():
    x = np.linspace(-1, 1, 80)
    p = {True: 0.03, False: 0.6}
    found = placebo_check(x, x >= 0, lambda rows, c: refit(p[c > 0]))
    assert found.table["p_holm"] == [pytest.approx(0.06), pytest.approx(0.6)] and found.passed
    p[True] = 0.02
    assert placebo_check(x, x >= 0, lambda rows, c: refit(p[c > 0])).passed is False


def too_narrow(*_):
    raise SingularWindowError("too few units")


def test_runs_that_are_not_possible_leave_their_reason():
    x = np.linspace(-1, 1, 80)
    found = placebo_check(x, x >= 0, lambda rows, c: refit(0.4) if c > 0 else too_narrow())
    assert found.passed and found.table["reason"] == ["", "too few units"] and math.isnan(found.table["p_value"][1])
    none = placebo_check(x, x >= 0, too_narrow)
    assert none.passed is None and "too few units" in none.text
    assert bandwidth_check(too_narrow, kernel="triangular", order=2).passed is None


def test_bandwidth_table():
    def run(factor, kernel, order):
        return too_narrow() if factor < 0.6 else refit(mean=1.0 + 0.1 * (factor - 1.0))

    found = bandwidth_check(run, kernel="triangular", order=2)
    assert found.passed and len(found.table["mean"]) == 30 and found.statistic == pytest.approx(0.5)
    assert found.table["factor"][found.table["reason"].index("too few units")] == 0.5
    moved = bandwidth_check(lambda f, k, o: refit(mean=f), kernel="uniform", order=1)
    assert moved.passed is False and moved.statistic == pytest.approx(5.0) and "2 h" in moved.text


def test_pre_period():
    assert pre_period_check(refit(0.2), "lights_2005").passed
    found = pre_period_check(refit(0.01), "lights_2005")
    assert found.passed is False and "lights_2005" in found.text
    assert pre_period_check(refit(math.nan), "lights_2005").passed is None


def test_blocks():
    base = np.full(5, 2.0)
    found = blocks_check([10, 50, 100], np.stack([base, 1.2 * base, np.full(5, np.nan)]), base)
    assert found.passed and found.statistic == pytest.approx(1.2) and math.isnan(found.table["ratio"][2])
    assert blocks_check([50], 1.6 * base[None], base).passed is False
    assert blocks_check([50], np.full((1, 5), np.nan), base).passed is None


def test_small_units():
    levels = np.array([0.1, 0.5, 0.9])
    own = refit(tau=np.array([1.0, 2.0, 3.0]), tau_error=np.array([0.5, 0.5, 0.5]))
    other = refit(tau=np.array([1.8, 2.0, 3.1]), tau_error=np.array([0.5, 0.5, 0.5]))
    found = small_units_check({"type7": own, "type9": other}, "type7", levels)
    assert found.passed is False and found.statistic == pytest.approx(1.6) and "type9, q = 0.1" in found.text
    assert len(found.table["rule"]) == 6
    assert small_units_check({"type7": own}, "type7", levels).passed
    with pytest.raises(DataError, match="not run"):
        small_units_check({"type7": own}, "half", levels)


def test_dates():
    day = np.array(["2001-01-01", "2003-01-01", "NaT", "2004-06-01"], dtype="datetime64[D]")
    right = np.array([True, True, False, False])
    start = np.datetime64("2002-01-01")
    found = dates_check({"lights": day}, start, right, {"lights": "after"})
    assert found.passed is False and found.table["older"] == [1] and found.table["undated"] == [1]
    assert found.statistic == pytest.approx(1 / 3)
    later = dates_check({"lights": day[1:]}, start, right[1:], {"lights": "after"})
    assert later.passed and later.table["days_between_sides"][0] == pytest.approx(-517.0)
    assert dates_check({"lights": day[[2]]}, start, right[[2]], {"lights": "after"}).passed is None
    with pytest.raises(DataError, match='"before" or "after"'):
        dates_check({"lights": day}, start, right, {})
