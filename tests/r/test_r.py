"""Runs the R tests; they need Rscript and reticulate, which Debian has as r-base-core and r-cran-reticulate."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import causalsat
from causalsat.interop.r import plain

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent


def missing_r() -> str:
    """Why R cannot be used here, or an empty text."""
    rscript = shutil.which("Rscript")
    if rscript is None:
        return "Rscript is not on the path"
    probe = [rscript, "-e", 'stopifnot(requireNamespace("reticulate"), requireNamespace("generics"))']
    done = subprocess.run(probe, capture_output=True, text=True, timeout=120)
    return "" if done.returncode == 0 else f"R has no reticulate or no generics: {done.stderr.strip()}"


@pytest.fixture(scope="module")
def rscript(tmp_path_factory):
    reason = missing_r()
    if reason:
        pytest.skip(f"R tests skipped: {reason}")

    # reticulate 1.28 takes any pyproject.toml in the working directory for a Poetry project.
    elsewhere = tmp_path_factory.mktemp("r")

    def run(script: str, *arguments: str) -> str:
        environment = {**os.environ, "PYTHONPATH": str(ROOT), "JAX_PLATFORMS": "cpu"}
        command = [shutil.which("Rscript"), str(HERE / script), sys.executable, *arguments]
        done = subprocess.run(command, capture_output=True, text=True, timeout=300, env=environment, cwd=elsewhere)
        assert done.returncode == 0, f"{script} failed\n{done.stdout}\n{done.stderr}"
        return done.stdout

    return run


def test_companion(rscript):
    assert "all companion checks passed" in rscript("test_companion.R")


def test_image_ate_gives_the_same_numbers_from_r(rscript, tmp_path):
    frame, embeddings = small_study()
    frame.to_csv(tmp_path / "data.csv", index=False)
    (tmp_path / "embeddings.bin").write_bytes(embeddings.astype("<f8").tobytes(order="F"))
    result = causalsat.image_ate(
        frame, outcome="y", treatment="w", covariates=["x1", "x2"], embeddings=embeddings, cluster="village", seed=3
    )
    (tmp_path / "python.json").write_text(json.dumps(strict(plain(result.table))), encoding="utf-8")
    (tmp_path / "shape.json").write_text(json.dumps(list(embeddings.shape)), encoding="utf-8")
    assert "image_ate agrees" in rscript("test_image_ate.R", str(tmp_path))


def test_drive_gives_the_same_numbers_from_r(rscript, tmp_path):
    import pandas as pd

    from causalsat.simulate.iv import iv

    data, _ = iv(n=300, q=3, concentration=150.0, seed=6)
    frame = pd.DataFrame(data)
    frame.to_csv(tmp_path / "data.csv", index=False)
    result = causalsat.drive(frame, outcome="y", treatment="x", instruments=["z1", "z2", "z3"], n_boot=199, seed=3)
    (tmp_path / "python.json").write_text(json.dumps(strict(plain(result.table))), encoding="utf-8")
    assert "drive agrees" in rscript("test_drive.R", str(tmp_path))


def strict(columns):
    """NaN as null: JSON has no NaN."""
    return {name: [None if v != v else v for v in values] for name, values in columns.items()}


def small_study():
    import pandas as pd

    rng = np.random.default_rng(20)
    n, d = 240, 5
    images = rng.normal(size=(n, d))
    x = rng.normal(size=(n, 2))
    w = (rng.uniform(size=n) < 1 / (1 + np.exp(-0.6 * images[:, 0] - 0.3 * x[:, 0]))).astype(float)
    y = 1.0 * w + images[:, 0] + 0.5 * x[:, 1] + rng.normal(size=n)
    village = [f"v{code:02d}" for code in np.arange(n) // 6]
    frame = pd.DataFrame({"y": y, "w": w, "x1": x[:, 0], "x2": x[:, 1], "village": village})
    return frame, images
