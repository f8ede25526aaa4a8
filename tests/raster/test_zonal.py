"""Pixel distributions against hand counts, intersections polygon by pixel, and twins of the same raster."""

import geopandas as gpd
import numpy as np
import pytest
import rasterio
import shapely
from pyproj import Transformer
from rasterio.enums import ColorInterp
from rasterio.transform import Affine, from_origin

from causalsat.errors import RasterCoverageWarning
from causalsat.raster import zonal, zonal_sweep
from causalsat.raster.zonal import pixel_distributions
from causalsat.raster.zonal_collect import weighted_quantiles
from causalsat.study.distributions import Histogram, QuantileMatrix
from tests.raster.making import CORNER, ZONE, image, write

X, Y = CORNER
HEIGHT, WIDTH = 120, 150


def layer(shapes, crs=ZONE, **columns):
    columns = columns or {"zone": [f"z{i}" for i in range(len(shapes))]}
    return gpd.GeoDataFrame(columns, geometry=list(shapes), crs=crs)


def blobs(n=6, seed=1, spread=1.0):
    """Wavy polygons over the raster of ``making``, some across its edge."""
    rng = np.random.default_rng(seed)
    out = []
    for _ in range(n):
        angle = np.linspace(0.0, 2.0 * np.pi, 60, endpoint=False)
        radius = rng.uniform(60, 300) * (1.0 + 0.3 * np.sin(5 * angle + rng.uniform(0, 6)))
        x, y = X + rng.uniform(0, 1500) * spread, Y - rng.uniform(0, 1200) * spread
        out.append(shapely.Polygon(np.column_stack([x + radius * np.cos(angle), y + radius * np.sin(angle)])))
    return out


def brute(shape, transform, height, width):
    """Share of every pixel inside ``shape``, by intersection."""
    rows, columns = np.mgrid[0:height, 0:width]
    rows, columns = rows.ravel(), columns.ravel()
    corners = [(0, 0), (1, 0), (1, 1), (0, 1), (0, 0)]
    xy = np.array([[transform * (c + i, r + j) for i, j in corners] for r, c in zip(rows, columns)])
    pixels = shapely.polygons(xy)
    return shapely.area(shapely.intersection(pixels, shape)) / shapely.area(pixels)


def rows_of(result, zone):
    return result.pixels[result.pixels["zone"] == zone]


def test_shares_of_cut_pixels_by_hand():
    array = np.arange(16, dtype=np.uint8).reshape(4, 4)
    zones = layer([shapely.box(0, 3, 1.5, 4), shapely.box(0.25, 0.5, 2, 2)])
    got = pixel_distributions((array, from_origin(0, 4, 1, 1), ZONE), zones, min_pixels=1)
    first, second = rows_of(got, "z0"), rows_of(got, "z1")
    assert first["value"].tolist() == [0, 1] and first["weight"].tolist() == [1.0, 0.5]
    assert second["value"].tolist() == [8, 9, 12, 13]
    np.testing.assert_allclose(second["weight"], [0.75, 1.0, 0.375, 0.5])
    assert list(got.pixels.columns) == ["zone", "value", "weight"]


@pytest.mark.parametrize(
    "transform",
    [
        from_origin(X, Y, 10, 10),
        Affine(10, 0, X, 0, 10, Y - 200),
        Affine(8, 3, X, 3, -8, Y - 50),
        Affine(12, 0, X, 0, -7, Y),
    ],
    ids=["north_up", "bottom_up", "rotated", "oblong"],
)
def test_coverage_equals_intersection_pixel_by_pixel(transform):
    array = np.arange(400, dtype=np.uint16).reshape(20, 20)
    centre = transform * (9.3, 11.1)
    shape = shapely.Point(centre).buffer(70).difference(shapely.Point(centre).buffer(21))
    got = pixel_distributions((array, transform, ZONE), layer([shape]))
    expected = brute(shape, transform, 20, 20)
    found = np.zeros(400)
    found[got.pixels["value"]] = got.pixels["weight"]
    np.testing.assert_allclose(found, expected, atol=2e-7)
    np.testing.assert_allclose(
        got.summary["share_outside"][0], 1.0 - expected.sum() * abs(transform.determinant) / shape.area, atol=1e-6
    )


def test_weights_sum_to_the_area_of_the_zone(tmp_path):
    shapes = [s for s in blobs(12) if shapely.box(X, Y - 1200, X + 1500, Y).contains(s)]
    got = pixel_distributions(write(tmp_path / "a.tif", image()), layer(shapes), weight="area")
    np.testing.assert_allclose(got.summary["weight"], shapely.area(shapes), rtol=1e-6)


def test_area_weights_follow_the_cosine_of_latitude():
    array = np.ones((160, 4), np.float32)
    wide = (array, from_origin(0, 80, 1, 1), "EPSG:4326")
    zones = layer([shapely.box(0, 59, 4, 61), shapely.box(0, -1, 4, 1)], crs=4326)
    got = pixel_distributions(wide, zones, weight="area", min_pixels=1)
    mean = got.pixels.groupby("zone")["weight"].mean()
    np.testing.assert_allclose(
        mean["z0"] / mean["z1"], np.cos(np.radians([59.5, 60.5])).mean() / np.cos(np.radians(0.5))
    )
    globe = pixel_distributions(wide, layer([shapely.box(0, -80, 4, 80)], crs=4326), weight="area")
    R = zonal_sweep.AUTHALIC_RADIUS_M
    np.testing.assert_allclose(globe.summary["weight"], R**2 * np.radians(4) * 2 * np.sin(np.radians(80)), rtol=1e-6)


def test_count_and_min_coverage():
    array = np.arange(16, dtype=np.uint8).reshape(4, 4)
    zones = layer([shapely.box(0, 3, 1.5, 4), shapely.box(0, 0, 2.25, 1)])
    source = (array, from_origin(0, 4, 1, 1), ZONE)
    counted = pixel_distributions(source, zones, weight="count", min_pixels=1)
    assert counted.pixels["weight"].tolist() == [1.0] * 5
    half = pixel_distributions(source, zones, weight="count", min_coverage=0.5, min_pixels=1)
    assert half.pixels["value"].tolist() == [0, 1, 12, 13]


def test_nodata_mask_alpha_nan_and_user_rule_agree(tmp_path):
    array = image(bands=1)
    hidden = np.random.default_rng(3).random((HEIGHT, WIDTH)) < 0.3
    holed = array.copy()
    holed[0, hidden] = 7
    shapes = layer(blobs())
    by_nodata = pixel_distributions(write(tmp_path / "n.tif", holed, nodata=7), shapes)
    with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=False):
        by_mask = pixel_distributions(write(tmp_path / "m.tif", array, mask=~hidden), shapes)
    alpha = np.concatenate([array, array, array, np.where(hidden, 0, 255)[None].astype("uint16")])
    colours = [ColorInterp.red, ColorInterp.green, ColorInterp.blue, ColorInterp.alpha]
    by_alpha = pixel_distributions(write(tmp_path / "a.tif", alpha, colours=colours), shapes)
    floats = np.where(hidden, np.nan, array).astype("float32")
    by_nan = pixel_distributions(write(tmp_path / "f.tif", floats), shapes)
    by_rule = pixel_distributions(write(tmp_path / "r.tif", holed), shapes, valid=(8, 1e9))
    by_call = pixel_distributions(tmp_path / "r.tif", shapes, valid=lambda v: v != 7)
    for other in (by_mask, by_alpha, by_nan, by_rule, by_call):
        np.testing.assert_array_equal(other.pixels.to_numpy(), by_nodata.pixels.to_numpy())
        np.testing.assert_allclose(other.summary["share_masked"], by_nodata.summary["share_masked"])
    assert (tmp_path / "m.tif.msk").exists()
    assert 0.2 < by_nodata.summary["share_masked"].mean() < 0.4
    assert (by_nodata.pixels["value"] != 7).all() and by_nodata.summary["n_masked"].sum() > 100


def test_scale_and_offset_are_applied_after_nodata(tmp_path):
    array = image(bands=1)
    array[0, :5] = 0
    path = write(tmp_path / "s.tif", array, nodata=0)
    plain = pixel_distributions(path, layer(blobs()))
    with rasterio.open(path, "r+") as made:
        made.scales, made.offsets = (-0.5,), (100.0,)
    scaled = pixel_distributions(path, layer(blobs()))
    np.testing.assert_allclose(scaled.pixels["value"], 100.0 - 0.5 * plain.pixels["value"])
    histogram = pixel_distributions(path, layer(blobs()), as_="histogram")
    centres = Histogram(histogram.edges, histogram.counts).centres
    np.testing.assert_allclose(histogram.counts @ centres / histogram.counts.sum(1), scaled.summary["mean"])
    assert histogram.meta["bin_width"] == 0.5 and histogram.meta["exact"]


def test_integer_histogram_holds_exact_counts(tmp_path):
    path, shapes = write(tmp_path / "a.tif", image()), layer(blobs())
    rows = pixel_distributions(path, shapes, band=2)
    got = pixel_distributions(path, shapes, band=2, as_="histogram")
    centres = Histogram(got.edges, got.counts).centres
    assert got.pixels is None and np.array_equal(centres, np.arange(centres[0], centres[-1] + 1))
    for i, zone in enumerate(got.zones):
        mine = rows_of(rows, zone)
        expected = np.bincount(mine["value"] - int(centres[0]), mine["weight"], len(centres))
        np.testing.assert_allclose(got.counts[i], expected, rtol=1e-12)
    counted = pixel_distributions(path, shapes, weight="count", as_="histogram")
    assert np.array_equal(counted.counts, np.round(counted.counts))
    assert np.array_equal(counted.counts.sum(axis=1), counted.summary["n_pixels"])


def test_float_histogram_states_its_error(tmp_path):
    array = np.random.default_rng(0).normal(size=(1, HEIGHT, WIDTH)).astype("float32")
    path, shapes = write(tmp_path / "f.tif", array), layer(blobs())
    rows = pixel_distributions(path, shapes)
    got = pixel_distributions(path, shapes, as_="histogram", n_bins=64)
    assert got.counts.shape == (6, 64) and not got.meta["exact"]
    np.testing.assert_allclose(np.diff(got.edges), got.meta["bin_width"])
    np.testing.assert_allclose(got.counts.sum(axis=1), rows.summary["weight"])
    centres = Histogram(got.edges, got.counts).centres
    means = got.counts @ centres / got.counts.sum(axis=1)
    assert np.abs(means - rows.summary["mean"]).max() < got.meta["bin_width"] / 2
    constant = pixel_distributions(
        (np.full((9, 9), 2.5), from_origin(X, Y, 10, 10), ZONE),
        layer([shapely.box(X, Y - 50, X + 50, Y)]),
        as_="histogram",
        min_pixels=1,
    )
    assert constant.counts.tolist() == [[25.0]] and abs(constant.edges.mean() - 2.5) < 1e-12


def test_quantiles_are_type_seven_of_the_rows(tmp_path, monkeypatch):
    path, shapes = write(tmp_path / "a.tif", image()), layer(blobs())
    levels = [0.1, 0.25, 0.5, 0.9]
    counted = pixel_distributions(path, shapes, weight="count", as_="quantiles", quantiles=levels)
    rows = pixel_distributions(path, shapes, weight="count")
    expected = [np.quantile(rows_of(rows, zone)["value"], levels) for zone in counted.zones]
    np.testing.assert_allclose(counted.values, expected, rtol=1e-12)
    whole = pixel_distributions(path, shapes, as_="quantiles")
    assert whole.values.shape == (6, 99) and len(QuantileMatrix(whole.values, whole.quantiles)) == 6
    monkeypatch.setattr(zonal, "BATCH_PIXELS", 500)
    np.testing.assert_array_equal(pixel_distributions(path, shapes, as_="quantiles").values, whole.values)


def test_weighted_quantiles_by_hand():
    # Weights 1, 2, 1 of 10, 20, 30 scale to .75, 1.5, .75; position 2 is reached by 20, position 3 by 30.
    np.testing.assert_allclose(
        weighted_quantiles(np.array([30.0, 10, 20]), np.array([1.0, 1, 2]), np.array([0.5, 0.75])), [20.0, 25.0]
    )
    ties = weighted_quantiles(np.full(7, 0.1), np.random.default_rng(0).random(7), np.linspace(0.01, 0.99, 99))
    assert np.array_equal(ties, np.full(99, 0.1))


def test_block_size_and_layout_leave_no_trace(tmp_path, monkeypatch):
    array, shapes = image(bands=1), layer(blobs())
    whole = pixel_distributions(write(tmp_path / "a.tif", array), shapes)
    tiled = pixel_distributions(write(tmp_path / "t.tif", array, tiled=True, blockxsize=16, blockysize=16), shapes)
    monkeypatch.setattr(zonal_sweep, "BLOCK_CELLS", 700)
    small = pixel_distributions(tmp_path / "t.tif", shapes)
    strips = pixel_distributions(tmp_path / "a.tif", shapes)
    for other in (tiled, small, strips):
        assert len(other.pixels) == len(whole.pixels)
        assert other.pixels["value"].equals(whole.pixels["value"])
        np.testing.assert_allclose(other.pixels["weight"], whole.pixels["weight"], atol=3e-7)
        np.testing.assert_allclose(other.summary["share_at_low"], whole.summary["share_at_low"], rtol=1e-4)


def cut(array, folder, overlap=0):
    paths = []
    for i, (r, c) in enumerate([(0, 0), (0, 70), (50, 0), (50, 70)]):
        rows = slice(r, 50 + overlap if r == 0 else HEIGHT)
        columns = slice(c, 70 + overlap if c == 0 else WIDTH)
        paths.append(
            write(
                folder / f"tile{i}.tif", array[:, rows, columns], transform=from_origin(X + 10 * c, Y - 10 * r, 10, 10)
            )
        )
    return paths


def canonical(pixels):
    return pixels.sort_values(["zone", "value", "weight"]).reset_index(drop=True)


def test_tiles_equal_the_whole(tmp_path):
    array, shapes = image(bands=1), layer(blobs(10))
    whole = pixel_distributions(write(tmp_path / "a.tif", array), shapes)
    tiles = pixel_distributions(cut(array, tmp_path), shapes)
    np.testing.assert_allclose(canonical(tiles.pixels)["weight"].sum(), whole.pixels["weight"].sum(), rtol=1e-7)
    for column in ("n_pixels", "low", "high"):
        assert tiles.summary[column].equals(whole.summary[column])
    for column in ("weight", "mean", "share_outside", "share_at_low"):
        np.testing.assert_allclose(tiles.summary[column], whole.summary[column], rtol=1e-5, atol=1e-6)


def test_overlapping_tiles_count_once_and_say_so(tmp_path):
    array, shapes = image(bands=1), layer(blobs(10))
    whole = pixel_distributions(write(tmp_path / "a.tif", array), shapes)
    with pytest.warns(RasterCoverageWarning, match="overlap an earlier one"):
        tiles = pixel_distributions(cut(array, tmp_path, overlap=13), shapes)
    assert tiles.summary["n_pixels"].equals(whole.summary["n_pixels"])
    np.testing.assert_allclose(tiles.summary["weight"], whole.summary["weight"], rtol=1e-6)


def test_zones_bend_with_the_projection(tmp_path):
    """A zone with few corners, drawn in degrees, covers what its finely divided twin covers."""
    array = np.arange(HEIGHT * WIDTH, dtype=np.uint16).reshape(1, HEIGHT, WIDTH)
    path = write(tmp_path / "far.tif", array, crs="EPSG:32633", transform=from_origin(3e5, 7.6e6, 3000, 3000))
    to_degrees = Transformer.from_crs("EPSG:32633", 4326, always_xy=True)
    west, south = to_degrees.transform(4e5, 7.32e6)
    box = shapely.box(west, south, west + 6.0, south + 1.5)
    got = pixel_distributions(path, layer([box], crs=4326))
    back = Transformer.from_crs(4326, "EPSG:32633", always_xy=True)
    fine = shapely.transform(box.segmentize(0.002), lambda xy: np.column_stack(back.transform(*xy.T)))
    twin = pixel_distributions(path, layer([fine], crs="EPSG:32633"))
    found = [np.bincount(r.pixels["value"], r.pixels["weight"], array.size) for r in (got, twin)]
    assert np.abs(found[0] - found[1]).max() < 0.02
    straight = shapely.transform(box, lambda xy: np.column_stack(back.transform(*xy.T)))
    chord = pixel_distributions(path, layer([straight], crs="EPSG:32633"))
    assert np.abs(np.bincount(chord.pixels["value"], chord.pixels["weight"], array.size) - found[1]).max() > 0.5


def test_two_utm_zones_meet_without_counting_twice(tmp_path):
    ground = shapely.box(5.9, 45.0, 6.1, 45.1)
    paths = []
    for epsg in (32631, 32632):
        forward = Transformer.from_crs(4326, epsg, always_xy=True)
        x, y = forward.transform(6.0, 45.05)
        transform = from_origin(x - 15_000, y + 15_000, 100, 100)
        paths.append(
            write(tmp_path / f"{epsg}.tif", np.ones((1, 300, 300), "uint8"), crs=f"EPSG:{epsg}", transform=transform)
        )
    one = pixel_distributions(paths[0], layer([ground], crs=4326))
    with pytest.warns(RasterCoverageWarning, match="overlap"):
        both = pixel_distributions(paths, layer([ground], crs=4326))
    np.testing.assert_allclose(both.summary["weight"], one.summary["weight"], rtol=1e-6)


def test_longitudes_of_either_kind():
    array = np.arange(36 * 18, dtype=np.uint16).reshape(18, 36)
    zones = layer([shapely.box(-20, 10, -10, 20), shapely.box(-5, 10, 5, 20)], crs=4326)
    east = pixel_distributions((array, from_origin(0, 90, 10, 10), "EPSG:4326"), zones, min_pixels=1)
    rolled = pixel_distributions(
        (np.roll(array, 18, axis=1), from_origin(-180, 90, 10, 10), "EPSG:4326"), zones, min_pixels=1
    )
    assert canonical(east.pixels).equals(canonical(rolled.pixels))
    assert east.summary["n_pixels"].tolist() == [1, 2]
