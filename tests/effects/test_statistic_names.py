"""Rows whose statistic is not a t say so, in every output, and tables of t alone stay as they are."""

import csv
import json

import numpy as np
import pyarrow.parquet as pq
import pytest

from causalsat import EffectTable
from causalsat.errors import DataError
from tests.effects.tables import make_table

CORE = ["term", "estimate", "std_error", "statistic", "p_value", "conf_low", "conf_high", "n_obs"]
NAMES = ["t", "chi2(3)", "F(3, 96)", "t"]


def mixed(**changes):
    """The shared table with an own statistic in rows 1 and 2 and none in row 3."""
    given = {"statistic": [6.25, 11.5, 4.75, np.nan], "statistic_name": NAMES, "p_value": [0.0, 0.01, 0.004, 0.5]}
    return make_table(**(given | changes))


def header_and_rows(text):
    lines = [line.strip("| ").split(" | ") for line in text.splitlines() if line.startswith("|")]
    return lines[0], lines[2:]


def test_a_table_of_t_alone_has_no_further_column(table):
    for same in (make_table(statistic_name="t"), make_table(statistic_name=["t"] * 4), mixed(statistic_name=None)):
        assert list(same.columns) == ["adjust", *CORE]
    header, _ = header_and_rows(table.to_markdown())
    assert "t" in header and "Statistic" not in header and "Test" not in header


def test_each_row_names_its_statistic():
    table = mixed()
    assert list(table.columns) == ["adjust", *CORE, "statistic_name"]
    assert table["statistic_name"].tolist() == ["t", "chi2(3)", "F(3, 96)", ""]
    header, rows = header_and_rows(table.to_markdown())
    at = header.index("Statistic")
    assert header[at + 1] == "Test" and "t" not in header
    assert [row[at : at + 2] for row in rows] == [["6.25", "t"], ["11.50", "chi2(3)"], ["4.75", "F(3, 96)"], ["–", "–"]]
    for text in (repr(table), table.summary(), table.to_html(), table.to_latex()):
        assert "Statistic" in text and "F(3, 96)" in text and "Test" in text
    assert "<td>chi2(3)</td>" in table.to_html()


def test_files_carry_the_names_and_the_stored_format_stays_version_one(tmp_path):
    table = mixed()
    assert EffectTable.read(table.write(tmp_path / "t.parquet")) == table
    stored = json.loads((tmp_path / "t.json").read_text())
    assert stored["version"] == 1 and stored["columns"]["statistic_name"] == ["t", "chi2(3)", "F(3, 96)", ""]
    assert pq.read_schema(tmp_path / "t.parquet").names[:10] == ["adjust", *CORE, "statistic_name"]
    with open(table.to_csv(tmp_path / "t.csv"), newline="", encoding="utf-8") as handle:
        assert [row["statistic_name"] for row in csv.DictReader(handle)] == ["t", "chi2(3)", "F(3, 96)", ""]
    assert table.row(adjust="image")["statistic_name"] == "F(3, 96)"
    assert table.to_frame()["statistic_name"].tolist() == table.to_dict()["statistic_name"]


def test_names_follow_their_rows():
    table = mixed()
    assert table.where(adjust=["tabular", "none"])["statistic_name"].tolist() == ["t", "chi2(3)"]
    assert table.take([2, 0])["statistic_name"].tolist() == ["F(3, 96)", "t"]
    assert list(table.take([0, 3]).columns) == ["adjust", *CORE]
    assert list(table.with_index(set="a").columns) == ["set", "adjust", *CORE, "statistic_name"]
    assert list(table.joint().columns)[-4:] == ["statistic_name", "band_low", "band_high", "p_adjusted"]


def test_statistics_computed_again_are_t():
    table = mixed()
    for fresh in (table.interval(0.9, "normal"), table.contrast("tabular - none")):
        assert "statistic_name" not in fresh.columns
    again = table.interval(0.9, "normal")
    np.testing.assert_allclose(again["statistic"], table["estimate"] / table["std_error"])


def test_stacked_tables_tell_where_one_part_is_not_a_t(table):
    both = EffectTable.concat([table.with_index(part="a"), mixed().with_index(part="b")])
    assert both["statistic_name"].tolist() == ["t"] * 4 + ["t", "chi2(3)", "F(3, 96)", ""]
    assert "statistic_name" not in EffectTable.concat([table.with_index(part="a"), table.with_index(part="b")]).columns


def test_regression_tables_get_no_other_statistic_under_t():
    frame = mixed().__maketables_coef_table__
    assert np.isnan(frame["t"]).tolist() == [False, True, True, True] and frame["t"].iloc[0] == 6.25


def test_bad_names_are_refused():
    with pytest.raises(DataError, match="pass statistic= as well"):
        make_table(statistic_name="chi2(3)")
    with pytest.raises(DataError, match="statistic_name has shape"):
        mixed(statistic_name=["t", "F"])
    with pytest.raises(DataError, match="reserved"):
        make_table(index={"statistic_name": list("abcd")})
