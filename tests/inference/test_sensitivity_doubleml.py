"""The same nuisances in DoubleML give the same bounds, limits, robustness values and benchmarks."""

import dataclasses
import warnings

import numpy as np
import pytest

from causalsat.inference import sensitivity as s

doubleml = pytest.importorskip("doubleml", reason="DoubleML is an extra (bench)")
CF_Y, CF_D, RHO = 0.04, 0.07, 0.8


def study(n=500):
    rng = np.random.default_rng(21)
    x = rng.standard_normal((n, 2))
    m = 1 / (1 + np.exp(-0.7 * x[:, 0]))
    d = (rng.random(n) < m).astype(float)
    y = x[:, 0] + d * (1 + 0.5 * x[:, 1]) + rng.standard_normal(n)
    return x, y, d, 0.9 * x[:, 0], 1.1 + x[:, 0] + 0.4 * x[:, 1], m


def fitted(model, predictions):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model.fit(external_predictions={"d": {name: v[:, None] for name, v in predictions.items()}})
        model.sensitivity_analysis(cf_y=CF_Y, cf_d=CF_D, rho=RHO, level=0.95)
    return model


def theirs(name, shift=0.0):
    from doubleml.utils import DMLDummyClassifier, DMLDummyRegressor

    x, y, d, g0, g1, m = study()
    m = np.clip(m + shift, 0.05, 0.95)
    data = doubleml.DoubleMLData.from_arrays(x, y, d)
    if name == "plr":
        model = doubleml.DoubleMLPLR(data, DMLDummyRegressor(), DMLDummyRegressor(), n_folds=2)
        return fitted(model, {"ml_l": (1 - m) * g0 + m * g1, "ml_m": m})
    score = {"ate": "ATE", "att": "ATTE"}[name]
    model = doubleml.DoubleMLIRM(data, DMLDummyRegressor(), DMLDummyClassifier(), n_folds=2, score=score)
    return fitted(model, {"ml_g0": g0, "ml_g1": g1, "ml_m": m})


def ours(name, shift=0.0):
    _, y, d, g0, g1, m = study()
    m = np.clip(m + shift, 0.05, 0.95)
    if name == "plr":
        return s.plr_elements(y - (1 - m) * g0 - m * g1, d - m)
    if name == "ate":
        rows = g1 - g0 + d * (y - g1) / m - (1 - d) * (y - g0) / (1 - m)
        return s.ate_elements(rows.mean(), rows - rows.mean(), y, d, g0, g1, m)
    rows = (d - (1 - d) * m / (1 - m)) * (y - g0) / d.mean()
    return s.att_elements(rows.mean(), rows - d / d.mean() * rows.mean(), y, d, g0, g1, m)


def as_doubleml_signs(fit):
    """DoubleML 0.11 divides the scores by their derivative, -1, so its phi enters with the opposite sign.

    Its lower bound then carries the standard error of the upper one and the reverse; test_sensitivity.py shows by the
    derivative of the bound that phi - c psi belongs to theta - B.
    """
    flipped = fit.covariance * np.array([[1.0, -1.0], [-1.0, 1.0]])
    return dataclasses.replace(fit, covariance=flipped)


@pytest.mark.parametrize("name", ["plr", "ate", "att"])
def test_bounds_limits_and_robustness_values(name):
    model, fit = theirs(name), as_doubleml_signs(s.sensitivity(ours(name)))
    expected = model.sensitivity_params
    found = s.bounds(fit, CF_Y, CF_D, RHO)
    for attribute, group, side in (
        ("low", "theta", "lower"),
        ("high", "theta", "upper"),
        ("std_error_low", "se", "lower"),
        ("std_error_high", "se", "upper"),
        ("conf_low", "ci", "lower"),
        ("conf_high", "ci", "upper"),
    ):
        assert getattr(found, attribute) == pytest.approx(float(expected[group][side][0]), abs=1e-8), attribute
    # Their robustness values take rho from the call and come from a bounded scalar search with tolerance 1e-5.
    model.sensitivity_analysis(cf_y=CF_Y, cf_d=CF_D, rho=1.0)
    rv, rva = s.robustness_value(fit)
    assert rv == pytest.approx(float(model.sensitivity_params["rv"][0]), abs=1e-5)
    assert rva == pytest.approx(float(model.sensitivity_params["rva"][0]), abs=1e-5)


def test_benchmark():
    from doubleml.utils import gain_statistics

    expected = gain_statistics(theirs("ate"), theirs("ate", shift=0.05))
    found = s.benchmark(ours("ate"), ours("ate", shift=0.05), float(np.var(study()[1])))
    assert found.cf_y == pytest.approx(float(expected["cf_y"][0]), abs=1e-8)
    assert found.cf_d == pytest.approx(float(expected["cf_d"][0]), abs=1e-8)
    assert found.change == pytest.approx(float(expected["delta_theta"][0]), abs=1e-8)
