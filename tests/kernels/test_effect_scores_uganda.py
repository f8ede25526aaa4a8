"""Anchors on the Uganda sample: six band features, in-sample unpenalised nuisances, inference by image.

The targets were computed directly from the files (statsmodels logit and per-arm OLS), independently of this package.
"""

import jax.numpy as jnp
import numpy as np
import pytest

from causalsat.checks.assignment import assignment
from causalsat.checks.overlap import arm_weights
from causalsat.inference.covariance import influence_covariance
from causalsat.inference.options import Sandwich
from causalsat.inference.sampling import Sampling
from causalsat.kernels import effect_scores as k

TARGETS = {
    "hajek": (0.738178, 0.077134),
    "ate": (0.741239, 0.074677),
    "att": (0.706254, 0.081217),
    "ato orthogonal": (0.723250, 0.076448),
    "ato fitted": (0.736763, None),
    "difference": (0.741492, 0.075511),
}


@pytest.fixture(scope="module")
def uganda(real_data):
    import pandas as pd
    import rasterio
    import statsmodels.api as sm

    people = pd.read_csv(real_data("uganda/people.csv"))
    sites = people["site"].unique()
    features = {}
    for site in sites:
        with rasterio.open(real_data(f"uganda/chips/{site}.tif")) as chip:
            pixels = chip.read().reshape(3, -1).astype(float)
        features[site] = np.concatenate([pixels.mean(axis=1), pixels.std(axis=1)])
    z = np.stack([features[s] for s in people["site"]])
    x = sm.add_constant((z - z.mean(axis=0)) / z.std(axis=0))
    y, d = people["outcome"].to_numpy(float), people["treated"].to_numpy(float)
    m = sm.Logit(d, x).fit(disp=0, method="newton", tol=1e-12).predict(x)
    g1, g0 = (x @ sm.OLS(y[d == arm], x[d == arm]).fit().params for arm in (1.0, 0.0))
    site = np.unique(people["site"], return_inverse=True)[1]
    return {"y": y, "d": d, "g0": g0, "g1": g1, "m": m, "site": site}


def estimate(name, u):
    y, d, g0, g1, m = (jnp.asarray(u[c]) for c in ("y", "d", "g0", "g1", "m"))
    w = jnp.ones_like(y)
    if name == "hajek":
        return k.ipw_ate(y, d, m, w)
    if name == "difference":
        return k.difference_in_means(y, d, w)
    aipw = {"ate": k.aipw_ate, "att": k.aipw_att}
    aipw |= {"ato fitted": k.aipw_ato_fitted, "ato orthogonal": k.aipw_ato_orthogonal}
    return aipw[name](y, d, g0, g1, m, w)


@pytest.mark.parametrize("name", list(TARGETS))
def test_estimates_and_standard_errors_by_image(uganda, name):
    theta, phi = estimate(name, uganda)
    found = influence_covariance(
        np.asarray(phi), Sandwich("cluster", small_sample="cluster"), Sampling(2082, cluster=uganda["site"])
    )
    value, std_error = TARGETS[name]
    assert float(theta) == pytest.approx(value, abs=1e-6)
    if std_error is not None:
        assert float(found.std_error[0]) == pytest.approx(std_error, abs=1e-6)


def test_difference_in_means_by_rows_and_by_image_without_a_factor(uganda):
    phi = np.asarray(estimate("difference", uganda)[1])
    sampling = Sampling(2082, cluster=uganda["site"])
    by_image = influence_covariance(phi, Sandwich("cluster", small_sample="none"), sampling).std_error[0]
    assert by_image == pytest.approx(0.075395, abs=1e-6)
    assert influence_covariance(phi, Sandwich("hc0"), sampling).std_error[0] == pytest.approx(0.061435, abs=1e-6)
    # The published row figure divides each arm's squares by n_a - 1 instead of n_a.
    arms = np.where(uganda["d"] == 1, 825 / 824, 1257 / 1256)
    by_row = influence_covariance(phi * np.sqrt(arms), Sandwich("hc0"), sampling).std_error[0]
    assert by_row == pytest.approx(0.061468, abs=1e-6)


def test_assignment_and_overlap(uganda):
    d, m = uganda["d"], uganda["m"]
    found = assignment(d, m, cluster=uganda["site"])
    assert found.auc == pytest.approx(0.605119, abs=1e-6)
    assert found.se_jackknife == pytest.approx(found.se_influence, rel=0.02)
    assert m.min() == pytest.approx(0.051, abs=5e-4)
    assert m.max() == pytest.approx(0.624, abs=5e-4)
    treated, control = arm_weights(d / m), arm_weights((1 - d) / (1 - m))
    assert (treated.n, control.n) == (825, 1257)
    assert treated.ess == pytest.approx(729.3, abs=0.05)
    assert control.ess == pytest.approx(1230.1, abs=0.05)
