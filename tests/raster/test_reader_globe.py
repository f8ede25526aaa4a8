"""Chips where maps end: antimeridian, poles, zone borders, degrees."""

import numpy as np
import pytest
import rasterio
from rasterio.transform import from_origin

from tests.raster.making import at, chips, degrees, write


def smooth(height, width, left, top, step):
    """A raster whose value is a linear function of the degrees of its pixel centres (longitude unwrapped)."""
    lon = left + step * (np.arange(width) + 0.5)
    lat = top - step * (np.arange(height) + 0.5)
    return (1000 * (lon[None, :] - left) + 10 * (lat[:, None] - top)).astype("float32")[None]


def table(lon, lat):
    lon = np.atleast_1d(lon)
    return {"site": np.arange(len(lon)), "longitude": lon, "latitude": np.atleast_1d(lat)}


def test_a_raster_across_the_antimeridian_serves_both_sides(tmp_path):
    array = smooth(200, 400, 179.8, 0.1, 0.001)
    path = write(tmp_path / "a.tif", array, crs="EPSG:4326", transform=from_origin(179.8, 0.1, 0.001, 0.001))
    batch = chips(path, table([179.995, -179.995, 180.0, 179.9], [0.0] * 4), size_m=2000, gsd_m=100)
    assert batch.status.tolist() == ["ok"] * 4
    assert batch.crs.tolist() == ["EPSG:32660", "EPSG:32601", "EPSG:32601", "EPSG:32660"]
    centre = batch.pixels[:, 9:11, 9:11, 0].mean(axis=(1, 2))
    assert centre == pytest.approx([195 - 1, 205 - 1, 200 - 1, 100 - 1], abs=0.2)


def test_two_tiles_that_meet_at_the_antimeridian(tmp_path):
    whole = smooth(200, 400, 179.8, 0.1, 0.001)
    one = write(
        tmp_path / "east.tif", whole[:, :, :200], crs="EPSG:4326", transform=from_origin(179.8, 0.1, 0.001, 0.001)
    )
    two = write(
        tmp_path / "west.tif", whole[:, :, 200:], crs="EPSG:4326", transform=from_origin(-180.0, 0.1, 0.001, 0.001)
    )
    batch = chips([one, two], table([179.995, -179.995], [0.0, 0.0]), size_m=2000, gsd_m=100)
    assert batch.n_sources.tolist() == [2, 2]
    assert batch.source_id.tolist() == ["east.tif", "west.tif"]
    assert (batch.valid_frac > 0.99).all()
    assert batch.pixels[:, 9:11, 9:11, 0].mean(axis=(1, 2)) == pytest.approx([194, 204], abs=0.3)


def test_a_global_raster_is_filled_across_its_own_seam(tmp_path):
    array = smooth(40, 3600, -180.0, 2.0, 0.1)
    path = write(tmp_path / "globe.tif", array, crs="EPSG:4326", transform=from_origin(-180, 2.0, 0.1, 0.1))
    batch = chips(path, table([0.0, 179.99, -179.99], [0.01] * 3), size_m=100_000, gsd_m=10_000)
    assert batch.status.tolist() == ["ok"] * 3
    assert batch.pixels[0, 4:6, 4:6, 0].mean() == pytest.approx(180_000 - 20, rel=1e-3)
    east, west = batch.pixels[1, :, :4, 0], batch.pixels[1, :, 6:, 0]
    assert east.min() > 359_000
    assert west.max() < 1_000


def test_poles_use_the_polar_grid(tmp_path):
    array = np.full((1, 400, 400), 7, "uint8")
    path = write(tmp_path / "a.tif", array, crs="EPSG:3413", transform=from_origin(-200_000, 200_000, 1000, 1000))
    batch = chips(path, table([0.0, 120.0], [90.0, 89.5]), size_m=20_000, gsd_m=1000)
    assert batch.crs.tolist() == ["EPSG:32661"] * 2
    assert batch.status.tolist() == ["ok", "ok"]
    south = write(tmp_path / "s.tif", array, crs="EPSG:3031", transform=from_origin(-200_000, 200_000, 1000, 1000))
    assert chips(south, table(0.0, -90.0), size_m=20_000, gsd_m=1000).crs[0] == "EPSG:32761"


def test_places_of_two_zones_take_their_own(tmp_path):
    array = np.full((1, 300, 300), 7, "uint8")
    path = write(tmp_path / "a.tif", array, crs="EPSG:4326", transform=from_origin(35.85, 0.15, 0.001, 0.001))
    batch = chips(path, table([35.95, 36.05, 35.9999], [0.01, -0.01, 0.01]), size_m=1000, gsd_m=100)
    assert batch.crs.tolist() == ["EPSG:32636", "EPSG:32737", "EPSG:32636"]
    assert batch.status.tolist() == ["ok"] * 3


def test_a_zone_is_left_only_where_its_scale_is_off(tmp_path):
    step, crs = 10.0, "EPSG:32636"
    for degrees_off, stays in ((3.5, True), (7.0, False)):
        from pyproj import Transformer

        x, y = Transformer.from_crs("EPSG:4326", crs, always_xy=True).transform(33 + degrees_off, 0.5)
        path = write(
            tmp_path / f"{degrees_off}.tif", np.ones((1, 80, 80), "uint8"), crs=crs,
            transform=from_origin(x - 400, y + 400, step, step),
        )  # fmt: skip
        batch = chips(path, at(x, y, crs), size_m=160)
        assert bool(batch.warped[0]) is not stays
        assert (batch.crs[0] == crs) is stays


def test_web_mercator_metres_are_not_believed(tmp_path):
    from pyproj import Transformer

    x, y = Transformer.from_crs("EPSG:4326", 3857, always_xy=True).transform(33.0, 45.0)
    path = write(
        tmp_path / "a.tif",
        np.ones((1, 300, 300), "uint8"),
        crs="EPSG:3857",
        transform=from_origin(x - 1500, y + 1500, 10, 10),
    )
    batch = chips(path, at(x, y, "EPSG:3857"), size_m=1000)
    assert (batch.crs[0], bool(batch.warped[0])) == ("EPSG:32636", True)
    assert batch.native_gsd_m[0] == pytest.approx(10 / np.sqrt(2), rel=5e-3)
    left, bottom, right, top = batch.bounds[0]
    lon, lat = degrees([left, right], [(bottom + top) / 2] * 2, "EPSG:32636")
    from pyproj import Geod

    assert Geod(ellps="WGS84").inv(lon[0], lat[0], lon[1], lat[1])[2] == pytest.approx(1000, rel=1e-3)
    native = chips(path, at(x, y, "EPSG:3857"), size_m=1000, grid="native")
    assert (native.crs[0], bool(native.warped[0])) == ("EPSG:3857", False)


@pytest.mark.parametrize("grid", ["utm", "laea", "EPSG:3035", "EPSG:32635"])
def test_other_grids(tmp_path, grid):
    array = np.full((1, 300, 300), 7, "uint8")
    path = write(tmp_path / "a.tif", array, crs="EPSG:4326", transform=from_origin(26.85, 48.15, 0.001, 0.001))
    batch = chips(path, table(27.0, 48.0), size_m=1000, gsd_m=50, grid=grid)
    assert batch.status[0] == "ok"
    assert batch.centre_offset_m[0] == 0
    assert ("+proj=laea" in batch.crs[0]) if grid == "laea" else batch.crs[0].startswith("EPSG:3")


def test_a_zone_asked_for_stays_plain_where_it_can(tmp_path):
    from tests.raster.making import image, pixel

    path = write(tmp_path / "a.tif", image())
    assert not chips(path, at(*pixel(50, 50)), grid="utm").warped[0]
    assert not chips(path, at(*pixel(50, 50)), grid="EPSG:32636").warped[0]
    assert chips(path, at(*pixel(50, 50)), grid="laea").warped[0]


def test_settings_of_gdal_are_put_back(tmp_path):
    from rasterio.env import get_gdal_config

    from causalsat.errors import RasterReadError
    from causalsat.raster.reader import ChipReader
    from tests.raster.making import image, pixel, plan_of

    path = write(tmp_path / "a.tif", image())
    plan = plan_of(path, at(*pixel(50, 50)))
    names = ("GDAL_CACHEMAX", "VRT_SHARED_SOURCE", "GDAL_NUM_THREADS", "GDAL_DISABLE_READDIR_ON_OPEN")
    before = {name: get_gdal_config(name) for name in names}
    with ChipReader(plan, cache_bytes=77 * 2**20) as reader:
        reader.read([0])
        assert get_gdal_config("GDAL_CACHEMAX") == 77 * 2**20
    assert {name: get_gdal_config(name) for name in names} == before
    path.write_bytes(b"gone")
    with pytest.raises(RasterReadError), ChipReader(plan) as reader:
        reader.read([0])
    assert {name: get_gdal_config(name) for name in names} == before
    assert not rasterio.env.hasenv()
