"""A study file with an [r3d] block, alone and beside another method."""

import pandas as pd
import pytest

import causalsat as cs
from causalsat.cli import main
from causalsat.effects.table import EffectTable
from causalsat.run import run_study
from causalsat.simulate.r3d import normal

STUDY = """
[study]
title = "A cutoff"
table = "pixels.csv"

[r3d]
outcome = "value"
running = "x"
unit = "unit"
quantiles = [0.1, 0.5, 0.9]
functionals = ["mean", "sd"]
bandwidth = {kind = "imse", pilot = "ladder", regularization = 3.0}
inference = {type = "bootstrap", n = 199, scheme = "multiplier"}
seed = 4
"""


@pytest.fixture
def study(tmp_path):
    data, _ = normal(n=150, n_draws=60, effect=1.0, seed=7)
    pd.DataFrame(data).to_csv(tmp_path / "pixels.csv", index=False)
    path = tmp_path / "study.toml"
    path.write_text(STUDY)
    return path


def test_the_block_is_the_call_and_runs_again(study, tmp_path):
    run_study(study, out=tmp_path / "out")
    table = EffectTable.read(tmp_path / "out" / "effects.parquet")
    called = cs.r3d(
        study.parent / "pixels.csv", outcome="value", running="x", unit="unit", quantiles=[0.1, 0.5, 0.9],
        functionals=["mean", "sd"], bandwidth=cs.Bandwidth(pilot="ladder", regularization=3.0),
        inference=cs.Bootstrap(199, "multiplier"), seed=4,
    )  # fmt: skip
    pd.testing.assert_frame_equal(table.to_frame(), called.table.to_frame())
    assert {"band_low", "band_high"} <= set(table.columns)
    run_study(tmp_path / "out" / "config.toml", out=tmp_path / "again")
    again = EffectTable.read(tmp_path / "again" / "effects.parquet")
    pd.testing.assert_frame_equal(table.to_frame(), again.to_frame())


def test_describe_and_bad_columns(study, capsys):
    assert main(["describe", "r3d"]) == 0
    assert "barycentres" in capsys.readouterr().out
    study.write_text(STUDY.replace('running = "x"', 'running = "distance"'))
    assert main(["validate", str(study)]) == 3
    assert "distance" in capsys.readouterr().err


@pytest.mark.filterwarnings("ignore::causalsat.errors.CausalsatWarning")
def test_the_report_holds_tests_and_sets_and_is_rebuilt_alike(tmp_path):
    from causalsat.run import rebuild_report
    from causalsat.simulate.r3d import fuzzy

    data, _ = fuzzy(n=200, n_draws=60, seed=3)
    pd.DataFrame(data).to_csv(tmp_path / "pixels.csv", index=False)
    path = tmp_path / "study.toml"
    path.write_text(STUDY.replace("seed = 4", 'seed = 4\ntreatment = "treatment"'))
    run = run_study(path, out=tmp_path / "out")
    report = (tmp_path / "out" / "report.html").read_text()
    for words in ("nullity over q", "homogeneity over q", "Anderson-Rubin set at q"):
        assert words in report
    assert run.results["r3d"].check("first_stage").statistic > 0.0
    rebuild_report(tmp_path / "out")
    assert (tmp_path / "out" / "report.html").read_text() == report
