"""The report as a browser shows it: everything is there without a network, and nothing is asked for."""

import shutil
import subprocess

import pytest

from causalsat.checks.result import CheckResult
from causalsat.effects.report import write_report
from causalsat.effects.table import EffectTable

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
FLAGS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--host-resolver-rules=MAP * ~NOTFOUND",
]


@pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed")
def test_a_browser_shows_table_figure_and_checks(tmp_path):
    table = EffectTable.build(
        {"adjust": ["none", "image"]},
        term=["effect", "effect"],
        estimate=[1.0, 0.5],
        std_error=[0.1, 0.2],
        n_obs=[100, 100],
        meta={"estimator": "image_ate", "assumptions": ["overlap"]},
    )
    check = CheckResult("balance[w, image]", False, 0.3, "3 of 9 columns differ <after> weighting.", {"column": ["x"]})
    path = tmp_path / "report.html"
    write_report(path, title="A & B", sections={"effects": table}, checks=[check], figures={"effects": table.plot()})
    command = [CHROMIUM, *FLAGS, f"--user-data-dir={tmp_path / 'profile'}", "--dump-dom", path.as_uri()]
    shown = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert shown.returncode == 0, shown.stderr[-2000:]
    for piece in ("A &amp; B", "balance[w, image]", "&lt;after&gt;", "<svg", "failed", "overlap"):
        assert piece in shown.stdout, piece
    assert "Refused to" not in shown.stderr
