"""Identities, degenerate designs and simulated sizes of the instrument checks."""

from dataclasses import replace

import numpy as np
import pytest
from scipy.linalg import sqrtm
from scipy.stats import chi2

from causalsat.checks.iv_strength import first_stage, strength_checks
from causalsat.checks.iv_validity import durbin, hansen, robust_endogeneity, sargan, validity_checks, wu_hausman
from causalsat.errors import IdentificationError, OptionError
from causalsat.inference.options import Sandwich
from causalsat.inference.sampling import Sampling
from tests.checks.iv_studies import partialled


def study(seed=0, n=300, p=1, q=3, strength=0.5, clusters=None, **options):
    rng = np.random.default_rng(seed)
    Z, C = rng.standard_normal((n, q)), np.column_stack([np.ones(n), rng.standard_normal(n)])
    u, v = rng.standard_normal(n), rng.standard_normal((n, p))
    X = Z @ (strength * np.eye(q, p) + 0.1) + C[:, 1:] + v + 0.5 * u[:, None]
    y = X @ np.ones(p) + u * np.sqrt(0.5 + 0.5 * Z[:, 0] ** 2)
    codes = None if clusters is None else rng.integers(0, clusters, n)
    return partialled(y, X, Z, C, cluster=codes, **options)


KINDS = ["classical", "hc0", "hc1", "cluster", "crv3"]


@pytest.mark.parametrize("dof", ["small", "none"])
@pytest.mark.parametrize("kind", KINDS)
def test_one_treatment_kleibergen_paap_is_the_robust_f(kind, dof):
    found = first_stage(study(clusters=60, dof=dof), Sandwich(kind))
    assert found.kleibergen_paap.f == pytest.approx(found.f_robust[0], rel=1e-10)
    assert found.cragg_donald.f == pytest.approx(found.f_classical[0], rel=1e-10)
    assert found.sanderson_windmeijer[0] == pytest.approx(found.f_classical[0], rel=1e-10)
    assert found.shea_r2[0] == found.partial_r2[0]


@pytest.mark.parametrize("kind", KINDS)
def test_one_instrument_effective_f_is_the_robust_f(kind):
    found = first_stage(study(q=1, clusters=60), Sandwich(kind))
    assert found.f_effective == pytest.approx(found.f_robust[0], rel=1e-10)
    assert found.effective_critical[10] == pytest.approx(23.1085, abs=1e-3)


@pytest.mark.parametrize("p", [1, 2, 3])
def test_homoskedastic_kleibergen_paap_is_cragg_donald(p):
    found = first_stage(study(p=p, q=5), Sandwich("classical"))
    assert found.kleibergen_paap.f == pytest.approx(found.cragg_donald.f, rel=1e-9)
    assert found.covariance.startswith("homoskedastic covariance, factor n/(n - q - m)")
    if p == 1:
        assert found.f_effective == pytest.approx(found.f_classical[0], rel=1e-10)


@pytest.mark.parametrize("kind", ["hc0", "cluster"])
def test_kleibergen_paap_by_its_definition(kind):
    rows = study(p=2, q=4, clusters=50)
    n, X, Z = rows.n, rows.X, rows.Z
    S, Pi = Z.T @ Z / n, np.linalg.solve(Z.T @ Z, Z.T @ X)
    V = X - Z @ Pi
    left_root, right_root = np.real(sqrtm(S)), np.linalg.inv(np.real(sqrtm(V.T @ V / n)))
    theta = left_root @ Pi @ right_root
    U, _, Vt = np.linalg.svd(theta)
    U2, last = U[:, 1:], Vt[-1]
    lam = U2.T @ theta @ last
    scores = (Z @ np.linalg.inv(left_root) @ U2) * (V @ right_root @ last)[:, None]
    if kind == "cluster":
        scores = np.array([scores[rows.sampling.cluster == c].sum(axis=0) for c in np.unique(rows.sampling.cluster)])
    rk = n * lam @ np.linalg.solve(scores.T @ scores / n, lam)
    assert first_stage(rows, Sandwich(kind)).kleibergen_paap.statistic == pytest.approx(rk, rel=1e-8)


def test_recombined_instruments_and_added_covariates_change_nothing():
    rng = np.random.default_rng(3)
    rows = study(p=2, q=4, clusters=40)
    turned = replace(rows, Z=rows.Z @ rng.standard_normal((4, 4)))
    for kind in ("hc1", "cluster"):
        a, b = first_stage(rows, Sandwich(kind)), first_stage(turned, Sandwich(kind))
        for name in ("partial_r2", "shea_r2", "f_robust", "sanderson_windmeijer"):
            np.testing.assert_allclose(getattr(a, name), getattr(b, name), rtol=1e-8)
        assert a.kleibergen_paap.statistic == pytest.approx(b.kleibergen_paap.statistic, rel=1e-8)
        assert hansen(rows, Sandwich(kind)).statistic == pytest.approx(
            hansen(turned, Sandwich(kind)).statistic, rel=1e-7
        )
    assert sargan(rows).statistic == pytest.approx(sargan(turned).statistic, rel=1e-8)
    assert wu_hausman(rows).statistic == pytest.approx(wu_hausman(turned).statistic, rel=1e-8)


def test_recombined_treatments_keep_the_rank_tests():
    rows = study(p=2, q=4)
    turned = replace(rows, X=rows.X @ np.array([[1.0, 3.0], [-2.0, 0.5]]))
    a, b = first_stage(rows, Sandwich("hc1")), first_stage(turned, Sandwich("hc1"))
    assert a.cragg_donald.f == pytest.approx(b.cragg_donald.f, rel=1e-8)
    assert a.kleibergen_paap.f == pytest.approx(b.kleibergen_paap.f, rel=1e-8)
    assert a.f_robust[0] != pytest.approx(b.f_robust[0], rel=1e-3)


def test_units_of_outcome_and_treatment_do_not_matter():
    rows = study(p=2, q=4)
    scaled = replace(rows, y=1e6 * rows.y, X=rows.X * np.array([1e-5, 1e4])[None, :])
    a, b = first_stage(rows, Sandwich("hc1")), first_stage(scaled, Sandwich("hc1"))
    assert a.kleibergen_paap.f == pytest.approx(b.kleibergen_paap.f, rel=1e-7)
    np.testing.assert_allclose(a.shea_r2, b.shea_r2, rtol=1e-7)
    for test in (wu_hausman, durbin, sargan):
        assert test(rows).statistic == pytest.approx(test(scaled).statistic, rel=1e-7)
    assert hansen(rows, Sandwich("hc1")).statistic == pytest.approx(hansen(scaled, Sandwich("hc1")).statistic, rel=1e-7)


def test_whole_weights_are_repeated_rows_in_the_point_quantities():
    rng = np.random.default_rng(5)
    n = 200
    Z, C = rng.standard_normal((n, 3)), np.ones((n, 1))
    X = Z @ np.array([[0.5, 0.1], [0.0, 0.4], [0.2, 0.2]]) + rng.standard_normal((n, 2))
    y, times = X.sum(axis=1) + rng.standard_normal(n), rng.integers(1, 4, n)
    weighted = partialled(y, X, Z, C, weights=times)
    repeated = partialled(*(np.repeat(a, times, axis=0) for a in (y, X, Z, C)))
    a, b = first_stage(weighted, Sandwich("hc0")), first_stage(repeated, Sandwich("hc0"))
    np.testing.assert_allclose(a.partial_r2, b.partial_r2, rtol=1e-9)
    np.testing.assert_allclose(a.shea_r2, b.shea_r2, rtol=1e-9)
    assert sargan(weighted).statistic / weighted.n == pytest.approx(sargan(repeated).statistic / repeated.n, rel=1e-8)
    assert durbin(weighted).statistic / weighted.n == pytest.approx(durbin(repeated).statistic / repeated.n, rel=1e-8)


def test_sargan_and_hansen_are_n_times_the_minimised_distance():
    rows = study()
    moments, b = rows.moments, rows.moments.b_tsls
    j0 = float(((moments.w - moments.B @ b) ** 2).sum())
    assert sargan(rows).statistic == pytest.approx(rows.n * j0 / np.mean(rows.residuals(b) ** 2), rel=1e-12)
    assert hansen(rows, Sandwich("classical")).statistic == pytest.approx(sargan(rows).statistic, rel=1e-9)


def test_homoskedastic_endogeneity_is_the_wu_hausman_test():
    for p in (1, 2):
        rows = study(p=p, q=4)
        assert robust_endogeneity(rows, Sandwich("classical")).statistic == pytest.approx(wu_hausman(rows).statistic)
        assert robust_endogeneity(rows, Sandwich("classical")).p_value == pytest.approx(wu_hausman(rows).p_value)


def schooling(extra):
    """Three treatments: schooling, experience and its square; experience = age - schooling - 6."""
    from linearmodels.datasets import card as shipped

    data = shipped.load()
    data["agesq"] = data["age"] ** 2
    Z = data[["nearc4", "age", "agesq", *extra]].to_numpy(float)
    C = np.column_stack([np.ones(len(data)), data[["black", "smsa", "south"]].to_numpy(float)])
    return partialled(
        data["lwage"].to_numpy(float), data[["educ", "exper", "expersq"]].to_numpy(float), Z, C,
        names=("educ", "exper", "expersq"),
    )  # fmt: skip


@pytest.mark.parametrize("extra", [[], ["nearc2"]])
def test_treatments_that_add_up_to_an_instrument_survive(extra):
    rows = schooling(extra)
    assert np.linalg.matrix_rank(rows.moments.MX, tol=1e-8) == 2
    found = first_stage(rows, Sandwich("hc1"))
    assert np.isfinite(found.cragg_donald.f)
    assert np.isfinite(found.kleibergen_paap.f)
    assert np.isfinite(found.sanderson_windmeijer).all()
    assert wu_hausman(rows).df == (2.0, rows.n - 3 - 2 - rows.m)
    assert durbin(rows).df == (2.0,)
    assert robust_endogeneity(rows, Sandwich("hc1")).df[0] == 2.0
    assert "1 combination of the treatments is a linear function" in wu_hausman(rows).text
    assert len(strength_checks(rows, Sandwich("hc1")) + validity_checks(rows, Sandwich("hc1"))) == 13
    # dropping one of the three leaves the same regression, so the same sums of squares
    y, X, MX = rows.y, rows.X, rows.moments.MX[:, [0, 2]]
    rss = [((y - D @ np.linalg.lstsq(D, y, rcond=None)[0]) ** 2).sum() for D in (X, np.column_stack([X, MX]))]
    assert durbin(rows).statistic == pytest.approx(rows.n * (rss[0] - rss[1]) / rss[0], rel=1e-6)


def test_a_treatment_inside_the_span_of_the_instruments():
    rng = np.random.default_rng(2)
    Z = rng.standard_normal((100, 2))
    rows = partialled(rng.standard_normal(100), Z.sum(axis=1), Z, np.ones((100, 1)))
    found = first_stage(rows, Sandwich("hc1"))
    assert np.isinf(found.f_classical[0])
    assert np.isinf(found.f_effective)
    assert not found.weak
    assert wu_hausman(rows).law == ""
    assert "exogenous by construction" in validity_checks(rows, Sandwich("hc1"))[2].text
    assert strength_checks(rows, Sandwich("hc1"))[1].passed is True


def test_an_outcome_without_residuals_has_a_reason():
    rows = study(p=2, q=4)
    checks = validity_checks(replace(rows, y=rows.X @ np.array([1.0, -2.0])), Sandwich("hc1"))
    assert all(found.passed is None and "no residual variance" in found.text for found in checks)


def test_collinear_treatments_are_refused():
    rows = study(p=2, q=4)
    twice = replace(rows, X=np.column_stack([rows.X[:, 0], 2.0 * rows.X[:, 0]]))
    with pytest.raises(IdentificationError, match="collinear"):
        first_stage(twice, Sandwich("hc1"))


@pytest.mark.filterwarnings("ignore:.*clusters are few")
def test_fewer_clusters_than_instruments_have_a_reason():
    rows = study(q=6, clusters=5)
    found = first_stage(rows, Sandwich("cluster"))
    assert np.isnan(found.f_robust[0])
    assert "more clusters than moments" in found.unavailable["f_robust[x]"]
    assert np.isnan(found.kleibergen_paap.statistic)
    assert found.f_effective > 0.0
    assert np.isfinite(found.effective_critical[10])
    checks = {
        c.name: c for c in strength_checks(rows, Sandwich("cluster")) + validity_checks(rows, Sandwich("cluster"))
    }
    assert checks["first_stage[x]"].passed is None
    assert checks["kleibergen_paap"].passed is None
    assert checks["hansen"].passed is None
    assert "more clusters than moments" in checks["hansen"].text


def test_distance_covariance_and_its_absence():
    rng = np.random.default_rng(1)
    rows = study(n=200)
    places = np.column_stack([rng.uniform(30, 33, 200), rng.uniform(0, 3, 200)])
    spatial = replace(rows, sampling=Sampling(200, lonlat=places))
    found = first_stage(spatial, Sandwich("conley", cutoff_km=60.0))
    assert "within 60 km" in found.covariance
    assert np.isfinite([found.f_robust[0], found.f_effective, found.kleibergen_paap.f]).all()
    assert hansen(spatial, Sandwich("conley", cutoff_km=60.0)).df == (2.0,)
    with pytest.raises(OptionError, match="hc3"):
        first_stage(rows, Sandwich("hc3"))


def test_conditional_f_sees_what_ordinary_f_does_not():
    rng = np.random.default_rng(8)
    n = 1000
    Z = rng.standard_normal((n, 3))
    together = Z @ np.array([0.5, 0.5, 0.5])
    X = together[:, None] + rng.standard_normal((n, 2))
    rows = partialled(X.sum(axis=1) + rng.standard_normal(n), X, Z, np.ones((n, 1)))
    found = first_stage(rows, Sandwich("hc1"))
    assert found.f_classical.min() > 100.0
    assert found.sanderson_windmeijer.max() < 10.0
    assert found.weak
    text = strength_checks(rows, Sandwich("hc1"))[-1].text
    assert "cannot tell them apart" in text


def rejections(draw, test, runs=300):
    return np.mean([test(draw(np.random.default_rng([7, run]))) for run in range(runs)])


def test_effective_f_rejects_a_twentieth_at_its_boundary():
    """At concentration q/tau with even variances the simplified critical value is exact."""
    n, q = 400, 3

    def draw(rng):
        Z = np.linalg.qr(rng.standard_normal((n, q)))[0] * np.sqrt(n)
        pi = np.sqrt(10.0 * q / n) * np.array([1.0, 0.0, 0.0])
        X = Z @ pi + rng.standard_normal(n)
        return partialled(X, X, Z, np.ones((n, 1)))

    def passes(rows):
        found = first_stage(rows, Sandwich("classical"))
        return found.f_effective > found.effective_critical[10]

    assert 0.02 <= rejections(draw, passes) <= 0.09


def test_rank_tests_keep_their_size_when_one_combination_is_not_moved():
    n = 400
    direction = np.outer([0.6, 0.3, -0.4], [1.0, 0.5])

    def draw(rng, uneven):
        Z = rng.standard_normal((n, 3))
        spread = np.sqrt(0.3 + 0.7 * Z[:, :1] ** 2) if uneven else 1.0
        X = Z @ direction + spread * (rng.standard_normal((n, 2)) @ np.array([[1.0, 0.4], [0.0, 0.8]]))
        return partialled(rng.standard_normal(n), X, Z, np.ones((n, 1)))

    robust = rejections(
        lambda rng: draw(rng, True), lambda r: first_stage(r, Sandwich("hc1")).kleibergen_paap.p_value < 0.05
    )
    assert 0.02 <= robust <= 0.09
    even = [first_stage(draw(np.random.default_rng([9, run]), False), Sandwich("classical")) for run in range(300)]
    assert 0.02 <= np.mean([found.cragg_donald.p_value < 0.05 for found in even]) <= 0.09
    assert 0.02 <= np.mean([found.conditional[0].p_value < 0.05 for found in even]) <= 0.09


def test_hansen_keeps_its_size_under_heteroskedasticity_and_sargan_does_not():
    n = 400

    def draw(rng):
        Z = rng.standard_normal((n, 4))
        u = rng.standard_normal(n) * np.abs(Z[:, 0]) * np.sqrt(1.0 + Z[:, 1] ** 2)
        X = Z.sum(axis=1) + rng.standard_normal(n) + u
        return partialled(X + u, X, Z, np.ones((n, 1)))

    limit = chi2.ppf(0.95, 3)
    assert 0.015 <= rejections(draw, lambda rows: hansen(rows, Sandwich("hc0")).statistic > limit) <= 0.09
    assert rejections(draw, lambda rows: sargan(rows).statistic > limit) > 0.12


def test_an_invalid_instrument_is_found():
    rng = np.random.default_rng(4)
    n = 1000
    Z = rng.standard_normal((n, 3))
    X = Z.sum(axis=1) + rng.standard_normal(n)
    rows = partialled(X + 0.3 * Z[:, 0] + rng.standard_normal(n), X, Z, np.ones((n, 1)))
    checks = {found.name: found for found in validity_checks(rows, Sandwich("hc1"))}
    assert checks["sargan"].passed is False
    assert checks["hansen"].passed is False
    assert "At least one instrument is invalid" in checks["hansen"].text
