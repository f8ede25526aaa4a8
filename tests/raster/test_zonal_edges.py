"""Pixel distributions at the edges: statuses, shares, keyed files, what is refused, and a real raster."""

import geopandas as gpd
import numpy as np
import pytest
import rasterio
import shapely
from rasterio.transform import from_origin

from causalsat.errors import CausalsatError, RasterCoverageWarning, RasterReadError
from causalsat.raster import zonal_collect, zonal_sweep
from causalsat.raster.zonal import pixel_distributions
from tests.raster.making import CORNER, ZONE, image, write
from tests.raster.test_zonal import blobs, layer, rows_of

X, Y = CORNER
SMALL = (np.arange(100, dtype=np.uint8).reshape(10, 10), from_origin(X, Y, 10, 10), ZONE)
INSIDE = shapely.box(X + 10, Y - 90, X + 90, Y - 10)


def test_every_zone_keeps_its_row_with_a_status(tmp_path):
    array = image(bands=1)
    array[0, 60:, :] = 0
    path = write(tmp_path / "a.tif", array, nodata=0)
    shapes = [
        shapely.box(X, Y - 200, X + 200, Y),
        shapely.box(X, Y - 20, X + 30, Y),
        shapely.box(X, Y - 1000, X + 200, Y - 800),
        shapely.box(X - 5000, Y, X - 4000, Y + 500),
        None,
        shapely.box(X + 1400, Y - 200, X + 1600, Y),
        shapely.box(X + 1, Y - 5, X + 3, Y - 3),
    ]
    with pytest.warns(RasterCoverageWarning, match="4 of 7 zones have no usable pixel"):
        got = pixel_distributions(path, layer(shapes), min_coverage=0.5)
    expected = ["ok", "few_pixels", "all_masked", "off_raster", "no_geometry", "ok", "no_pixel"]
    assert got.summary["status"].tolist() == expected
    assert got.summary["flagged"].tolist() == [s != "ok" for s in expected]
    assert got.summary["n_pixels"].tolist() == [400, 6, 0, 0, 0, 200, 0]
    assert got.summary["n_masked"].tolist() == [0, 0, 400, 0, 0, 0, 0]
    np.testing.assert_allclose(got.summary["share_outside"], [0, 0, 0, 1, np.nan, 0.5, 0], atol=1e-12)
    assert set(got.pixels["zone"]) == {"z0", "z1", "z5"}
    assert len(rows_of(got, "z1")) == 6


def test_shares_at_the_extremes_count_ties():
    array = np.full((10, 10), 5, np.uint8)
    array[:4], array[9] = 0, 63
    got = pixel_distributions((array, *SMALL[1:]), layer([shapely.box(X, Y - 100, X + 100, Y)]))
    row = got.summary.iloc[0]
    assert (row["low"], row["high"], row["share_at_low"], row["share_at_high"]) == (0.0, 63.0, 0.4, 0.1)
    assert row["mean"] == pytest.approx((50 * 5 + 10 * 63) / 100)


@pytest.mark.parametrize("labels", [["b", "a"], [7, 3], [2.5, 1.0]])
def test_labels_keep_their_type_and_order(labels):
    zones = layer([INSIDE, shapely.box(X, Y - 100, X + 100, Y)], code=labels, size=[1.0, 2.0])
    got = pixel_distributions(SMALL, zones, zone_id="code")
    assert got.zones.tolist() == labels and got.summary["zone"].tolist() == labels
    merged = got.merge(zones)
    assert len(merged) == len(got.pixels) == 164
    assert set(merged.loc[merged["zone"] == labels[0], "size"]) == {1.0}


def test_merge_by_zone_index_and_own_options():
    zones = layer([INSIDE], zone=["a"], province=["north"])
    assert pixel_distributions(SMALL, zones).merge(zones)["province"].eq("north").all()
    indexed = zones.drop(columns="zone").set_index(np.array(["a"]))
    assert len(pixel_distributions(SMALL, indexed).merge(indexed)) == 64
    assert len(pixel_distributions(SMALL, zones).merge(zones, on="zone", how="left")) == 64
    with pytest.raises(CausalsatError, match='ask for as_="long"'):
        pixel_distributions(SMALL, zones, as_="quantiles").merge(zones)


def test_a_series_a_file_and_a_frame_agree(tmp_path):
    zones = layer(blobs(4))
    path = write(tmp_path / "a.tif", image())
    zones.to_file(tmp_path / "zones.gpkg")
    by_frame = pixel_distributions(path, zones)
    by_file = pixel_distributions(path, tmp_path / "zones.gpkg")
    by_series = pixel_distributions(path, zones.geometry)
    assert np.array_equal(by_file.pixels["weight"], by_frame.pixels["weight"])
    assert by_series.zones.tolist() == [0, 1, 2, 3]
    assert np.array_equal(by_series.pixels["value"], by_frame.pixels["value"])


def test_overlapping_zones_both_get_the_pixel():
    got = pixel_distributions(SMALL, layer([INSIDE, INSIDE]))
    assert np.array_equal(rows_of(got, "z0")["value"], rows_of(got, "z1")["value"])


def test_order_of_zones_permutes_rows_only(tmp_path):
    path, shapes = write(tmp_path / "a.tif", image()), blobs(6)
    names = np.array([f"z{i}" for i in range(6)])
    turn = np.array([3, 1, 5, 0, 2, 4])
    first = pixel_distributions(path, layer(shapes))
    second = pixel_distributions(path, layer([shapes[i] for i in turn], zone=names[turn]))
    for name in names:
        assert np.array_equal(rows_of(first, name)["weight"], rows_of(second, name)["weight"])
        assert np.array_equal(rows_of(first, name)["value"], rows_of(second, name)["value"])


def test_each_zone_meets_its_own_file(tmp_path):
    for name, value in (("north", 1), ("south", 2)):
        write(tmp_path / f"{name}.tif", np.full((1, 20, 20), value, "uint8"))
    zones = layer([INSIDE, INSIDE], site=["south", "north"])
    got = pixel_distributions(f"{tmp_path}/{{site}}.tif", zones, zone_id="site")
    assert rows_of(got, "south")["value"].eq(2).all() and rows_of(got, "north")["value"].eq(1).all()
    with pytest.raises(CausalsatError, match="No zone meets its own raster"):
        pixel_distributions(f"{tmp_path}/{{site}}.tif", layer([INSIDE], site=["west"]), zone_id="site")


def test_all_masked_gives_empty_forms(tmp_path):
    path = write(tmp_path / "a.tif", np.zeros((1, 20, 20), "uint8"), nodata=0)
    floats = write(tmp_path / "f.tif", np.full((1, 20, 20), np.nan, "float32"))
    for source in (path, floats):
        for form in ("long", "histogram", "quantiles"):
            with pytest.warns(RasterCoverageWarning):
                got = pixel_distributions(source, layer([INSIDE]), as_=form)
            assert got.summary["status"].tolist() == ["all_masked"] and got.summary["share_masked"][0] == 1.0
            if form == "histogram":
                assert got.counts.sum() == 0
            if form == "quantiles":
                assert np.isnan(got.values).all()


def test_progress_counts_blocks(tmp_path, monkeypatch):
    monkeypatch.setattr(zonal_sweep, "BLOCK_CELLS", 2000)
    events = []
    pixel_distributions(write(tmp_path / "a.tif", image()), layer(blobs()), progress=events.append)
    assert events[-1]["done"] == events[-1]["total"] > 3


def test_settings_of_gdal_come_back(tmp_path):
    from rasterio.env import get_gdal_config

    before = get_gdal_config("GDAL_CACHEMAX")
    pixel_distributions(write(tmp_path / "a.tif", image()), layer(blobs()))
    assert get_gdal_config("GDAL_CACHEMAX") == before


def test_a_broken_file_is_named(tmp_path):
    path = write(tmp_path / "a.tif", image(), compress="deflate", tiled=True, blockxsize=16, blockysize=16)
    size = path.stat().st_size
    with open(path, "r+b") as handle:
        handle.seek(size // 4)
        handle.write(b"\xff" * (size // 2))
    with pytest.raises(RasterReadError, match=r"a\.tif cannot be read at rows"):
        pixel_distributions(path, layer(blobs()))


def test_a_table_of_counts_that_fills_memory_is_refused(monkeypatch):
    monkeypatch.setattr(zonal_collect, "MAX_HISTOGRAM_BYTES", 1000)
    wide = (np.arange(100, dtype=np.int32).reshape(10, 10) * 10_000, *SMALL[1:])
    with pytest.raises(CausalsatError, match="GiB of counts"):
        pixel_distributions(wide, layer([INSIDE]), as_="histogram")


BOWTIE = shapely.Polygon([(X, Y), (X + 50, Y - 50), (X + 50, Y), (X, Y - 50)])
BAD = [
    ({"zones": {"zone": [1]}}, "zones is a dict"),
    ({"zones": gpd.GeoDataFrame({"zone": ["a"]}, geometry=[INSIDE])}, "zones has no CRS"),
    ({"zones": layer([])}, "holds no row"),
    ({"zones": layer([shapely.Point(X, Y)])}, "is a Point"),
    ({"zones": layer([BOWTIE])}, "not a valid polygon"),
    ({"zones": layer([INSIDE, INSIDE], zone=["a", "a"])}, "repeats 'a'"),
    ({"zones": layer([INSIDE, INSIDE], zone=["a", None])}, "no label in row 1"),
    ({"zones": layer([None])}, "No zone has a geometry"),
    ({"zones": layer([shapely.box(0, 0, 1, 1)], crs=4326)}, "No zone touches a raster"),
    ({"zones": "absent.gpkg"}, "is not a file"),
    ({"zone_id": "zoen"}, 'Did you mean "zone"'),
    ({"weight": "areas"}, 'Did you mean "area"'),
    ({"as_": "rows"}, "as_='rows' is not known"),
    ({"min_coverage": 1.5}, "min_coverage=1.5"),
    ({"band": 4}, "is not a band"),
    ({"band": [1]}, "must be one band"),
    ({"quantiles": [0.5, 0.2]}, "increasing levels"),
    ({"quantiles": 0}, "quantiles=0"),
    ({"n_bins": 0}, "n_bins=0"),
    ({"min_pixels": -1}, "min_pixels=-1"),
    ({"valid": (3, 1)}, "must be a range"),
    ({"valid": "positive"}, "must be a range"),
    ({"valid": lambda v: v.sum()}, "one True or False for each value"),
]


@pytest.mark.parametrize(("options", "message"), BAD, ids=[b[1][:30] for b in BAD])
def test_bad_inputs_are_named(options, message):
    with pytest.raises(CausalsatError, match=message):
        pixel_distributions(SMALL, **({"zones": layer([INSIDE])} | options))


def test_real_scene_equals_direct_reading(real_data):
    """A zone drawn along pixel edges holds exactly the valid pixels of its window."""
    path = real_data("rasters/RGB.byte.tif")
    with rasterio.open(path) as scene:
        window = rasterio.windows.Window(200, 150, 320, 260)
        pixels, mask = scene.read(2, window=window), scene.read_masks(2, window=window) != 0
        whole, all_mask = scene.read(2), scene.read_masks(2) != 0
        bounds = scene.window_bounds(window)
        frame, crs, area = shapely.box(*scene.bounds), scene.crs, abs(scene.transform.determinant)
    zones = gpd.GeoDataFrame({"zone": ["window", "scene"]}, geometry=[shapely.box(*bounds), frame], crs=crs)
    got = pixel_distributions(path, zones, band=2, weight="count", min_coverage=0.5, as_="histogram")
    centres = 0.5 * (got.edges[:-1] + got.edges[1:])
    for counts, values in zip(got.counts, (pixels[mask], whole[all_mask])):
        np.testing.assert_array_equal(counts, np.bincount(values, minlength=256)[centres.astype(int)])
    assert got.summary["n_masked"].tolist() == [int((~mask).sum()), int((~all_mask).sum())]
    shrunk = gpd.GeoDataFrame({"zone": ["disc"]}, geometry=[frame.centroid.buffer(40_000)], crs=crs)
    degrees = pixel_distributions(path, shrunk.to_crs(4326), weight="area")
    metres = pixel_distributions(path, shrunk, weight="area")
    total = metres.summary["weight"][0] / (1.0 - metres.summary["share_masked"][0])
    np.testing.assert_allclose(total, shrunk.area[0], rtol=1e-6)
    np.testing.assert_allclose(degrees.summary["mean"], metres.summary["mean"], rtol=1e-4)
    assert metres.pixels["weight"].max() <= area * (1 + 1e-9)


@pytest.mark.parametrize(
    "layout", [{}, {"tiled": True, "blockxsize": 64, "blockysize": 64}, {"blockysize": 1}, {"blockysize": 120}]
)
def test_no_block_exceeds_its_bound(tmp_path, monkeypatch, layout):
    from causalsat.raster.sources import open_sources
    from causalsat.raster.zonal_shapes import on_grids, read_zones

    monkeypatch.setattr(zonal_sweep, "BLOCK_CELLS", 5000)
    sources = open_sources(write(tmp_path / "a.tif", image(bands=1), **layout), bands=[1])
    everywhere = read_zones(layer([shapely.box(X, Y - 1200, X + 1500, Y)]), None)
    tasks = zonal_sweep.block_tasks(sources, on_grids(everywhere, sources))
    cells = [t.height * t.width for t in tasks]
    assert sum(cells) == 120 * 150 and max(cells) <= 5000
    covered = np.zeros((120, 150), int)
    for t in tasks:
        covered[t.row : t.row + t.height, t.column : t.column + t.width] += 1
    assert (covered == 1).all()
