"""`r3d` in many simulated studies: bands, tests, few pixels, fuzzy designs, and what pooled pixels miss.

The studies and the fit step by step are those of paper_replications/van_dijcke_2025_r3d. Run as a script for the table:
``python -m tests.calibration.test_r3d_table2 500``.
"""

import importlib.util
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

import causalsat as cs
from causalsat.inference.coverage import binomial_gate
from causalsat.simulate import r3d as sim
from causalsat.study.distributions import QuantileMatrix

FOLDER = Path(__file__).resolve().parents[2] / "paper_replications" / "van_dijcke_2025_r3d"
SHORT, LONG = 150, 1500
DEFAULT = {"default": {"n_boot": 499}}
FUZZY = {"bandwidth": 0.7, "bandwidth_treatment": 0.95, "n_boot": 499}


def module(name):
    spec = importlib.util.spec_from_file_location(f"r3d_{name}", FOLDER / f"{name}.py")
    found = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = found
    spec.loader.exec_module(found)
    return found


table2, pixels = module("table2"), module("pixels")


# The engine against the verb and against plain draws.


@pytest.mark.parametrize("options", [{}, {"bandwidth": 0.9, "compat": "R3D-0.1.0"}, {"estimator": "pointwise"}])
def test_the_verb_gives_the_same_numbers(options):
    for repeat in range(2):
        study = table2.normal(150, repeat)
        ours = table2.inference_of(study, seed=repeat, n_boot=199, **options)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", cs.errors.CausalsatWarning)
            result = cs.r3d(
                {"x": study.x}, outcome=QuantileMatrix(study.Q, table2.DECILES), running="x", quantiles=table2.DECILES,
                functionals=(), checks=None, n_boot=199, seed=repeat, **options,
            )  # fmt: skip
        rows = result.table.where(term="laqte")
        np.testing.assert_allclose(rows["estimate"], ours.curve.estimate, rtol=1e-10, atol=1e-12)
        np.testing.assert_allclose(rows["band_low"], ours.curve.band_low, rtol=1e-9, atol=1e-10)
        found = {test.name: test.p_value for test in result.estimates[0].inference.tests}
        assert found == pytest.approx({test.name: test.p_value for test in ours.tests})


@pytest.mark.parametrize("design", ["normal", "mixture", "fuzzy"])
def test_order_statistics_stand_for_draws(design):
    n, draws = 6_000, 60
    exact = table2.DESIGNS[design](n, 0, draws)
    data, truth = getattr(sim, design)(n=n, n_draws=draws, effect=1.0 if design == "fuzzy" else 0.0, seed=1, long=False)
    plain = np.quantile(truth["draws"], table2.DECILES, axis=1).T
    slopes = {"normal": 5.0, "mixture": 2.0, "fuzzy": 3.0}
    for own, other in ((exact.x >= 0, data["x"] >= 0), (exact.x < 0, data["x"] < 0)):
        a = exact.Q[own] - slopes[design] * exact.x[own][:, None]
        b = plain[other] - slopes[design] * data["x"][other][:, None]
        error = np.sqrt(a.var(axis=0) / len(a) + b.var(axis=0) / len(b))
        assert (np.abs(a.mean(axis=0) - b.mean(axis=0)) < 4 * error).all()
        np.testing.assert_allclose(a.std(axis=0), b.std(axis=0), rtol=0.1)
    if design == "fuzzy":
        assert exact.treatment[exact.x >= 0].mean() == pytest.approx(0.8, abs=0.03)


def test_one_rank_of_uniforms_is_a_beta():
    drawn = table2.uniform_order_statistics(np.random.default_rng(0), 4_000, 20, np.array([2, 3, 20]))
    for rank, values in zip((2, 3, 20), drawn.T):
        assert stats.kstest(values, stats.beta(rank, 21 - rank).cdf).pvalue > 1e-3
    assert (np.diff(drawn, axis=1) > 0).all()


# Coverage, size, power.


def test_default_bands_short():
    found = table2.cell("normal", 200, SHORT, DEFAULT)["default"]
    assert binomial_gate("band", int(found["coverage"].sum()), SHORT, 0.95).passed
    assert binomial_gate("homogeneity", int(found["homogeneity"].sum()), SHORT, 0.95).passed
    assert found["nullity_2.27"].mean() < found["nullity_1.14"].mean() < found["nullity_0"].mean()


def test_a_tail_effect_is_found_short():
    found = table2.cell("mixture", 500, 40, DEFAULT)["default"]
    assert found["homogeneity"].mean() < 0.5 and found["coverage"].mean() > 0.8


@pytest.mark.calibration
@pytest.mark.parametrize("n", [100, 200, 300])
def test_default_bands_with_few_units(n):
    found = table2.cell("normal", n, LONG, DEFAULT)["default"]
    assert 0.925 <= found["coverage"].mean() <= 0.97


@pytest.mark.calibration
@pytest.mark.parametrize("design", ["normal", "mixture"])
@pytest.mark.parametrize("n", [500, 1000])
def test_default_bands(design, n):
    found = table2.cell(design, n, LONG, DEFAULT)["default"]
    assert 0.925 <= found["coverage"].mean() <= 0.97
    if design == "normal":
        assert 0.925 <= found["homogeneity"].mean() <= 0.97


@pytest.mark.calibration
@pytest.mark.parametrize("test", ["nullity", "homogeneity"])
def test_p_values_are_uniform_under_the_null(test):
    levels = (0.05, 0.1, 0.25, 0.5, 0.75)
    values = np.empty(LONG)
    for repeat in range(LONG):
        found = table2.inference_of(table2.normal(500, repeat), seed=repeat, n_boot=499)
        values[repeat] = next(t.p_value for t in found.tests if t.name == test)
    for level in levels:
        assert binomial_gate(f"{test} {level}", int((values > level).sum()), LONG, 1.0 - level).passed, level


# Fuzzy: own bandwidth of the treatment.


def fuzzy_studies(runs, n=800):
    estimates, errors, drawn, held = [], [], [], []
    for repeat in range(runs):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", cs.errors.WeakFirstStageWarning)
            found = table2.inference_of(table2.fuzzy(n, repeat), seed=repeat, **FUZZY)
        curve, tau = found.curve, table2.truth("fuzzy")
        estimates.append(curve.estimate)
        errors.append(curve.se)
        drawn.append(curve.draws.std(axis=0))
        held.append(((curve.band_low <= tau) & (tau <= curve.band_high)).all())
    return np.array(estimates), np.array(errors), np.array(drawn), np.array(held)


def judge_fuzzy(runs, slack):
    estimates, errors, drawn, held = fuzzy_studies(runs)
    # Interquartile ranges: a ratio with a jump of .6 in its denominator has long tails in some studies.
    q = np.quantile(estimates, (0.25, 0.75), axis=0)
    spread = (q[1] - q[0]) / 1.349
    np.testing.assert_allclose(np.median(drawn, axis=0) / spread, 1.0, atol=slack)
    np.testing.assert_allclose(np.median(drawn / errors, axis=0), 1.0, atol=0.05)
    assert binomial_gate("band", int(held.sum()), runs, 0.95).passed
    center = np.median(estimates, axis=0) - table2.truth("fuzzy")
    assert (np.abs(center) < 4 * 1.26 * spread / np.sqrt(runs)).all()


def test_fuzzy_draws_have_the_spread_of_estimates_short():
    judge_fuzzy(80, 0.43)


@pytest.mark.calibration
def test_fuzzy_draws_have_the_spread_of_estimates():
    judge_fuzzy(600, 0.16)


# Few pixels per unit shorten a dispersion effect; a corrected rule does not.


def dispersion_share(rule, small_sample, seeds, n=8_000):
    """Estimated over true effect on the first decile with ten pixels per unit, in a straight-line design."""
    found = []
    for seed in seeds:
        data, truth = sim.dispersion_jump(n=n, n_draws=10, seed=seed, quantiles=(0.1,), long=False)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", cs.errors.CausalsatWarning)
            result = cs.r3d(
                data, outcome=truth["draws"], running="x", quantiles=[0.1], order=1, bandwidth=1.0, kernel="uniform",
                quantile_rule=rule, small_sample=small_sample, functionals=(), tests=(), checks=None, n_boot=39,
            )  # fmt: skip
        found.append(result.table["estimate"][0] / truth["tau"][0])
    return np.array(found)


RULES = {"type7": ("type7", None, 1 - 0.177), "type9": ("type9", None, 1 + 0.033), "half": ("type7", "half", 1 - 0.052)}


@pytest.mark.parametrize("name", RULES)
def test_dispersion_effect_with_ten_pixels(name):
    rule, small_sample, expected = RULES[name]
    share = dispersion_share(rule, small_sample, range(8))
    assert share.mean() == pytest.approx(expected, abs=4 * share.std(ddof=1) / np.sqrt(share.size) + 0.005)
    assert (share.mean() > 0.9) == (name != "type7")


# Pixels pooled over units have another target.


def test_pooled_pixels_have_another_target():
    rng = np.random.default_rng(0)
    n = 2_000_000
    common, rate = rng.uniform(-5, 5, n) + rng.normal(size=n), rng.uniform(0.5, 1.5, n)
    tail = 2 * rng.exponential(size=n)
    pooled = np.quantile(common + tail / (rate + 0.5), (0.1, 0.9)) - np.quantile(common + tail / rate, (0.1, 0.9))
    tau = sim.mixture(n=4, n_draws=2, quantiles=(0.1, 0.9))[1]["tau"]
    relative = (pooled - tau) / tau
    assert relative == pytest.approx([0.60, -0.29], abs=0.05)


@pytest.mark.calibration
def test_pooled_quantile_regression_is_biased_and_ours_is_not():
    found = pixels.errors("mixture", 100, units=4_000, draws=100)
    for level, sign in ((0.1, 1), (0.9, -1)):
        ours, pooled = found["ours", level], found["pooled", level]
        assert abs(ours.mean()) < 3.3 * ours.std() / 10 + 0.03
        assert sign * pooled.mean() > 3.3 * pooled.std() / 10


def main(runs):
    for design in ("normal", "mixture"):
        for n in (100, 200, 300, 500, 1000):
            sets = {"default": {}, "compat h=1": {"bandwidth": 1.0, **table2.PACKAGE}}
            for name, values in table2.cell(design, n, runs, sets).items():
                shares = {k: table2.share(v) for k, v in values.items() if k not in ("length", "h")}
                text = ", ".join(f"{k} {p:.1f} ({se:.1f})" for k, (p, se) in shares.items())
                lengths = f"median length {np.median(values['length']):.2f}, median h {np.median(values['h']):.2f}"
                sys.stdout.write(f"{design} n={n} {name}: {text}; {lengths}\n")
                sys.stdout.flush()


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 500)
