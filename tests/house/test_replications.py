"""Published numbers beside ours: reports follow from the tables, rules are derived, and the scripts run."""

import csv
import importlib.util
import os
import re
import shutil
import subprocess
import sys
from decimal import Decimal
from pathlib import Path

import pytest

HOME = Path(__file__).resolve().parents[2] / "paper_replications"
_spec = importlib.util.spec_from_file_location("replications_board", HOME / "board.py")
board = importlib.util.module_from_spec(_spec)
sys.modules["replications_board"] = board
_spec.loader.exec_module(board)
PAPERS = board.papers()
by_paper = pytest.mark.parametrize("folder", PAPERS, ids=lambda path: path.name)


def edit(path: Path, name: str, column: str, value: str) -> None:
    rows = board.read(path)
    changed = [row for row in rows if row["id"] == name]
    assert changed, name
    changed[0][column] = value
    with path.open("w", newline="", encoding="utf-8") as handle:
        writer = csv.DictWriter(handle, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


@pytest.fixture
def copy(tmp_path):
    """A copy of the first paper's folder inside a home of its own."""
    shutil.copytree(PAPERS[0], tmp_path / PAPERS[0].name, ignore=shutil.ignore_patterns("__pycache__"))
    return tmp_path / PAPERS[0].name


def test_every_folder_is_a_paper_with_all_its_files():
    folders = {path.name for path in HOME.iterdir() if path.is_dir() and path.name != "__pycache__"}
    assert folders == {path.name for path in PAPERS} != set()
    for folder in PAPERS:
        assert re.fullmatch(r"[a-z]+(_[a-z]+)*_\d{4}_[a-z0-9_]+", folder.name)
        for name in ("README.md", "targets.csv", "config.toml", "replicate.py", "results.csv", "report.md"):
            assert (folder / name).is_file(), f"{folder.name}/{name}"


@by_paper
def test_report_follows_from_targets_and_results(folder):
    assert (folder / "report.md").read_text(encoding="utf-8") == board.report(folder)


def test_board_follows_from_targets_and_results():
    assert (HOME / "README.md").read_text(encoding="utf-8") == board.board()


@by_paper
def test_every_target_has_its_fields_and_a_verdict(folder):
    targets = board.read(folder / "targets.csv")
    assert len({t["id"] for t in targets}) == len(targets)
    for found, target in zip(board.judged(folder), targets, strict=True):
        assert found.verdict in board.VERDICTS
        assert target["kind"] in board.KINDS and target["data"] in board.DATA and target["source"] in board.SOURCES
        assert target["place"] and target["quantity"] and target["reason"], target["id"]
        if found.verdict == "missed":
            assert board.explanation(found, board.read(folder / "results.csv")) != "not explained yet", target["id"]
        if target["data"] != "original":
            assert found.verdict != "reproduced"
    assert sum(board.counts(board.judged(folder)).values()) == len(targets)


@by_paper
def test_tolerances_are_the_derived_ones(folder):
    for target in board.read(folder / "targets.csv"):
        if target["kind"] in ("exact", "rounding"):
            decimals = board.printed_decimals(target["published"])
            assert target["decimals"] == str(decimals), target["id"]
            assert Decimal(target["tolerance"]) == Decimal("0.5") * Decimal(10) ** -decimals, target["id"]
        else:
            assert target["tolerance"] == "", target["id"]
        if target["kind"] == "monte_carlo":
            assert float(target["published_se"]) > 0


@by_paper
def test_results_name_their_run_and_no_machine(folder):
    for row in board.read(folder / "results.csv"):
        assert float(row["seconds"]) > 0 and int(row["peak_mb"]) > 0 and int(row["runs"]) > 0
        assert "CPU cores" in row["hardware"] and "causalsat" in row["versions"]
    for path in folder.iterdir():
        if path.suffix in (".csv", ".md", ".py", ".toml"):
            assert not re.search(r"/(work|home|tmp|root|Users)/", path.read_text(encoding="utf-8")), path.name


def test_a_number_outside_the_tolerance_is_missed_and_the_report_moves(copy):
    targets = {t["id"]: t for t in board.read(copy / "targets.csv")}
    name = next(j.target["id"] for j in board.judged(copy) if j.verdict == "reproduced")
    outside = Decimal(targets[name]["published"]) + Decimal("1.01") * Decimal(targets[name]["tolerance"])
    edit(copy / "results.csv", name, "ours", str(outside))
    verdicts = {j.target["id"]: j.verdict for j in board.judged(copy)}
    assert verdicts[name] == "missed"
    assert board.report(copy) != (copy / "report.md").read_text(encoding="utf-8")
    assert board.board(copy.parent) != (HOME / "README.md").read_text(encoding="utf-8")


def test_a_standard_error_outside_the_tolerance_is_missed(copy):
    name = next(j.target["id"] for j in board.judged(copy) if j.target["published_se"] and j.verdict == "reproduced")
    target = next(t for t in board.read(copy / "targets.csv") if t["id"] == name)
    edit(copy / "results.csv", name, "our_se", str(Decimal(target["published_se"]) * 2))
    assert {j.target["id"]: j.verdict for j in board.judged(copy)}[name] == "missed"


def test_a_target_without_a_result_has_no_verdict(copy):
    name = next(j.target["id"] for j in board.judged(copy) if j.verdict == "reproduced")
    edit(copy / "results.csv", name, "id", "another")
    with pytest.raises(KeyError, match=name):
        board.judged(copy)


def test_simulated_numbers_use_both_standard_errors():
    target = {"id": "a", "kind": "monte_carlo", "data": "simulated", "published": "1.00", "published_se": "0.03"}
    result = {"id": "a", "ours": "1.16", "our_se": "0.04"}
    assert board.judge(target, {"a": result}).verdict == "replicated"
    assert board.allowed(target, result) == Decimal("0.165")
    assert board.judge(target, {"a": result | {"ours": "1.17"}}).verdict == "missed"
    assert board.judge(target | {"data": "original"}, {"a": result}).verdict == "reproduced"


@pytest.mark.parametrize(
    ("chain", "holds"),
    [
        ("a < b", True),
        ("b < a", False),
        ("a < a2", False),
        ("a ~ a2 < b", True),
        ("a ~ b < c", False),
        ("a < 0.5 < c", True),
    ],
)
def test_orderings(chain, holds):
    values = {"a": "0.1", "a2": "0.12", "b": "1.0", "c": "1.5"}
    results = {name: {"ours": value, "our_se": "0.02"} for name, value in values.items()}
    assert board.chain_holds(chain, results) is holds


@pytest.mark.parametrize("chain", ["a", "a <", "a > b", "a ~ b"])
def test_what_is_not_an_ordering_is_refused(chain):
    results = {name: {"ours": "1", "our_se": ""} for name in "ab"}
    with pytest.raises(ValueError, match="not a chain"):
        board.chain_holds(chain, results)


def run_fast(folder: Path, cwd: Path, data: Path, *parts: str) -> str:
    """Output of the shortened run, which leaves every file of the folder as it is."""
    before = {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}
    environment = {**os.environ, "CAUSALSAT_FAST": "1", "CAUSALSAT_DATA": str(data)}
    command = [sys.executable, str(folder / "replicate.py"), *parts]
    run = subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr[-3000:]
    assert list(cwd.iterdir()) == []
    assert {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()} == before
    return run.stdout


def asks_for_data(folder: Path) -> bool:
    """Whether a paper's script reads the folder of real data."""
    return "CAUSALSAT_DATA" in (folder / "replicate.py").read_text(encoding="utf-8")


@pytest.mark.parametrize("folder", [p for p in PAPERS if asks_for_data(p)], ids=lambda path: path.name)
def test_replication_runs_in_small_without_the_data(folder, tmp_path):
    shown = run_fast(folder, tmp_path, tmp_path)
    assert "kept as committed" in shown and "CAUSALSAT_DATA" in shown


def test_the_anchors_of_drive_come_again(tmp_path):
    """Its data come with a package of the test extra, so that every anchor is judged anew."""
    pytest.importorskip("linearmodels")
    folder = HOME / "qu_kwon_2024_drive"
    shown = run_fast(folder, tmp_path, tmp_path)
    again = {name: value for name, value, *_ in (x.split() for x in shown.splitlines() if x.startswith("  "))}
    targets = [t for t in board.read(folder / "targets.csv") if t["kind"] in ("exact", "rounding")]
    assert len(targets) == 44
    for target in targets:
        gap = abs(Decimal(again[target["id"]]) - Decimal(target["published"]))
        assert gap <= Decimal(target["tolerance"]), target["id"]


def test_the_uganda_numbers_come_again_from_the_data(tmp_path, real_data):
    folder = HOME / "jerzak_2023_image_confounding"
    shown = run_fast(folder, tmp_path, real_data("uganda/people.csv").parents[1], "uganda")
    assert "uganda: 19 results" in shown
    again = dict(line.split()[:2] for line in shown.splitlines() if line.startswith("  uganda"))
    committed = {r["id"]: float(r["ours"]) for r in board.read(folder / "results.csv") if r["part"] == "uganda"}
    assert set(again) == set(committed)
    for name, value in committed.items():
        assert float(again[name]) == pytest.approx(value, rel=1e-6), name
