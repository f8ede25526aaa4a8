"""Real files: 327 crops bound to sites, a Landsat scene, a raster without data, a truncated one."""

import numpy as np
import pandas as pd
import pytest
import rasterio
from rasterio.enums import Resampling
from rasterio.transform import from_origin
from rasterio.vrt import WarpedVRT

from causalsat.errors import RasterReadError
from causalsat.raster.places import read_places
from causalsat.raster.plan import make_plan
from causalsat.raster.reader import ChipReader
from causalsat.raster.sources import open_sources
from tests.raster.making import at, chips, degrees


def test_every_crop_equals_its_own_file(real_data):
    sites = pd.read_csv(real_data("uganda/people.csv")).drop_duplicates("site")
    folder = real_data("uganda/chips")
    plan = make_plan(read_places(sites, embedding_key="site"), open_sources(f"{folder}/{{site}}.tif"), size_m=1050)
    assert plan.describe()["plain"] == 327
    with ChipReader(plan) as reader:
        batch = reader.read(np.arange(327))
    assert batch.pixels.shape == (327, 35, 35, 3)
    assert set(batch.status) == {"ok"}
    assert batch.centre_offset_m.max() < 1e-3
    for i, site in enumerate(plan.places.ids):
        with rasterio.open(folder / f"{site}.tif") as raster:
            assert np.array_equal(raster.read().transpose(1, 2, 0), batch.pixels[i])
        assert batch.source_id[i] == f"{site}.tif"
    assert len(set(batch.sha256)) == 325
    assert set(batch.crs) == {"EPSG:32636"}


def scene_places(path, n=25, seed=0):
    with rasterio.open(path) as raster:
        box, crs = raster.bounds, raster.crs
    rng = np.random.default_rng(seed)
    return at(rng.uniform(box.left, box.right, n), rng.uniform(box.bottom, box.top, n), crs)


def test_the_landsat_scene_equals_rasterios_own_warp(real_data):
    path = real_data("rasters/RGB.byte.tif")
    batch = chips(path, scene_places(path), size_m=9600, gsd_m=300)
    assert set(batch.status) == {"ok", "partial", "all_nodata"}
    for i in range(len(batch)):
        left, _, _, top = batch.bounds[i]
        with rasterio.open(path) as raster, WarpedVRT(
            raster, crs=batch.crs[i], transform=from_origin(left, top, 300, 300), width=32, height=32,
            resampling=Resampling.bilinear, UNIFIED_SRC_NODATA="NO",
        ) as chip:  # fmt: skip
            expected = chip.read().transpose(1, 2, 0)
        valid = (expected != 0).all(axis=-1)
        assert np.array_equal(batch.mask[i], valid)
        assert np.array_equal(batch.pixels[i][valid], expected[valid])
        assert batch.valid_frac[i] == pytest.approx(valid.mean())


def test_a_raster_without_data_gives_rows_not_zeros(real_data):
    path = real_data("rasters/all-nodata.tif")
    batch = chips(path, scene_places(path, 6), size_m=48)
    assert set(batch.status) == {"all_nodata"}
    assert not batch.mask.any()
    assert batch.valid_frac.max() == 0
    assert (batch.masked_frac > 0).all()


def test_a_truncated_file_is_named_with_window_place_and_cause(real_data):
    path = real_data("rasters/corrupt.tif")
    with rasterio.open(path) as raster:
        x, y = raster.xy([100, 600], [100, 600])
        lon, lat = degrees(x, y, raster.crs)
    table = {"site": ["good", "bad"], "longitude": lon, "latitude": lat}
    options = {"size_m": 38.4, "gsd_m": 0.6}
    with pytest.raises(RasterReadError, match=r"corrupt.tif cannot be read in the window of place '.*' \(.*\): .*"):
        chips(path, table, **options)
    batch = chips(path, table, on_error="record", **options)
    assert "read_error" in batch.status.tolist()
    lost = batch.status == "read_error"
    assert len(batch.errors) == lost.sum()
    assert not batch.mask[lost].any()
    assert set(batch.sha256[lost]) == {""}
