"""The robust Anderson-Rubin test and its sets: heteroskedastic, clustered, spatial; one and several treatments."""

import math
from dataclasses import replace

import numpy as np
import pytest
import statsmodels.api as sm
from linearmodels.iv import IVGMMCUE
from scipy import stats

from causalsat.errors import FewClustersWarning, OptionError
from causalsat.inference.coverage import binomial_gate
from causalsat.inference.iv_pencil import level_set, subset_ratio
from causalsat.inference.iv_projection import Profile, projected_set, projected_test
from causalsat.inference.iv_robust_ar import angular_set, reduced_form, tangents
from causalsat.inference.iv_sets import ar_test, confidence_sets
from causalsat.inference.options import Sandwich
from causalsat.inference.sampling import Sampling
from tests.inference.iv_designs import card_arrays, mroz_arrays, net, permitted, simulated

SHAPES = {
    "interval": (0.1, (0.0, 0.0, 0.0), 0),
    "rays": (0.05, (0.4, 0.4, 0.4), 0),
    "line": (0.05, (0.0, 0.0, 0.0), 0),
    # Needs rows: the statistic is at most n - q - m, and a set can be empty only where that exceeds the critical value.
    "empty": (0.3, (0.4, -0.4, 0.0), 0),
}


def robust(rows, sandwich, **options):
    return [row for row in confidence_sets(rows, "ar", sandwich=sandwich, **options) if row.kind == "robust"]


def summed(rows, b, factor, codes=None):
    """(sum S)'(factor sum S S')^{-1}(sum S) with S the sums of z (y - X b) over rows or clusters, one by one."""
    e = rows.y - rows.X @ np.atleast_1d(b)
    sums = {}
    for i in range(rows.n):
        key = i if codes is None else int(codes[i])
        sums[key] = sums.get(key, np.zeros(rows.q)) + rows.weights[i] * e[i] * rows.Z[i]
    total, meat = sum(sums.values()), sum(np.outer(S, S) for S in sums.values())
    return float(total @ np.linalg.solve(factor * meat, total))


def objective(rows, b, **weights):
    """The continuously updated GMM objective of linearmodels at b, with the null imposed in its uncentred weight."""
    model = IVGMMCUE(rows.y, None, rows.X, rows.Z, center=False, debiased=False, **weights)
    return float(model.j(np.atleast_1d(b), rows.X, rows.y[:, None], rows.Z))


def crv1(rows, clusters):
    return (rows.n - 1) / (rows.n - rows.q - rows.m) * clusters / (clusters - 1)


@pytest.mark.parametrize("kind", ["hc0", "hc1"])
@pytest.mark.parametrize("instruments", [["nearc4"], ["nearc2", "nearc4"]])
def test_card_against_sums_and_gmm(kind, instruments):
    rows, sandwich, q = net(*card_arrays(instruments)), Sandwich(kind), len(instruments)
    factor = rows.n / (rows.n - q - rows.m) if kind == "hc1" else 1.0
    for b in (0.0, 0.13, -2.0):
        found = ar_test(rows, [b], sandwich=sandwich)
        assert found.statistic == pytest.approx(summed(rows, b, factor), rel=1e-8)
        assert found.statistic == pytest.approx(objective(rows, b, weight_type="robust") / factor, rel=1e-8)
        assert found.p_value == pytest.approx(stats.chi2.sf(found.statistic, q), rel=1e-7)
        assert found.law == f"chi-squared({q})"
    (row,) = robust(rows, sandwich)
    assert row.found.shape == "interval"
    for end in row.found.hull():
        assert summed(rows, end, factor) == pytest.approx(stats.chi2.isf(0.05, q), rel=1e-8)


def test_weights_enter_the_scores_and_not_only_the_moments():
    weights = np.random.default_rng(4).uniform(0.2, 3.0, 150)
    rows = net(*simulated(4, n=150), weights=weights)
    for b in (0.0, 1.4):
        assert ar_test(rows, [b], sandwich=Sandwich("hc0")).statistic == pytest.approx(summed(rows, b, 1.0), rel=1e-8)


def test_smallest_statistic_is_that_of_continuous_updating():
    rows = net(*simulated(1, n=300, strength=0.4))
    fitted = IVGMMCUE(rows.y, None, rows.X, rows.Z, center=False).fit()
    grid = float(fitted.params.iloc[0]) + np.linspace(-0.3, 0.3, 601)
    form = reduced_form(rows, Sandwich("hc0"))
    found = form.statistic(np.array([form.pencil.direction([b]) for b in grid]))
    assert found.min() == pytest.approx(float(fitted.j_stat.stat), rel=1e-6)
    assert found.argmin() == 300


@pytest.mark.parametrize("kind", ["hc0", "hc1", "cluster"])
def test_infinite_effect_is_the_score_test_of_the_first_stage(kind):
    y, X, Z, C = simulated(3, n=400, strength=0.3)
    codes = np.repeat(np.arange(40), 10) if kind == "cluster" else None
    rows = net(y, X, Z, C, sampling=Sampling(400, cluster=codes))
    factor = {"hc0": 1.0, "hc1": 400 / (400 - 3 - 2), "cluster": crv1(rows, 40)}[kind]
    form = reduced_form(rows, Sandwich(kind))
    found = form.statistic(np.array([[0.0, 1.0]]))[0]
    assert found == pytest.approx(summed(replace(rows, y=rows.X[:, 0]), 0.0, factor, codes), rel=1e-8)
    far = [ar_test(rows, [b], sandwich=Sandwich(kind)).statistic for b in (-1e9, 1e9)]
    np.testing.assert_allclose(far, found, rtol=1e-6)


def test_infinite_effect_of_card_against_a_regression():
    rows = net(*card_arrays(["nearc4"]))
    form = reduced_form(rows, Sandwich("hc0"))
    # One instrument: the t-test that the mean of z x is zero, about zero.
    scores = sm.OLS(rows.Z[:, 0] * rows.X[:, 0], np.ones(rows.n)).fit()
    assert form.statistic(np.array([[0.0, 1.0]]))[0] == pytest.approx(rows.n * (1 - scores.ssr / scores.uncentered_tss))


def test_no_factor_without_degrees_of_freedom():
    rows = net(*card_arrays(["nearc4"]))
    found = ar_test(replace(rows, dof="none"), [0.0], sandwich=Sandwich("hc1"))
    assert found.statistic == ar_test(rows, [0.0], sandwich=Sandwich("hc0")).statistic


def test_clusters_against_sums_and_gmm():
    y, X, Z, C = simulated(3, n=400, strength=0.3)
    codes = np.repeat(np.arange(40), 10)
    rows = net(y, X, Z, C, sampling=Sampling(400, cluster=codes))
    bare = Sandwich("cluster", small_sample="none")
    for b in (0.0, 1.0, 2.5):
        found = ar_test(rows, [b], sandwich=Sandwich("cluster")).statistic
        assert found == pytest.approx(summed(rows, b, crv1(rows, 40), codes), rel=1e-8)
        expected = objective(rows, b, weight_type="clustered", clusters=codes)
        assert ar_test(rows, [b], sandwich=bare).statistic == pytest.approx(expected, rel=1e-8)
    (row,) = robust(rows, Sandwich("cluster"))
    assert row.found.contains(1.0)


def clustered_study(seed):
    """120 rows in 60 clusters that share 4 instruments and half of the errors; the effect is 1."""
    rng = np.random.default_rng([7, seed])
    codes = np.repeat(np.arange(60), 2)
    Z = rng.standard_normal((60, 4))[codes]
    v = rng.standard_normal(60)[codes] + rng.standard_normal(120)
    e = 0.6 * v + rng.standard_normal(60)[codes] + rng.standard_normal(120)
    x = Z @ np.full(4, 0.3) + v
    return net(x + e, x[:, None], Z, np.ones((120, 1)), sampling=Sampling(120, cluster=codes))


def wald_of_z(rows, b):
    """The Wald test of Z in the regression of y - X b: the same moments, with the variance of the residuals on Z."""
    e = rows.residuals(np.array([b]))
    left = replace(rows, y=e - rows.Z @ np.linalg.lstsq(rows.Z, e, rcond=None)[0])
    sums = np.zeros((60, rows.q))
    np.add.at(sums, rows.sampling.cluster, rows.Z * left.y[:, None])
    total = rows.Z.T @ e
    return float(total @ np.linalg.solve(crv1(rows, 60) * sums.T @ sums, total))


def test_size_with_sixty_clusters_where_a_wald_test_rejects_too_often():
    runs, tests = 400, {"score": 0, "wald": 0}
    for seed in range(runs):
        rows = clustered_study(seed)
        tests["score"] += ar_test(rows, [1.0], sandwich=Sandwich("cluster")).p_value > 0.05
        tests["wald"] += stats.chi2.sf(wald_of_z(rows, 1.0), 4) > 0.05
    assert binomial_gate("score", int(tests["score"]), runs, 0.95).passed
    assert tests["wald"] < binomial_gate("wald", int(tests["wald"]), runs, 0.95).low * runs


def test_few_clusters_warn_and_too_few_have_a_reason():
    y, X, Z, C = simulated(3, n=120, q=3, strength=0.5)
    with pytest.warns(FewClustersWarning, match="12 clusters"):
        (row,) = robust(net(y, X, Z, C, sampling=Sampling(120, cluster=np.repeat(np.arange(12), 10))), Sandwich())
    assert row.found is not None
    few = net(y, X, Z, C, sampling=Sampling(120, cluster=np.arange(120) % 2))
    with pytest.warns(FewClustersWarning, match="2 clusters"):
        both = confidence_sets(few, "ar", sandwich=Sandwich("cluster"))
    assert both[0].found is not None
    assert both[1].found is None
    assert "rank 2" in both[1].reason
    assert math.isnan(both[1].statistic)
    with pytest.warns(FewClustersWarning):
        assert "too few clusters" in ar_test(few, [0.0], sandwich=Sandwich("cluster")).law


def judged(rows):
    """The set at levels .95 and .1, and the test at six values."""
    sandwich = Sandwich("cluster")
    tests = [ar_test(rows, [b], sandwich=sandwich) for b in (-1e3, -1.0, 0.5, 1.0, 4.0, 1e3)]
    return robust(rows, sandwich)[0], robust(rows, sandwich, level=0.1)[0], tests


@pytest.mark.parametrize("clusters", [3, 8])
def test_a_test_that_cannot_reject_has_a_reason_in_the_place_of_the_whole_line(clusters):
    y, X, Z, C = simulated(3, n=120, q=3, strength=0.5)
    codes = np.arange(120) % clusters
    rows = net(y, X, Z, C, sampling=Sampling(120, cluster=codes))
    bound = clusters / crv1(rows, clusters)
    assert bound < stats.chi2.isf(0.05, 3)
    with pytest.warns(FewClustersWarning):
        row, easy, tests = judged(rows)
    assert row.found is None
    assert f"cannot exceed {bound:.4g}" in row.reason
    assert row.statistic <= bound * (1 + 1e-9)
    assert row.p_value == pytest.approx(stats.chi2.sf(row.statistic, 3))
    assert max(t.statistic for t in tests) <= bound * (1 + 1e-9)
    assert all(f"p is at least {stats.chi2.sf(bound, 3):.3f}" in t.law for t in tests)
    # With as many clusters as instruments every value has the same statistic, the bound.
    assert (min(t.statistic for t in tests) > bound * (1 - 1e-9)) == (clusters == 3)
    assert easy.found is not None


def test_the_bound_of_rows():
    rows = net(*simulated(0, n=12, q=4))
    form = reduced_form(rows, Sandwich("hc1"))
    assert form.bound == pytest.approx(12 - 4 - 2)
    assert "cannot exceed 6 " in robust(rows, Sandwich("hc1"))[0].reason
    # Without a factor the bound is the number of rows, above the critical value.
    assert reduced_form(rows, Sandwich("hc0")).powerless(0.95) is None


def test_conley_against_all_pairs():
    y, X, Z, C = simulated(5, n=90, q=2, strength=0.6)
    rng = np.random.default_rng(1)
    lonlat = np.column_stack([rng.uniform(10, 13, 90), rng.uniform(0, 2, 90)])
    rows = net(y, X, Z, C, sampling=Sampling(90, lonlat=lonlat))
    a = np.radians(lonlat)
    half = np.sin((a[:, None] - a[None, :]) / 2) ** 2
    apart = half[:, :, 1] + np.cos(a[:, 1])[:, None] * np.cos(a[:, 1])[None, :] * half[:, :, 0]
    kernel = np.clip(1 - 2 * 6371.01 * np.arcsin(np.sqrt(apart)) / 50.0, 0.0, None)
    for b in (0.0, 1.0):
        e = rows.residuals(np.array([b]))
        g = rows.Z.T @ e / 90
        u = rows.Z * e[:, None]
        expected = 90 * g @ np.linalg.solve(u.T @ kernel @ u / 90, g)
        found = ar_test(rows, [b], sandwich=Sandwich("conley", cutoff_km=50.0))
        assert found.statistic == pytest.approx(expected, rel=1e-8)
    (row,) = robust(rows, Sandwich("conley", cutoff_km=50.0))
    assert row.found.contains(1.0)


def test_negative_eigenvalues_are_reported():
    y, X, Z, C = simulated(6, n=30, q=4, strength=0.6)
    rows = net(y, X, Z, C, sampling=Sampling(30, cluster=np.arange(30) % 6, second=np.arange(30) // 5))
    with pytest.warns(FewClustersWarning):
        form = reduced_form(rows, Sandwich("twoway"))
    assert any("negative eigenvalues" in note for note in form.notes)
    flat = form.V.transpose(0, 2, 1, 3).reshape(8, 8)
    assert np.linalg.eigvalsh(flat)[0] > -1e-10 * np.linalg.eigvalsh(flat)[-1]


def test_a_covariance_that_needs_leverages_is_refused():
    with pytest.raises(OptionError, match="hc3"):
        ar_test(net(*simulated(0)), [0.0], sandwich=Sandwich("hc3"))


@pytest.mark.parametrize("name", sorted(SHAPES))
def test_shapes_by_brute_force(name):
    strength, direct, seed = SHAPES[name]
    rows = net(*simulated(seed, strength=strength, direct=np.array(direct)))
    (row,) = robust(rows, Sandwich("hc1"))
    assert row.found.shape == name
    grid = np.concatenate([np.linspace(-60, 60, 401), np.linspace(-3, 6, 301), [-1e7, 1e7]])
    form = reduced_form(rows, Sandwich("hc1"))
    statistic = np.array([form.statistic(form.pencil.direction([b])[None, :])[0] for b in grid])
    assert permitted(statistic - stats.chi2.isf(0.05, 3), grid, row.found.pieces, slack=1e-7)
    mirrored = robust(replace(rows, y=-rows.y), Sandwich("hc1"))[0].found.pieces
    np.testing.assert_allclose(sorted((-h, -l) for l, h in mirrored), row.found.pieces, rtol=1e-8)
    scaled = robust(rows.scaled(1e-3, np.array([1e4])), Sandwich("hc1"))[0].found.pieces
    np.testing.assert_allclose(np.array(scaled) / 1e7, np.array(row.found.pieces), rtol=1e-8)


def test_strong_heteroskedasticity_moves_the_set():
    arrays = simulated(2, n=2000, strength=0.3, spread=lambda Z: 0.2 + np.abs(Z[:, 0]) ** 2)
    plain, adjusted = confidence_sets(net(*arrays), "ar", sandwich=Sandwich("hc0"))
    widths = [row.found.hull()[1] - row.found.hull()[0] for row in (plain, adjusted)]
    assert adjusted.found.contains(1.0)
    assert abs(widths[0] / widths[1] - 1) > 0.05


def test_a_pair_of_crossings_between_two_angles_is_found():
    def dip(angles):
        return 1e-9 - 1e-8 * np.exp(-(((angles - 0.40123) / 1e-3) ** 2)) + 1e-9 * (angles - 0.40123) ** 2

    ((low, high),) = angular_set(dip, 401)
    assert high - low == pytest.approx(2e-3 * math.sqrt(math.log(10)), rel=1e-3)
    assert low < 0.40123 < high


def test_angles_become_pieces():
    half = math.pi / 2
    assert tangents([]) == ()
    assert tangents([(-half, half)]) == ((-math.inf, math.inf),)
    assert tangents(angular_set(lambda t: -np.ones(t.size))) == ((-math.inf, math.inf),)
    assert tangents(angular_set(lambda t: np.ones(t.size))) == ()
    low, high = tangents(angular_set(lambda t: np.cos(t) - np.cos(1.0)))
    np.testing.assert_allclose([low[1], high[0]], [-math.tan(1.0), math.tan(1.0)], rtol=1e-12)
    ((low, high),) = tangents(angular_set(lambda t: np.cos(1.0) - np.cos(t)))
    np.testing.assert_allclose([low, high], [-math.tan(1.0), math.tan(1.0)], rtol=1e-12)


# Several treatments.


def homoskedastic(rows):
    """The reduced form with the homoskedastic variance, for which projection has a closed form."""
    form = reduced_form(rows, Sandwich("hc0"))
    V = form.pencil.M[:, :, None, None] * np.eye(rows.q)[None, None] * (rows.n / rows.d1)
    return replace(form, V=V)


@pytest.mark.parametrize("case", ["mroz", "line", "rays", "empty"])
def test_projection_against_its_closed_form(case):
    arrays = mroz_arrays()
    if case != "mroz":
        seed, scale = {"line": (1, 0.1), "rays": (0, 0.2), "empty": (3, 0.2)}[case]
        strength = scale * np.random.default_rng(seed).standard_normal((4, 2)) * np.array([1.0, 4.0])[None, :]
        arrays = simulated(seed, q=4, p=2, strength=strength, direct=np.array([0.3, 0.3, 0, 0]))
    rows = net(*arrays)
    form = homoskedastic(rows)
    critical = float(stats.chi2.isf(0.05, rows.q))
    for j in (0, 1):
        expected, found = level_set(form.pencil, j, critical), projected_set(form, j, critical)
        assert len(found) == len(expected)
        np.testing.assert_allclose(found, expected, rtol=1e-7)
        for null in (0.0, 2.0):
            assert projected_test(form, j, null) == pytest.approx(subset_ratio(form.pencil, j, null), rel=1e-8)


def test_three_treatments_reach_the_minimum():
    strength = 0.4 * np.random.default_rng(8).standard_normal((5, 3))
    rows = net(*simulated(8, n=300, q=5, p=3, strength=strength))
    form = homoskedastic(rows)
    for j in range(3):
        profile, scale = Profile(form, j), form.pencil.scale
        for null in (-3.0, 0.0, 1.0, 4.0):
            held = (null - form.pencil.centre[j]) * scale[j + 1] / scale[0]
            found = profile(np.array([1.0]), np.array([held]))[0]
            assert found == pytest.approx(subset_ratio(form.pencil, j, null), rel=1e-6)


def test_robust_projection_contains_every_projected_point():
    rows, sandwich = net(*mroz_arrays(), treatments=("educ", "exper")), Sandwich("hc1")
    found = robust(rows, sandwich)
    assert [row.treatment for row in found] == ["educ", "exper"]
    assert all("conservative" in row.found.text for row in found)
    form = reduced_form(rows, sandwich)
    rng = np.random.default_rng(0)
    b = np.column_stack([rng.uniform(-0.4, 0.6, 20_000), rng.uniform(-0.02, 0.06, 20_000)])
    U = np.column_stack([np.ones(b.shape[0]), form.pencil.centre[None, :] - b]) * form.pencil.scale[None, :]
    joint = form.statistic(U) <= stats.chi2.isf(0.05, 3)
    assert joint.sum() > 1000
    for j, row in enumerate(found):
        low, high = row.found.hull()
        assert low <= b[joint, j].min()
        assert b[joint, j].max() <= high
        width = high - low
        assert b[joint, j].min() - low < 0.05 * width
        assert high - b[joint, j].max() < 0.05 * width
        assert row.p_value == pytest.approx(stats.chi2.sf(row.statistic, 3))
