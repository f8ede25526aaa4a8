"""A study file with a [drive] block, and with two methods at once."""

import json

import pandas as pd
import pytest

import causalsat as cs
from causalsat.cli import main
from causalsat.config import load_config
from causalsat.effects.table import EffectTable
from causalsat.run import run_study
from causalsat.simulate.iv import iv

STUDY = """
[study]
title = "An instrument"
table = "table.csv"

[drive]
outcome = "y"
treatment = "x"
instruments = ["z1", "z2", "z3"]
n_boot = 199
seed = 4
covariance = {kind = "hc0"}
options = {cap = 0.4, ar_law = "f", nuisance_folds = {n = 4}}
"""


@pytest.fixture
def study(tmp_path):
    data, _ = iv(n=300, q=3, concentration=150.0, seed=7)
    pd.DataFrame(data).to_csv(tmp_path / "table.csv", index=False)
    path = tmp_path / "study.toml"
    path.write_text(STUDY)
    return path


def test_the_block_is_the_call(study, tmp_path):
    run = run_study(study, out=tmp_path / "out")
    table = EffectTable.read(tmp_path / "out" / "effects.parquet")
    called = cs.drive(
        study.parent / "table.csv", outcome="y", treatment="x", instruments=["z1", "z2", "z3"], n_boot=199, seed=4,
        covariance=cs.Sandwich("hc0"), options=cs.DriveOptions(cap=0.4, ar_law="f", nuisance_folds=cs.Folds(4)),
    )  # fmt: skip
    assert list(table["method"]) == list(called.table["method"])
    pd.testing.assert_frame_equal(table.to_frame(), called.table.to_frame())
    assert run.results["drive"].rho == called.rho
    assert (tmp_path / "out" / "report.html").stat().st_size > 10_000
    json.loads((tmp_path / "out" / "meta.json").read_text())


def test_the_resolved_configuration_runs_again(study, tmp_path):
    run_study(study, out=tmp_path / "out")
    again = load_config(tmp_path / "out" / "config.toml")
    assert again.methods["drive"]["options"]["cap"] == 0.4
    run_study(tmp_path / "out" / "config.toml", out=tmp_path / "again")
    first, second = (EffectTable.read(tmp_path / name / "effects.parquet") for name in ("out", "again"))
    pd.testing.assert_frame_equal(first.to_frame(), second.to_frame())


def test_describe_and_bad_columns(study, capsys):
    assert main(["describe", "drive"]) == 0
    assert "squared radius" in capsys.readouterr().out
    study.write_text(STUDY.replace('"z3"', '"z9"'))
    assert main(["validate", str(study)]) == 3
    assert "z9" in capsys.readouterr().err


def test_the_report_holds_sets_and_is_rebuilt_alike_with_open_checks(study, tmp_path):
    from causalsat.run import rebuild_report

    run = run_study(study, out=tmp_path / "out")
    assert any(check.passed is None for check in run.results["drive"].checks)
    report = (tmp_path / "out" / "report.html").read_text()
    assert "AR set of x" in report
    rebuild_report(tmp_path / "out")
    assert (tmp_path / "out" / "report.html").read_text() == report
