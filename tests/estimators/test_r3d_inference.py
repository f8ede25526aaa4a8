"""Errors, degrees of freedom, draws and bands of r3d against explicit matrices and against each other."""

import hashlib
import os
import subprocess
import sys
import warnings
from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

from causalsat.errors import DataError, FewClustersWarning, OptionError
from causalsat.estimators.r3d_contributions import contributions
from causalsat.estimators.r3d_fit import fit_columns, fit_curves
from causalsat.estimators.r3d_inference import infer
from causalsat.inference.options import Bootstrap
from causalsat.inference.resampling import resampling_weights
from tests.estimators.r3d_cases import arrays, block_contributions, chosen, dense, satterthwaite, simulated

H = np.array([0.7, 0.6])


def answer(design, h=H, fit_options=None, **changed):
    fit = fit_curves(design, h, **(fit_options or {}))
    return infer(design, fit, chosen(**changed))


def quick(**more):
    return {"n_boot": 199, **more}


@pytest.mark.parametrize("covariates", [0, 2])
@pytest.mark.parametrize(("kernel", "order"), [("triangular", 2), ("epanechnikov", 1), ("uniform", 0)])
def test_standard_errors_are_sums_of_squared_weights_times_residuals(kernel, order, covariates):
    design = simulated(covariates=covariates)
    hat, s, k = dense(design, H, kernel=kernel, order=order)
    inside, gap = k > 0, s[0] - s[1]
    errors = design.Q - hat @ design.Q
    leverage = np.diag(hat)
    n_right, n_left = (inside & design.treated).sum(), (inside & ~design.treated).sum()
    size = np.where(design.treated, n_right, n_left)
    factors = {
        "hc0": np.ones(k.size), "hc1": np.sqrt(size / (size - order - 1)), "hc2": (1 - leverage) ** -0.5,
        "hc3": 1 / (1 - leverage),
    }  # fmt: skip
    for name, factor in factors.items():
        found = answer(design, fit_options={"kernel": kernel, "order": order}, residuals=name, **quick())
        expected = np.sqrt((((gap * factor * inside)[:, None] * errors) ** 2).sum(axis=0))
        np.testing.assert_allclose(found.se, expected, rtol=1e-10)
        assert found.residuals == name and found.n_clusters == inside.sum()
        assert found.n_window.tolist() == [n_right, n_left]


def test_hc3_residual_is_that_of_a_fit_without_the_unit():
    design = simulated(n=40, m=2)
    fit = fit_curves(design, H)
    basis = contributions(design, fit, "hc3", Bootstrap(scheme="multiplier"), 0)
    for row, i in enumerate(basis.groups.rows[:12]):
        keep = np.arange(40) != i
        own = arrays(design.x[keep], design.Q[keep])
        right = bool(design.treated[i])
        less = fit_curves(own, H).columns
        u = abs(design.x[keep]) / H[0 if right else 1]
        side = (design.treated[keep] == right) & (u < 1)
        R = (design.x[keep][side, None]) ** np.arange(3)
        beta = np.linalg.lstsq(
            R * np.sqrt(less.weights[side])[:, None], own.Q[side] * np.sqrt(less.weights[side])[:, None]
        )[0]
        gone = design.Q[i] - design.x[i] ** np.arange(3) @ beta
        s = fit.columns.limits[:, i]
        np.testing.assert_allclose((basis.plus - basis.minus)[row], (s[0] - s[1]) * gone, rtol=1e-8)


@pytest.mark.parametrize("covariates", [0, 1])
@pytest.mark.parametrize(("residuals", "kind"), [("hc0", "cr0"), ("hc2", "cr2"), ("hc3", "cr3")])
def test_block_corrections_of_clusters_on_both_sides(residuals, kind, covariates):
    codes = np.random.default_rng(1).integers(0, 25, 120)
    design = simulated(covariates=covariates, cluster=codes)
    found = answer(design, residuals=residuals, **quick())
    blocks, rows = block_contributions(design, H, codes, kind)
    np.testing.assert_allclose(found.se, np.sqrt(((blocks[:, 0] - blocks[:, 1]) ** 2).sum(axis=0)), rtol=1e-9)
    np.testing.assert_allclose(found.curve.df, satterthwaite(rows), rtol=1e-9)
    assert found.residuals == kind and found.n_clusters == 25
    above, below = found.sides()
    np.testing.assert_allclose(above.se, np.sqrt((blocks[:, 0] ** 2).sum(axis=0)), rtol=1e-9)
    np.testing.assert_allclose(below.se, np.sqrt((blocks[:, 1] ** 2).sum(axis=0)), rtol=1e-9)


@pytest.mark.parametrize("residuals", ["hc0", "hc1", "hc2", "hc3"])
def test_clusters_of_one_are_units(residuals):
    design = simulated(covariates=1)
    alone = answer(design, residuals=residuals, **quick())
    for codes in (np.arange(120), np.arange(120)[::-1].copy()):
        named = answer(arrays(design.x, design.Q, W=design.covariates, cluster=codes), residuals=residuals, **quick())
        np.testing.assert_allclose(named.se, alone.se, rtol=1e-12)
        np.testing.assert_array_equal(named.draws, alone.draws)
        assert named.residuals == residuals


def test_large_sets_of_clusters_go_through_blocks_of_the_size_of_the_regressors():
    # A pair among singletons: the block path and the unit path meet in the singletons' rows.
    design = simulated(n=60)
    codes = np.arange(60)
    codes[1] = 0
    fit, scheme = fit_curves(design, np.full(2, 2.0)), Bootstrap(scheme="multiplier")
    mixed = contributions(arrays(design.x, design.Q, cluster=codes), fit, "hc2", scheme, 0)
    units = contributions(design, fit, "hc2", scheme, 0)
    np.testing.assert_allclose(mixed.plus[1:], units.plus[2:], rtol=1e-9, atol=1e-13)


def test_degrees_of_freedom_are_satterthwaite_of_the_explicit_matrix():
    design = simulated()
    for residuals, power in (("hc0", 0.0), ("hc2", -0.5), ("hc3", -1.0)):
        hat, s, k = dense(design, H)
        inside = (k > 0).astype(float)
        loading = np.diag((s[0] - s[1]) * (1 - np.diag(hat)) ** power * inside)
        rows = (loading @ (np.eye(k.size) - hat))[inside > 0]
        found = answer(design, residuals=residuals, **quick())
        np.testing.assert_allclose(found.curve.df, satterthwaite(rows), rtol=1e-9)


def test_duplicated_units_in_clusters_change_nothing_and_alone_shrink_the_error():
    design, k = simulated(), 3
    copies = np.repeat(np.arange(120), k)
    again = arrays(design.x[copies], design.Q[copies], cluster=copies)
    plain = answer(design, residuals="hc0", **quick())
    np.testing.assert_allclose(answer(again, residuals="hc0", **quick()).se, plain.se, rtol=1e-10)
    naive = answer(arrays(again.x, again.Q), residuals="hc0", **quick())
    np.testing.assert_allclose(naive.se, plain.se / np.sqrt(k), rtol=1e-10)


def test_each_column_with_its_own_bandwidth_is_a_design_of_its_own():
    design = simulated(m=4)
    h = np.array([[0.5, 0.6, 0.7, 0.8], [0.6, 0.6, 0.9, 0.7]])
    found = answer(design, h, {"estimator": "pointwise"}, estimator="pointwise", **quick())
    for j in range(4):
        alone = answer(arrays(design.x, design.Q[:, [j]]), h[:, j], **quick(tests=()))
        np.testing.assert_allclose(found.se[j], alone.se[0], rtol=1e-10)
        np.testing.assert_allclose(found.curve.df[j], alone.curve.df[0], rtol=1e-10)
    assert found.curve.factors.shape == (199, 4)
    order = np.argsort(found.curve.df)
    # One uniform per replicate: where the factor inflates, it inflates more for fewer degrees of freedom.
    large = found.curve.factors[found.curve.factors.min(axis=1) > 1.3][:, order]
    assert (np.diff(large, axis=1) <= 1e-12).all() and large.size


@pytest.mark.parametrize(
    ("bootstrap", "cluster"),
    [
        (Bootstrap(n=2000, scheme="multiplier"), False),
        (Bootstrap(n=2000, scheme="multiplier", law="mammen"), False),
        (Bootstrap(n=2000, scheme="wild"), True),
        (Bootstrap(n=2000, scheme="block", block_km=30.0), False),
    ],
)
@pytest.mark.parametrize("m", [3, 90])
def test_spread_of_draws_is_the_analytic_error(bootstrap, cluster, m):
    g = np.random.default_rng(5)
    more = {"lonlat": np.column_stack([32 + 2 * g.random(160), 1 + 2 * g.random(160)])}
    if cluster:
        more["cluster"] = g.integers(0, 40, 160)
    design = simulated(n=160, m=m, **more)
    extra = np.column_stack([design.Q.mean(axis=1)])
    found = infer(design, fit_curves(design, H, extra=extra), chosen(inference=bootstrap, tests=()))
    spread = lambda values: np.sqrt((values**2).mean(axis=0))  # noqa: E731
    np.testing.assert_allclose(spread(found.draws) / found.se, 1.0, atol=0.07)
    right, left = found.side_draws()
    np.testing.assert_allclose(right - left, found.numerator_draws, atol=1e-12)
    np.testing.assert_allclose(right[:, :m] - left[:, :m], found.draws, atol=1e-12)
    C = found.contributions
    for values, own in ((right, C.plus), (left, C.minus)):
        np.testing.assert_allclose(spread(values) / np.sqrt((own**2).sum(axis=0)), 1.0, atol=0.07)
    cross = (C.plus * C.minus).sum(axis=0) / np.sqrt((C.plus**2).sum(axis=0) * (C.minus**2).sum(axis=0))
    drawn = (right * left).mean(axis=0) / (spread(right) * spread(left))
    np.testing.assert_allclose(drawn, cross, atol=0.09)
    assert found.extra.draws.shape == (2000, 1)
    np.testing.assert_allclose(found.covariance, found.merged.T @ found.merged)


def test_draws_are_a_function_of_seed_and_replicate():
    for design in (simulated(m=5), simulated(m=99)):  # through the factor, and unit by unit
        short, long = answer(design, n_boot=99), answer(design, n_boot=1099)
        np.testing.assert_array_equal(short.draws, long.draws[:99])
        np.testing.assert_array_equal(short.side_draws()[0], long.side_draws()[0][:99])
        np.testing.assert_array_equal(short.curve.factors, long.curve.factors[:99])
        assert np.abs(answer(design, n_boot=99, seed=4).draws - short.draws).max() > 0.1 * short.se.max()


def fingerprint():
    """Hash of draws that go through the factor, and unit by unit."""
    parts = []
    for design in (simulated(n=400, m=99), simulated(m=99)):
        found = answer(design, n_boot=99)
        parts += [found.draws, found.side_draws()[0], found.curve.band_low]
    return hashlib.sha256(b"".join(part.tobytes() for part in parts)).hexdigest()


def test_bits_do_not_depend_on_threads():
    threads = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "JAX_ENABLE_X64": "1"}
    code = "from tests.estimators.test_r3d_inference import fingerprint; print(fingerprint())"
    run = subprocess.run([sys.executable, "-c", code], env={**os.environ, **threads}, capture_output=True, text=True)
    assert run.stdout.strip() == fingerprint(), run.stderr


def test_further_columns_leave_the_curve_s_draws_alone():
    design = simulated(m=5)
    extra = np.random.default_rng(0).normal(size=(120, 2))
    with_them = infer(design, fit_curves(design, H, extra=extra), chosen(**quick()))
    np.testing.assert_allclose(with_them.draws, answer(design, **quick()).draws, rtol=1e-9, atol=1e-12)
    assert with_them.extra.estimate.shape == (2,) and np.isnan(with_them.extra.critical)
    assert with_them.side_draws()[0].shape == (199, 7)


def test_order_of_units_does_not_matter():
    design, turn = simulated(m=5), np.random.default_rng(2).permutation(120)
    plain, turned = answer(design, **quick()), answer(arrays(design.x[turn], design.Q[turn]), **quick())
    np.testing.assert_allclose(turned.draws, plain.draws, rtol=1e-7, atol=1e-10)
    np.testing.assert_allclose(turned.curve.band_low, plain.curve.band_low, rtol=1e-8)


def test_units_of_measurement_do_not_matter():
    design = simulated(m=5)
    plain = answer(design, **quick())
    scaled = answer(arrays(50 * design.x, design.Q, omega=np.full(120, 3.0)), 50 * H, **quick())
    np.testing.assert_allclose(scaled.curve.band_high, plain.curve.band_high, rtol=1e-8)
    np.testing.assert_allclose(scaled.curve.df, plain.curve.df, rtol=1e-9)
    affine = answer(arrays(design.x, 4 * design.Q - 7), **quick())
    np.testing.assert_allclose(affine.curve.band_high, 4 * plain.curve.band_high, rtol=1e-7)
    assert [t.p_value for t in affine.tests] == [t.p_value for t in plain.tests]
    moved = answer(arrays(design.x, design.Q + 2.5 * design.treated[:, None]), **quick())
    np.testing.assert_allclose(moved.curve.estimate, plain.curve.estimate + 2.5, rtol=1e-10)
    np.testing.assert_allclose(
        moved.curve.band_high - moved.curve.band_low, plain.curve.band_high - plain.curve.band_low
    )
    mirrored = answer(arrays(-design.x, design.Q), H[::-1], **quick())
    np.testing.assert_allclose(mirrored.curve.estimate, -plain.curve.estimate, rtol=1e-9)
    np.testing.assert_allclose(mirrored.se, plain.se, rtol=1e-9)
    column_scales = answer(arrays(design.x, design.Q * np.arange(1, 6)), **quick(tests=("nullity",)))
    np.testing.assert_allclose(column_scales.curve.critical, plain.curve.critical, rtol=1e-9)


def test_studentized_and_constant_bands_are_order_statistics_of_sups():
    design = simulated(m=9)
    found = answer(design, n_boot=999)
    sups = np.sort((np.abs(found.draws) / found.se * found.curve.factors).max(axis=1))
    assert found.curve.critical == sups[949]  # ceil(.95 * 1000) - 1
    np.testing.assert_allclose(found.curve.band_high - found.curve.estimate, sups[949] * found.se)
    flat = answer(design, n_boot=999, band="constant", critical="normal")
    sups = np.sort(np.abs(flat.draws).max(axis=1))
    assert flat.curve.critical == sups[949] and (flat.curve.factors == 1).all()
    np.testing.assert_allclose(flat.curve.band_high - flat.curve.band_low, 2 * sups[949])
    np.testing.assert_allclose(flat.curve.conf_high - flat.curve.estimate, stats.norm.ppf(0.975) * flat.se)
    none = answer(design, n_boot=999, band=None)
    assert np.isnan(none.curve.band_low).all() and np.isnan(none.curve.critical)


def test_pointwise_intervals_are_t_and_lie_in_the_band():
    found = answer(simulated(m=9), n_boot=3999)
    curve = found.curve
    reach = stats.t.ppf(0.975, curve.df) * curve.se
    np.testing.assert_allclose(curve.conf_high, curve.estimate + reach)
    np.testing.assert_allclose(curve.p_value, 2 * stats.t.sf(abs(curve.estimate / curve.se), curve.df))
    assert (curve.band_low < curve.conf_low).all() and (curve.band_high > curve.conf_high).all()
    assert answer(simulated(m=9), n_boot=3999, level=0.99).curve.critical > curve.critical


def test_one_quantile_has_the_t_law():
    found = answer(simulated(m=1, n=60), n_boot=19999, tests=("nullity",))
    # Monte Carlo error of a quantile: sqrt(.95 * .05 / 20000) / density.
    df = found.curve.df[0]
    c = stats.t.ppf(0.975, df)
    assert abs(found.curve.critical - c) < 4 * np.sqrt(0.95 * 0.05 / 20000) / (2 * stats.t.pdf(c, df))
    assert abs(found.tests[0].p_value - found.curve.p_value[0]) < 4 * np.sqrt(0.25 / 20000)


def test_levels_where_all_units_tie_have_no_error_and_say_so():
    design = simulated(m=6)
    Q = design.Q.copy()
    Q[:, :2] = -50.0
    found = answer(arrays(design.x, Q), **quick())
    assert np.isnan(found.se[:2]).all() and np.isnan(found.curve.band_low[:2]).all()
    assert set(found.curve.unavailable) == {0, 1} and "ties" in found.curve.unavailable[0]
    assert np.isfinite(found.curve.band_low[2:]).all() and (found.draws[:, :2] == 0).all()
    alone = answer(arrays(design.x, Q[:, 2:]), **quick())
    np.testing.assert_allclose(found.curve.band_high[2:], alone.curve.band_high, rtol=1e-9)
    assert found.tests[0].p_value == alone.tests[0].p_value and found.tests[0].n_levels == 4


def test_all_levels_tied_leave_nothing():
    found = answer(arrays(np.linspace(-1, 1, 50), np.tile([1.0, 2.0], (50, 1))), **quick())
    assert np.isnan(found.curve.band_low).all() and np.isnan(found.curve.p_value).all()
    assert all(np.isnan(t.p_value) and "no quantile" in t.unavailable for t in found.tests)


def refitted(design, weights, h, order=2):
    fit = fit_columns(
        design.x, design.treated, design.omega * weights, design.covariates, design.Q, h, order=order
    )  # fmt: skip
    return fit.raw


@pytest.mark.parametrize("scheme", ["iid", "bayes", "cluster"])
def test_refitted_draws_are_fits_under_the_weights(scheme):
    codes = np.random.default_rng(8).integers(0, 40, 200) if scheme == "cluster" else None
    design = simulated(n=200, m=4, cluster=codes)
    bootstrap = Bootstrap(n=60, scheme=scheme)
    found = infer(design, fit_curves(design, H), chosen(inference=bootstrap, tests=("nullity",)))
    weights = resampling_weights(bootstrap, design.sampling, seed=3)
    right, left = found.side_draws()
    base = refitted(design, np.ones(200), H)
    for b in (0, 17, 59):
        shift = refitted(design, weights[b], H) - base
        np.testing.assert_allclose(right[b], shift[0], rtol=1e-7, atol=1e-9)
        np.testing.assert_allclose(left[b], shift[1], rtol=1e-7, atol=1e-9)
    np.testing.assert_allclose(found.draws, right - left, atol=1e-12)
    assert found.notes["refit"] and found.n_failed == {}
    normal = infer(design, fit_curves(design, H), chosen(inference=bootstrap, tests=(), critical="normal")).curve
    assert np.ptp(found.curve.factors) > 0.1 and np.ptp(normal.factors) == 0.0
    assert (normal.factors == 1.0).all() == (scheme != "bayes") and normal.critical < found.curve.critical


@pytest.mark.parametrize(("h", "estimator"), [(H, "frechet"), (np.array([[0.6, 0.8], [0.7, 0.5]]), "pointwise")])
def test_bands_of_bayesian_weights_are_as_wide_as_those_of_multipliers(h, estimator):
    design = simulated(n=160, m=2 if estimator == "pointwise" else 7)
    fit = fit_curves(design, h, estimator=estimator)
    bayes, multiplier = (
        infer(design, fit, chosen(inference=Bootstrap(n=1999, scheme=name))) for name in ("bayes", "multiplier")
    )
    # Bayesian weights alone leave the spread of the draws a tenth short of the standard errors.
    assert (bayes.draws.std(axis=0) < 0.95 * bayes.se).all()
    np.testing.assert_array_equal(bayes.se, multiplier.se)
    np.testing.assert_allclose(bayes.curve.scaled().std(axis=0), multiplier.curve.scaled().std(axis=0), rtol=0.06)
    assert bayes.curve.critical == pytest.approx(multiplier.curve.critical, rel=0.08)
    for one, other in zip(bayes.sides(), multiplier.sides(), strict=True):
        assert one.critical == pytest.approx(other.critical, rel=0.08)
    for one, other in zip(bayes.tests, multiplier.tests, strict=True):
        assert one.critical_value == pytest.approx(other.critical_value, rel=0.15)


def test_refitted_draws_of_columns_with_their_own_bandwidths_and_of_a_treatment():
    design = simulated(n=900, m=3, fuzzy=True, covariates=1)
    bootstrap = Bootstrap(n=59, scheme="bayes")
    h = np.array([[0.6, 0.7, 0.8], [0.7, 0.7, 0.6]])
    fit = fit_curves(design, h, estimator="pointwise", h_treatment=np.array([0.9, 0.8]))
    found = infer(design, fit, chosen(inference=bootstrap, estimator="pointwise"))
    weights = resampling_weights(bootstrap, design.sampling, seed=3)[11]
    # Covariates stay centred where they were, which moves both limits but not the jump.
    for j in range(3):
        alone = arrays(design.x, design.Q[:, [j]], W=design.covariates)
        shift = refitted(alone, weights, h[:, j]) - refitted(alone, np.ones(900), h[:, j])
        np.testing.assert_allclose(found.numerator_draws[11, j], shift[0, 0] - shift[1, 0], rtol=1e-6, atol=1e-9)
    received = arrays(design.x, design.treatment[:, None], W=design.covariates)
    shift = refitted(received, weights, [0.9, 0.8]) - refitted(received, np.ones(900), [0.9, 0.8])
    np.testing.assert_allclose(found.first_stage.draws[11, 0], shift[0, 0] - shift[1, 0], rtol=1e-6, atol=1e-9)


def test_refits_that_fail_are_counted_and_leave_gaps():
    x = np.concatenate([np.linspace(0.01, 0.9, 5), -np.linspace(0.01, 0.9, 60)])
    design = arrays(x, np.random.default_rng(0).normal(size=(65, 2)))
    with warnings.catch_warnings(record=True):
        warnings.simplefilter("always")
        found = infer(design, fit_curves(design, np.ones(2)), chosen(inference=Bootstrap(n=99, scheme="iid")))
    assert found.n_failed["singular"] == np.isnan(found.draws).all(axis=1).sum() > 9
    assert np.isnan(found.curve.critical) and np.isfinite(found.curve.conf_low).all()


def test_clusters_that_are_few_or_one_or_forgotten():
    x = simulated().x
    design = simulated(cluster=(np.arange(120) % 12))
    with pytest.warns(FewClustersWarning, match="12 clusters lie in the window"):
        answer(design, **quick())
    with pytest.raises(DataError, match="one of the clusters"):
        answer(arrays(x, design.Q, cluster=np.zeros(120, int)), **quick())
    with pytest.raises(OptionError, match="resamples units"):
        answer(design, inference=Bootstrap(n=99, scheme="iid"))
    with pytest.raises(OptionError, match="nothing to draw"):
        answer(simulated(), inference=Bootstrap(n=99, scheme="bayes", refit=False))
    with pytest.raises(OptionError, match="coords="):
        answer(simulated(), inference=Bootstrap(n=99, scheme="block", block_km=5.0))


def test_clusters_outside_the_window_do_not_count():
    codes = np.where(abs(simulated().x) > 0.9, 500 + np.arange(120), np.arange(120) % 20)
    found = answer(simulated(cluster=codes), **quick())
    assert found.n_clusters == 20
    C = found.contributions
    assert C.plus.shape == (20, 7) and C.groups.rows.size == found.n_window.sum()


def test_choices_reach_the_answer():
    design = simulated(m=5)
    choices = chosen(**quick())
    fit = fit_curves(design, H)
    assert infer(design, fit, replace(choices, tests=())).tests == ()
    assert [t.name for t in infer(design, fit, choices).tests] == ["nullity", "homogeneity", "dominance"]
