"""Places from every kind of table and file."""

import geopandas as gpd
import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from shapely.geometry import Point, Polygon

from causalsat import Dates
from causalsat.errors import DataError, OptionError
from causalsat.raster.places import read_places

TABLE = {"site": [7, 3, 5], "longitude": [32.5, 33.5, 31.0], "latitude": [1.0, -2.0, 3.0]}


def points(crs="EPSG:4326"):
    shapes = [Point(xy) for xy in zip(TABLE["longitude"], TABLE["latitude"])]
    return gpd.GeoDataFrame({"site": TABLE["site"]}, geometry=shapes, crs="EPSG:4326").to_crs(crs)


FRAMES = {
    "mapping": lambda: TABLE,
    "pandas": lambda: pd.DataFrame(TABLE),
    "polars": lambda: pl.DataFrame(TABLE),
    "pyarrow": lambda: pa.table(TABLE),
    "geopandas": points,
    "projected": lambda: points("EPSG:32636"),
}


@pytest.mark.parametrize("kind", FRAMES)
def test_any_frame(kind):
    places = read_places(FRAMES[kind](), embedding_key="site")
    assert places.ids.tolist() == ["7", "3", "5"]
    assert places.lon == pytest.approx(TABLE["longitude"], abs=1e-9)
    assert places.lat == pytest.approx(TABLE["latitude"], abs=1e-9)
    assert places.status.tolist() == ["ok"] * 3
    assert (places.event, len(places)) == (None, 3)


@pytest.mark.parametrize("name", ["p.gpkg", "p.geojson", "p.geoparquet", "p.parquet", "p.csv"])
def test_any_file(tmp_path, name):
    path = tmp_path / name
    if name.endswith("csv"):
        pd.DataFrame(TABLE).to_csv(path, index=False)
    elif name == "p.parquet":
        pd.DataFrame(TABLE).to_parquet(path)
    elif name == "p.geoparquet":
        points().to_parquet(path)
    else:
        points().to_file(path)
    places = read_places(path, embedding_key="site")
    assert places.ids.tolist() == ["7", "3", "5"]
    assert places.lon == pytest.approx(TABLE["longitude"])


def test_polygons_give_a_point_inside_them():
    shape = Polygon([(32, 0), (33, 0), (33, 1), (32.9, 0.1), (32, 0.1)])
    places = read_places(gpd.GeoDataFrame(geometry=[shape], crs=4326))
    assert shape.contains(Point(places.lon[0], places.lat[0]))


def test_the_index_names_places_without_a_key():
    assert read_places(pd.DataFrame(TABLE, index=["a", "b", "c"])).ids.tolist() == ["a", "b", "c"]
    assert read_places(TABLE).ids.tolist() == ["0", "1", "2"]
    assert read_places(pl.DataFrame(TABLE)).ids.tolist() == ["0", "1", "2"]


def test_whole_floats_are_ids_without_decimals():
    assert read_places(TABLE | {"site": [7.0, 3.0, 5.0]}, embedding_key="site").ids.tolist() == ["7", "3", "5"]


def test_bad_places_keep_their_row():
    table = {
        "site": list("abcde"),
        "longitude": [32.0, np.nan, np.inf, 0.0, 0.0],
        "latitude": [1.0, 1.0, 1.0, 0.0, 5.0],
    }
    places = read_places(table, embedding_key="site")
    assert places.status.tolist() == ["ok", "bad_place", "bad_place", "bad_place", "ok"]
    assert np.isnan(places.lon).tolist() == [False, True, True, True, False]


def test_missing_geometries_are_bad_places():
    frame = gpd.GeoDataFrame(geometry=[Point(32, 1), None, Point()], crs=4326)
    assert read_places(frame).status.tolist() == ["ok", "bad_place", "bad_place"]


def test_other_names_of_coordinates():
    table = {"x": [32.0], "y": [1.0]}
    assert read_places(table, coords=("x", "y")).lon[0] == 32.0
    with pytest.raises(DataError, match="longitude"):
        read_places(table)


def test_longitudes_beyond_a_half_turn_are_wrapped():
    assert read_places({"longitude": [190.0, 359.0], "latitude": [1.0, 1.0]}).lon == pytest.approx([-170.0, -1.0])


def test_dates_come_as_days():
    table = TABLE | {"on": ["2008-06-30", "2009", None]}
    places = read_places(table, dates=Dates("on"))
    assert places.event.astype(str).tolist() == ["2008-06-30", "2009-01-01", "NaT"]
    stamped = pd.DataFrame(TABLE).assign(on=pd.to_datetime(["2008-06-30 10:00", "2009-01-01 00:00", None]))
    assert read_places(stamped, dates=Dates("on")).event.astype(str).tolist() == ["2008-06-30", "2009-01-01", "NaT"]


@pytest.mark.parametrize(
    ("table", "options", "match"),
    [
        (TABLE | {"site": [1, 1, 2]}, {"embedding_key": "site"}, "repeats 1 ids"),
        (TABLE | {"site": ["a", None, "b"]}, {"embedding_key": "site"}, "no id in row 1"),
        (TABLE, {"embedding_key": "sit"}, 'Did you mean "site"'),
        ({"longitude": [500000.0], "latitude": [100000.0]}, {}, "projected metres"),
        ({"longitude": [10.0], "latitude": [120.0]}, {}, "swap the two columns"),
        ({"longitude": ["east"], "latitude": [1.0]}, {}, "not numeric"),
        ({"longitude": [1.0, 2.0], "latitude": [1.0]}, {}, "different lengths"),
        ("nowhere.csv", {}, "not a file"),
        (3, {}, "pass a GeoDataFrame"),
    ],
)
def test_wrong_tables_are_refused(table, options, match):
    with pytest.raises(DataError, match=match):
        read_places(table, **options)


def test_geometries_need_a_crs():
    with pytest.raises(DataError, match="set_crs"):
        read_places(gpd.GeoDataFrame(geometry=[Point(1, 1)]))


def test_coords_are_two_names():
    with pytest.raises(OptionError, match="two column names"):
        read_places(TABLE, coords="longitude")


def test_permuting_the_table_permutes_the_places():
    order = [2, 0, 1]
    there = read_places({k: [v[i] for i in order] for k, v in TABLE.items()}, embedding_key="site")
    here = read_places(TABLE, embedding_key="site")
    assert there.ids.tolist() == here.ids[order].tolist()
    assert there.lon.tolist() == here.lon[order].tolist()
