"""Zones in metres on a raster in degrees: across 180°, over the poles; and what zones are called."""

import geopandas as gpd
import numpy as np
import pandas as pd
import pytest
import rasterio
import shapely
from pyproj import CRS, Transformer
from rasterio.transform import from_origin
from shapely import Point, Polygon, box

from causalsat.errors import DataError, RasterCoverageWarning
from causalsat.raster.zonal import pixel_distributions
from causalsat.raster.zonal_shapes import project

COLUMNS = np.tile(np.arange(360.0), (180, 1))
GLOBE = (COLUMNS, from_origin(-180, 90, 1, 1), "EPSG:4326")
GLOBE_0_360 = (COLUMNS, from_origin(0, 90, 1, 1), "EPSG:4326")
MILLION = 1e6


def zones(*shapes, crs):
    return gpd.GeoSeries(list(shapes), crs=crs, index=[f"z{i}" for i in range(len(shapes))])


def measured(raster, *shapes, crs):
    return pixel_distributions(raster, zones(*shapes, crs=crs), weight="area", min_pixels=1)


def ground(shape, crs, pole=90):
    """Area on the sphere of equal area, m², by an equal-area map."""
    back = Transformer.from_crs(crs, 4326, always_xy=True)
    sphere = Transformer.from_crs(
        "+proj=longlat +R=6371007.181", f"+proj=laea +lat_0={pole} +R=6371007.181", always_xy=True
    )
    dense = shapely.segmentize(shape, 2e4)
    return shapely.transform(dense, lambda xy: np.column_stack(sphere.transform(*back.transform(*xy.T)))).area


@pytest.mark.parametrize("raster", [GLOBE, GLOBE_0_360], ids=["-180", "0"])
@pytest.mark.parametrize("crs", [32760, 3460, 3832])
def test_a_zone_in_metres_crosses_the_date_line(raster, crs):
    shape = gpd.GeoSeries([box(178.5, -18, 179.5, -17)], crs=4326).to_crs(crs).iloc[0]
    west, _, east, _ = shape.bounds
    got = measured(raster, shapely.affinity.translate(shape, east - west), crs=crs)
    row = got.summary.iloc[0]
    assert row["weight"] == pytest.approx(1.18e10, rel=0.01) and row["n_pixels"] <= 4 and row["share_outside"] < 1e-12
    assert set(got.pixels["value"]) == ({0.0, 359.0} if raster is GLOBE else {179.0, 180.0})


@pytest.mark.parametrize("shift", [180, 179.5, -178])
def test_zones_turn_with_the_globe(shift):
    """The same zone, with a hole, around another meridian: the same pixels, turned."""
    shape = Point(0, 0).buffer(2e6) - Point(3e5, 0).buffer(9e5)
    plain, moved = (
        measured(GLOBE, shape, crs=f"+proj=laea +lat_0=-17 +lon_0={lon}") for lon in (shift % 1, shift)
    )  # fmt: skip
    turned = (moved.pixels["value"] - np.floor(shift)) % 360.0
    keys = [
        np.lexsort((p["weight"].round(), v)) for p, v in ((plain.pixels, plain.pixels["value"]), (moved.pixels, turned))
    ]
    assert plain.pixels["value"].to_numpy()[keys[0]].tolist() == turned.to_numpy()[keys[1]].tolist()
    weights = [p["weight"].to_numpy()[k] for p, k in zip((plain.pixels, moved.pixels), keys)]
    np.testing.assert_allclose(*weights, rtol=1e-5, atol=1e4)


ARCTIC = {
    "cap": Point(0, 0).buffer(3e6),
    "pole off centre": Point(1e6, 5e5).buffer(3e6),
    "a kilometre from the pole": box(1e3, -2e6, 3e6, 2e6),
    "edge through the pole": box(0, -2e6, 3e6, 2e6),
    "slanted edge through the pole": Polygon([(-1e6, -1e6), (1e6, 1e6), (1e6, -1e6)]),
    "wedge": Polygon([(0, 0), (2e6, 3e5), (2e6, 1e6)]),
    "three quarters": box(-2e6, -2e6, 2e6, 2e6) - box(0, 0, 2e6, 2e6),
    "ring": Point(0, 0).buffer(3e6) - Point(0, 0).buffer(1e6),
    "hole across 180": Point(0, 0).buffer(3e6) - Point(0, 1.5e6).buffer(1e6),
    "hole with an edge on the pole": Point(0, 0).buffer(3e6) - box(0, -1e6, 1e6, 1e6),
    "parts": shapely.MultiPolygon([Point(0, 0).buffer(1e6), Point(3e6, 0).buffer(1e6)]),
}


@pytest.mark.parametrize("name", ARCTIC)
def test_zones_at_a_pole_are_closed_over_it(name):
    """Weights are cos latitude at pixel centres: cut pixels near the pole are off by up to 0.2 % of these zones."""
    shape = ARCTIC[name]
    for raster in (GLOBE, GLOBE_0_360):
        row = measured(raster, shape, crs=3995).summary.iloc[0]
        assert row["status"] == "ok" and row["share_outside"] < 1e-12
        assert row["weight"] == pytest.approx(ground(shape, 3995), rel=2.5e-3)
    south = measured(GLOBE, shape, crs=3031).summary.iloc[0]
    assert south["weight"] == pytest.approx(ground(shape, 3031, -90), rel=2.5e-3)


def test_areas_in_degrees_are_those_on_the_map():
    """On cylindrical equal-area ordinates the area of a polygon of degrees is exact, without pixels."""
    cap = np.array([Point(0, 0).buffer(3e6), box(1e3, -2e6, 3e6, 2e6)], dtype=object)
    moved = project(cap, CRS(3995), CRS(4326), 1e-3)
    sphere = Transformer.from_crs("+proj=longlat +R=6371007.181", "+proj=cea +R=6371007.181", always_xy=True)
    for shape, degrees in zip(cap, moved):
        fine = shapely.segmentize(degrees, 0.02)
        area = shapely.transform(fine, lambda xy: np.column_stack(sphere.transform(*xy.T))).area
        assert area == pytest.approx(ground(shape, 3995), rel=1e-4)


@pytest.mark.parametrize("crs", [3857, 3832])
def test_a_zone_as_wide_as_the_map(crs):
    half = 20037508.342789244
    shape = box(-half, -8e6, half, 8e6)
    low, high = Transformer.from_crs(crs, 4326, always_xy=True).transform([0, 0], [-8e6, 8e6])[1]
    got = measured(GLOBE, shape, crs=crs)
    belt = measured(GLOBE, box(-180, low, 180, high), crs=4326)
    assert got.summary["weight"][0] == pytest.approx(belt.summary["weight"][0], rel=1e-9)
    assert got.summary["n_pixels"][0] == belt.summary["n_pixels"][0]


def test_a_ring_that_meets_a_pole_twice_is_named():
    bow = Polygon([(0, 0), (MILLION, 0), (MILLION, MILLION)]).union(
        Polygon([(0, 0), (-MILLION, 0), (-MILLION, MILLION)])
    )
    assert measured(GLOBE, bow, crs=3995).summary["status"][0] == "ok"
    rough = Polygon([(0, 0), (MILLION, 0), (MILLION, MILLION), (0, 1e-4), (-MILLION, MILLION), (-MILLION, 0)])
    with pytest.raises(DataError, match="Zone 'z0' meets a pole more than once"):
        measured(GLOBE, rough, crs=3995)


def test_rasters_that_overlap_at_a_pole_count_once(tmp_path):
    polar, globe = tmp_path / "polar.tif", tmp_path / "globe.tif"
    for path, array, transform, crs in (
        (polar, np.full((60, 60), 5, np.uint8), from_origin(-3e6, 3e6, 1e5, 1e5), "EPSG:3995"),
        (globe, np.full((180, 360), 7, np.uint8), from_origin(0, 90, 1, 1), "EPSG:4326"),
    ):
        height, width = array.shape
        profile = {"driver": "GTiff", "height": height, "width": width, "count": 1, "dtype": "uint8"}
        with rasterio.open(path, "w", crs=crs, transform=transform, **profile) as file:
            file.write(array, 1)
    belt = zones(box(-180, 40, 180, 90), crs=4326)
    with pytest.warns(RasterCoverageWarning, match="overlap an earlier one"):
        both = pixel_distributions([str(polar), str(globe)], belt, weight="area").pixels
    alone = pixel_distributions(str(globe), belt, weight="area").pixels["weight"].sum()
    kept = both.loc[both["value"] == 7, "weight"].sum()
    assert alone - kept == pytest.approx(ground(box(-3e6, -3e6, 3e6, 3e6), 3995), rel=2.5e-3)


def test_an_index_of_levels_is_refused_and_a_column_serves():
    levels = pd.MultiIndex.from_tuples([("north", 1), ("north", 2)])
    table = gpd.GeoDataFrame({"code": ["a", "b"]}, geometry=[box(0, 0, 3, 3), box(3, 0, 6, 3)], crs=4326, index=levels)
    with pytest.raises(DataError, match=r"zones has an index of 2 levels, for example \(north, 1\)"):
        pixel_distributions(GLOBE, table)
    assert len(pixel_distributions(GLOBE, table, zone_id="code", min_pixels=1).merge(table)) == 18


def test_merge_keeps_the_names_of_pixel_columns():
    table = gpd.GeoDataFrame(
        {"code": ["a", "b"], "value": [10, 20], "weight": ["x", "y"], "zone_zone": [1, 2]},
        geometry=[box(0, 0, 3, 3), box(3, 0, 6, 3)],
        crs=4326,
    )
    got = pixel_distributions(GLOBE, table, zone_id="code", min_pixels=1)
    merged = got.merge(table)
    assert merged[["zone", "value", "weight"]].equals(got.pixels)
    assert set(merged.loc[merged["zone"] == "b", "value_zone"]) == {20} and set(merged["weight_zone"]) == {"x", "y"}
    named = table.rename(columns={"code": "zone"})
    assert "value_zone" in pixel_distributions(GLOBE, named, min_pixels=1).merge(named)
    own = got.merge(table, left_on="zone", right_on="code", suffixes=("_pixel", ""))
    assert "value_pixel" in own and set(own["value"]) == {10, 20}
    by_value = pixel_distributions(GLOBE, table, zone_id="value", min_pixels=1)
    assert by_value.merge(table)["value"].equals(by_value.pixels["value"])
    with pytest.raises(DataError, match=r"a column 'value'.*'value_zone'"):
        got.merge(table.assign(value_zone=0))


MAPS = {  # a world map, the meridian it is cut at, its half width and its height, metres
    "equal area": ("EPSG:6933", 180.0, 17_367_530.44, 7_314_540.83),
    "Mercator of the Pacific": ("EPSG:3832", -30.0, 20_037_508.34, 20_037_508.34),
    "Mollweide": ("+proj=moll +lon_0=-100", 80.0, 18_040_095.7, 9_020_047.85),
}


def world(name):
    crs, _, half, height = MAPS[name]
    return (np.tile(np.arange(360.0), (180, 1)), from_origin(-half, height, half / 180, height / 90), crs)


@pytest.mark.parametrize("turn", [-360.0, 0.0, 360.0])
@pytest.mark.parametrize("name", MAPS)
def test_a_zone_across_the_seam_of_the_map_is_cut_there(name, turn):
    raster, seam = world(name), MAPS[name][1]
    here = measured(raster, box(seam + 70.3, -18, seam + 72.3, -17), crs=4326)
    for shape in (box(seam - 1, -18, seam + 1, -17), box(seam, -18, seam + 2, -17), box(seam - 2, -18, seam, -17)):
        got = measured(raster, shapely.affinity.translate(shape, turn), crs=4326)
        assert got.summary["weight"][0] == pytest.approx(here.summary["weight"][0], rel=1e-6)
        assert (np.minimum(got.pixels["value"], 359 - got.pixels["value"]) < 8).all()
        assert got.summary["share_outside"][0] < 1e-6


def test_a_zone_in_metres_across_the_seam_of_the_map_is_cut_there():
    shape = gpd.GeoSeries([box(179, -18, 181, -17)], crs=4326).to_crs(32760).iloc[0]
    raster = world("equal area")
    got = measured(raster, shape, crs=32760)
    assert got.summary["weight"][0] == pytest.approx(2 * 111_195**2 * np.cos(np.radians(17.5)), rel=0.01)
    assert sorted(set(got.pixels["value"])) == [0.0, 359.0]
    belt = measured(raster, box(-180, -60, 180, 60), crs=4326).summary.iloc[0]
    other = measured(raster, box(0, -60, 360, 60), crs=4326).summary.iloc[0]
    assert other["weight"] == pytest.approx(belt["weight"]) and other["n_pixels"] == belt["n_pixels"]
