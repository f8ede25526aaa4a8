"""Nothing to read, little to read, files that vanish, rasters of two systems."""

import numpy as np
import pytest
import rasterio
from rasterio.env import get_gdal_config
from rasterio.transform import from_origin

from causalsat import Dates
from causalsat.errors import RasterReadError
from causalsat.raster.places import read_places
from causalsat.raster.plan import make_plan
from causalsat.raster.reader import ChipReader
from causalsat.raster.sources import open_sources
from tests.raster.making import CORNER, at, chips, image, pixel, plan_of, write


def test_no_places_at_all(tmp_path):
    path = write(tmp_path / "a.tif", image())
    plan = make_plan(read_places({"longitude": [], "latitude": []}), open_sources(path), size_m=160)
    assert (plan.shards, plan.describe()["rows"]) == ((), 0)
    with ChipReader(plan) as reader:
        assert reader.read(plan.order).pixels.shape == (0, 16, 16, 3)


def test_only_bad_places(tmp_path):
    path = write(tmp_path / "a.tif", image())
    batch = chips(path, {"site": ["a", "b"], "longitude": [0.0, np.nan], "latitude": [0.0, 1.0]})
    assert batch.status.tolist() == ["bad_place"] * 2
    assert batch.sha256.tolist() == ["", ""]
    assert np.isnan(batch.bounds).all()
    assert batch.source_id.tolist() == ["", ""]
    assert batch.crs.tolist() == ["", ""]


def test_only_frames_after_treatment(tmp_path):
    path = write(tmp_path / "a.tif", image())
    table = at(*pixel([50, 60], [50, 60]), on=["2001-01-01", "2002-01-01"])
    options = {"dates": Dates("on"), "source_options": {"image_date": 2010}}
    assert chips(path, table, **options).status.tolist() == ["post_treatment"] * 2
    assert plan_of(path, table, **options).describe()["status"] == {"post_treatment": 2}
    wide = {**options, "dates": Dates("on", window_months=(-36, 240))}
    assert chips(path, table, allow_post_treatment=True, **wide).status.tolist() == ["ok"] * 2


def test_a_place_without_a_date_takes_any_frame(tmp_path):
    path = write(tmp_path / "a.tif", image())
    table = at(*pixel([50, 60], [50, 60]), on=["2001-01-01", None])
    batch = chips(path, table, dates=Dates("on"), source_options={"image_date": 2010})
    assert batch.status.tolist() == ["post_treatment", "ok"]


def test_rasters_of_two_systems_fill_one_chip(tmp_path):
    """The same constant ground in two zones: the chip stays in the first raster's zone and is filled from the other."""
    from pyproj import Transformer

    x, y = Transformer.from_crs("EPSG:4326", 32636, always_xy=True).transform(30.0, 1.0)
    west_x, west_y = Transformer.from_crs("EPSG:4326", 32635, always_xy=True).transform(30.0, 1.0)
    ground = np.full((1, 100, 100), 60, "uint8")
    east = write(tmp_path / "east.tif", ground, crs="EPSG:32636", transform=from_origin(x - 20, y + 500, 10, 10))
    west = write(
        tmp_path / "west.tif", ground, crs="EPSG:32635", transform=from_origin(west_x - 980, west_y + 500, 10, 10)
    )
    batch = chips([west, east], at(x + 30, y, "EPSG:32636"), size_m=320)
    assert (batch.source_id[0], batch.crs[0], batch.n_sources[0]) == ("east.tif", "EPSG:32636", 2)
    assert batch.status[0] == "ok"
    assert np.unique(batch.pixels).tolist() == [60]


def test_a_vanished_file_is_recorded_and_the_rest_is_read(tmp_path):
    for i in range(3):
        write(tmp_path / f"p{i}.tif", np.full((1, 20, 20), i + 1, "uint8"))
    plan = plan_of(str(tmp_path / "{site}.tif"), at(*pixel([10] * 3, [10] * 3)), size_m=100)
    (tmp_path / "p1.tif").unlink()
    with ChipReader(plan, on_error="record") as reader:
        batch = reader.read(plan.order)
    assert batch.status[np.argsort(batch.rows)].tolist() == ["ok", "read_error", "ok"]
    assert "p1.tif" in batch.errors[0]
    with pytest.raises(RasterReadError, match="'p1'"), ChipReader(plan) as reader:
        reader.read(plan.order)


def test_an_error_in_a_long_stream_closes_everything(tmp_path):
    path = write(tmp_path / "a.tif", image(400, 400), tiled=True, blockxsize=64, blockysize=64, compress="deflate")
    rng = np.random.default_rng(0)
    plan = plan_of(path, at(*pixel(rng.uniform(0, 400, 400), rng.uniform(0, 400, 400))))
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 5] + bytes(3 * (len(data) // 5)) + data[4 * (len(data) // 5) :])
    before = get_gdal_config("GDAL_CACHEMAX")
    with pytest.raises(RasterReadError, match=r"a\.tif"), ChipReader(plan, threads=2) as reader:
        for _ in reader.batches(plan.order, 16):
            pass
    assert get_gdal_config("GDAL_CACHEMAX") == before


def test_the_users_own_settings_survive(tmp_path):
    plan = plan_of(write(tmp_path / "a.tif", image()), at(*pixel(50, 50)))
    before = get_gdal_config("GDAL_CACHEMAX")
    with rasterio.Env(GDAL_NUM_THREADS=2, GDAL_CACHEMAX=33 * 2**20):
        with ChipReader(plan) as reader:
            reader.read([0])
        assert get_gdal_config("GDAL_CACHEMAX") == 33 * 2**20
        assert str(get_gdal_config("GDAL_NUM_THREADS")) == "2"
    rasterio.env.set_gdal_config("GDAL_CACHEMAX", before)


def test_many_keyed_files_with_few_handles(tmp_path, monkeypatch):
    monkeypatch.setattr("causalsat.raster.handles.HANDLES", 2)
    n = 12
    for i in range(n):
        write(tmp_path / f"p{i}.tif", np.full((1, 20, 20), i + 1, "uint8"))
    batch = chips(str(tmp_path / "{site}.tif"), at(*pixel([10] * n, [10] * n)), size_m=100, threads=2)
    assert batch.pixels[:, 0, 0, 0].tolist() == list(range(1, n + 1))


def test_the_corner_between_four_tiles(tmp_path):
    tiles = [
        write(
            tmp_path / f"{k}.tif",
            np.full((1, 20, 20), k, "uint8"),
            transform=from_origin(CORNER[0] + 200 * (k % 2), CORNER[1] - 200 * (k // 2), 10, 10),
        )
        for k in range(4)
    ]
    batch = chips(tiles, at(*pixel(20, 20)), size_m=40)
    assert batch.pixels[0, :, :, 0].tolist() == [[0, 0, 1, 1], [0, 0, 1, 1], [2, 2, 3, 3], [2, 2, 3, 3]]
    assert (batch.status[0], batch.n_sources[0], batch.source_id[0]) == ("ok", 4, "0.tif")
