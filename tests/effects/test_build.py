"""What a table holds, refuses and selects."""

import copy
import pickle

import numpy as np
import pytest

from causalsat import EffectTable
from causalsat.errors import DataError, OptionError
from causalsat.interop.r import plain
from tests.effects.tables import make_table

CORE = ["term", "estimate", "std_error", "statistic", "p_value", "conf_low", "conf_high", "n_obs"]


def one(**changes):
    arguments = {"term": "w", "estimate": [1.0], "std_error": [0.5], "n_obs": 10, "meta": {}} | changes
    return EffectTable.build({}, **arguments)


def test_columns_stand_in_the_fixed_order(table):
    assert list(table.columns) == ["adjust", *CORE]
    assert list(table.joint().columns) == ["adjust", *CORE, "band_low", "band_high", "p_adjusted"]
    assert list(table.to_frame().columns) == ["adjust", *CORE]
    assert list(table.to_dict()) == ["adjust", *CORE]


def test_normal_interval_and_p_value_match_the_closed_form():
    row = one().row()
    assert row["statistic"] == 2.0
    assert row["conf_low"] == pytest.approx(1.0 - 0.5 * 1.959963984540054, abs=1e-14)
    assert row["p_value"] == pytest.approx(0.04550026389635842, abs=1e-14)


def test_t_law_is_used_when_df_is_given():
    from scipy import stats

    assert one(df=7).row()["conf_high"] == pytest.approx(1.0 + 0.5 * stats.t.ppf(0.975, 7), abs=1e-14)


def test_null_value_moves_statistic_and_p_value_but_not_the_interval():
    shifted, base = one(null=1.0).row(), one().row()
    assert shifted["statistic"] == 0.0
    assert shifted["p_value"] == 1.0
    assert shifted["conf_low"] == base["conf_low"]


def test_level_stands_in_meta_and_never_in_a_column(table):
    assert table.meta["level"] == 0.95
    assert table.level == 0.95
    assert not any("95" in name for name in table.columns)


@pytest.mark.parametrize("column", ["estimate", "std_error"])
def test_a_nan_needs_its_reason(column):
    with pytest.raises(DataError, match="without a reason"):
        one(**{column: [np.nan]})


def test_reasons_reach_every_empty_column():
    table = one(std_error=[np.nan], unavailable={0: "one cluster"})
    why = table.meta["unavailable"]["0"]
    assert why["std_error"] == "one cluster"
    assert set(why) == {"std_error", "statistic", "p_value", "conf_low", "conf_high"}
    empty = [n for n in CORE[1:-1] if np.isnan(table[n][0])]
    assert set(empty) == set(why)


def test_a_missing_estimate_empties_its_standard_error():
    table = one(estimate=[np.nan], unavailable={0: "no overlap"})
    assert np.isnan(table["std_error"][0])
    assert set(table.meta["unavailable"]["0"].values()) == {"no overlap"}


def test_zero_standard_error_has_no_statistic_and_says_why():
    table = one(std_error=[0.0])
    assert np.isnan(table["statistic"][0])
    assert "zero" in table.meta["unavailable"]["0"]["statistic"]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"estimate": [1.0, 2.0]}, "std_error has shape"),
        ({"std_error": [-1.0]}, "negative"),
        ({"n_obs": 3.5}, "whole numbers"),
        ({"draws": np.zeros((5, 2))}, "draws has shape"),
        ({"covariance": [[1.0]]}, "not the square"),
        ({"unavailable": {4: "x"}}, "names rows"),
        ({"meta": {"f": object()}}, r"meta\['f'\]"),
        ({"meta": {1: "x"}}, "keys must be text"),
        ({"term": ["a", "b"]}, "term has shape"),
        ({"estimate": ["a"]}, "numbers only"),
    ],
)
def test_bad_parts_are_refused_by_name(changes, words):
    with pytest.raises(DataError, match=words):
        one(**changes)


@pytest.mark.parametrize("name", ["estimate", "_x", "", "p_adjusted"])
def test_reserved_index_names_are_refused(name):
    with pytest.raises(DataError, match="cannot name an index column"):
        make_table(index={name: [1, 2, 3, 4]})


def test_two_rows_with_one_identity_are_refused():
    with pytest.raises(DataError, match="Rows 0 and 2 are both"):
        make_table(index={"adjust": ["a", "b", "a", "c"]})


def test_unknown_interval_lists_the_allowed_ones():
    with pytest.raises(OptionError, match=r'percentile".*Did you mean "percentile"'):
        one(interval="precentile")


def test_level_outside_the_unit_interval_is_refused():
    with pytest.raises(OptionError, match="level=1"):
        one(level=1.0)


def test_given_intervals_are_kept_as_they_are():
    table = one(conf=([-np.inf], [4.0]), p_value=[0.2], interval="anderson_rubin")
    assert table["conf_low"][0] == -np.inf
    assert table["p_value"][0] == 0.2
    assert table.meta["interval"] == "anderson_rubin"
    with pytest.raises(OptionError, match="needs a refit"):
        table.interval(0.9)
    assert table.interval(0.9, "normal") == one(level=0.9)


def test_nothing_can_be_written_into(table):
    with pytest.raises(ValueError, match="read-only"):
        table["estimate"][0] = 9.0
    with pytest.raises(AttributeError):
        table.meta = {}


def test_arrays_of_the_caller_are_not_shared():
    draws = np.random.default_rng(0).normal(size=(50, 1))
    table = one(draws=draws)
    draws[:] = 0.0
    assert table.draws.std() > 0


def test_meta_of_the_caller_is_not_shared():
    meta = {"dropped": {"a": 1}}
    table = one(meta=meta)
    meta["dropped"]["a"] = 2
    assert table.meta["dropped"]["a"] == 1


def test_access_by_column_row_and_length(table):
    assert len(table) == 4
    assert table["adjust"].tolist() == ["none", "tabular", "image", "both"]
    assert table.row(adjust="image")["estimate"] == 0.4
    with pytest.raises(DataError, match=r'no column "estimat".*Did you mean "estimate"'):
        table["estimat"]
    with pytest.raises(DataError, match="No row has"):
        table.row(adjust="imagery")
    with pytest.raises(OptionError, match="matches 4 rows"):
        table.row(term="road")


def test_labels_name_what_differs():
    assert make_table().labels == ("none", "tabular", "image", "both")
    both = make_table(index={"funder": ["a", "a", "b", "b"], "quantile": [0.1, 0.5, 0.1, 0.5]})
    assert both.labels == ("a:0.1", "a:0.5", "b:0.1", "b:0.5")
    assert one().labels == ("w",)
    redundant = make_table(index={"adjust": ["a", "b", "c", "d"], "method": ["dim", "aipw", "aipw", "aipw"]})
    assert redundant.labels == ("a", "b", "c", "d")
    terms = make_table(index={"adjust": ["a", "b", "a", "b"]}, term=["effect", "effect", "share", "share"])
    assert terms.labels == ("a:effect", "b:effect", "a:share", "b:share")


def test_where_keeps_draws_covariance_influence_and_reasons_consistent():
    reasons = {2: "no overlap"}
    estimate = np.array([1.0, 2.0, np.nan, 4.0])
    table = make_table(estimate=estimate, unavailable=reasons, places=np.arange(8.0).reshape(4, 2))
    kept = table.where(adjust=["both", "image"])
    assert kept["adjust"].tolist() == ["image", "both"]
    assert np.array_equal(kept.draws, table.draws[:, 2:])
    assert np.array_equal(kept.influence, table.influence[:, 2:])
    assert np.array_equal(kept.covariance, table.covariance[2:, 2:])
    assert np.array_equal(kept.places, table.places[2:])
    assert list(kept.meta["unavailable"]) == ["0"]
    assert list(table.meta["unavailable"]) == ["2"]


def test_take_accepts_positions_and_masks(table):
    assert table.take([3, 0])["adjust"].tolist() == ["both", "none"]
    assert table.take([-1]) == table.take([3])
    assert table.take(table["estimate"] > 0.5) == table.take([0, 1])
    with pytest.raises(DataError, match="asked for"):
        table.take([4])
    with pytest.raises(DataError, match="are both"):
        table.take([1, 1])


def test_index_and_meta_can_be_added_to_a_copy(table):
    wider = table.with_index(run="a", repeat=[1, 2, 3, 4]).with_meta(seconds=2.5)
    assert list(wider.columns)[:3] == ["run", "repeat", "adjust"]
    assert wider.meta["seconds"] == 2.5
    assert "seconds" not in table.meta
    with pytest.raises(OptionError, match="computed by the table"):
        table.with_meta(level=0.5)
    with pytest.raises(DataError, match="already"):
        table.with_index(adjust="x")


def test_equality_sees_every_part(table):
    assert table == make_table()
    assert table != make_table(n_obs=401)
    assert table != make_table(draws=None)
    assert table != make_table(meta={"estimator": "x"})
    assert table != "table"
    assert pickle.loads(pickle.dumps(table)) == table
    assert copy.deepcopy(table) == table


def test_repr_is_short_and_deterministic(table):
    assert repr(table) == repr(make_table())
    assert "0x" not in repr(table)
    assert repr(table).splitlines()[0] == "EffectTable: image_ate, 4 rows, 95% intervals (normal)"
    k = 300
    long = EffectTable.build({"i": range(k)}, term="w", estimate=np.arange(k), std_error=np.ones(k), n_obs=1, meta={})
    assert len(repr(long).splitlines()) < 25


def test_to_dict_is_plain_and_already_what_the_r_boundary_wants(table):
    values = table.with_index(flag=[True, False, True, True]).to_dict()
    for name, column in values.items():
        assert type(column) is list
        assert len({type(v) for v in column}) == 1, name
        assert type(column[0]) in (float, int, str, bool)
    assert plain(table) == table.to_dict()


def test_counts_beyond_two_billion_leave_as_float():
    assert one(n_obs=2**31).to_dict()["n_obs"] == [2147483648.0]
    assert type(one(n_obs=2**31 - 1).to_dict()["n_obs"][0]) is int


def test_a_table_may_be_empty():
    table = EffectTable.build({"adjust": []}, term="w", estimate=[], std_error=[], n_obs=[], meta={})
    assert len(table) == 0
    assert table.to_dict()["estimate"] == []
    assert "0 rows" in repr(table)


def test_numbers_are_found_and_named_despite_rounding():
    table = make_table(index={"quantile": [0.1, 0.1 + 0.2, 0.5, 1 / 3]})
    assert table.labels == ("0.1", "0.3", "0.5", "0.333333333333")
    assert table.row(quantile=0.3)["estimate"] == 0.9
