"""Draws of the curve whatever columns follow it, and the law of all columns together."""

import numpy as np
import pytest

from causalsat.estimators.r3d_draws import Multipliers
from tests.estimators.r3d_rough import inferred_draws, lognormal_draws


def made(k, *, treatment=False, n=4000, g=60, m=5, law="normal"):
    """Multipliers of m columns of a curve and the first k of more columns than clusters, some of them copies."""
    rng = np.random.default_rng(1)
    curve, more = rng.standard_normal((g, m)), rng.standard_normal((g, 90))
    more[:, 3], more[:, 4] = curve[:, 0] - curve[:, 2], more[:, 0]
    right = rng.standard_normal((g, m + 90))
    own = rng.standard_normal(g) if treatment else None
    jump = np.concatenate([curve, more], axis=1)
    return Multipliers(jump[:, : m + k], right[:, : m + k], own, law, n, 3, m), jump, right, own


@pytest.mark.parametrize("treatment", [False, True])
@pytest.mark.parametrize("k", [2, 5, 90])
def test_the_curve_s_draws_do_not_depend_on_further_columns(k, treatment):
    alone, of_treatment = made(0, treatment=treatment, n=99)[0].jumps()
    found, with_treatment = made(k, treatment=treatment, n=99)[0].jumps()
    np.testing.assert_allclose(found[:, :5], alone, rtol=1e-9, atol=1e-10)
    if treatment:
        np.testing.assert_allclose(with_treatment, of_treatment, rtol=1e-9, atol=1e-10)


@pytest.mark.parametrize("k", [2, 5, 90])
def test_jumps_and_limits_have_their_joint_covariance(k):
    source, jump, right, own = made(k, treatment=True, n=20_000)
    drawn, treatment = source.jumps()
    columns = np.column_stack([drawn, treatment, source.right()])
    truth = np.column_stack([jump[:, : 5 + k], own, right[:, : 5 + k]])
    scale = np.linalg.norm(truth, axis=0)
    correlation = (truth.T @ truth) / (scale[:, None] * scale[None, :])
    assert np.abs(columns.T @ columns / 20_000 / (scale[:, None] * scale[None, :]) - correlation).max() < 0.05


@pytest.mark.parametrize("size", [(60, 40), (200, 60)])
def test_a_nonlinear_functional_leaves_the_band_where_it_was(size):
    n, k = size
    draws = lognormal_draws(shift=0.3, k=k)
    alone = inferred_draws(0, ("mean",), draws, n=n)
    with_it = inferred_draws(0, ("mean", "sd", "share_top(.013)", "w2"), draws, n=n)
    np.testing.assert_allclose(with_it.draws, alone.draws, rtol=1e-7, atol=1e-9)
    np.testing.assert_allclose(with_it.curve.band_high, alone.curve.band_high, rtol=1e-7)
