"""Distance to a border across 180°, where coasts are excluded, and the result as an array of metres."""

from collections.abc import Sequence

import geopandas as gpd
import numpy as np
import pandas as pd
import polars as pl
import pytest
import shapely
from shapely import LineString, MultiLineString, Point, box
from shapely.affinity import translate

from causalsat.errors import DataError
from causalsat.study.boundary import signed_distance

# A degree of longitude on the equator of WGS84, metres.
DEGREE_M = 111_319.49079327357
DATE_LINE = LineString([(180, -5), (180, 5)])
SQUARE, COAST = box(0, 0, 1, 1), box(0.99, -1, 1.2, 2)


def split(shape):
    """The polygon cut at 180°, as RFC 7946 asks."""
    east = translate(shapely.intersection(shape, box(180, -90, 540, 90)), -360)
    return shapely.union_all([shapely.intersection(shape, box(-180, -90, 180, 90)), east])


def star():
    rng, angle = np.random.default_rng(0), np.linspace(0, 2 * np.pi, 60, endpoint=False)
    radius = 3 + rng.normal(size=60) * 0.4
    hole = np.column_stack([0.8 * np.cos(angle), 10 + 0.8 * np.sin(angle)])
    return shapely.Polygon(np.column_stack([radius * np.cos(angle), 10 + radius * np.sin(angle)]), [hole])


@pytest.mark.parametrize("side", [1, -1])
def test_a_point_tells_the_side_of_the_date_line(side):
    got = signed_distance([[179.5, 0.0], [-179.5, 0.0], [180.5, 0.0]], DATE_LINE, treated=Point(180 - side, 0))
    np.testing.assert_allclose(got.metres, side * np.array([0.5, -0.5, -0.5]) * DEGREE_M)
    other = LineString([(-180, -5), (-180, 5)])
    again = signed_distance([[179.5, 0.0], [-179.5, 0.0]], other, treated=Point(-180 + side, 0))
    np.testing.assert_allclose(again.metres, -side * np.array([0.5, -0.5]) * DEGREE_M)


def test_a_point_tells_the_side_as_far_as_half_a_turn():
    meridian = LineString([(10, 40), (10, 50)])
    got = signed_distance([[-171.0, 45.0], [-169.0, 45.0], [9.0, 45.0]], meridian, treated=Point(12, 45))
    assert np.sign(got.metres).tolist() == [1, -1, -1]
    halves = MultiLineString([[(170, 0), (180, 0)], [(-180, 0), (-170, 0)]])
    got = signed_distance([[-175.0, 1.0], [175.0, 1.0], [-175.0, -1.0]], halves, treated=Point(179, 5))
    np.testing.assert_allclose(got.metres, [110_574.39, 110_574.39, -110_574.39], atol=0.01)


@pytest.mark.parametrize("cut", [False, True], ids=["whole", "cut at 180"])
@pytest.mark.parametrize("turn", [180.0, 178.5, 200.0, 240.0, -180.0, -200.0])
def test_distances_turn_with_the_globe(turn, cut):
    """Everything moved east by the same angle: metres, signs, lengths and segments stay."""
    rng = np.random.default_rng(1)
    places = np.column_stack([rng.uniform(-6, 6, 60), rng.uniform(4, 16, 60)])
    area, coast = star(), box(2, 5, 9, 20)
    plain = signed_distance(places, area, exclude=coast, segment_km=100)
    form = split if cut and turn > 0 else (lambda shape: shape)
    moved, sea = form(translate(area, turn)), form(translate(coast, turn))
    there = places + np.array([turn, 0.0])
    here = np.column_stack([(there[:, 0] + 180.0) % 360.0 - 180.0, there[:, 1]])
    for points in (there, here):
        got = signed_distance(points, moved, exclude=sea, segment_km=100)
        np.testing.assert_allclose(got.metres, plain.metres, atol=1e-5)
        assert got.border_km == pytest.approx(plain.border_km) and got.excluded_km == pytest.approx(plain.excluded_km)
        assert np.abs(got.nearest[:, 0]).max() <= 180.0
        line = signed_distance(points, translate(area, turn).boundary, treated=moved, exclude=sea)
        np.testing.assert_allclose(line.metres, plain.metres, atol=1e-5)


def test_polygons_cut_at_the_date_line_have_no_border_there():
    halves = shapely.union_all([box(175, -5, 180, 5), box(-180, -5, -175, 5)])
    got = signed_distance([[179.0, 0.0], [180.0, 0.0], [-180.0, 0.0]], halves)
    whole = signed_distance([[179.0, 0.0], [180.0, 0.0], [180.0, 0.0]], box(175, -5, 185, 5))
    np.testing.assert_allclose(got.metres, whole.metres)
    np.testing.assert_allclose(got.metres, [4 * DEGREE_M, 552_885.451, 552_885.451], atol=0.01)
    layer = gpd.GeoSeries([box(175, -5, 180, 5), box(-180, -5, -175, 5)], crs=4326)
    np.testing.assert_allclose(signed_distance([[179.0, 0.0]], layer).metres, whole.metres[:1])


def test_a_belt_around_the_globe_has_no_ends():
    places = [[180.0, 0.0], [-180.0, 0.0], [0.0, 0.0], [179.0, 20.0]]
    for west in (-180, 0):
        got = signed_distance(places, box(west, -10, west + 360, 10)).metres
        np.testing.assert_allclose(got, [1_105_854.833] * 3 + [-1_106_511.421], atol=0.01)


def test_a_polar_cap_in_degrees_has_no_border_at_the_pole():
    got = signed_distance([[0.0, -90.0], [30.0, -89.9], [180.0, -80.0], [50.0, -60.0]], box(-180, -90, 180, -70))
    np.testing.assert_allclose(got.metres[2:], [1_116_159.145, -1_114_907.908], atol=0.01)
    np.testing.assert_allclose(got.metres[:2], [2_232_985.0, 2_221_815.6], atol=1.0)


@pytest.mark.parametrize("crs", [32760, 3460, 3832])
def test_areal_places_in_metres_cross_the_date_line(crs):
    place = gpd.GeoSeries([box(178.5, -18, 179.5, -17)], crs=4326).to_crs(crs)
    width = place.bounds["maxx"].iloc[0] - place.bounds["minx"].iloc[0]
    place = place.translate(width, 0)
    line = LineString([(181, -25), (181, -10)])
    got = signed_distance(place, line, treated=box(170, -30, 181, 0))
    np.testing.assert_allclose(got.metres, 1e5, rtol=0.1)
    with pytest.raises(DataError, match=r"on both sides of the border; the first is 0 with (49|50|51)%"):
        signed_distance(place, LineString([(180, -25), (180, -10)]), treated=box(170, -30, 180, 0))
    through = LineString([(180, -17.5), (180, -10)])
    cut = signed_distance([[180.0, -16.0], [180.0, -17.5]], through, treated=box(170, -30, 180, 0), exclude=place)
    assert abs(cut.nearest[1, 1] - -17.0) < 0.05


def test_layers_in_metres_around_a_pole_are_refused_in_degrees():
    cap = gpd.GeoSeries([Point(0, 0).buffer(3e5)], crs=3995)
    with pytest.raises(DataError, match="holds a pole"):
        signed_distance([[0.0, 80.0]], LineString([(0, 60), (0, 89)]), treated=box(0, 50, 60, 90), exclude=cap)


def test_districts_on_an_excluded_coast_are_measured():
    districts = gpd.GeoSeries([box(0.8, 0.4, 1.1, 0.6), box(0.8, 0.8, 1.05, 1.0)], crs=4326)
    inland = signed_distance(districts.representative_point(), SQUARE, exclude=COAST)
    got = signed_distance(districts, SQUARE, exclude=COAST)
    np.testing.assert_allclose(got.metres, inland.metres)
    shore = signed_distance(districts.to_crs(32631), SQUARE, exclude=LineString([(1, 0), (1, 1)]))
    np.testing.assert_allclose(shore.metres, inland.metres, rtol=1e-3)
    east = gpd.GeoSeries([translate(d, 179.0) for d in districts], crs=4326)
    turned = signed_distance(east, split(translate(SQUARE, 179.0)), exclude=split(translate(COAST, 179.0)))
    np.testing.assert_allclose(turned.metres, inland.metres, atol=1e-5)


def test_a_district_whose_middle_lies_in_the_sea_is_measured_on_land():
    horseshoe = shapely.difference(box(0.5, 0.3, 1.1, 0.7), box(0.5, 0.4, 0.95, 0.6))
    district = gpd.GeoSeries([horseshoe], crs=4326)
    assert district.representative_point().x.iloc[0] > 1.0
    got = signed_distance(district, SQUARE, exclude=COAST)
    assert got.metres[0] > 0


def test_districts_across_the_border_that_counts_are_still_refused():
    for district, message in (
        (box(0.8, 0.8, 1.05, 1.2), "on both sides of the border; the first is 0 with 40%"),
        (box(0.4, 0.8, 0.6, 1.2), "on both sides of the border; the first is 0 with 50%"),
        (box(0.95, 0.4, 1.1, 0.6), "with 33% of it treated, so its side cannot be told"),
    ):
        with pytest.raises(DataError, match=message):
            signed_distance(gpd.GeoSeries([district], crs=4326), SQUARE, exclude=COAST)


def test_the_result_calculates_like_an_array():
    got = signed_distance(
        [[11.0, 45.0], [9.0, 45.0], [10.0, 45.0]], LineString([(10, 40), (10, 50)]), treated=Point(12, 45)
    )
    metres = got.metres.copy()
    for result, expected in (
        (got / 1000, metres / 1000), (got > 0, metres > 0), (-got, -metres), (abs(got), abs(metres)),
        (2 * got - got, metres), (got == got, metres == metres), (np.sign(got), np.sign(metres)),
        (got[1:], metres[1:]), (got[got > 0], metres[metres > 0]), (got[[2, 0]], metres[[2, 0]]),
    ):  # fmt: skip
        assert type(result) is np.ndarray and np.array_equal(result, expected)
    assert got[0] == metres[0] and got[-1] == 0.0 and np.mean(got) == metres.mean() and np.maximum.reduce(got) > 0
    again = got
    again /= 1000
    assert np.array_equal(again, metres / 1000) and np.array_equal(got.metres, metres)
    with pytest.raises(TypeError):
        np.add(metres, 1.0, out=got)


def test_the_result_is_a_column_of_every_frame():
    got = signed_distance([[11.0, 45.0], [9.0, 45.0]], LineString([(10, 40), (10, 50)]), treated=Point(12, 45))
    assert isinstance(got, Sequence) and pl.Series("d", got).to_list() == got.metres.tolist()
    assert pl.DataFrame({"d": got})["d"].dtype == pl.Float64
    table = pd.DataFrame({"d": got, "one": [1.0, 2.0]})
    assert table["d"].tolist() == got.metres.tolist()
    assert (got * table["one"]).tolist() == (got.metres * [1.0, 2.0]).tolist() == (table["one"] * got).tolist()
