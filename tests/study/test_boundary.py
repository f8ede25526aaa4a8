"""Distance to a border: closed forms on the ellipsoid, sides, cuts, segments, and what is refused."""

import html
from itertools import pairwise

import geopandas as gpd
import numpy as np
import pandas as pd
import pytest
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st
from pyproj import Geod, Transformer

from causalsat.errors import DataError, OptionError
from causalsat.study.boundary import SignedDistance, signed_distance

GEOD = Geod(ellps="WGS84")
HERE = [[11.0, 45.0]]
MERIDIAN = shapely.LineString([(10, 40), (10, 50)])
EAST = shapely.box(10, 38, 20, 52)


def geodesic(a, b):
    return GEOD.inv(*a, *b)[2]


def disc(lon, lat, radius, n=20_000):
    x, y, _ = GEOD.fwd(np.full(n, lon), np.full(n, lat), np.linspace(0, 360, n, endpoint=False), np.full(n, radius))
    return shapely.Polygon(np.column_stack([x, y]))


@settings(max_examples=30, deadline=None)
@given(st.floats(-30, 50), st.floats(30, 70))
def test_parallel_is_nearest_along_the_meridian(lon, lat):
    border = shapely.LineString([(-60, 49), (80, 49)])
    got = signed_distance([[lon, lat]], border, treated=shapely.box(-60, 49, 80, 80))
    expected = np.sign(lat - 49) * geodesic((lon, lat), (lon, 49.0))
    np.testing.assert_allclose(got.metres, expected, atol=1e-3)
    # A distance known to 1 mm places its nearest point only to the root of that: the distance is flat there, with
    # second derivative (cot theta -+ tan 49)/R along the parallel.
    theta, slope = np.deg2rad(abs(lat - 49)), np.tan(np.deg2rad(49))
    curvature = 1.0 / np.tan(max(theta, 1e-6)) - np.sign(lat - 49) * slope
    along = np.sqrt(2.0 * 1e-3 * 6.371e6 / curvature)
    np.testing.assert_allclose(got.nearest, [[lon, 49.0]], atol=along / (111_195 * np.cos(np.deg2rad(49))) + 1e-6)


def test_meridian_is_nearest_at_a_right_angle():
    places = np.array([[11.0, 45.0], [9.0, 45.0], [13.7, 42.1]])
    got = signed_distance(places, MERIDIAN, treated=EAST)
    fine = np.linspace(40, 50, 200_001)
    for place, metres in zip(places, got.metres):
        each = GEOD.inv(np.full(fine.size, place[0]), np.full(fine.size, place[1]), np.full(fine.size, 10.0), fine)[2]
        assert 0 <= each.min() - abs(metres) < 1e-3
    assert (np.sign(got.metres) == [1, -1, 1]).all()
    back = GEOD.inv(*got.nearest.T, *places.T)[0]
    np.testing.assert_allclose(np.abs(back), 90.0, atol=1e-3)


def test_end_of_an_open_line_is_a_point():
    got = signed_distance([[11.0, 51.0]], MERIDIAN, treated=EAST)
    np.testing.assert_allclose(got.metres, geodesic((11.0, 51.0), (10.0, 50.0)), rtol=1e-12)


@pytest.mark.parametrize("lat", [0.0, 45.0, -70.0])
def test_circle(lat):
    """Radius less distance from the centre; the polygon of 20 000 sides is 2.5 mm inside its circle."""
    rng = np.random.default_rng(0)
    away = np.r_[rng.uniform(0, 4e5, 200), 0.0]
    x, y, _ = GEOD.fwd(np.full(201, 30.0), np.full(201, lat), rng.uniform(0, 360, 201), away)
    got = signed_distance(np.column_stack([x, y]), disc(30.0, lat, 2e5))
    np.testing.assert_allclose(got.metres, 2e5 - away, atol=0.01)


def test_equals_a_search_over_all_edges():
    rng = np.random.default_rng(2)
    angle = np.linspace(0, 2 * np.pi, 240, endpoint=False)
    radius = 0.8 + 0.3 * np.sin(7 * angle) + 0.05 * rng.normal(size=angle.size)
    area = shapely.Polygon(np.column_stack([36.0 + radius * np.cos(angle), 0.7 + radius * np.sin(angle)]))
    places = np.column_stack([rng.uniform(34.5, 37.5, 25), rng.uniform(-0.8, 2.2, 25)])
    fine = shapely.get_coordinates(area.boundary.segmentize(2e-5))
    got = signed_distance(places, area)
    for place, metres in zip(places, got.metres):
        near = fine[np.argsort(np.hypot(*(fine - place).T))[:2000]]
        each = GEOD.inv(np.full(len(near), place[0]), np.full(len(near), place[1]), *near.T)[2]
        assert abs(each.min() - abs(metres)) < 0.5
    assert np.array_equal(got.metres > 0, shapely.contains_xy(area, places))


def test_zero_on_the_line():
    on = np.array([[10.0, 44.2], [10.0, 40.0], [10.0, 49.999]])
    assert signed_distance(on, MERIDIAN, treated=EAST).metres.tolist() == [0.0, 0.0, 0.0]


def test_every_way_to_name_the_side_agrees():
    rng = np.random.default_rng(1)
    places = np.column_stack([rng.uniform(8, 12, 100), rng.uniform(41, 49, 100)])
    wavy = shapely.LineString([(10 + 0.3 * np.sin(3 * y), y) for y in np.linspace(40, 50, 300)])
    right = shapely.Polygon([*wavy.coords, (20, 50), (20, 40)])
    by_area = signed_distance(places, wavy, treated=right)
    by_point = signed_distance(places, wavy, treated=shapely.Point(13, 45))
    turned = signed_distance(places, wavy.reverse(), treated=shapely.Point(13, 45))
    other = signed_distance(places, wavy, treated=shapely.Point(7, 45))
    np.testing.assert_allclose(by_point.metres, by_area.metres)
    np.testing.assert_allclose(turned.metres, by_area.metres)
    np.testing.assert_allclose(other.metres, -by_area.metres)


def test_a_closed_line_with_a_point_is_its_polygon():
    square = shapely.box(10, 40, 12, 42)
    places = [[11.0, 41.0], [13.0, 41.0], [10.3, 41.9]]
    by_polygon = signed_distance(places, square)
    for point, sign in ((shapely.Point(11.5, 41.2), 1), (shapely.Point(9, 41), -1)):
        got = signed_distance(places, square.boundary, treated=point)
        np.testing.assert_allclose(got.metres, sign * by_polygon.metres)


def test_inner_borders_of_the_treated_area_do_not_count():
    halves = gpd.GeoDataFrame(geometry=[shapely.box(10, 40, 12, 42), shapely.box(12, 40, 14, 42)], crs=4326)
    got = signed_distance([[12.0, 41.0]], halves)
    np.testing.assert_allclose(got.metres, signed_distance([[12.0, 41.0]], shapely.box(10, 40, 14, 42)).metres)
    assert got.metres[0] > 1e5


def test_hole_in_the_treated_area_is_untreated():
    ring = shapely.box(10, 40, 14, 44).difference(shapely.box(11.5, 41.5, 12.5, 42.5))
    got = signed_distance([[12.0, 42.0], [11.0, 42.0]], ring)
    assert got.metres[0] < 0 < got.metres[1]


def test_excluded_stretches_are_no_border_but_keep_their_side():
    square = shapely.box(10, 40, 12, 42)
    near_coast = [[11.9, 41.0], [12.1, 41.0]]
    whole = signed_distance(near_coast, square)
    coast = shapely.box(11.99, 39, 12.5, 43)
    cut = signed_distance(near_coast, square, exclude=coast)
    line = signed_distance(near_coast, square, exclude=shapely.LineString([(12, 40), (12, 42)]))
    assert (np.abs(whole.metres) < 1e4).all() and (np.abs(cut.metres) > 1e5).all()
    assert (np.sign(cut.metres) == [1, -1]).all()
    np.testing.assert_allclose(line.metres, cut.metres, rtol=0.02)
    assert not shapely.intersects_xy(shapely.box(11.999, 39, 12.5, 43), cut.nearest).any()


def test_layers_in_other_systems_agree():
    rng = np.random.default_rng(4)
    lonlat = np.column_stack([rng.uniform(32, 34, 50), rng.uniform(0.2, 2, 50)])
    area = shapely.Polygon([(32.4, 0.5), (33.5, 0.6), (33.2, 1.7), (32.6, 1.4)])
    fine = gpd.GeoSeries([area.segmentize(0.001)], crs=4326)
    plain = signed_distance(lonlat, fine)
    points = gpd.GeoSeries(shapely.points(lonlat), crs=4326)
    moved = signed_distance(points.to_crs(32636), fine.to_crs(32636))
    np.testing.assert_allclose(moved.metres, plain.metres, atol=1e-2)
    mixed = signed_distance(points, fine.boundary, treated=fine.to_crs(3857))
    np.testing.assert_allclose(mixed.metres, plain.metres, atol=1e-6)
    turned = signed_distance(lonlat - [360.0, 0.0], fine)
    np.testing.assert_allclose(turned.metres, plain.metres, atol=1e-6)


def test_border_at_the_antimeridian():
    border = shapely.LineString([(180, -20), (180, -10)])
    got = signed_distance([[179.0, -15.0], [-179.0, -15.0]], border, treated=shapely.box(170, -30, 180, 0))
    np.testing.assert_allclose(got.metres, [107_552, -107_552], rtol=1e-3)


def test_segments_have_equal_lengths_and_follow_the_line():
    lat = np.linspace(40.01, 49.99, 400)
    places = np.column_stack([np.full(400, 10.0), lat])
    got = signed_distance(places, MERIDIAN, treated=EAST, segment_km=100)
    assert got.segment.min() == 0 and got.segment.max() == 10
    assert (np.diff(got.segment) >= 0).all()
    starts = [lat[got.segment == s].min() for s in range(11)]
    lengths = [geodesic((10, a), (10, b)) for a, b in pairwise(starts)]
    np.testing.assert_allclose(lengths, 1_110_000 / 11, atol=4000)
    assert signed_distance(places, MERIDIAN, treated=EAST).segment is None


def test_segments_of_two_lines_are_told_apart():
    two = shapely.MultiLineString([[(10, 40), (10, 41)], [(10, 45), (10, 46)]])
    got = signed_distance([[10.1, 40.5], [10.1, 45.5]], two, treated=EAST, segment_km=500)
    assert sorted(got.segment.tolist()) == [0, 1]


def test_polygons_count_at_a_point_inside():
    places = gpd.GeoDataFrame(
        {"id": [1, 2]}, geometry=[shapely.box(10.2, 44, 10.8, 45), shapely.box(9, 44, 9.9, 45)], crs=4326
    )
    got = signed_distance(places, MERIDIAN, treated=EAST)
    points = places.representative_point()
    np.testing.assert_allclose(got.metres, signed_distance(points, MERIDIAN, treated=EAST).metres)
    assert (np.sign(got.metres) == [1, -1]).all()


def test_an_unsound_polygon_is_still_judged():
    bowtie = shapely.Polygon([(9, 44), (11, 45), (11, 44), (9, 45)])
    with pytest.raises(DataError, match="50% of its area treated"):
        signed_distance(gpd.GeoSeries([bowtie], crs=4326), MERIDIAN, treated=EAST)


def test_touching_polygons_do_not_straddle():
    places = gpd.GeoSeries([shapely.box(9.9999, 44, 11, 45), shapely.box(9, 44, 10, 45)], crs=4326)
    assert (np.sign(signed_distance(places, MERIDIAN, treated=EAST).metres) == [1, -1]).all()


def test_places_without_geometry_keep_their_row():
    places = gpd.GeoSeries([shapely.Point(11, 45), None, shapely.Point()], crs=4326)
    got = signed_distance(places, MERIDIAN, treated=EAST, segment_km=50)
    assert np.isnan(got.metres).tolist() == [False, True, True]
    assert got.segment[1:].tolist() == [-1, -1] and len(got) == 3


def test_result_is_a_column():
    table = pd.DataFrame({"lon": [9.0, 11.0], "lat": [45.0, 45.0]})
    got = signed_distance(table, MERIDIAN, treated=EAST)
    table["distance_m"] = got
    assert table["distance_m"].tolist() == got.metres.tolist() and table["distance_m"].dtype == float
    assert np.array_equal(np.asarray(got), got.metres) and np.asarray(got, np.float32).dtype == np.float32
    assert np.asarray(got) is not got.metres


def test_printed_it_tells_sides_distances_and_what_was_cut():
    square = shapely.box(10, 40, 12, 42)
    places = [[11.9, 41.0], [11.0, 41.5], [12.1, 41.0], [10.0, 41.0], [np.nan, 41.0]]
    got = signed_distance(places, square, exclude=shapely.box(11.99, 39, 12.5, 43), segment_km=100)
    lines = dict(line.split("  ", 1) for line in repr(got).splitlines() if "  " in line)
    facts = {name: text.strip() for name, text in lines.items()}
    assert repr(got).splitlines()[0] == "SignedDistance: 5 places, metres to the border, positive on the treated side"
    near, far = (f"{m:.1f}" for m in sorted(got.metres[:2]))
    assert facts["treated side"] == f"2 places, {near} to {far} m away"
    assert facts["other side"] == f"1 place, {-got.metres[2]:.1f} m away"
    assert facts["on the border"] == "1 place" and facts["no geometry"] == "1 place, distance NaN"
    whole = signed_distance(places[:1], square).border_km
    assert got.border_km + got.excluded_km == pytest.approx(whole, rel=1e-9)
    assert facts["border"] == f"{got.border_km:.1f} km; {got.excluded_km:.1f} km more excluded"
    side = GEOD.line_length([12.0] * 2001, np.linspace(40, 42, 2001)) / 1000
    assert side < got.excluded_km < side + 2.0
    assert facts["segments"].endswith("are nearest to some place, each to 1 to 2 places")
    assert str(got) == repr(got) and "array(" not in repr(got)


def test_printed_without_cut_segments_or_places():
    text = repr(signed_distance(np.zeros((0, 2)), shapely.box(10, 40, 12, 42)))
    assert "0 places" in text and "excluded" not in text and "segments" not in text and "nan" not in text
    idle = signed_distance(HERE, shapely.box(10, 40, 12, 42), exclude=shapely.box(0, 0, 1, 1))
    assert idle.excluded_km == pytest.approx(0.0, abs=1e-9) and "excluded" not in repr(idle)
    by_hand = SignedDistance(np.array([1.0]), None, np.zeros((1, 2)))
    assert "border  " not in repr(by_hand).replace("on the border", "")


def test_notebooks_show_the_same_facts_as_a_table():
    got = signed_distance(HERE, shapely.box(10, 40, 12, 42))
    page = got._repr_html_()
    for line in repr(got).splitlines()[2:]:
        assert all(html.escape(part.strip()) in page for part in line.split("  ", 1))
    assert page.count("<tr>") == page.count("</tr>") == 4 and "<script" not in page


BOWTIE = shapely.Polygon([(0, 0), (1, 1), (1, 0), (0, 1)])
BAD = [
    (HERE, MERIDIAN, {}, "pass treated="),
    (HERE, EAST, {"treated": EAST}, "leave treated out"),
    (HERE, shapely.Point(0, 0), {"treated": EAST}, "boundary is a Point"),
    (HERE, BOWTIE, {}, "not valid"),
    (HERE, gpd.GeoSeries([EAST, BOWTIE], crs=4326), {}, "not valid"),
    (HERE, gpd.GeoSeries([None], crs=4326), {}, "boundary has no geometry"),
    (HERE, shapely.LineString(), {"treated": EAST}, "boundary has no geometry"),
    (HERE, shapely.LineString([(5e5, 0), (5e5, 1e5)]), {"treated": EAST}, "not degrees"),
    (HERE, gpd.GeoSeries([MERIDIAN]), {"treated": EAST}, "boundary has no CRS"),
    (HERE, "absent.gpkg", {"treated": EAST}, "is not a file"),
    (HERE, 3, {"treated": EAST}, "boundary is a int"),
    (HERE, MERIDIAN, {"treated": MERIDIAN}, "treated is a LineString"),
    (HERE, MERIDIAN, {"treated": shapely.Point(10, 45)}, "lies on the boundary"),
    (
        HERE,
        shapely.MultiLineString([[(10, 40), (10, 41)], [(12, 40), (12, 41)]]),
        {"treated": shapely.Point(11, 45)},
        "divides the map into 3 parts",
    ),
    (HERE, MERIDIAN, {"treated": EAST, "exclude": shapely.box(0, 0, 60, 60)}, "cuts out the whole boundary"),
    ([[45.0, 111.0]], MERIDIAN, {"treated": EAST}, "Swap the two"),
    ([1.0, 2.0], MERIDIAN, {"treated": EAST}, "shape"),
    (pd.DataFrame({"lon": ["10 E"], "lat": [45.0]}), MERIDIAN, {"treated": EAST}, "'lon'.* cannot be read as degrees"),
    (pd.DataFrame({"longitud": [1.0], "latitude": [2.0]}), MERIDIAN, {"treated": EAST}, 'Did you mean "longitud"'),
    (gpd.GeoSeries([shapely.Point(1, 1)]), MERIDIAN, {"treated": EAST}, "places has no CRS"),
    (
        gpd.GeoSeries([shapely.box(10.5, 44, 11, 45), shapely.box(9, 44, 11, 45)], crs=4326),
        MERIDIAN,
        {"treated": EAST},
        "both sides of the border; the first is 1 with 50% of its area treated",
    ),
    (HERE, MERIDIAN, {"treated": EAST, "segment_km": 0}, "segment_km=0"),
]


@pytest.mark.parametrize(("places", "boundary", "options", "message"), BAD, ids=[b[3][:30] for b in BAD])
def test_bad_inputs_are_named(places, boundary, options, message):
    with pytest.raises((DataError, OptionError), match=message):
        signed_distance(places, boundary, **options)


def test_distances_in_a_projected_plane_near_its_meridian():
    """Within a few kilometres of the central meridian, UTM distances over .9996 are true to a millimetre."""
    border = gpd.GeoSeries([shapely.LineString([(500_000, 0), (500_000, 50_000)])], crs=32636)
    places = gpd.GeoSeries([shapely.Point(502_000, 20_000), shapely.Point(499_000, 30_000)], crs=32636)
    treated = gpd.GeoSeries([shapely.Point(510_000, 10_000)], crs=32636)
    got = signed_distance(places, border, treated=treated)
    np.testing.assert_allclose(got.metres, [2000 / 0.9996, -1000 / 0.9996], atol=1e-3)
    lon, lat = Transformer.from_crs(32636, 4326, always_xy=True).transform(500_000, 20_000)
    np.testing.assert_allclose(got.nearest[0], [lon, lat], atol=1e-7)
