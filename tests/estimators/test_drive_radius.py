"""The radius of DRIVE by theory, by the score, by a number, and its warnings."""

import logging
from dataclasses import replace

import numpy as np
import pytest
import scipy.stats

from causalsat.errors import AboveThresholdWarning, NearThresholdWarning, OptionError
from causalsat.estimators.drive_options import DriveOptions
from causalsat.estimators.drive_problem import drive_problem
from causalsat.estimators.drive_radius import TOO_WEAK, score_draws
from causalsat.estimators.drive_threshold import corrected_strength
from causalsat.inference.options import Sandwich
from tests.estimators.radius_studies import clustered, radius, raw_study, study

LOG = logging.getLogger(__name__)


def test_theory_is_the_cap_times_the_corrected_eigenvalue():
    report = radius(study(), "theory")
    assert report.rho == 0.5 * report.lambda_min_corrected == report.cap
    assert (report.bound_by, report.above, report.near, report.flags) == ("cap", False, False, ())
    assert report.ratio == report.rho / report.rho_hat
    assert report.lambda_min_corrected < report.lambda_min <= report.lambda_min_at_b <= report.rho_hat * (1 + 1e-12)
    assert radius(study(), "theory", fine=DriveOptions(cap=0.25)).rho == pytest.approx(0.5 * report.rho, rel=1e-12)
    plain = radius(study(), "theory", fine=DriveOptions(many_instruments=False))
    assert plain.rho == 0.5 * plain.lambda_min == 0.5 * plain.lambda_min_corrected
    assert np.isnan(report.rho_ols)


def test_sharp_cap_uses_the_threshold_at_tsls():
    fine = DriveOptions(sharp_cap=True)
    report = radius(study(), "theory", fine=fine)
    assert report.bound_by == "sharp cap"
    assert report.cap < report.rho <= 0.5 * report.rho_hat or report.rho == report.cap
    plain = radius(study(), "theory", fine=replace(fine, many_instruments=False))
    assert plain.rho == pytest.approx(0.5 * plain.rho_hat, rel=1e-12)


def test_useless_instruments_leave_no_radius():
    y, X, Z, C = raw_study()
    rows = clustered(y, X, np.random.default_rng(3).standard_normal(Z.shape), C)
    problem = drive_problem(rows)
    assert corrected_strength(problem, Sandwich("hc1"))[0, 0] < 0.0
    codes = np.arange(rows.n) // 10 % 4
    for rule in ("theory", "bootstrap", "cv"):
        report = radius(rows, rule, environments=(codes, np.array(list("abcd"))))
        assert report.rho == 0.0 and report.ratio == 0.0 and TOO_WEAK in report.flags
    assert TOO_WEAK in radius(rows, 1e-6).flags


def test_fewer_instruments_than_treatments_have_no_consistent_radius():
    rows = study(q=1, p=2)
    report = radius(rows, "theory")
    assert report.rho == report.lambda_min == report.rho_hat == 0.0
    assert "no radius is consistent" in report.flags[0]
    with pytest.warns(AboveThresholdWarning):
        assert radius(rows, 0.1).above


def test_rules_do_not_depend_on_units_or_on_the_basis_of_the_instruments():
    y, X, Z, C = raw_study(p=2, q=5)
    turn = np.random.default_rng(2).standard_normal((5, 5))
    rows, other = clustered(y, X, Z, C), clustered(3.0 * y + C[:, 1], X * np.array([0.1, 70.0]), Z @ turn, C)
    for target in ("zero", "ols"):
        first, second = radius(rows, "theory", shrink_to=target), radius(other, "theory", shrink_to=target)
        for name in ("rho", "lambda_min", "lambda_min_corrected", "rho_hat", "lambda_min_at_b"):
            assert getattr(first, name) == pytest.approx(getattr(second, name), rel=1e-9)
    ols = [radius(r, "theory", shrink_to="ols", scale="raw").rho for r in (rows, other)]
    assert ols[0] == pytest.approx(ols[1], rel=1e-9)


# the score


def test_score_constants_of_the_homoskedastic_law():
    law = {q: 1.21 * scipy.stats.beta(0.5, (q - 1) / 2.0).ppf(0.95) for q in (2, 4, 8, 10, 20)}
    LOG.info("constants %s", {q: round(value, 4) for q, value in law.items()})
    assert [round(v, 2) for v in law.values()] == [1.20, 0.93, 0.54, 0.44, 0.23]


@pytest.mark.parametrize("q", [2, 4, 8, 10, 20])
def test_score_rule_has_the_beta_law(q):
    problem = drive_problem(study(q=q, n=2000))
    squares = score_draws(problem, Sandwich("classical"), n=20_000, seed=1) ** 2 / problem.A[0, 0]
    test = scipy.stats.kstest(squares, scipy.stats.beta(0.5, (q - 1) / 2.0).cdf)
    assert test.pvalue > 1e-3
    report = radius(study(q=q, n=2000), "bootstrap", sandwich="classical")
    ratio = report.score["rho_score"] / report.lambda_min
    wanted = 1.21 * scipy.stats.beta(0.5, (q - 1) / 2.0).ppf(0.95)
    LOG.info(f"q {q}: rho_score/A {ratio:.4f} against {wanted:.4f}, bound by {report.bound_by}")
    assert ratio == pytest.approx(wanted, rel=0.03)


def test_score_binds_only_with_many_strong_instruments():
    few = radius(study(q=6, n=4000), "bootstrap")
    many = radius(study(q=14, n=4000, strength=0.4), "bootstrap")
    assert (few.bound_by, many.bound_by) == ("cap", "score")
    assert few.rho == few.cap < few.score["rho_score"]
    assert many.rho == many.score["rho_score"] < many.cap
    assert "below the cap" in many.text and "the score asks for" in few.text


def test_one_instrument_has_a_constant_score():
    report = radius(study(q=1), "bootstrap")
    assert report.score["rho_score"] == pytest.approx(1.21 * report.lambda_min, rel=1e-10)


@pytest.mark.parametrize("kind", ["hc1", "cluster"])
@pytest.mark.parametrize("target", ["zero", "ols"])
def test_score_draws_have_the_law_of_multipliers(kind, target):
    problem = drive_problem(study(q=4, p=2), shrink_to=target)
    rows = problem.rows
    scores = rows.residuals(problem.b_tsls)[:, None] * (rows.Z @ problem.root.T)
    scores = scores - scores.mean(axis=0)
    if kind == "cluster":
        scores = np.add.reduceat(scores, np.arange(0, rows.n, 10), axis=0)
    draws = np.random.default_rng(0).standard_normal((20_000, len(scores))) @ scores
    slopes = draws @ problem.B
    S = problem.V * rows.n / rows.d1 if target == "ols" else np.eye(2)
    sizes = np.sqrt(np.einsum("ri,ij,rj->r", slopes, np.linalg.inv(S), slopes) / np.sum(draws**2, axis=1))
    found = score_draws(problem, Sandwich(kind), n=20_000, seed=0)
    assert scipy.stats.ks_2samp(found, sizes).pvalue > 1e-3
    levels = [0.5, 0.9, 0.95]
    assert np.quantile(found, levels) == pytest.approx(np.quantile(sizes, levels), rel=0.02)


# numbers


def test_numbers_and_the_threshold():
    rows = study()
    limit = radius(rows, "theory").rho_hat
    calm = radius(rows, 0.5 * limit)
    assert (calm.rule, calm.bound_by, calm.above, calm.near, calm.ratio) == ("given", "user", False, False, 0.5)
    with pytest.warns(NearThresholdWarning, match="0.970 times"):
        close = radius(rows, 0.97 * limit)
    assert close.near and not close.above
    with pytest.warns(AboveThresholdWarning, match="pseudo-true"):
        far = radius(rows, 1.2 * limit)
    assert far.above and not far.near and far.ratio == pytest.approx(1.2)
    with pytest.warns(NearThresholdWarning, match="0.950 times"):
        clipped = radius(rows, 1.2 * limit, fine=DriveOptions(above_threshold="clip"))
    assert clipped.rho == pytest.approx(0.95 * limit) and clipped.bound_by == "clip" and clipped.near
    assert "was clipped" in clipped.flags[0]
    with pytest.raises(OptionError, match="above_threshold"):
        radius(rows, 1.2 * limit, fine=DriveOptions(above_threshold="error"))
    zero = radius(rows, 0.0)
    assert zero.rho == zero.ratio == 0.0 and not zero.above


@pytest.mark.parametrize("rule", [-0.1, float("nan"), float("inf"), "theroy", None, True])
def test_rules_that_do_not_exist(rule):
    with pytest.raises(OptionError, match="rho"):
        radius(study(), rule)


def test_beyond_ols_a_warning_says_so():
    rows = study()
    bound = radius(rows, "theory", shrink_to="ols").rho_ols
    with pytest.warns(AboveThresholdWarning) as caught:
        report = radius(rows, 2.0 * bound, shrink_to="ols")
    assert any("clipped to OLS" in str(w.message) for w in caught)
    assert report.above and any("is OLS" in flag for flag in report.flags)
