"""The command line: what a newcomer runs, exit codes, JSON, whole folders."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from causalsat.cli import main
from causalsat.config import load_config
from causalsat.effects.table import EffectTable
from causalsat.simulate.demo_study import EFFECT, write_demo_study

pytestmark = pytest.mark.filterwarnings("ignore::causalsat.errors.CausalsatWarning")
WRITTEN = ["config.toml", "effects.csv", "effects.md", "effects.parquet", "effects.tex", "meta.json", "report.html"]


def command(*arguments: str, cwd: Path) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, "-m", "causalsat.cli", *arguments],
        cwd=cwd,
        capture_output=True,
        text=True,
        env=dict(os.environ),
    )


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    folder = tmp_path_factory.mktemp("demo")
    run = command("demo", "--out", "demo-study", "--json", cwd=folder)
    assert run.returncode == 0, run.stderr
    return folder / "demo-study", json.loads(run.stdout)


def test_demo_writes_every_file_and_finds_the_effect(demo):
    folder, answer = demo
    assert answer["ok"]
    assert {p.name for p in (folder / "results").iterdir()} >= set(WRITTEN)
    table = EffectTable.read(folder / "results" / "effects.parquet")
    both = table.row(adjust="both", term="effect")
    naive = table.row(adjust="none", term="effect")
    assert both["conf_low"] < EFFECT < both["conf_high"]
    assert naive["conf_low"] > EFFECT
    assert table.meta["n_boot"] == 999


def test_demo_counts_the_places_in_the_holes(demo):
    folder, _ = demo
    meta = json.loads((folder / "results" / "meta.json").read_text())
    dropped = meta["tables"]["image_ate"]["dropped"]
    assert sum(dropped.values()) > 0


def test_the_resolved_configuration_runs_again_to_the_same_numbers(demo, tmp_path):
    folder, _ = demo
    run = command("run", str(folder / "results" / "config.toml"), "--out", str(tmp_path / "again"), cwd=tmp_path)
    assert run.returncode == 0, run.stderr
    first = EffectTable.read(folder / "results" / "effects.parquet")
    again = EffectTable.read(tmp_path / "again" / "effects.parquet")
    np.testing.assert_array_equal(first["estimate"], again["estimate"])
    np.testing.assert_array_equal(first.draws, again.draws)


def test_report_is_rebuilt_alike(demo, capsys):
    folder, _ = demo
    before = (folder / "results" / "report.html").read_bytes()
    assert main(["report", str(folder / "results")]) == 0
    assert (folder / "results" / "report.html").read_bytes() == before
    assert "report.html" in capsys.readouterr().out


def test_validate_reads_no_pixels_and_counts(demo, capsys):
    folder, _ = demo
    assert main(["validate", str(folder / "study.toml")]) == 0
    assert "1600 rows" in capsys.readouterr().out


def test_embed_resumes_what_is_there(demo, capsys):
    folder, _ = demo
    assert main(["embed", str(folder / "study.toml"), "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert answer["places"] == 400
    assert sum(answer["status"].values()) == 400


def test_run_refuses_a_taken_folder_and_writes_nothing(demo, tmp_path):
    folder, _ = demo
    run = command("run", str(folder / "study.toml"), "--out", str(folder / "results"), "--json", cwd=tmp_path)
    assert run.returncode == 2
    assert json.loads(run.stdout)["exit_code"] == 2
    assert "exists already" in run.stderr
    assert list(tmp_path.iterdir()) == []


def test_data_errors_exit_with_3_and_leave_nothing(demo, tmp_path):
    folder, _ = demo
    out = tmp_path / "out"
    changed = ["--set", 'image_ate.covariates=["schooling", "programme"]']
    run = command("run", str(folder / "study.toml"), "--out", str(out), *changed, cwd=tmp_path)
    assert run.returncode == 3, run.stderr
    assert "programme" in run.stderr
    assert list(tmp_path.iterdir()) == []


def test_overrides_win_over_the_file(demo):
    folder, _ = demo
    config = load_config(folder / "study.toml", ["image_ate.level=0.9", "image_ate.method=ipw"])
    assert config.methods["image_ate"]["level"] == 0.9
    assert config.methods["image_ate"]["method"] == "ipw"


def test_describe_says_estimand_and_assumption(capsys):
    assert main(["describe", "image_ate"]) == 0
    text = capsys.readouterr().out
    assert "ignorability" in text and "outcome" in text
    assert main(["describe", "image_at"]) == 2


def test_usage_errors_exit_with_2(tmp_path):
    assert command("runn", cwd=tmp_path).returncode == 2
    assert command("run", "absent.toml", cwd=tmp_path).returncode == 2


def test_a_demo_folder_is_not_overwritten(demo, tmp_path):
    write_demo_study(tmp_path / "mine", seed=3)
    assert command("demo", "--out", "mine", cwd=tmp_path).returncode in (2, 3)
