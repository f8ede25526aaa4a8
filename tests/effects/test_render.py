"""Text, Markdown, LaTeX, HTML and CSV."""

import csv
import html.parser
import re

import numpy as np
import pytest

from causalsat import EffectTable
from causalsat.effects.format import decimals_for, show_number, show_p_value
from causalsat.effects.render_latex import escape
from tests.effects.tables import make_table

NASTY = ["a & b", "50% <b>", "x_y^2~$#{}\\", "new\nline | *"]


@pytest.fixture
def nasty():
    return make_table(
        index={"set": NASTY}, meta={"assumptions": "a < b & c", "warnings": ["<script>alert(1)</script>"]}
    )


def test_number_formats():
    assert show_number(-0.0001, 2) == "0.00"
    assert show_number(float("nan"), 2) == "–"
    assert show_number(float("-inf"), 2) == "-inf"
    assert show_p_value(0.0004) == "<0.001"
    assert show_p_value(0.0005) == "0.001"
    assert decimals_for(np.array([0.012]), np.array([1.0])) == 4
    assert decimals_for(np.array([1234.0]), np.array([1.0])) == 0
    assert decimals_for(np.array([1e-6, 1.0]), np.array([1.0, 1.0])) is None
    assert decimals_for(np.array([np.nan]), np.array([np.nan])) == 3


def test_summary_tells_assumptions_draws_dropped_rows_and_warnings(table):
    text = table.summary()
    assert "Assumes: no unmeasured confounding; overlap" in text
    assert "399 draws (iid), 0 failed" in text
    assert "Rows left out: 3 (missing outcome)" in text
    assert "Warning: few clusters" in text
    assert max(len(line) for line in text.splitlines()) <= 110


def test_summary_tells_why_a_number_is_missing():
    table = make_table(estimate=[1.0, np.nan, 2.0, 3.0], unavailable={1: "no overlap"})
    assert "Not available: tabular, all numbers: no overlap" in table.summary()


def test_summary_of_a_joint_table_names_the_family(table):
    assert "simultaneous band over 4 rows" in table.joint().summary()
    assert "adjusted by romano_wolf" in " ".join(table.joint().summary().split())


def test_values_that_all_rows_share_move_under_the_table():
    text = repr(make_table(index={"adjust": ["a", "b", "c", "d"], "horizon": [2] * 4}))
    assert "All rows: horizon = 2, term = road" in text


def test_markdown_has_one_cell_per_column_in_every_line(nasty):
    lines = [line for line in nasty.to_markdown().splitlines() if line.startswith("|")]
    bars = [len(re.findall(r"(?<!\\)\|", line)) for line in lines]
    assert len(lines) == 6
    assert len(set(bars)) == 1


def test_latex_escapes_every_special_character():
    assert escape("a & b_c 50% #1 $x {y} ~ ^ \\") == (
        r"a \& b\_c 50\% \#1 \$x \{y\} \textasciitilde{} \textasciicircum{} \textbackslash{}"
    )
    assert escape("two\nlines") == "two lines"


def test_latex_is_a_balanced_booktabs_fragment(nasty):
    text = nasty.joint().to_latex(caption="All & more", label="tab:all")
    unescaped = re.sub(r"\\[{}\\]", "", text.replace(r"\textbackslash{}", ""))
    assert unescaped.count("{") == unescaped.count("}")
    assert text.count(r"\begin{") == text.count(r"\end{") == 2
    for rule in (r"\toprule", r"\midrule", r"\bottomrule"):
        assert text.count(rule) == 1
    body = text.split(r"\midrule")[1].split(r"\bottomrule")[0].strip().splitlines()
    columns = re.search(r"\\begin\{tabular\}\{([lr]+)\}", text).group(1)
    for line in body:
        assert line.endswith(r"\\")
        assert len(re.findall(r"(?<!\\)&", line)) == len(columns) - 1
    assert r"\caption{All \& more}" in text
    assert re.search(r"[^\x00-\x7f]", text) is None


def test_latex_without_caption_is_only_a_tabular(table):
    text = table.to_latex(notes=False)
    assert text.startswith(r"\begin{tabular}")
    assert text.endswith("\\end{tabular}\n")
    assert "footnotesize" not in text
    assert "$-$" in make_table(estimate=[-1.0, 1.0, 1.0, 1.0]).to_latex()
    assert not re.search(r"\\\\\s*\[", text)


class Tags(html.parser.HTMLParser):
    def __init__(self):
        super().__init__()
        self.open, self.seen, self.text = [], [], ""

    def handle_starttag(self, tag, attrs):
        self.seen.append(tag)
        if tag != "meta":
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += data


def test_html_is_balanced_and_escaped(nasty):
    parser = Tags()
    parser.feed(nasty.to_html(caption="<i>"))
    assert parser.open == []
    assert "script" not in parser.seen
    assert "i" not in parser.seen
    for text in ("a & b", "50% <b>", "x_y^2~$#{}\\", "a < b & c"):
        assert text in parser.text
    assert parser.seen.count("td") == 4 * 7


def test_notebook_html_adds_only_a_style(table):
    assert table._repr_html_().endswith(table.to_html())
    assert "http" not in table._repr_html_()


def test_renderers_give_the_same_bytes_for_the_same_table(table):
    again = make_table()
    for name in ("summary", "to_markdown", "to_latex", "to_html", "__repr__"):
        assert getattr(table, name)() == getattr(again, name)()


def test_renderers_leave_the_table_alone(table):
    table.joint().to_html()
    table.to_latex()
    assert table == make_table()


def test_csv_reads_back_bit_for_bit(tmp_path, nasty):
    table = EffectTable.concat([nasty, make_table(estimate=[np.nan] * 4, unavailable=dict.fromkeys(range(4), "x")).with_index(set="z")])  # fmt: skip
    with open(table.to_csv(tmp_path / "t.csv"), newline="", encoding="utf-8") as handle:
        rows = list(csv.DictReader(handle))
    assert list(rows[0]) == list(table.columns)
    assert [row["set"] for row in rows[:4]] == NASTY
    assert [float(row["estimate"]) for row in rows[:4]] == table["estimate"][:4].tolist()
    assert rows[4]["estimate"] == ""


def test_maketables_hooks(table):
    frame = table.__maketables_coef_table__
    assert list(frame.columns) == ["b", "se", "t", "p", "ci95l", "ci95u"]
    assert list(frame.index) == list(table.labels)
    assert frame["b"].tolist() == table["estimate"].tolist()
    assert table.__maketables_stat__("N") == 400
    assert table.__maketables_stat__("n_boot") == 399
    assert table.__maketables_stat__("r2") is None
    assert set(table.__maketables_default_stat_keys__) <= {"N", "level", "n_boot", "n_clusters"}
    assert table.__maketables_vcov_info__ == {"vcov_type": "iid"}
    assert table.__maketables_depvar__ == ""
