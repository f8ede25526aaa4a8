"""Covariances of the comparators: clusters, Conley, and the scores of a kappa that stays away from one."""

import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from causalsat.estimators.k_class import comparator
from causalsat.inference.iv_rows import IvRows
from causalsat.inference.options import Sandwich
from causalsat.inference.sampling import Sampling
from causalsat.kernels.k_class import k_class_point
from tests.estimators.iv_oracles import Data, card_design

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import statsmodels.api as sm
    from linearmodels.datasets import card
    from linearmodels.iv import IV2SLS, IVLIML

HC0, HC1, CLUSTER = (Sandwich(k) for k in ("hc0", "hc1", "cluster"))


@pytest.fixture(scope="module")
def just():
    return card_design("just")


@pytest.fixture(scope="module")
def over():
    return card_design("over")


@pytest.fixture(scope="module")
def clustered():
    return card_design("clustered")


def error(data, method, sandwich, dof="none", **options):
    found = comparator(method, data.rows(dof), sandwich, **options)
    return found.b, found.covariance.std_error


@pytest.mark.parametrize("design", ["just", "over"])
def test_hc0_is_the_factor_free_covariance(request, design):
    data = request.getfixturevalue(design)
    for method in ("tsls", "liml", "fuller"):
        free = error(data, method, HC0, "small")[1]
        np.testing.assert_allclose(free, error(data, method, HC1, "none")[1], rtol=1e-12)
        corrected = error(data, method, HC1, "small")[1]
        np.testing.assert_allclose(corrected / free, np.sqrt(3010 / 2994), rtol=1e-12)


def test_clusters_linearmodels(clustered):
    for dof, debiased in (("small", True), ("none", False)):
        for method, model, options in (
            ("tsls", IV2SLS, {}), ("liml", IVLIML, {}), ("fuller", IVLIML, {"fuller": 1.0}),
        ):  # fmt: skip
            found = comparator(method, clustered.rows(dof), CLUSTER)
            se = clustered.oracle(model, "clustered", debiased, **options)[1]
            np.testing.assert_allclose(found.covariance.std_error, se, rtol=1e-7, err_msg=f"{method} {dof}")
            assert found.df == 39.0
    assert comparator("tsls", clustered.rows(), HC1).df == np.inf


def test_kclass_standard_error_away_from_one(just):
    """Scores P_Z X e, right near kappa = 1, are far too small at kappa = 0.8; resampled rows decide."""
    ours = comparator("kclass", just.rows("none"), HC0, kappa=0.8).covariance.std_error[0]
    theirs = just.oracle(IVLIML, "robust", False, kappa=0.8)[1][0]
    rows = just.rows()
    x, z = rows.X[:, 0], rows.Z[:, 0]
    weights = np.random.default_rng(5).multinomial(3010, np.full(3010, 1.0 / 3010), size=1000)
    zz, zx, zy, xx, xy = (weights @ np.column_stack([z * z, z * x, z * rows.y, x * x, x * rows.y])).T
    values = (0.8 * zx * zy / zz + 0.2 * xy) / (0.8 * zx**2 / zz + 0.2 * xx)
    assert ours == pytest.approx(0.0037, abs=5e-5)
    assert theirs == pytest.approx(0.0011, abs=5e-5)
    assert ours == pytest.approx(np.std(values), rel=0.08)


def test_fixed_kappa_covariance_by_hand(over):
    rows = over.rows()
    found = comparator("kclass", rows, HC0, kappa=0.6)
    basis = np.linalg.qr(rows.Z)[0]
    turned = rows.X - 0.6 * (rows.X - basis @ (basis.T @ rows.X))
    bread = 1.0 / float(turned[:, 0] @ rows.X[:, 0])
    scores = turned[:, 0] * rows.residuals(found.b)
    assert found.covariance.matrix[0, 0] == pytest.approx(bread**2 * float(scores @ scores), rel=1e-9)


@pytest.mark.parametrize(("strength", "sign"), [(0.13, -1.0), (0.4, 1.0)])
def test_first_stage_noise_counts_when_kappa_is_fixed(strength, sign):
    """A weak and a strong design: scores with the first stage known err in both directions, the full ones do not."""

    def study(key):
        one, two, three = jax.random.split(key, 3)
        Z, v = jax.random.normal(one, (1000, 3)), jax.random.normal(two, (1000,))
        x = strength * Z.sum(axis=1) + v
        return x + 0.8 * v + 0.6 * jax.random.normal(three, (1000,)), x[:, None], Z

    def estimate(key):
        y, X, Z = study(key)
        inside = jnp.linalg.qr(Z)[0].T @ jnp.concatenate([X, y[:, None]], axis=1)
        projected, total = inside.T @ inside, X.T @ jnp.concatenate([X, y[:, None]], axis=1)
        return k_class_point(projected[:1, :1], projected[:1, 1], total[:, :1], total[:, 1], jnp.asarray(0.8))[0]

    keys = jax.random.split(jax.random.key(6), 2000)
    truth = float(jax.jit(jax.vmap(estimate))(keys).std())
    errors = []
    for key in keys[:60]:
        y, X, Z = (np.asarray(a) for a in study(key))
        rows = IvRows(y, X, Z, np.ones(1000), np.empty((1000, 0)), 0, 0, Sampling(1000))
        both = (comparator("kclass", rows, HC0, kappa=0.8, estimated_first_stage=full) for full in (False, True))
        errors.append([found.covariance.std_error[0] for found in both])
    known, full = np.mean(errors, axis=0)
    assert full == pytest.approx(truth, rel=0.05)
    assert sign * (known / full - 1.0) > 0.08


def test_ols_clusters_statsmodels(clustered):
    fit = sm.OLS(clustered.y, np.column_stack([clustered.C, clustered.X]))
    oracle = fit.fit(cov_type="cluster", cov_kwds={"groups": clustered.cluster})
    found = comparator("ols", clustered.rows(), CLUSTER)
    np.testing.assert_allclose(found.covariance.std_error, oracle.bse[-1:], rtol=1e-8)


def test_conley_by_pairs():
    """The double sum over pairs with Bartlett weights on great-circle distance."""
    some = card.load().iloc[:400]
    draw = np.random.default_rng(1)
    places = np.column_stack([draw.uniform(-90.0, -80.0, 400), draw.uniform(35.0, 42.0, 400)])
    data = Data(some, "lwage", ["educ"], ["nearc2", "nearc4"], ["exper", "expersq", "black"], places=places)
    radians = np.radians(places)
    half = np.sin((radians[:, None, :] - radians[None, :, :]) / 2.0) ** 2
    cosines = np.cos(radians[:, 1])
    arc = 2.0 * np.arcsin(np.sqrt(half[..., 1] + cosines[:, None] * cosines[None, :] * half[..., 0]))
    kernel = np.clip(1.0 - 6371.0 * arc / 150.0, 0.0, None)
    for method in ("ols", "liml"):
        found = comparator(method, data.rows(), Sandwich("conley", cutoff_km=150.0))
        phi = found.influence[:, 0]
        expected = np.sqrt(phi @ kernel @ phi) / 400
        np.testing.assert_allclose(found.covariance.std_error[0], expected, rtol=1e-4)
        assert (found.covariance.kind, found.df) == ("conley", np.inf)
