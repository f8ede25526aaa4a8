"""Functionals of distributions: closed forms, identities with scalar regressions, reasons for what is missing."""

import math

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from causalsat.errors import OptionError
from causalsat.estimators.r3d_curve_functionals import curve_functional
from causalsat.estimators.r3d_fit import fit_columns, monotone
from causalsat.estimators.r3d_functional_columns import MIDPOINTS, functional_columns
from causalsat.estimators.r3d_functional_names import parsed_functionals
from causalsat.estimators.r3d_functionals import critical_value, exceedance
from causalsat.study.distributions import Histogram, QuantileMatrix
from tests.estimators.r3d_rough import rows_of, units


def lognormal_units(n=160, k=60, seed=0, shift=0.0, sigma=(0.6, 0.6), scatter=0.2):
    rng = np.random.default_rng(seed)
    x = rng.uniform(-1.0, 1.0, n)
    centre = scatter * rng.standard_normal(n) + 0.2 * x + shift * (x >= 0.0)
    width = np.where(x >= 0.0, sigma[1], sigma[0])
    return x, np.exp(centre[:, None] + width[:, None] * rng.standard_normal((n, k)))


def scalar(design, column, h, **options):
    fit = fit_columns(
        design.x, design.treated, design.omega, design.covariates, column[:, None], np.full(2, h), **options
    )
    return float(fit.raw[0, 0] - fit.raw[1, 0])


ALL = (
    "mean", "variance", "sd", "iqr", "range(.1,.9)", "gini", "lorenz(.5)", "share_top(.1)", "share_bottom(.4)",
    "exceed(1.2)",
)  # fmt: skip


def test_mean_is_the_scalar_discontinuity_of_unit_means():
    x, z = lognormal_units()
    z[::3, 40:] = np.nan
    design = units(x, z)
    means = np.nanmean(z, axis=1)[design.rows]
    rows, _ = rows_of(design, ("mean", "unit:mean"), 0.7)
    expected = scalar(design, means, 0.7)
    assert abs(rows["mean"].estimate - expected) < 1e-10
    assert rows["mean"].estimate == rows["unit:mean"].estimate
    assert rows["mean"].conf_low < rows["mean"].estimate < rows["mean"].conf_high


def test_means_of_weighted_draws_are_exact():
    rng = np.random.default_rng(3)
    x = rng.uniform(-1, 1, 80)
    frame = pd.DataFrame({"u": np.repeat(np.arange(80), 30), "x": np.repeat(x, 30)})
    frame["z"], frame["w"] = rng.standard_normal(2400), rng.uniform(0.1, 2.0, 2400)
    from causalsat.estimators.r3d_design import open_design

    design = open_design(frame, outcome="z", running="x", unit="u", weights="w")
    means = frame.groupby("u").apply(lambda g: np.average(g["z"], weights=g["w"]), include_groups=False).to_numpy()
    rows, _ = rows_of(design, ("mean",), 0.8)
    order = np.argsort(x)
    assert abs(rows["mean"].estimate - scalar(design, means[order], 0.8)) < 1e-10


@pytest.mark.parametrize("name", [n for n in ALL if n not in ("mean", "iqr", "range(.1,.9)")])
def test_unit_functionals_are_scalar_discontinuities_of_the_units_own(name):
    x, z = lognormal_units()
    design = units(x, z)
    rows, _ = rows_of(design, (f"unit:{name}",), 0.7)
    f = parsed_functionals((f"unit:{name}",))[0]
    z = np.sort(z, axis=1)[design.rows]
    n, ranks = z.shape[1], np.arange(1, z.shape[1] + 1)
    mean = z.mean(axis=1)
    lorenz = lambda p: z[:, : round(p * n)].sum(axis=1) / z.sum(axis=1)  # noqa: E731
    own = {
        "variance": lambda: z.var(axis=1),
        "sd": lambda: z.std(axis=1),
        "gini": lambda: (z @ (2 * ranks - n - 1)) / n**2 / mean,
        "lorenz": lambda: lorenz(0.5),
        "share_top": lambda: 1 - lorenz(0.9),
        "share_bottom": lambda: lorenz(0.4),
        "exceed": lambda: (z > 1.2).mean(axis=1),
    }[f.kind]()
    row = next(iter(rows.values()))
    assert abs(row.estimate - scalar(design, own, 0.7)) < 1e-10
    assert row.reason == "" and row.std_error > 0.0


def lognormal_truth(sigma):
    gini = 2 * stats.norm.cdf(sigma / math.sqrt(2)) - 1
    variance = (math.exp(sigma**2) - 1) * math.exp(sigma**2)
    truth = {"gini": gini, "variance": variance, "sd": math.sqrt(variance)}
    for p in (0.1, 0.013, 0.001):
        truth[f"share_top({p})"] = stats.norm.cdf(sigma - stats.norm.ppf(1 - p))
    return truth | {"lorenz(0.333)": stats.norm.cdf(stats.norm.ppf(0.333) - sigma)}


@pytest.mark.parametrize(("sigma", "within"), [(0.5, 5e-4), (1.0, 5e-4), (1.5, 3e-3)])
def test_functionals_of_the_average_of_lognormal_units(sigma, within):
    levels = (np.arange(1_000_000) + 0.5) / 1_000_000
    z = np.exp(sigma * stats.norm.ppf(levels))
    truth = lognormal_truth(sigma)
    design = units(np.array([-1.0, 1.0]), np.stack([z, z]))
    wanted = parsed_functionals(tuple(truth))
    columns = functional_columns(wanted, design)
    for f in wanted:
        beside = columns.values[:, columns.beside[f.name]] if f.name in columns.beside else None
        found = curve_functional(f, columns.values[:, columns.curve : columns.curve + 200], beside)
        # A million draws themselves miss 1.6% of the variance at sigma 1.5.
        tolerance = 2e-2 if f.kind in ("variance", "sd") and sigma > 1.0 else max(within, 2e-3 * (f.kind == "variance"))
        np.testing.assert_allclose(found, truth[f.name], rtol=tolerance, err_msg=f.name)
    cells = columns.values[:, columns.curve : columns.curve + 200]
    np.testing.assert_allclose(cells.mean(axis=1), design.means, rtol=1e-12)


def test_variance_and_w2_of_the_average_where_units_differ_in_scale():
    rng = np.random.default_rng(6)
    x, scale = np.linspace(-1.0, 1.0, 80), np.exp(0.3 * rng.standard_normal(80))
    shape = np.exp(stats.norm.ppf((np.arange(20_000) + 0.5) / 20_000))
    z = (scale * np.where(x >= 0.0, 2.0, 1.0))[:, None] * shape
    rows, _ = rows_of(units(x, z), ("variance", "w2", "mean"), 5.0, order=0, kernel="uniform")
    per_unit = shape.var() / shape.mean() ** 2
    for side in ("above", "below"):
        # One shape for all units: the variance of the average is that shape's, at the average scale.
        expected = per_unit * getattr(rows["mean"], side) ** 2
        assert expected < getattr(rows["variance"], side) < 1.01 * expected
    # W2 is of the cell means.
    cells = shape.reshape(200, -1).mean(axis=1)
    spread = math.sqrt((cells**2).mean()) / shape.mean()
    assert rows["w2"].estimate == pytest.approx(rows["mean"].estimate * spread, rel=1e-9)


def test_gini_of_units_that_are_lognormal():
    x, z = lognormal_units(n=400, k=400, sigma=(0.3, 0.6), scatter=0.0)
    rows, _ = rows_of(units(x, z), ("gini", "unit:gini"), 1.0, order=1)
    truth = [2 * stats.norm.cdf(s / math.sqrt(2)) - 1 for s in (0.6, 0.3)]
    assert abs(rows["gini"].above - truth[0]) < 0.01 and abs(rows["gini"].below - truth[1]) < 0.01
    assert rows["gini"].p_value == 1 / 200 and rows["unit:gini"].p_value < 1e-6


def test_functionals_of_curves_in_closed_form():
    uniform = MIDPOINTS[None, :]
    value = {f.name: float(curve_functional(f, uniform)[0]) for f in parsed_functionals(ALL[:1] + ALL[1:3] + ALL[5:])
             if f.needs_curve}  # fmt: skip
    assert abs(value["variance"] - 1 / 12) < 1e-5 and abs(value["sd"] - math.sqrt(1 / 12)) < 1e-5
    assert abs(value["gini"] - 1 / 3) < 1e-5
    assert abs(value["lorenz(0.5)"] - 0.25) < 1e-12 and abs(value["share_bottom(0.4)"] - 0.16) < 1e-12
    assert abs(value["share_top(0.1)"] - 0.19) < 1e-12
    assert value["exceed(1.2)"] == 0.0
    exceed = parsed_functionals(("exceed(.3)",))[0]
    assert abs(float(curve_functional(exceed, uniform)[0]) - 0.7) < 1e-12


def test_constants():
    constant = np.full((2, 200), 3.0)
    for name, value in (("gini", 0.0), ("variance", 0.0), ("lorenz(.3)", 0.3), ("exceed(3)", 0.0), ("exceed(2)", 1.0)):
        found = curve_functional(parsed_functionals((name,))[0], constant)
        np.testing.assert_allclose(found, value, atol=1e-12)


def test_atoms_at_the_threshold_are_not_above_it():
    curve = np.concatenate([np.zeros(50), np.linspace(0.01, 1.0, 150)])
    above = float(curve_functional(parsed_functionals(("exceed(0)",))[0], curve[None])[0])
    assert abs(above - 0.75) < 0.006


def test_exceed_projects_first():
    rng = np.random.default_rng(8)
    curves = np.linspace(0.0, 2.0, 200) + 0.4 * rng.standard_normal((30, 200))
    projected = monotone(curves, np.full(200, 1 / 200), "frechet")
    for z in (-3.0, 0.4, 1.0, 1.9, 5.0):
        f = parsed_functionals((f"exceed({z})",))[0]
        np.testing.assert_allclose(curve_functional(f, curves), curve_functional(f, projected), atol=1e-10)
        plain = [1 - np.interp(z, row, MIDPOINTS) for row in projected + 1e-12 * np.arange(200)]
        inside = (projected[:, 0] <= z) & (z < projected[:, -1])
        np.testing.assert_allclose(curve_functional(f, curves)[inside], np.array(plain)[inside], atol=1e-8)
        assert set(curve_functional(f, curves)[~inside]) <= {0.0, 1.0}


def test_exceed_is_the_effect_on_the_average_cdf_and_bare_is_that_of_the_average_quantiles():
    rng = np.random.default_rng(5)
    x = rng.uniform(-1, 1, 300)
    centre = np.where(rng.random(300) < 0.5, -1.0, 1.0) * 2.0 + (x >= 0.0)
    z = centre[:, None] + 0.2 * rng.standard_normal((300, 100))
    rows, _ = rows_of(units(x, z), ("exceed", "unit:exceed"), 1.0, thresholds=(0.0,))
    # Half the units lie above zero on either side, while the average distribution moves across it.
    assert abs(rows["unit:exceed(0)"].estimate) < 0.35
    assert rows["exceed(0)"].above > 0.9
    alone, _ = rows_of(units(x, z), (), 1.0, thresholds=(0.0, 1.0))
    assert list(alone) == ["unit:exceed(0)", "unit:exceed(1)"]


def test_iqr_reads_the_curves_where_its_levels_are_on_the_grid():
    x, z = lognormal_units()
    design = units(x, z, quantiles=19)
    rows, fit = rows_of(design, ("iqr", "range(.25,.75)", "unit:iqr", "range(.21,.33)"), 0.7)
    at = [int(np.argmin(abs(design.quantiles - q))) for q in (0.25, 0.75)]
    assert rows["iqr"].estimate == pytest.approx(fit.tau[at[1]] - fit.tau[at[0]], abs=1e-12)
    assert rows["iqr"].estimate == rows["range(0.25,0.75)"].estimate
    raw = fit.columns.raw[:, at[1]] - fit.columns.raw[:, at[0]]
    assert rows["unit:iqr"].estimate == pytest.approx(raw[0] - raw[1], abs=1e-12)
    other = design.at_levels(np.array([0.21, 0.33]))
    assert rows["range(0.21,0.33)"].estimate == pytest.approx(scalar(design, other[:, 1] - other[:, 0], 0.7), abs=1e-12)


def test_variance_of_the_average_and_average_variance_are_different_rows():
    x, z = lognormal_units(scatter=0.0, sigma=(0.3, 0.3))
    z = z + np.where(np.arange(len(x)) % 2, 5.0, 0.0)[:, None]
    rows, _ = rows_of(units(x, z), ("variance", "unit:variance"), 1.0)
    assert rows["unit:variance"].note and not rows["variance"].note
    assert rows["variance"].estimate != rows["unit:variance"].estimate


def test_equivariance():
    x, z = lognormal_units()
    first, _ = rows_of(units(x, z), (*ALL[:9], "w2"), 0.7, seed=4)
    second, _ = rows_of(units(x, 3.0 * z), (*ALL[:9], "w2"), 0.7, seed=4)
    for name, row in first.items():
        power = {"variance": 2, "gini": 0}.get(name, 0 if "lorenz" in name or "share" in name else 1)
        for field in ("estimate", "conf_low", "conf_high"):
            assert getattr(second[name], field) == pytest.approx(3.0**power * getattr(row, field), rel=1e-9, abs=1e-12)
        assert second[name].p_value == pytest.approx(row.p_value, rel=1e-9)


def test_w2_is_zero_when_the_curves_are_equal_and_only_then():
    side = np.linspace(0.01, 1.0, 60)
    base = stats.norm.ppf((np.arange(40) + 0.5) / 40)
    x = np.concatenate([-side, side])
    z = np.tile(base, (120, 1)) + 0.1 * np.sin(20 * np.abs(x))[:, None]
    same, _ = rows_of(units(x, z), ("w2",), 0.9)
    assert same["w2"].estimate < 1e-12 and same["w2"].conf_low == 0.0 and same["w2"].p_value == 1.0
    moved, _ = rows_of(units(x, z + 2.0 * (x >= 0.0)[:, None]), ("w2",), 0.9)
    assert moved["w2"].estimate == pytest.approx(2.0, abs=1e-9)
    assert math.isnan(moved["w2"].std_error) and "not normal" in moved["w2"].reason
    assert moved["w2"].conf_low > 1.5 and moved["w2"].p_value == 1 / 200


def test_w2_is_zero_where_averages_are_equal_and_units_are_not():
    levels = (np.arange(800) + 0.5) / 800
    share = (2.0 * np.arange(400) + 1.0) / 800
    ones = (levels[None, :] > 1.0 - share[:, None]).astype(float)
    x = np.concatenate([-1.0 + np.arange(400) / 401, np.arange(400) / 401])
    # Left every unit is uniform on (0, 1); right units are zeros and ones, and their shares of ones are uniform.
    z = np.concatenate([np.tile(levels, (400, 1)), ones])
    rows, _ = rows_of(units(x, z), ("w2", "sd"), 5.0, order=0, kernel="uniform")
    assert rows["w2"].estimate < 1e-12 and rows["w2"].p_value == 1.0 and rows["w2"].conf_low == 0.0
    # Spread within cells of the zeros and ones is no spread of their average: at most this much is added.
    assert abs(rows["sd"].estimate) < 2e-3


def test_recentring_and_order_statistics():
    size = np.sort(np.abs(np.random.default_rng(0).standard_normal(199)))
    assert critical_value(size, 0.95) == size[189]
    assert exceedance(size, 0.0) == 1.0 and exceedance(size, 10.0) == 1 / 200
    assert exceedance(size, float(size[100])) == (1 + 99) / 200


def test_factors_of_the_t_law_widen_every_interval():
    x, z = lognormal_units()
    normal, _ = rows_of(units(x, z), ("mean", "gini", "w2"), 0.7, n_boot=999)
    wide, _ = rows_of(units(x, z), ("mean", "gini", "w2"), 0.7, n_boot=999, df=4.0)
    for name in normal:
        ratio = (wide[name].conf_high - wide[name].estimate) / (normal[name].conf_high - normal[name].estimate)
        assert 1.15 < ratio < 1.8


def test_callables_are_functionals_of_the_average_curves():
    x, z = lognormal_units()

    def tail(values, levels):
        return values[levels > 0.9].mean() - values[levels < 0.1].mean()

    rows, _ = rows_of(units(x, z), (tail, lambda v, q: v.mean(), "mean"), 0.7)
    assert list(rows) == ["tail", "functional 2", "mean"]
    assert rows["functional 2"].estimate == pytest.approx(rows["mean"].estimate, abs=0.02)
    assert rows["tail"].std_error > 0.0
    with pytest.raises(OptionError, match='"functional 1" must return one number'):
        rows_of(units(x, z), (lambda v, q: v,), 0.7)
    with pytest.raises(OptionError, match=r'"median" raised .*means of an average quantile function'):
        rows_of(units(x, z), (np.median,), 0.7)


def test_gini_of_negative_draws_is_missing_with_a_reason():
    x, z = lognormal_units()
    worst = int(np.argmin(np.abs(x)))
    z[worst, 0] = -1e-9
    rows, _ = rows_of(units(x, z), ("gini", "unit:gini", "lorenz(.5)", "mean"), 0.7)
    for name in ("gini", "unit:gini", "lorenz(0.5)"):
        assert math.isnan(rows[name].estimate) and "1 unit of the window" in rows[name].reason
    assert math.isfinite(rows["mean"].estimate)


def test_a_negative_draw_outside_the_window_does_not_matter():
    x, z = lognormal_units()
    z[int(np.argmax(np.abs(x))), 0] = -5.0
    rows, _ = rows_of(units(x, z), ("gini", "unit:gini"), 0.6)
    assert all(math.isfinite(row.estimate) and not row.reason for row in rows.values())


def test_a_dark_unit_has_no_gini_but_belongs_to_the_average():
    x, z = lognormal_units()
    z[int(np.argmin(np.abs(x)))] = 0.0
    rows, _ = rows_of(units(x, z), ("gini", "unit:gini"), 0.7)
    assert math.isnan(rows["unit:gini"].estimate) and "mean of zero" in rows["unit:gini"].reason
    assert math.isfinite(rows["gini"].estimate)


def test_a_side_without_a_positive_mean():
    x, z = lognormal_units()
    z[x >= 0.0] = 0.0
    rows, _ = rows_of(units(x, z), ("gini",), 0.7)
    assert math.isnan(rows["gini"].estimate) and "positive mean" in rows["gini"].reason


def test_columns_without_variation_have_no_standard_error():
    x, z = lognormal_units()
    rows, _ = rows_of(units(x, z), (), 0.7, thresholds=(-1.0,))
    assert rows["unit:exceed(-1)"].estimate == pytest.approx(0.0, abs=1e-12)
    assert math.isnan(rows["unit:exceed(-1)"].std_error) and "zero" in rows["unit:exceed(-1)"].reason


def test_shapes_of_data_agree():
    rng = np.random.default_rng(7)
    x = rng.uniform(-1, 1, 90)
    z = rng.poisson(6.0 + 2.0 * (x >= 0.0)[:, None], (90, 50)).astype(float)
    counts = np.stack([np.bincount(row.astype(int), minlength=30) for row in z])
    names = (*ALL[:-1], "exceed(6.5)", "unit:gini", "unit:sd", "unit:exceed(6.5)", "w2")
    first, _ = rows_of(units(x, z, quantiles=19), names, 0.9)
    second, _ = rows_of(units(x, Histogram(np.arange(31) - 0.5, counts), quantiles=19), names, 0.9)
    for name, row in first.items():
        assert second[name].estimate == pytest.approx(row.estimate, abs=1e-10), name


def test_quantile_matrices_say_what_they_lack():
    levels = np.arange(1, 100) / 100
    rng = np.random.default_rng(1)
    x = rng.uniform(-1, 1, 100)
    centre = rng.standard_normal(100) + 10
    matrix = QuantileMatrix(centre[:, None] + stats.norm.ppf(levels)[None, :], levels, centre)
    design = units(x, matrix, quantiles=levels)
    wanted = parsed_functionals(("gini", "unit:sd", "mean"))
    assert "held flat beyond" in functional_columns(wanted, design).notes[0]
    assert functional_columns(parsed_functionals(("mean", "iqr")), design).notes == ()
    rows, _ = rows_of(design, ("sd", "unit:sd", "mean"), 0.9)
    assert abs(rows["unit:sd"].above - 1.0) < 0.02 and abs(rows["sd"].above - 1.0) < 0.02


def test_fuzzy_rows_say_their_scale():
    x, z = lognormal_units(n=300, shift=0.5)
    rng = np.random.default_rng(2)
    took = (rng.random(300) < np.where(x >= 0.0, 0.8, 0.2)).astype(float)
    design = units(x, z, treatment="t", columns={"t": took})
    rows, fit = rows_of(design, ("mean", "unit:gini", "unit:sd", "gini", "w2"), 0.9)
    sharp, _ = rows_of(units(x, z), ("mean", "gini", "w2"), 0.9)
    assert rows["mean"].estimate == pytest.approx(sharp["mean"].estimate / fit.first_stage, rel=1e-12)
    assert rows["w2"].estimate == pytest.approx(sharp["w2"].estimate / abs(fit.first_stage), rel=1e-12)
    assert rows["gini"].estimate == pytest.approx(sharp["gini"].estimate, rel=1e-12)
    assert rows["mean"].note == "per unit of treatment" and rows["unit:sd"].note.endswith("; per unit of treatment")
    assert "not per unit" in rows["gini"].note


def test_pointwise_curves_and_their_own_bandwidths():
    x, z = lognormal_units()
    design = units(x, z, quantiles=9)
    wanted = parsed_functionals(("gini", "exceed(1.2)", "mean"))
    from causalsat.estimators.r3d_fit import fit_curves
    from causalsat.estimators.r3d_functionals import functional_rows
    from tests.estimators.r3d_rough import rough_draws

    columns = functional_columns(wanted, design)
    common = fit_curves(design, np.full(2, 0.7), estimator="pointwise", extra=columns.values)
    draws = rough_draws(design, common, 99, 0)
    rows = functional_rows(wanted, columns, common, draws, quantiles=design.quantiles)
    assert [row.name for row in rows] == ["gini", "exceed(1.2)", "mean"] and not any(row.reason for row in rows)


@pytest.mark.parametrize(
    ("names", "thresholds", "match"),
    [
        (("ginny",), (), 'Did you mean "gini"'),
        (("range(.9,.1)",), (), "below the second"),
        (("range(.1)",), (), "takes 2 numbers"),
        (("lorenz",), (), "takes 1 number,"),
        (("lorenz(1.5)",), (), "strictly between"),
        (("gini(2)",), (), "takes 0 numbers"),
        (("exceed",), (), "thresholds="),
        (("unit:w2",), (), 'use "w2"'),
        ((3.0,), (), "is not known"),
        (("lorenz(a)",), (), "takes 1 number"),
    ],
)
def test_names_that_are_not_allowed(names, thresholds, match):
    with pytest.raises(OptionError, match=match):
        parsed_functionals(names, thresholds)


def test_names_as_printed():
    found = parsed_functionals(("range( .1, .9 )", "range(0.1,0.90)", "unit:share_top(.1)", "exceed"), (30.0, 60.0))
    assert [f.name for f in found] == ["range(0.1,0.9)", "unit:share_top(0.1)", "exceed(30)", "exceed(60)"]


def test_thresholds_have_rows_beside_thresholds_in_names():
    found = parsed_functionals(("mean", "exceed(5)"), (3.0,))
    assert [f.name for f in found] == ["mean", "exceed(5)", "unit:exceed(3)"]
    assert [f.name for f in parsed_functionals(("unit: exceed",), (3.0,))] == ["unit:exceed(3)"]


def test_summaries_say_which_rows_are_per_unit_of_treatment_and_which_tails_are_not_seen():
    import causalsat as cs

    x, z = lognormal_units(n=300, shift=0.5)
    rng = np.random.default_rng(2)
    frame = pd.DataFrame({"x": x, "t": (rng.random(300) < np.where(x >= 0.0, 0.8, 0.2)).astype(float)})
    options = {"running": "x", "bandwidth": 0.9, "n_boot": 199, "checks": None, "quantiles": 9, "tests": ()}
    names = ("mean", "sd", "gini", "unit:sd", "w2")
    fuzzy = cs.r3d(frame, outcome=z, treatment="t", functionals=names, quantile_rule="type9", **options)
    told = "sd, gini: difference of the two average distributions at the cutoff, not per unit of treatment"
    assert (
        told in fuzzy.summary() and told in fuzzy.table.to_markdown() and "unit:sd, " not in fuzzy.meta["findings"][-1]
    )
    sharp = cs.r3d(frame, outcome=z, functionals=names, quantile_rule="type9", **options)
    assert "per unit of treatment" not in sharp.summary()
    levels = np.arange(1, 10) / 10
    given = QuantileMatrix(np.quantile(z, levels, axis=1).T, levels)
    assert "gini: read from quantile functions given on [0.1, 0.9]" in cs.r3d(
        frame, outcome=given, functionals=("gini",), **options
    ).summary()  # fmt: skip
