"""Draws of a decomposition: rounding, bands over bounds, the waterfall, DRIVE as a value, examples that run."""

import doctest

import numpy as np
import pandas as pd
import pytest

import causalsat as cs
from causalsat.effects import waterfall
from causalsat.effects.waterfall import plot_waterfall
from causalsat.errors import DataError, OptionError
from causalsat.estimators import group_shapley as verb
from causalsat.estimators import shapley_bounds, shapley_matrix, shapley_programs, shapley_table, shapley_values
from causalsat.estimators.group_shapley import group_shapley, swap_value
from causalsat.simulate import iv as iv_module
from causalsat.simulate import two_periods
from tests.estimators.test_group_shapley import NAMES, drawn_game


@pytest.mark.parametrize(
    "module",
    [verb, waterfall, shapley_bounds, shapley_matrix, shapley_programs, shapley_table, shapley_values, two_periods],
    ids=lambda module: module.__name__.rsplit(".", 1)[-1],
)
def test_examples_run(module):
    assert doctest.testmod(module).failed == 0


# Rounding


def common_noise(step, scale=1.0, b=199):
    """All coalitions share one noise; "mix" adds exactly ``step``, which sums in another order round differently."""
    noise = np.random.default_rng(0).normal(size=b)
    base = {"": 0.1, "mix": 0.1 + step, "dose": 0.7, "mix+dose": 0.7 + step}
    slope = {"": 1.0, "mix": 1.0, "dose": 1.3, "mix+dose": 1.3}
    return {k: (scale * v, scale * (v + slope[k] * 0.1 * noise)) for k, v in base.items()}


@pytest.mark.parametrize("scale", [1e-9, 1.0, 1e9])
def test_a_spread_of_rounding_is_no_standard_error(scale):
    table = group_shapley(common_noise(0.3, scale), ["mix", "dose"])
    row = table.row(group="mix", term="contribution")
    assert row["std_error"] == 0.0
    assert row["conf_low"] == row["conf_high"] == row["estimate"] == pytest.approx(0.3 * scale)
    assert np.isnan(row["statistic"])
    assert np.unique(table.draws[:, 0]).size == 1
    assert table.row(group="dose", term="contribution")["std_error"] > 1e-3 * scale
    assert table.row(group="mix", term="share")["std_error"] > 0.0


def test_a_dummy_with_draws_is_exactly_zero_and_no_evidence():
    table = group_shapley(common_noise(0.0), ["mix", "dose"])
    row = table.row(group="mix", term="contribution")
    assert row["estimate"] == 0.0 and row["std_error"] == 0.0
    assert np.isnan(row["p_value"]) or row["p_value"] == 1.0
    share = table.row(group="mix", term="share")
    assert share["estimate"] == 0.0 and share["std_error"] == 0.0


def test_a_small_spread_that_is_no_rounding_stays():
    mapping = {k: (v, d + (1e-9 * np.arange(d.size) if "mix" in k else 0.0)) for k, (v, d) in common_noise(0.3).items()}
    error = group_shapley(mapping, ["mix", "dose"])["std_error"][0]
    assert error == pytest.approx(1e-9 * np.arange(199).std(ddof=1), rel=1e-3)


def test_constant_draws_away_from_the_estimate_stay_away():
    mapping = {"": (0.0, np.zeros(99)), "mix": (1.0, np.full(99, 1.25))}
    table = group_shapley(mapping, ["mix"], shares=False)
    assert table["std_error"][0] == 0.0
    assert table["conf_low"][0] == table["conf_high"][0] == 0.75


# Bands and pictures


def bounded(b=199):
    _, _, mapping = drawn_game(b=b)
    held = {k: v for k, v in mapping.items() if k not in ({"mix"}, {"mix", "model"})}
    return group_shapley(held, NAMES[:3], missing="bounds", structure="monotone")


def test_joint_bands_of_bounds_are_over_their_ends():
    table = bounded().joint()
    ends = np.char.startswith(table["term"].astype(str), "contribution_") | (table["group"] == "(total)")
    assert table.meta["joint"]["n_family"] == ends.sum() == 7
    assert np.isfinite(table["band_low"][ends]).all()
    assert np.isnan(table["band_low"][~ends]).all()
    assert (table["band_low"][ends] < table["estimate"][ends]).all()
    assert table.meta["joint"]["critical"] > 1.96


def test_the_waterfall_of_contributions_has_filled_bars_with_intervals():
    values, _, mapping = drawn_game(b=199)
    table = group_shapley(mapping, NAMES[:3])
    axes = table.plot(kind="waterfall")
    phi = table.where(term="contribution")
    begins = values[0] + np.concatenate([[0.0], np.cumsum(phi["estimate"][:2])])
    assert len(axes.patches) == 3
    for patch, begin, size in zip(axes.patches, begins, phi["estimate"]):
        assert patch.get_facecolor()[3] == 1.0
        assert patch.get_x() == pytest.approx(min(begin, begin + size), abs=1e-12)
        assert patch.get_width() == pytest.approx(abs(size), abs=1e-12)
    spans = [line.get_xdata() for line in axes.lines if line.get_color() == "black"]
    assert len(spans) == 3
    for span, begin, low, high in zip(spans, begins, phi["conf_low"], phi["conf_high"]):
        np.testing.assert_allclose(span, [begin + low, begin + high], atol=1e-12)
    assert "95% intervals" in axes.get_xlabel()


def test_the_waterfall_of_bounds_has_open_bars_with_the_covering_interval():
    table = bounded()
    axes = table.plot(kind="waterfall")
    assert all(patch.get_facecolor()[3] == 0.0 for patch in axes.patches)
    assert "open bars: bounds, each from A" in axes.get_xlabel()
    spans = [line.get_xdata() for line in axes.lines if line.get_color() == "black"]
    for patch, span in zip(axes.patches, spans):
        assert span[0] < patch.get_x() and patch.get_x() + patch.get_width() < span[1]


def test_plot_dispatch_draws_on_given_axes_and_refuses_other_tables():
    from matplotlib.figure import Figure

    _, _, mapping = drawn_game()
    table = group_shapley(mapping, NAMES[:3])
    axes = Figure().add_subplot()
    assert table.plot(ax=axes, kind="waterfall") is axes
    names = [text.get_text() for text in axes.get_yticklabels()]
    assert names == [text.get_text() for text in plot_waterfall(table).get_yticklabels()]
    with pytest.raises(OptionError, match=r"kind='waterfal' is not known.*Did you mean \"waterfall\""):
        table.plot(kind="waterfal")
    other = cs.EffectTable.build({"adjust": ["x"]}, term="effect", estimate=[1.0], std_error=[0.1], n_obs=9)
    with pytest.raises(DataError, match="A waterfall needs the table of group_shapley"):
        other.plot(kind="waterfall")


# DRIVE as a value


@pytest.fixture(scope="module")
def drive_value():
    first = pd.DataFrame(iv_module.iv(n=300, effect=1.0, covariates=(1.0,), seed=1)[0])
    second = pd.DataFrame(iv_module.iv(n=300, effect=1.6, covariates=(1.0,), seed=2)[0])
    seen = {}

    def evaluate(rows, controls, seed):
        fit = cs.drive(rows, outcome="y", treatment="x", instruments=["z1", "z2", "z3", "z4"], covariates=controls,
                       compare=("tsls",), sets=(), n_boot=99, seed=seed, progress=False)  # fmt: skip
        row = fit.table.where(method="drive", interval="recentred")
        seen[rows is second, controls is None] = row, float(fit.table.where(method="tsls")["estimate"][0])
        return row

    return swap_value({"rows": first, "controls": None}, {"rows": second, "controls": ["c1"]}, evaluate), seen, first


def test_drive_is_a_value_with_draws_shifted_to_its_estimate(drive_value):
    value, seen, _ = drive_value
    table = group_shapley(value, value.groups, seed=5, progress=False)
    (a, _), (b, _) = seen[False, True], seen[True, False]
    for row, tsls in seen.values():
        assert len(row) == 1 and row.draws.shape == (99, 1)
        # The recentred world repeats the shrinkage: the draws lie off the estimate as far as it lies off TSLS.
        shrinkage = row["estimate"][0] - tsls
        assert abs(np.median(row.draws) - row["estimate"][0] - shrinkage) < 0.5 * row["std_error"][0]
    total = table.row(group="(total)", term="contribution")
    assert total["estimate"] == pytest.approx(b["estimate"][0] - a["estimate"][0], abs=1e-14)
    np.testing.assert_allclose(table.draws[:, -1], (b.draws - a.draws)[:, 0], atol=1e-14)
    # Two independent samples: the variance of the change is the sum of theirs.
    apart = np.hypot(a.draws.std(ddof=1), b.draws.std(ddof=1))
    assert total["std_error"] == pytest.approx(apart, rel=0.25)
    rows, controls = table["estimate"][0], table["estimate"][1]
    assert rows + controls == pytest.approx(total["estimate"], abs=1e-12)
    assert total["conf_low"] < 0.6 < total["conf_high"]


def test_a_row_without_draws_is_refused(drive_value):
    _, _, rows = drive_value
    fit = cs.drive(
        rows,
        outcome="y",
        treatment="x",
        instruments=["z1", "z2", "z3", "z4"],
        compare=(),
        sets=(),
        n_boot=99,
        progress=False,
    )
    with pytest.raises(DataError, match=r"The value of \{\} is a table of \d+ rows; take one with table.where"):
        group_shapley({"": fit.table, "rows": fit.table}, ["rows"])
    limit = fit.table.where(method="drive", interval="limit")
    with pytest.raises(DataError, match=r"None of the 99 draws of \{\} is a number.*interval=\"recentred\""):
        group_shapley({"": limit, "rows": limit}, ["rows"])
