"""Laws of functionals by simulation: p-values without a change, power under one, coverage of W2; short runs."""

import numpy as np
import pytest
from scipy import stats

from tests.estimators.r3d_rough import (
    inferred_rows,
    lognormal_draws,
    lopsided_draws,
    rows_of,
    shifted_draws,
    units,
    widening_draws,
    widening_truth,
)

NAMES = ("gini", "unit:gini", "w2", "exceed(1.5)")


def p_values(draws_of, names, n_runs, first=0):
    runs = [inferred_rows(first + r, names, draws_of) for r in range(n_runs)]
    return {name: np.array([run[name].p_value for run in runs]) for name in runs[0]}


def test_p_values_are_uniform_where_nothing_changes():
    found = p_values(lognormal_draws(), NAMES, 120)
    for name, p in found.items():
        # Binomial quantiles at two-sided error 1e-3 for .05 and R = 120.
        assert (p <= 0.05).sum() <= 14, name
        assert stats.kstest(p, "uniform").pvalue > 1e-3, name


def test_a_rise_in_income_leaves_the_gini_test_alone():
    found = p_values(lognormal_draws(shift=0.8), ("gini", "mean"), 40)
    assert (found["mean"] <= 0.05).mean() > 0.9
    assert (found["gini"] <= 0.05).sum() <= 7


def test_power_of_the_gini_test():
    found = p_values(lognormal_draws(wider=0.3), ("gini", "unit:gini"), 20)
    assert (found["gini"] <= 0.05).all() and (found["unit:gini"] <= 0.05).all()


@pytest.mark.parametrize("shift", [0.0, 1.5])
def test_intervals_of_w2_cover_at_zero_and_away_from_it(shift):
    rows = [inferred_rows(r, ("w2",), shifted_draws(shift))["w2"] for r in range(60)]
    assert sum(row.conf_low <= shift <= row.conf_high for row in rows) >= 51
    assert all(row.conf_low >= 0.0 for row in rows)


def test_a_draw_more_on_one_side_is_no_effect():
    # 100 draws leave nothing within 200 cells, 101 do: only what is linear in the quantile functions may be compared.
    found = []
    for seed in range(10):
        rng = np.random.default_rng(seed)
        x = rng.uniform(-1.0, 1.0, 2400)
        design = units(x, lopsided_draws(101, 100)(rng, x), quantiles=9)
        rows, _ = rows_of(design, ("w2", "variance", "sd"), 1.0, order=0, kernel="uniform", seed=seed)
        found.append([rows[name].p_value for name in ("w2", "variance", "sd")])
    # Four of 10 have probability 1e-3 at .05; with the spread within cells in W2 all 10 reject.
    assert ((np.array(found) <= 0.05).sum(axis=0) <= 3).all()


def test_normal_law_gives_narrower_intervals():
    from causalsat.estimators.r3d_functionals import side_draws
    from causalsat.estimators.r3d_inference import infer
    from causalsat.estimators.r3d_options import validated_choices
    from tests.estimators.r3d_rough import CHOICES, fit_curves, units

    rng = np.random.default_rng(0)
    x = rng.uniform(-1.0, 1.0, 100)
    design = units(x, lognormal_draws()(rng, x), quantiles=5)
    fit = fit_curves(design, np.full(2, 0.8), extra=design.means[:, None])
    for law, finite in (("t", True), ("normal", False)):
        draws = side_draws(infer(design, fit, validated_choices(**{**CHOICES, "critical": law, "n_boot": 99})))
        assert np.isfinite(draws.df).all() == finite and draws.std_error.shape == draws.df.shape == (6,)
        assert draws.effect.shape == (99, 6) and draws.sides()[0].shape == (99, 6)
        np.testing.assert_allclose(draws.sides()[0] - draws.sides()[1], draws.effect, atol=1e-12)
        assert (draws.factor(5) == 1.0).all() != finite


def test_functionals_of_the_average_are_those_of_every_unit_where_units_are_alike():
    names = ("mean", "variance", "sd", "gini", "share_top(.1)", "w2")
    draws_of, truth = widening_draws(0.5, 1.0), widening_truth(0.5, 1.0)
    runs = [inferred_rows(r, names, draws_of, n=400, h=0.9, n_boot=99) for r in range(16)]
    for name in runs[0]:
        covered = [run[name].conf_low <= truth[name] <= run[name].conf_high for run in runs]
        assert np.mean(covered) >= 0.6, name
        assert abs(np.mean([run[name].estimate for run in runs]) / truth[name] - 1.0) < 0.08, name
