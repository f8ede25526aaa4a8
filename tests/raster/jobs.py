"""A small embedding job that several tests share."""

import json
from pathlib import Path

import numpy as np

import causalsat as cs
from tests.raster import making

SMALL = cs.Rcf(n_features=16, patch=3, n_patches=400, n_fit=6, seed=0)


def table(n=40, seed=1, low=10, high=100):
    """Places on whole pixels inside the standard raster."""
    rng = np.random.default_rng(seed)
    return making.at(*making.pixel(rng.integers(low, high, n), rng.integers(low, high, n)))


def raster(folder, **options):
    """The standard raster with three uint8 bands."""
    return making.write(Path(folder) / "scene.tif", making.image(dtype="uint8"), **options)


def embed(rasters, places, **options):
    """``cs.embed`` with the small encoder and chips of 16 pixels."""
    given = {"embedding_key": "site", "encoder": SMALL, "size_m": 160, "progress": False} | options
    return cs.embed(rasters, places, **given)


def contents(folder):
    """Bytes of everything that equal work must make equal."""
    files = [p for p in sorted(Path(folder).rglob("*")) if p.is_file() and p.name != "job.json"]
    return {str(p.relative_to(folder)): p.read_bytes() for p in files}


def stored_request(folder):
    """The request in a job's ``job.json``."""
    return json.loads((Path(folder) / "job.json").read_text())["request"]
