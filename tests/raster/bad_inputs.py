"""Bad places and rasters, each with the message it must get."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import geopandas as gpd
import rasterio
from rasterio.transform import from_origin
from shapely.geometry import Point

from causalsat import Dates
from causalsat.errors import DataError, OptionError, RasterReadError, UndatedImageryError
from causalsat.raster import retile
from causalsat.raster.places import read_places
from causalsat.raster.reader import ChipReader
from causalsat.raster.sources import open_sources
from tests.raster.making import CORNER, at, chips, image, pixel, plan_of, write


@dataclass(frozen=True)
class BadInput:
    """One bad input: how to make it, which error, and what the message must say."""

    name: str
    make: Callable[[Path], object]
    error: type[Exception]
    match: str


HERE = at(*pixel([50, 60], [50, 60]))


def raster(folder: Path, name: str = "scene.tif", **options) -> Path:
    return write(folder / name, options.pop("array", image()), **options)


def planned(**options) -> Callable[[Path], object]:
    table = options.pop("table", HERE)
    return lambda folder: plan_of(raster(folder), table, **options)


def placed(table, **options) -> Callable[[Path], object]:
    return lambda folder: read_places(table, **options)


def opened(rasters, **options) -> Callable[[Path], object]:
    return lambda folder: open_sources(rasters(folder), **options)


def two(folder: Path, **second) -> list[Path]:
    return [raster(folder), raster(folder, "other.tif", **second)]


def scaled(folder: Path) -> list[Path]:
    paths = two(folder)
    with rasterio.open(paths[1], "r+") as made:
        made.scales = (0.1,) * 3
    return paths


def spoilt(folder: Path) -> Path:
    path = raster(folder, array=image(400, 400), tiled=True, blockxsize=64, blockysize=64, compress="deflate")
    data = path.read_bytes()
    fifth = len(data) // 5
    path.write_bytes(data[:fifth] + bytes(3 * fifth) + data[4 * fifth :])
    return path


def removed(folder: Path) -> object:
    plan = plan_of(raster(folder), HERE)
    (folder / "scene.tif").unlink()
    with ChipReader(plan) as reader:
        return reader.read([0])


def renamed_keys(folder: Path) -> object:
    raster(folder, "site_1.tif")
    return plan_of(str(folder / "{site}.tif"), HERE)


SWAPPED = HERE | {"longitude": HERE["latitude"], "latitude": HERE["longitude"]}
DATED = HERE | {"treated_on": ["2008-06-30", "2008-06-30"]}
DEGREES = {"crs": "EPSG:4326", "transform": from_origin(33.0, 1.9, 1e-4, 1e-4)}

CASES = [
    BadInput("a repeated id", placed(HERE | {"site": ["a", "a"]}, embedding_key="site"), DataError, "repeats 1 ids"),
    BadInput("a missing id", placed(HERE | {"site": ["a", None]}, embedding_key="site"), DataError, "no id in row 1"),
    BadInput("a misspelt key", placed(HERE, embedding_key="stie"), DataError, 'Did you mean "site"'),
    BadInput("a misspelt coordinate", placed(HERE, coords=("longitud", "latitude")), DataError, 'Did you mean "longitude"'),
    BadInput("projected coordinates", placed({"longitude": [5e5], "latitude": [1e5]}), DataError, "projected metres"),
    BadInput("latitude first", placed({"longitude": [1.0], "latitude": [133.0]}), DataError, "swap the two columns"),
    BadInput("geometry without CRS", placed(gpd.GeoDataFrame(geometry=[Point(33, 1)])), DataError, "set_crs"),
    BadInput("text for a coordinate", placed({"longitude": ["33E"], "latitude": [1.0]}), DataError, "not numeric"),
    BadInput("a file of another kind", lambda f: read_places(raster(f)), DataError, r"allowed: \.gpkg"),
    BadInput("longitude and latitude swapped", planned(table=SWAPPED), DataError, "are swapped"),
    BadInput("places elsewhere", planned(table=at(*pixel([5000, 6000], [50, 60]))), DataError, "lie off every raster"),
    BadInput("ids without a file", renamed_keys, DataError, "have no file of their own"),
    BadInput("an unknown grid", planned(grid="utn"), OptionError, "grid='utn' is not known"),
    BadInput("a grid in degrees", planned(grid="EPSG:4326"), OptionError, "counts degrees"),
    BadInput("a negative size", planned(size_m=-100), OptionError, "size_m=-100"),
    BadInput("an unknown resampling", planned(resampling="bilinaer"), OptionError, 'Did you mean "bilinear"'),
    BadInput("degrees without a step", lambda f: plan_of(raster(f, **DEGREES), HERE), OptionError, "gsd_m must be given"),
    BadInput(
        "classes averaged",
        lambda f: plan_of(raster(f, array=image(bands=1), descriptions=["SCL"]), HERE, resampling="average"),
        OptionError,
        "would average the classes",
    ),
    BadInput("no CRS", opened(lambda f: raster(f, crs=None)), DataError, "has no CRS"),
    BadInput("a missing band", opened(raster, bands=[4]), DataError, r"bands=4 is not a band of scene.tif"),
    BadInput("a misspelt band", opened(lambda f: raster(f, descriptions=["nir", "red", "swir"]), bands="nirr"), DataError,
             'Did you mean "nir"'),
    BadInput("band counts differ", opened(lambda f: two(f, array=image(bands=2))), DataError, "band count.*other.tif has 2"),
    BadInput("pixel types differ", opened(lambda f: two(f, array=image(dtype="uint8"))), DataError, "pixel type.*other.tif"),
    BadInput("scales differ", opened(scaled), DataError, "scale: scene.tif has"),
    BadInput("complex pixels", opened(lambda f: raster(f, array=image().astype("complex64"))), DataError, "complex64"),
    BadInput("an array without CRS", opened(lambda f: (image(), from_origin(*CORNER, 10, 10), None)), DataError, "both"),
    BadInput("an array with an unknown CRS", opened(lambda f: (image(), from_origin(*CORNER, 10, 10), "EPSG:1")), DataError,
             "not a coordinate system"),
    BadInput("a file that is not there", opened(lambda f: "nowhere.tif"), RasterReadError, "cannot be opened"),
    BadInput("a glob without files", opened(lambda f: str(f / "*.jp2")), RasterReadError, "matches no file"),
    BadInput("a folder without rasters", opened(lambda f: f), RasterReadError, "holds no raster"),
    BadInput("a template without files", opened(lambda f: str(f / "{site}.tif")), RasterReadError, "matches no file"),
    BadInput("a template of two fields", opened(lambda f: "{a}/{b}.tif"), OptionError, "a template has one"),
    BadInput("blocks that are spoilt", lambda f: chips(spoilt(f), at(*pixel([200], [200]))), RasterReadError,
             "scene.tif cannot be read in the window of place 'p0'"),
    BadInput("a file removed after the plan", removed, RasterReadError, "scene.tif cannot be read in the window of place 'p0'"),
    BadInput("undated imagery", planned(table=DATED, dates=Dates("treated_on")), UndatedImageryError, "State image_date="),
    BadInput("a date of no calendar", placed(HERE | {"on": ["2008-02-30"] * 2}, dates=Dates("on")), DataError, "not a date"),
    BadInput("an empty window", lambda f: Dates("on", window_months=(0, -36)), OptionError, "window_months="),
    BadInput("an unknown composite", lambda f: Dates("on", composite="least"), OptionError, 'Did you mean "last"'),
    BadInput("retile onto itself", lambda f: retile(raster(f), f / "scene.tif"), DataError, "over its own source"),
    BadInput("a cache in megabytes", lambda f: ChipReader(plan_of(raster(f), HERE), cache_bytes=64), OptionError, "bytes"),
]  # fmt: skip
