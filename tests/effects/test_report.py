"""The report: self-contained, escaped, deterministic, in reading order."""

import re

import numpy as np
import pytest

from causalsat import CheckResult
from causalsat.effects.plots import plot_table
from causalsat.effects.report import write_report
from causalsat.errors import DataError
from tests.effects.tables import make_table
from tests.effects.test_render import Tags

CHECKS = [
    CheckResult("overlap", True, 0.93, "Overlap is fine."),
    CheckResult("balance <x>", False, 0.31, "SMD above 0.1.", {"name": ["a", "b"], "smd": [0.31, float("nan")]}),
    CheckResult("leakage", None, float("nan"), "No dates & no judgement.", {"i": list(range(30))}),
]


def page(path, **changes):
    table = make_table(meta={"assumptions": ["x < y"], "warnings": ["<script>w</script>"], "estimator": "image_ate"})
    arguments = {
        "title": 'Aid & "roads" <script>alert(1)</script>',
        "sections": {
            "Effects": table.joint(),
            "Words": "One & two.\n\nThree.",
            "Frame": {"a": [1, 2], "b": ["x", "<"]},
        },
        "checks": CHECKS,
        "provenance": {"causalsat": "0.1", "files": {"a.tif": "sha<"}, "n": [1, 2], "empty": None},
        "figures": {"Effects": plot_table(table.joint()), "Extra": plot_table(table)},
    }
    return write_report(path, **(arguments | changes)).read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def text(tmp_path_factory):
    return page(tmp_path_factory.mktemp("report") / "report.html")


def test_nothing_comes_from_elsewhere(text):
    assert "http:" not in text
    assert "https:" not in text
    assert not re.search(r"<(script|link|img|iframe|object|embed)\b", text)
    assert not re.search(r"@import|url\((?!#)", text)
    assert not re.search(r"\son\w+=", text)
    assert all(target.startswith("#") for target in re.findall(r'href="([^"]*)"', text))


def test_every_link_inside_the_page_has_its_target(text):
    ids = re.findall(r'\bid="([^"]+)"', text)
    assert len(ids) == len(set(ids))
    for target in re.findall(r'href="#([^"]+)"', text) + re.findall(r"url\(#([^)]+)\)", text):
        assert target in ids


def test_markup_is_balanced_and_user_text_escaped(text):
    parser = Tags()
    parser.feed(text)
    assert parser.open == []
    assert 'Aid & "roads" <script>alert(1)</script>' in parser.text
    assert "sha<" in parser.text


def test_reading_order_is_estimates_picture_assumptions_checks_provenance(text):
    marks = ["[", "<figure>", "causal effects if", "<h2>Checks", "<h2>Warnings", "<h2>Provenance"]
    found = [text.index(mark, text.index("<main>")) for mark in marks]
    assert found == sorted(found)


def test_verdicts_stand_in_words_with_failures_first(text):
    checks = text[text.index('id="checks"') :]
    order = [checks.index(words) for words in ("failed", "cannot judge", "passed")]
    assert order == sorted(order)
    for words in ("1 check passed", "1 check failed", "1 check cannot be judged", "1 warning", "4 effects"):
        assert words in text


def test_long_tables_fold(text):
    assert text.count("<details>") == 1
    assert "Table of 30 rows" in text


def test_the_same_input_gives_the_same_bytes(tmp_path):
    assert page(tmp_path / "a.html") == page(tmp_path / "b.html")
    assert [p.name for p in tmp_path.iterdir() if p.suffix == ".tmp"] == []


def test_a_bare_report_has_no_empty_parts(tmp_path):
    text = page(tmp_path / "r.html", checks=(), provenance=None, figures=None, sections={"Words": "Only this."})
    for absent in ("Checks", "Warnings", "Provenance", "<figure>"):
        assert f"<h2>{absent}" not in text


def test_a_section_of_another_kind_is_refused_and_no_file_stays(tmp_path):
    with pytest.raises(DataError, match='Section "x" is a ndarray'):
        page(tmp_path / "r.html", sections={"x": np.zeros(3)})
    assert list(tmp_path.iterdir()) == []


def test_missing_estimates_are_shown_with_their_reason(tmp_path):
    table = make_table(estimate=[1.0, np.nan, 2.0, 3.0], unavailable={1: "no overlap"})
    assert "tabular, all numbers: no overlap" in page(tmp_path / "r.html", sections={"E": table}, figures={})
