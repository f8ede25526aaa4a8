"""Anchors on the Ugandan sample: six band features, unpenalised logistic and least squares per arm, in sample."""

import numpy as np
import pandas as pd
import pytest
import rasterio
import statsmodels.api as sm

from causalsat.estimators.nuisances import NuisanceOptions, cross_fit_nuisances
from causalsat.kernels.logistic import logistic
from causalsat.kernels.ridge_path import ols


@pytest.fixture(scope="module")
def uganda(real_data):
    people = pd.read_csv(real_data("uganda/people.csv"))
    features = {}
    for site in people["site"].unique():
        with rasterio.open(real_data(f"uganda/chips/{site}.tif")) as chip:
            bands = chip.read().reshape(chip.count, -1).astype(float)
        features[site] = np.concatenate([bands.mean(axis=1), bands.std(axis=1)])
    x = np.stack([features[site] for site in people["site"]])
    x = (x - x.mean(axis=0)) / x.std(axis=0)
    return x, people["outcome"].to_numpy(), people["treated"].to_numpy(float), people["site"].to_numpy()


def effects(y, d, g0, g1, m):
    """Hajek ATE, AIPW ATE, ATT, orthogonal and fitted ATO."""
    hajek = np.sum(d * y / m) / np.sum(d / m) - np.sum((1 - d) * y / (1 - m)) / np.sum((1 - d) / (1 - m))
    row = g1 - g0 + d * (y - g1) / m - (1 - d) * (y - g0) / (1 - m)
    att = np.mean((d - (1 - d) * m / (1 - m)) * (y - g0)) / d.mean()
    mixed = m * g1 + (1 - m) * g0
    orthogonal = np.sum((d - m) * (y - mixed)) / np.sum((d - m) ** 2)
    return hajek, row.mean(), att, orthogonal, np.average(row, weights=m * (1 - m))


def test_kernels_match_statsmodels(uganda):
    x, y, d, _ = uganda
    ones, design = np.ones(len(y)), sm.add_constant(x)
    fit = logistic(x, d, ones)
    assert bool(fit.converged)
    peer = sm.GLM(d, design, family=sm.families.Binomial()).fit(tol=1e-14).params
    np.testing.assert_allclose(np.asarray(fit.coefficients), peer, rtol=1e-8, atol=1e-9)
    for arm in (0.0, 1.0):
        ours = np.asarray(ols(x, y, (d == arm).astype(float)))
        np.testing.assert_allclose(ours, sm.OLS(y[d == arm], design[d == arm]).fit().params, rtol=1e-8, atol=1e-9)


def test_in_sample_nuisances_reproduce_the_anchors(uganda):
    x, y, d, _ = uganda
    found = cross_fit_nuisances(x, None, y, d, None, options=NuisanceOptions(clip=0.0))
    assert found.status == 0
    expected = (0.738178, 0.741239, 0.706254, 0.723250, 0.736763)
    np.testing.assert_allclose(effects(y, d, found.g0, found.g1, found.m), expected, atol=1e-6)
    assert round(found.m.min(), 3) == 0.051
    assert round(found.m.max(), 3) == 0.624
    treated, control = d / found.m, (1 - d) / (1 - found.m)
    sizes = [w.sum() ** 2 / (w**2).sum() for w in (treated, control)]
    np.testing.assert_allclose(sizes, [729.3, 1230.1], atol=0.05)


def test_cross_fitted_nuisances_on_real_images(uganda):
    x, y, d, site = uganda
    order = np.random.default_rng(0).permutation(np.unique(site))
    fold = np.argsort(order)[np.searchsorted(np.unique(site), site)] % 5
    found = cross_fit_nuisances(None, x, y, d, fold)
    assert found.status == 0
    assert 0 < found.m_raw.min() < found.m_raw.max() < 1
    assert abs(effects(y, d, found.g0, found.g1, found.m)[1] - 0.741239) < 0.1
