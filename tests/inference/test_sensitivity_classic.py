"""Regression robustness values and E-values against published numbers and algebra."""

import math

import numpy as np
import pytest
import statsmodels.api as sm

from causalsat.errors import OptionError
from causalsat.inference.sensitivity_classic import e_value, e_value_difference, ols_bias, ols_robustness_value


def test_published_robustness_value():
    # Cinelli and Hazlett (2020), Table 1: estimate 0.097, standard error 0.023, df 783, RV 13.9%.
    assert ols_robustness_value(0.097 / 0.023, 783) == pytest.approx(0.139, abs=2e-3)


def test_bias_formula_is_exact_in_sample():
    rng = np.random.default_rng(0)
    n = 200
    z = rng.standard_normal(n)
    d = 0.6 * z + rng.standard_normal(n)
    y = d + 0.8 * z + rng.standard_normal(n)
    ones = np.ones(n)
    short = sm.OLS(y, np.column_stack([ones, d])).fit()
    long = sm.OLS(y, np.column_stack([ones, d, z])).fit()
    r2_y = 1 - long.ssr / short.ssr
    r2_d = sm.OLS(d, np.column_stack([ones, z])).fit().rsquared
    bias = ols_bias(short.bse[1], short.df_resid, r2_y, r2_d)
    assert bias == pytest.approx(abs(short.params[1] - long.params[1]), rel=1e-10)
    with pytest.raises(OptionError, match="below 1"):
        ols_bias(1.0, 10, 0.1, 1.0)


def test_robustness_value_attains_the_null():
    t, df = 3.0, 120
    rv = ols_robustness_value(t, df)
    assert ols_bias(1.0, df, rv, rv) == pytest.approx(t)
    half = ols_robustness_value(t, df, q=0.5)
    assert ols_bias(1.0, df, half, half) == pytest.approx(t / 2)


def test_e_values_of_the_paper():
    # VanderWeele and Ding (2017): RR 3.9 (1.8, 8.7) has E-values 7.26 and 3.0.
    found = e_value(3.9, 1.8, 8.7)
    assert found.point == pytest.approx(7.26, abs=5e-3)
    assert found.limit == pytest.approx(3.0, abs=5e-2)
    assert e_value(1 / 3.9, 1 / 8.7, 1 / 1.8).limit == pytest.approx(found.limit)
    assert e_value(1.5, 0.9, 2.0).limit == 1.0
    assert e_value(1.0).point == 1.0
    assert math.isnan(e_value(2.0).limit)
    assert "7.26" in found.in_words()
    with pytest.raises(OptionError, match="risk_ratio"):
        e_value(-1.0)


def test_standardised_differences_are_labelled_approximations():
    found = e_value_difference(0.5, 0.2, 0.8)
    assert found.risk_ratio == pytest.approx(math.exp(0.455))
    assert found.limit == pytest.approx(e_value(math.exp(0.182)).point)
    assert "approximation" in found.in_words()
    logistic = e_value_difference(0.5, rule="logistic")
    assert logistic.risk_ratio == pytest.approx(math.sqrt(math.exp(math.pi * 0.5 / math.sqrt(3))))
