"""Intervals, contrasts, bands and stacking without a refit."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from causalsat import EffectTable
from causalsat.errors import DataError, OptionError
from causalsat.inference.joint import adjusted_p_values, sup_t
from tests.effects.tables import ADJUST, make_table


@pytest.mark.parametrize("method", ["normal", "percentile", "basic", "bca"])
@pytest.mark.parametrize("level", [0.9, 0.5])
def test_another_interval_equals_a_fresh_build(table, method, level):
    assert table.interval(level, method) == make_table(level=level, interval=method)


def test_interval_without_arguments_is_the_table_itself(table):
    assert table.interval() == table
    assert table.interval(0.5).interval(0.95) == table


def test_intervals_nest_in_the_level(table):
    for method in ("normal", "percentile", "basic", "bca"):
        narrow, wide = table.interval(0.5, method), table.interval(0.9, method)
        assert (wide["conf_low"] <= narrow["conf_low"]).all()
        assert (wide["conf_high"] >= narrow["conf_high"]).all()


def test_a_method_that_lacks_its_input_is_refused():
    bare = make_table(draws=None, influence=None)
    with pytest.raises(OptionError, match="needs bootstrap draws"):
        bare.interval(method="percentile")
    with pytest.raises(OptionError, match="influence="):
        make_table(influence=None).interval(method="bca")
    clustered = make_table(meta={"n_clusters": 20})
    with pytest.raises(OptionError, match="acceleration="):
        clustered.interval(method="bca")
    with pytest.raises(OptionError, match="studentized"):
        clustered.interval(method="studentised")


def test_studentized_intervals_use_the_errors_of_the_draws():
    errors = np.full((399, 4), 0.4)
    table = make_table(draw_std_error=errors, interval="studentized")
    assert np.isfinite(table["conf_low"]).all()
    assert table.take([1]).interval(0.8) == make_table(draw_std_error=errors).interval(0.8, "studentized").take([1])


def test_a_p_value_of_the_estimator_survives_a_new_level_but_not_a_new_method():
    table = make_table(p_value=[0.1, 0.2, 0.3, 0.4])
    assert table.interval(0.9)["p_value"].tolist() == [0.1, 0.2, 0.3, 0.4]
    assert table.interval(0.9).meta["supplied"] == ["p_value"]
    assert table.interval(0.9, "normal") == make_table(level=0.9)


def test_contrast_standard_error_is_the_closed_form(table):
    found = table.contrast("image - tabular").row()
    v = table.covariance
    assert found["estimate"] == pytest.approx(0.4 - 0.9, abs=1e-15)
    assert found["std_error"] == pytest.approx(np.sqrt(v[2, 2] + v[1, 1] - 2 * v[1, 2]), rel=1e-13)
    assert found["adjust"] == "image - tabular"
    assert found["term"] == "road"


def test_contrast_carries_draws_and_influence(table):
    found = table.contrast(["b0 - b3", "2 * (none + both) / 4 - 0.25"])
    assert np.allclose(found.draws[:, 0], table.draws[:, 0] - table.draws[:, 3], rtol=0, atol=1e-14)
    assert np.allclose(found.draws[:, 1], (table.draws[:, 0] + table.draws[:, 3]) / 2 - 0.25, rtol=0, atol=1e-14)
    assert np.allclose(found.influence[:, 1], (table.influence[:, 0] + table.influence[:, 3]) / 2, atol=1e-14)
    assert found["estimate"][1] == pytest.approx((1.5 + 1 / 3) / 2 - 0.25, abs=1e-15)
    cross = np.array([0.5, 0, 0, 0.5]) @ table.covariance @ np.array([1.0, 0, 0, -1])
    assert found.covariance[0, 1] == pytest.approx(cross, rel=1e-12)
    percentiles = table.contrast("b0 - b3", method="percentile")
    assert percentiles["conf_low"][0] == np.sort(found.draws[:, 0])[9]


@settings(max_examples=40, deadline=None)
@given(st.lists(st.integers(-5, 5), min_size=4, max_size=4), st.integers(-3, 3))
def test_contrasts_are_linear(weights, constant):
    table = make_table()
    text = " + ".join(f"({w}) * {name}" for w, name in zip(weights, ADJUST)) + f" + ({constant})"
    found = table.contrast(text)
    w = np.array(weights, dtype=float)
    assert found["estimate"][0] == pytest.approx(w @ table["estimate"] + constant, abs=1e-12)
    assert found["std_error"][0] == pytest.approx(np.sqrt(max(w @ table.covariance @ w, 0.0)), abs=1e-7)


def test_contrast_takes_the_draws_where_the_covariance_is_not_known():
    table = make_table(covariance=None)
    found = table.contrast("none - both")
    assert found["std_error"][0] == pytest.approx((table.draws[:, 0] - table.draws[:, 3]).std(ddof=1), rel=1e-12)
    assert found.meta["contrast"]["std_error"] == ["draws"]


def test_contrast_without_covariance_and_draws_says_why():
    table = make_table(covariance=None, draws=None)
    found = table.contrast("none - both")
    assert found["estimate"][0] == pytest.approx(1.5 - 1 / 3)
    assert np.isnan(found["std_error"][0])
    assert "not known" in found.meta["unavailable"]["0"]["std_error"]
    assert table.contrast("-2 * none")["std_error"][0] == 2 * table["std_error"][0]


def test_contrast_with_a_missing_row_repeats_its_reason():
    table = make_table(estimate=[1.0, np.nan, 2.0, 3.0], unavailable={1: "no overlap"})
    found = table.contrast(["tabular - none", "image - none"])
    assert "tabular is not available: no overlap" in found.meta["unavailable"]["0"]["estimate"]
    assert np.isfinite(found["std_error"][1])


def test_contrast_reads_backticks_and_numbers_as_labels():
    table = make_table(index={"quantile": [0.1, 0.25, 0.5, 0.9]})
    found = table.contrast("`0.9` - `0.1`")
    assert found["estimate"][0] == pytest.approx(1 / 3 - 1.5)
    assert found["quantile"].tolist() == ["0.9 - 0.1"]
    spaced = make_table(index={"funder": ["world bank", "b", "c-d", "c"]})
    assert spaced.contrast("world bank - c-d")["estimate"][0] == pytest.approx(1.5 - 0.4)
    assert spaced.contrast("`world bank`-c")["estimate"][0] == pytest.approx(1.5 - 1 / 3)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("imag - none", 'Did you mean "image"'),
        ("image * none", "multiplies two rows"),
        ("1 / image", "divides by a row"),
        ("image / 0", "by zero"),
        ("(image - none", "never closed"),
        ("image -", "ends too early"),
        ("image none", "cannot be read"),
        ("3 + 4", "names no row"),
        ("`image", "backtick"),
        ("b9 - b0", '"b9" is no row'),
        ("* image", "where a row or a number must stand"),
    ],
)
def test_bad_expressions_are_explained(table, text, words):
    with pytest.raises(OptionError, match=words):
        table.contrast(text)


def test_contrast_of_given_intervals_needs_a_method():
    ends = (np.zeros(4), np.ones(4))
    table = make_table(conf=ends, interval="fieller")
    with pytest.raises(OptionError, match='method="normal"'):
        table.contrast("b0 - b1")
    assert np.isfinite(table.contrast("b0 - b1", method="normal")["conf_low"][0])


def test_joint_adds_bands_and_adjusted_p_values(table):
    joined = table.joint()
    bands = sup_t(table["estimate"], table["std_error"], level=0.95, draws=table.draws)
    assert np.array_equal(joined["band_low"], bands.low)
    assert (joined["band_low"] < joined["conf_low"]).all()
    expected = adjusted_p_values("romano_wolf", table["estimate"], table["std_error"], table["p_value"], table.draws)
    assert np.array_equal(joined["p_adjusted"], expected)
    holm = table.joint(method="holm")
    assert (holm["p_adjusted"] >= holm["p_value"]).all()
    assert joined.meta["joint"]["family"] == ADJUST
    assert joined.meta["joint"]["method"] == "romano_wolf"
    assert np.array_equal(joined["p_value"], table["p_value"])


def test_joint_without_draws_uses_the_covariance_and_holm():
    joined = make_table(draws=None).joint(level=0.9)
    assert joined.meta["joint"]["source"] == "covariance"
    assert joined.meta["joint"]["method"] == "holm"
    assert joined.level == 0.9
    with pytest.raises(OptionError, match="joint bands need"):
        make_table(draws=None, covariance=None).joint()
    with pytest.raises(OptionError, match="method="):
        make_table().joint(method="tukey")


def test_rows_without_numbers_leave_the_family():
    joined = make_table(estimate=[1.0, np.nan, 2.0, 3.0], unavailable={1: "no overlap"}).joint()
    assert np.isnan(joined["band_low"][1])
    assert joined.meta["joint"]["n_family"] == 3
    assert joined.meta["joint"]["n_outside"] == 1


def test_bands_fall_when_the_interval_or_the_rows_change(table):
    assert "band_low" not in table.joint().interval(0.5).columns
    assert "joint" not in table.joint().interval(0.5).meta


def test_wald_matches_the_square_of_a_single_statistic(table):
    found = table.wald("image - none")
    assert found.df == 1
    assert found.chi2 == pytest.approx(table.contrast("image - none")["statistic"][0] ** 2, rel=1e-10)
    assert table.wald().df == 4
    with pytest.raises(OptionError, match="needs the covariance"):
        make_table(covariance=None).wald()


def test_concat_of_parts_with_the_same_weights_keeps_draws(table):
    parts = [table.take([0, 1]), table.take([2, 3])]
    whole = EffectTable.concat(parts)
    assert np.array_equal(whole.draws, table.draws)
    assert np.array_equal(whole.influence, table.influence)
    assert np.isnan(whole.covariance[0, 2])
    assert whole.covariance[0, 1] == table.covariance[0, 1]
    assert all(np.array_equal(whole[name], table[name]) for name in table.columns)
    across = whole.contrast("none - image")
    assert across.meta["contrast"]["std_error"] == ["draws"]


def test_concat_of_other_draws_drops_them_and_keeps_what_differs():
    first = make_table().with_index(run="a")
    second = make_table(meta={"seed": 8, "estimator": "image_ate"}, estimate=[1.0, np.nan, 1.0, 1.0],
                        unavailable={1: "no overlap"}).with_index(run="b")  # fmt: skip
    whole = EffectTable.concat([first, second])
    assert whole.draws is None
    assert whole.influence is None
    assert whole.meta["estimator"] == "image_ate"
    assert [part["seed"] for part in whole.meta["parts"]] == [7, 8]
    assert list(whole.meta["unavailable"]) == ["5"]
    assert whole.meta["warnings"] == ["few clusters"]


def test_concat_fills_index_columns_that_one_table_lacks():
    a = make_table().take([0])
    b = make_table(index={"quantile": [0.1, 0.2, 0.3, 0.4]}).take([1])
    whole = EffectTable.concat([a, b])
    assert whole.index_names == ("adjust", "quantile")
    assert whole["adjust"].tolist() == ["none", ""]
    assert np.isnan(whole["quantile"][0])


def test_concat_refuses_mixed_levels_repeats_and_nothing(table):
    with pytest.raises(OptionError, match="one level"):
        EffectTable.concat([table, table.interval(0.9)])
    with pytest.raises(DataError, match="are both"):
        EffectTable.concat([table, table])
    with pytest.raises(OptionError, match="at least one"):
        EffectTable.concat([])


def test_concat_of_mixed_methods_asks_for_one_before_changing_the_level(table):
    whole = EffectTable.concat([table.with_index(run=1), table.interval(method="basic").with_index(run=2)])
    assert whole.meta["interval"] == "mixed"
    with pytest.raises(OptionError, match="needs a refit"):
        whole.interval(0.9)
    assert whole.interval(0.9, "basic").meta["interval"] == "basic"
