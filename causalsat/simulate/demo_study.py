"""A small study with every file that the real job needs: two rasters, places, a table, a study file."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from causalsat.files import whole_folder

EFFECT = 1.0
SIZE_M = 480
STEP_M = 30
SIDE = 16
STUDY = """\
# A causalsat study: paths are relative to this file.
[study]
title = "Demo: a programme in 400 villages"
table = "households.parquet"            # one row per household

[embed]
rasters = ["tile_west.tif", "tile_east.tif"]   # two coordinate systems, with holes
places = "villages.gpkg"                # one point per village
embedding_key = "village"
size_m = 480                            # side of each chip, metres
gsd_m = 30                              # pixel of each chip, metres
normalise = { kind = "scale" }
out = "embeddings"

[[embed.encoder]]
name = "bands"

[[embed.encoder]]
name = "rcf"
n_features = 64

[image_ate]
outcome = "income"
treatment = "programme"
covariates = ["schooling", "household_size"]
embedding_key = "village"
cluster = "village"
adjust = ["none", "tabular", "image", "both"]
compress = 20                           # principal components of the embedding
folds = { n = 5 }
inference = { type = "bootstrap", scheme = "cluster", n = 999, refit = false }
"""


@dataclass(frozen=True)
class DemoStudy:
    """Where the demo study was written, and its truth.

    Attributes
    ----------
    study_file : Path
        The TOML file to run.
    files : dict of str to str
        Every file with what it is.
    effect : float
        The true average effect of the programme on income.
    """

    study_file: Path
    files: dict[str, str]
    effect: float


def write_demo_study(folder: str | Path, *, seed: int = 0) -> DemoStudy:
    """Write a study whose treatment and outcome both depend on what the image shows.

    Vegetation around a village, U (standardised chip mean), raises both the chance of the programme
    and income: ``P(programme) = logistic(0.8 U + 0.3 S)`` by village with S the village's mean schooling,
    ``income = 1.0 programme + 1.2 U + 0.5 schooling + village noise (sd 0.3) + noise (sd 1)``. The
    difference in means is biased upwards; adjusting for the image and schooling is not.

    Parameters
    ----------
    folder : str or Path
        Folder to create; it must not exist.
    seed : int
        Seed of the study.

    Returns
    -------
    DemoStudy
        Study file, list of files, true effect.

    Raises
    ------
    DataError
        The folder exists already.

    Examples
    --------
    >>> write_demo_study("demo-study").effect  # doctest: +SKIP
    1.0
    """
    folder = Path(folder)
    rng = np.random.default_rng(seed)
    lon, lat = _village_grid(rng)
    files = {
        "tile_west.tif": "3-band uint8 image, 30 m, EPSG:32636, with nodata holes",
        "tile_east.tif": "the same image further east, EPSG:32637",
        "villages.gpkg": "one point per village, key `village`",
        "households.parquet": "one row per household: programme, income, schooling, household_size",
        "study.toml": "what to run",
    }
    with whole_folder(folder) as inside:
        vegetation = _landscape(rng)
        _write_tile(inside / "tile_west.tif", vegetation, "EPSG:32636", holes=True, seed=seed + 1)
        _write_tile(inside / "tile_east.tif", vegetation, "EPSG:32637", holes=False, seed=seed + 2)
        _write_villages(inside / "villages.gpkg", lon, lat)
        _write_households(inside / "households.parquet", vegetation.around(lon, lat), lon, lat, rng)
        (inside / "study.toml").write_text(STUDY, encoding="utf-8")
        (inside / ".causalsat-demo").touch()
    return DemoStudy(folder / "study.toml", files, EFFECT)


@dataclass(frozen=True)
class _Landscape:
    """A sum of waves over longitude and latitude: smooth, and the same in every coordinate system."""

    frequency: np.ndarray
    phase: np.ndarray
    height: np.ndarray

    def at(self, lon: np.ndarray, lat: np.ndarray) -> np.ndarray:
        total = np.zeros_like(lon)
        for (a, b), phase, height in zip(self.frequency, self.phase, self.height, strict=True):
            total += height * np.cos(2 * np.pi * (a * lon + b * lat) + phase)
        return total

    def around(self, lon: np.ndarray, lat: np.ndarray) -> np.ndarray:
        """Mean over the chip of each place, by its pixel grid in degrees."""
        offsets = (np.arange(SIDE) - (SIDE - 1) / 2) * STEP_M / 111_320.0
        east, north = np.meshgrid(offsets, offsets)
        values = self.at(lon[:, None, None] + east[None], lat[:, None, None] + north[None])
        return np.asarray(values.mean(axis=(1, 2)))


def _landscape(rng: np.random.Generator) -> _Landscape:
    n_waves = 24
    angle = rng.uniform(0, 2 * np.pi, n_waves)
    waves_per_degree = rng.uniform(15, 60, n_waves)
    frequency = np.stack([waves_per_degree * np.cos(angle), waves_per_degree * np.sin(angle)], axis=1)
    height = rng.uniform(0.5, 1.0, n_waves)
    return _Landscape(frequency, rng.uniform(0, 2 * np.pi, n_waves), height / np.sqrt((height**2).sum() / 2))


def _village_grid(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """400 places on a jittered 25 x 16 grid across the border of two UTM zones, at least 0.7 km apart."""
    step = 0.0125
    columns, rows = np.meshgrid(np.arange(25), np.arange(16))
    lon = 35.85 + (columns.ravel() + rng.uniform(0.25, 0.75, 400)) * step
    lat = 0.40 + (rows.ravel() + rng.uniform(0.25, 0.75, 400)) * step
    return lon, lat


def _write_tile(path: Path, vegetation: _Landscape, crs: str, *, holes: bool, seed: int) -> None:
    import rasterio
    from rasterio.transform import from_origin
    from rasterio.warp import transform as reproject_points
    from rasterio.warp import transform_bounds

    west, east = (35.83, 36.0) if crs == "EPSG:32636" else (36.0, 36.18)
    left, bottom, right, top = transform_bounds("EPSG:4326", crs, west, 0.38, east, 0.62)
    left, top = np.floor(left / STEP_M) * STEP_M, np.ceil(top / STEP_M) * STEP_M
    width, height = int(np.ceil((right - left) / STEP_M)), int(np.ceil((top - bottom) / STEP_M))
    x, y = np.meshgrid(left + (np.arange(width) + 0.5) * STEP_M, top - (np.arange(height) + 0.5) * STEP_M)
    lon, lat = (np.asarray(v).reshape(x.shape) for v in reproject_points(crs, "EPSG:4326", x.ravel(), y.ravel()))
    rng = np.random.default_rng(seed)
    green = vegetation.at(lon, lat)
    bands = np.stack([110 - 18 * green, 100 + 25 * green, 90 + 4 * green]) + rng.normal(0, 6, (3, height, width))
    pixels = np.clip(bands, 1, 255).astype(np.uint8)
    if holes:
        for _ in range(6):
            row, column = rng.integers(0, height - 60), rng.integers(0, width - 60)
            pixels[:, row : row + 60, column : column + 60] = 0
    profile = {"driver": "GTiff", "dtype": "uint8", "count": 3, "width": width, "height": height, "crs": crs}
    profile |= {"transform": from_origin(left, top, STEP_M, STEP_M), "nodata": 0, "tiled": True}
    profile |= {"blockxsize": 256, "blockysize": 256, "compress": "deflate"}
    with rasterio.open(path, "w", **profile) as raster:
        raster.write(pixels)
        for band, name in enumerate(("red", "green", "blue"), start=1):
            raster.set_band_description(band, name)


def _write_villages(path: Path, lon: np.ndarray, lat: np.ndarray) -> None:
    import geopandas

    points = geopandas.points_from_xy(lon, lat)
    names = [f"v{i:03d}" for i in range(len(lon))]
    geopandas.GeoDataFrame({"village": names}, geometry=points, crs="EPSG:4326").to_file(path, driver="GPKG")


def _write_households(
    path: Path, vegetation: np.ndarray, lon: np.ndarray, lat: np.ndarray, rng: np.random.Generator
) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    n_villages, per_village = len(lon), 4
    village = np.repeat(np.arange(n_villages), per_village)
    n = len(village)
    u = (vegetation - vegetation.mean()) / vegetation.std()
    village_schooling = rng.normal(size=n_villages)
    schooling = village_schooling[village] + rng.normal(0, 0.7, n)
    chance = 1 / (1 + np.exp(-(0.8 * u + 0.3 * village_schooling)))
    programme = (rng.uniform(size=n_villages) < chance)[village].astype(np.int64)
    village_noise = rng.normal(0, 0.3, n_villages)[village]
    income = EFFECT * programme + 1.2 * u[village] + 0.5 * schooling + village_noise + rng.normal(size=n)
    schooling[rng.choice(n, 12, replace=False)] = np.nan
    columns = {
        "village": [f"v{i:03d}" for i in village],
        "programme": programme,
        "income": income,
        "schooling": schooling,
        "household_size": rng.integers(1, 9, n),
        "longitude": lon[village],
        "latitude": lat[village],
    }
    pq.write_table(pa.table(columns), path)
