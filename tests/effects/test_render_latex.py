"""LaTeX of long tables: pages, repeated headers, one caption, balanced, and compiled where LaTeX is installed."""

import re
import shutil
import subprocess

import numpy as np
import pytest

from causalsat import EffectTable
from causalsat.effects.render_latex import PAGE_ROWS


def curve(k=99):
    rng = np.random.default_rng(0)
    meta = {"estimator": "r3d", "assumptions": ["continuity & no sorting"], "warnings": ["50% of units_tied"]}
    return EffectTable.build(
        {"quantile": np.arange(1, k + 1) / (k + 1)}, term="laqte", estimate=rng.normal(size=k), std_error=0.2,
        n_obs=400, meta=meta, statistic=np.full(k, 2.5), statistic_name=["t", *["F(3, 90)"] * (k - 1)],
    )  # fmt: skip


def assert_balanced(text):
    """Environments open and close in order, braces match, every row of the body has the cells of the preamble."""
    open_now = []
    for kind, name in re.findall(r"\\(begin|end)\{(\w+)\}", text):
        if kind == "begin":
            open_now.append(name)
        else:
            assert open_now.pop() == name
    assert open_now == []
    bare = re.sub(r"\\[{}\\%&]", "", text)
    depth = 0
    for letter in bare:
        depth += (letter == "{") - (letter == "}")
        assert depth >= 0
    assert depth == 0
    columns = len(re.search(r"\\begin\{(?:tabular|longtable)\}\{([lr]+)\}", text).group(1))
    rows = [line for line in text.splitlines() if re.match(r"-?\d", line)]
    assert {len(re.findall(r"(?<!\\)&", line)) for line in rows} == {columns - 1}
    return len(rows)


@pytest.mark.parametrize("options", [{}, {"caption": "Curve & band"}, {"label": "tab:x"}, {"notes": False},
                                     {"caption": "c", "label": "tab:x"}])  # fmt: skip
def test_a_long_table_breaks_across_pages(options):
    text = curve().to_latex(**options)
    assert assert_balanced(text) == 99
    assert text.count(r"\begin{longtable}") == 1 and r"\begin{tabular}" not in text and r"\begin{table}" not in text
    for part in (r"\endfirsthead", r"\endhead", r"\endfoot", r"\endlastfoot", r"\bottomrule"):
        assert text.count(part) == 1
    assert text.count(r"\toprule") == text.count("{Estimate}") == 2
    assert text.count(r"\caption") == ("caption" in options) and text.count(r"\label") == ("label" in options)
    first = text.split(r"\endfirsthead")[0]
    assert (r"\caption" in first) == ("caption" in options) and (r"\label" in first) == ("label" in options)
    assert (r"50\% of units\_tied" in text.split(r"\end{longtable}")[1]) == options.get("notes", True)
    assert text.startswith("% Needs \\usepackage{booktabs,longtable}.\n")
    assert re.search(r"[^\x00-\x7f]", text) is None


def test_a_page_of_rows_stays_a_tabular_and_either_can_be_asked_for():
    table = curve()
    page = table.take(range(PAGE_ROWS))
    assert page.to_latex().startswith(r"\begin{tabular}")
    assert r"\begin{longtable}" in table.take(range(PAGE_ROWS + 1)).to_latex()
    whole = table.to_latex(longtable=False)
    assert whole.startswith(r"\begin{tabular}") and assert_balanced(whole) == 99
    short = page.take(range(3)).to_latex(longtable=True)
    assert r"\begin{longtable}" in short and assert_balanced(short) == 3


def test_some_quantiles_can_be_chosen():
    text = curve().where(quantile=[0.1, 0.5, 0.9]).to_latex()
    assert text.startswith(r"\begin{tabular}") and assert_balanced(text) == 3
    assert [line.split(" & ")[0] for line in text.splitlines() if line.startswith("0.")] == ["0.1", "0.5", "0.9"]


def _has_latex():
    if shutil.which("pdflatex") is None or shutil.which("kpsewhich") is None:
        return False
    styles = ("booktabs.sty", "longtable.sty")
    return all(subprocess.run(["kpsewhich", style], capture_output=True).returncode == 0 for style in styles)


@pytest.mark.skipif(not _has_latex(), reason="pdflatex with booktabs and longtable is not installed")
def test_every_form_compiles(tmp_path):
    table = curve()
    parts = [
        table.to_latex(caption="All & more", label="tab:a"),
        table.to_latex(label="tab:b"),
        table.take(range(5)).to_latex(caption="Short", label="tab:c"),
        table.take(range(5)).to_latex(notes=False),
    ]
    body = "\n\n".join([r"See \ref{tab:a}, \ref{tab:b}, \ref{tab:c}.", *parts])
    page = "\\documentclass{article}\\usepackage{booktabs,longtable}\\begin{document}\n" + body + "\n\\end{document}\n"
    (tmp_path / "t.tex").write_text(page, encoding="ascii")
    for _ in range(2):
        done = subprocess.run(
            ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "t.tex"], cwd=tmp_path, capture_output=True
        )
        assert done.returncode == 0, done.stdout.decode(errors="replace")[-2000:]
    log = (tmp_path / "t.log").read_text(errors="replace")
    assert "undefined" not in log and (tmp_path / "t.pdf").stat().st_size > 10_000
