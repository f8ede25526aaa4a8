"""Assignment: AUC with two standard errors, calibration against statsmodels, words."""

import numpy as np
import pytest
import statsmodels.api as sm

from causalsat.checks.assignment import assignment, assignment_check, calibration_line, log_loss, reliability_check
from causalsat.errors import DataError


def study(seed=0, n=600):
    rng = np.random.default_rng(seed)
    cluster = rng.integers(0, 60, n)
    z = rng.standard_normal(60)[cluster] + 0.5 * rng.standard_normal(n)
    d = (rng.random(n) < 1 / (1 + np.exp(-z))).astype(float)
    m = 1 / (1 + np.exp(-0.8 * z - 0.4 * rng.standard_normal(n)))
    return d, m, cluster % 5, cluster


def test_numbers():
    d, m, fold, cluster = study()
    found = assignment(d, m, m_insample=m**2, fold=fold, cluster=cluster)
    assert found.se_jackknife == pytest.approx(found.se_influence, rel=0.05)
    assert found.auc_insample == pytest.approx(found.auc_pooled, abs=1e-12)
    assert found.log_loss < found.log_loss_base
    assert abs(found.influence.sum()) < 1e-9
    assert found.influence.shape == d.shape
    assert np.isnan(assignment(d, m).auc_insample)


def test_log_loss_of_the_base_rate_is_the_entropy():
    d = np.r_[np.ones(3), np.zeros(7)]
    assert log_loss(d, np.full(10, 0.3), np.ones(10)) == pytest.approx(-0.3 * np.log(0.3) - 0.7 * np.log(0.7))


def test_calibration_line_matches_statsmodels():
    d, m, _, _ = study(1)
    w = np.random.default_rng(1).random(600) + 0.5
    z = sm.add_constant(np.log(m / (1 - m)))
    expected = sm.GLM(d, z, family=sm.families.Binomial(), freq_weights=w).fit(tol=1e-12).params
    np.testing.assert_allclose(calibration_line(d, m, w), expected, atol=1e-7)


def test_reliability_passes_for_the_truth_and_fails_for_overconfidence():
    rng = np.random.default_rng(2)
    z = rng.standard_normal(5000)
    m = 1 / (1 + np.exp(-z))
    d = (rng.random(5000) < m).astype(float)
    found = reliability_check("w", d, m)
    assert found.passed is True
    assert found.statistic == pytest.approx(1, abs=0.15)
    assert sum(found.table["n"]) == 5000
    assert reliability_check("w", d, 1 / (1 + np.exp(-2 * z))).statistic == pytest.approx(found.statistic / 2, abs=1e-6)
    assert reliability_check("w", d, 1 / (1 + np.exp(-2 * z))).passed is False
    assert reliability_check("w", d, np.full(5000, 0.5)).passed is None
    assert reliability_check("w", d, np.where(d == 1, 0.9 + 0.01 * m, 0.1 * m)).passed is None


def test_check_in_words():
    d, m, fold, cluster = study(3)
    found = assignment_check("w, image", d, m, m, fold, cluster)
    assert found.passed is True
    assert "Out-of-fold AUC" in found.text
    values = dict(zip(found.table["quantity"], found.table["value"]))
    assert values["auc"] == found.statistic
    assert {"auc_pooled", "auc_insample", "log_loss", "log_loss_base_rate", "calibration_slope"} < set(values)
    perfect = assignment_check("w, image", d, 0.2 + 0.6 * d + 0.01 * m)
    assert perfect.passed is False
    assert "nearly identifies the treated" in perfect.text


def test_folds_without_both_arms_cannot_be_judged():
    with pytest.raises(DataError, match="no fold holds both"):
        assignment(np.array([0.0, 1.0]), np.array([0.2, 0.3]), fold=np.array([0, 1]))
