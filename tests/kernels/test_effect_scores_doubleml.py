"""The same nuisances in DoubleML's IRM give the same estimates and standard errors.

One convention differs: with normalised weights DoubleML's standard error holds the normalising constants fixed, ours
lets them move with the rows. Estimates agree either way; standard errors agree once the test holds the constants.
"""

import warnings

import jax.numpy as jnp
import numpy as np
import pytest

from causalsat.kernels import effect_scores as k

doubleml = pytest.importorskip("doubleml", reason="DoubleML is an extra (bench)")


def study(n=400):
    rng = np.random.default_rng(11)
    x = rng.standard_normal((n, 3))
    m = 1 / (1 + np.exp(-x[:, 0]))
    d = (rng.random(n) < m).astype(float)
    y = x[:, 0] + d * (1 + x[:, 1]) + rng.standard_normal(n)
    noise = 0.1 * rng.standard_normal((3, n))
    return x, y, d, x[:, 0] + noise[0], 1 + x[:, 0] + x[:, 1] + noise[1], np.clip(m + 0.1 * noise[2], 0.02, 0.98)


def irm(score, normalize):
    from doubleml.utils import DMLDummyClassifier, DMLDummyRegressor

    x, y, d, g0, g1, m = study()
    data = doubleml.DoubleMLData.from_arrays(x, y, d)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = doubleml.DoubleMLIRM(
            data, DMLDummyRegressor(), DMLDummyClassifier(), n_folds=2, score=score, normalize_ipw=normalize
        )
        predictions = {"ml_g0": g0[:, None], "ml_g1": g1[:, None], "ml_m": m[:, None]}
        model.fit(external_predictions={"d": predictions})
    return model.coef[0], model.se[0]


def held(rescaled):
    """The same rescaled propensities with constants that do not move with the rows, as DoubleML has them."""
    nothing = jnp.zeros_like(rescaled.treated)
    return rescaled._replace(treated_influence=nothing, control_influence=nothing)


@pytest.mark.parametrize("normalize", [False, True])
@pytest.mark.parametrize(("score", "ours"), [("ATE", k.aipw_ate), ("ATTE", k.aipw_att)])
def test_irm(score, ours, normalize):
    _, *columns = study()
    y, d, g0, g1, m = (jnp.asarray(c) for c in columns)
    w = jnp.ones_like(y)
    rescaled = k.rescale_arm(d, m, w) if normalize else None
    theta, _ = ours(y, d, g0, g1, m, w, rescaled=rescaled)
    phi = ours(y, d, g0, g1, m, w, rescaled=held(rescaled) if normalize else None)[1]
    se = float(jnp.sqrt(jnp.sum(phi**2)) / y.size)
    coefficient, std_error = irm(score, normalize)
    assert float(theta) == pytest.approx(coefficient, abs=1e-8)
    assert se == pytest.approx(std_error, abs=1e-8)
