"""The Uganda sample through the public verbs: published anchors, the checks that must fire, the trap columns."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import causalsat as cs
from causalsat.effects.table import EffectTable
from causalsat.errors import CausalsatWarning, TreatmentLeakError

pytestmark = pytest.mark.filterwarnings("ignore::causalsat.errors.PenaltyEdgeWarning")
RECIPE = Path(__file__).resolve().parents[2] / "data_recipes" / "uganda" / "study.toml"
BASE = {"outcome": "outcome", "treatment": "treated", "embedding_key": "site"}


@pytest.mark.parametrize(
    ("inference", "expected"),
    [
        (cs.Sandwich("cluster", small_sample="none"), 0.075395),
        (cs.Sandwich("cluster", small_sample="cluster"), 0.075511),
        (cs.Sandwich("cluster", small_sample="crv1"), 0.075529),
    ],
    ids=lambda value: getattr(value, "small_sample", str(value)),
)
def test_difference_in_means_and_its_cluster_errors(real_data, inference, expected):
    result = cs.image_ate(real_data("uganda/people.csv"), **BASE, adjust="none", reference="none", inference=inference)
    assert result.table["estimate"][0] == pytest.approx(0.741492, abs=5e-7)
    assert result.table["std_error"][0] == pytest.approx(expected, abs=2e-6)
    assert result.table.meta["n_clusters"] == 327


@pytest.mark.filterwarnings("ignore::causalsat.errors.SingleArmImagesWarning")
def test_independent_rows_understate(real_data):
    result = cs.image_ate(
        real_data("uganda/people.csv"), **BASE, adjust="none", reference="none", inference=cs.Sandwich("hc0")
    )
    assert result.table["std_error"][0] == pytest.approx(0.061435, abs=5e-7)


def test_columns_built_from_the_treatment_are_refused(real_data):
    with pytest.raises(TreatmentLeakError, match=r"x2.*x1"):
        cs.image_ate(real_data("uganda/people.csv"), **BASE, covariates=["x1", "x2", "x3", "x4", "x5", "x6"])


@pytest.fixture(scope="module")
def run(real_data, tmp_path_factory):
    real_data("uganda/people.csv")
    folder = tmp_path_factory.mktemp("uganda")
    settings = ["--set", f"embed.out={folder}/embeddings"]
    command = [sys.executable, "-m", "causalsat.cli", "run", str(RECIPE), "--out", str(folder / "out"), *settings]
    done = subprocess.run(command, capture_output=True, text=True, env=dict(os.environ))
    assert done.returncode == 0, done.stderr
    return folder / "out"


def test_one_command_from_chips_to_the_table(run):
    table = EffectTable.read(run / "effects.parquet")
    effects = table.where(term="effect")
    assert list(effects["adjust"]) == ["none", "tabular", "image", "both"]
    assert list(effects["n_obs"]) == [2082] * 4
    assert table.meta["n_boot"] == 999
    assert table.meta["n_failed"] == {}
    assert effects["estimate"][0] == pytest.approx(0.741492, abs=5e-7)
    assert effects["std_error"][0] == pytest.approx(0.0755, rel=0.08)
    assert (abs(effects["estimate"][1:] - 0.74) < 0.1).all()


def test_the_checks_that_must_fire(run):
    checks = {c["name"]: c for c in json.loads((run / "meta.json").read_text())["checks"]}
    assert checks["single-arm images[treated]"]["passed"] is False
    assert "278 of 327" in checks["single-arm images[treated]"]["text"]
    assert checks["identical images[treated]"]["passed"] is False
    assert checks["overlapping images[images]"]["statistic"] == 20
    assert "309 groups" in checks["overlapping images[images]"]["text"]


def test_the_embeddings_cover_every_site(real_data, tmp_path):
    chips = str(real_data("uganda/chips/1.tif").parent / "{site}.tif")
    people = real_data("uganda/people.csv").read_text().splitlines()[1:]
    first = {row.split(",")[0]: row.split(",")[1:3] for row in people}
    places = {
        "site": list(first),
        "longitude": [float(v[0]) for v in first.values()],
        "latitude": [float(v[1]) for v in first.values()],
    }
    images = cs.embed(chips, places, embedding_key="site", size_m=1050, encoder="bands")
    assert len(images) == 327
    assert set(images.status.tolist()) == {"ok"}


def test_twin_has_the_same_schema(tmp_path):
    sys.path.insert(0, str(RECIPE.parent))
    try:
        from twin import write_twin
    finally:
        sys.path.pop(0)
    people = write_twin(tmp_path)
    header = people.read_text().splitlines()[0].split(",")
    assert header == ["site", "longitude", "latitude", "treated", "outcome", "x1", "x2", "x3", "x4", "x5", "x6"]
    with pytest.warns(CausalsatWarning):
        result = cs.image_ate(people, **BASE, covariates=["x1", "x3", "x5"], adjust=("none", "tabular"))
    assert list(result.table["adjust"]) == ["none", "tabular"]
