"""Unequal sampling weights: homoskedastic laws fail even with homoskedastic errors, so they are withheld in words."""

import logging
from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import chi2

from causalsat.checks.iv_strength import first_stage, strength_checks
from causalsat.checks.iv_validity import durbin, hansen, robust_endogeneity, sargan, validity_checks, wu_hausman
from causalsat.estimators.k_class import comparator
from causalsat.inference.iv_sets import ar_test, clr_test, confidence_sets, lm_test
from causalsat.inference.options import Sandwich
from tests.checks.iv_studies import partialled

LOG = logging.getLogger(__name__)
CLASSICAL, HC1 = Sandwich("classical"), Sandwich("hc1")


def study(seed=0, n=500, q=3, p=1, weighted=True):
    rng = np.random.default_rng(seed)
    Z, v, u = rng.standard_normal((n, q)), rng.standard_normal((n, p)), rng.standard_normal(n)
    X = Z @ (0.3 * np.eye(q, p) + 0.1) + v
    y = X.sum(axis=1) + 0.6 * v[:, 0] + 0.8 * u
    weights = np.exp(rng.standard_normal(n))
    return partialled(y, X, Z, np.ones((n, 1)), weights=weights if weighted else None)


def test_statistics_read_against_classical_laws_reject_a_true_null_far_too_often():
    runs, counts = 200, dict.fromkeys(("ar", "sargan", "ar robust", "hansen"), 0)
    for seed in range(runs):
        rows = study(seed)
        counts["ar"] += 3.0 * ar_test(rows, [1.0]).statistic > chi2.isf(0.05, 3)
        counts["sargan"] += sargan(rows).statistic > chi2.isf(0.05, 2)
        counts["ar robust"] += ar_test(rows, [1.0], sandwich=HC1).p_value < 0.05
        counts["hansen"] += hansen(rows, HC1).p_value < 0.05
    LOG.info(f"rejections of the truth in {runs} runs with unequal weights: {counts}")
    assert counts["ar"] > 0.25 * runs
    assert counts["sargan"] > 0.18 * runs
    assert counts["ar robust"] < 0.10 * runs
    assert counts["hansen"] < 0.10 * runs


def test_homoskedastic_sets_and_their_tests_are_reasons():
    rows = study()
    found = {(row.method, row.kind): row for row in confidence_sets(rows, ("ar", "clr", "lm"), sandwich=HC1)}
    for method in ("ar", "clr", "lm"):
        row = found[method, "homoskedastic"]
        assert np.isfinite(row.statistic)
        assert np.isnan(row.p_value)
        assert row.found is None
        assert "weights for precisions" in row.reason
        assert "robust Anderson-Rubin set" in row.reason
    assert found["ar", "robust"].found.shape == "interval"
    for test in (ar_test(rows, [1.0]), clr_test(rows, 1.0), lm_test(rows, [1.0])):
        assert np.isfinite(test.statistic)
        assert np.isnan(test.p_value)
        assert "weights for precisions" in test.law


def test_classical_is_read_as_hc1_by_sets_and_tests_where_weights_differ():
    rows = study()
    sets = [confidence_sets(rows, "ar", sandwich=kind) for kind in (CLASSICAL, HC1)]
    assert [row.kind for row in sets[0]] == ["homoskedastic", "robust"]
    assert sets[0][1] == sets[1][1]
    assert hansen(rows, CLASSICAL) == hansen(rows, HC1)
    assert robust_endogeneity(rows, CLASSICAL) == robust_endogeneity(rows, HC1)
    classical, robust = first_stage(rows, CLASSICAL), first_stage(rows, HC1)
    assert classical.f_effective == robust.f_effective
    assert classical.kleibergen_paap.p_value == robust.kleibergen_paap.p_value
    assert "weights for precisions" in classical.covariance
    assert "weights for precisions" not in robust.covariance


@pytest.mark.parametrize("p", [1, 2])
def test_verdicts_of_homoskedastic_tests_are_withheld_and_statistics_stay(p):
    rows = study(p=p)
    for test in (sargan(rows), wu_hausman(rows), durbin(rows), first_stage(rows, HC1).cragg_donald):
        assert np.isfinite(test.statistic)
        assert np.isnan(test.p_value)
        assert not test.law
        assert "weights for precisions" in test.text
    checks = {check.name: check for check in [*strength_checks(rows, HC1), *validity_checks(rows, HC1)]}
    names = ["sargan", "wu_hausman", "durbin", "cragg_donald", "stock_yogo", *(["sanderson_windmeijer"] * (p > 1))]
    for name in names:
        assert checks[name].passed is None
        assert np.isfinite(checks[name].statistic)
        assert "weights for precisions" in checks[name].text
    for name in ("hansen", "kleibergen_paap"):
        assert checks[name].passed is not None
    assert checks["endogeneity_robust"].table is not None
    assert all(value is None for value in checks["stock_yogo"].table["exceeded"])
    first = next(check for name, check in checks.items() if name.startswith("first_stage"))
    assert first.passed is True
    assert "no p-value, since its law takes the unequal weights for precisions" in first.text


def test_a_classical_standard_error_keeps_its_number_and_says_what_it_takes_the_weights_for():
    from linearmodels import IV2SLS

    rows = study()
    found = comparator("tsls", rows, CLASSICAL).covariance
    fitted = IV2SLS(rows.y, None, rows.X, rows.Z, weights=rows.weights).fit(cov_type="unadjusted", debiased=False)
    assert found.std_error[0] * np.sqrt(rows.d2 / rows.n) == pytest.approx(float(fitted.std_errors.iloc[0]), rel=1e-10)
    assert "weights for precisions" in found.notes["assumption"]
    assert "assumption" not in comparator("tsls", rows, HC1).covariance.notes


def test_equal_weights_change_nothing():
    rows = study(weighted=False)
    assert not rows.unequal
    found = confidence_sets(rows, ("ar", "clr", "lm"), sandwich=CLASSICAL)
    assert [row.kind for row in found] == ["homoskedastic"] * 3
    assert all(row.found is not None for row in found)
    assert sargan(rows).law == "chi2(2)"
    assert "assumption" not in comparator("tsls", rows, CLASSICAL).covariance.notes


def test_strength_of_several_treatments_is_judged_by_kleibergen_paap_alone():
    for seed in range(40):
        stage = first_stage(study(seed, n=120, p=2), HC1)
        assert stage.unequal
        assert stage.weak is not (stage.kleibergen_paap.f > 10.0)
    weak, strong = study(0, n=120, p=2), study(0, n=4000, p=2)
    assert first_stage(weak, HC1).weak
    assert not first_stage(strong, HC1).weak
    # What the conditional F says is of no account, on either side.
    stage = first_stage(strong, HC1)
    assert not replace(stage, sanderson_windmeijer=np.full(2, 1.0)).weak
    assert replace(stage, kleibergen_paap=replace(stage.kleibergen_paap, f=np.nan)).weak
    assert replace(stage, sanderson_windmeijer=np.full(2, 1.0), unequal=False).weak
