"""Small rasters and places for the tests of the raster room."""

from pathlib import Path

import numpy as np
import rasterio
from pyproj import Transformer
from rasterio.transform import Affine, from_origin

from causalsat.raster.places import read_places
from causalsat.raster.plan import make_plan
from causalsat.raster.reader import ChipReader
from causalsat.raster.sources import open_sources

ZONE = "EPSG:32636"
CORNER = (500_000.0, 200_000.0)


def image(height=120, width=150, bands=3, dtype="uint16", seed=0):
    return np.random.default_rng(seed).integers(10, 250, (bands, height, width)).astype(dtype)


def write(path, array, *, crs=ZONE, transform=None, mask=None, tags=None, descriptions=None, colours=None, **profile):
    array = np.asarray(array)
    transform = from_origin(*CORNER, 10, 10) if transform is None else transform
    with rasterio.open(
        path, "w", driver="GTiff", height=array.shape[1], width=array.shape[2], count=array.shape[0],
        dtype=array.dtype.name, crs=crs, transform=transform, **profile,
    ) as raster:  # fmt: skip
        raster.write(array)
        if mask is not None:
            raster.write_mask(mask)
        if colours is not None:
            raster.colorinterp = colours
        if descriptions is not None:
            raster.descriptions = descriptions
        raster.update_tags(**(tags or {}))
    return Path(path)


def degrees(x, y, crs=ZONE):
    return Transformer.from_crs(crs, "EPSG:4326", always_xy=True).transform(np.atleast_1d(x), np.atleast_1d(y))


def at(x, y, crs=ZONE, **columns):
    """Places at coordinates of ``crs``, as a table."""
    lon, lat = degrees(x, y, crs)
    return {"site": [f"p{i}" for i in range(len(lon))], "longitude": lon, "latitude": lat, **columns}


def pixel(column, row, step=10.0, corner=CORNER):
    """Coordinates of fractional pixel positions of the standard grid."""
    return corner[0] + np.atleast_1d(column) * step, corner[1] - np.atleast_1d(row) * step


def plan_of(rasters, table, *, size_m=160, dates=None, source_options=None, **options):
    places = read_places(table, embedding_key="site", dates=dates)
    return make_plan(
        places, open_sources(rasters, dates=dates, **(source_options or {})), size_m=size_m, dates=dates, **options
    )


def chips(rasters, table, *, threads=1, on_error="raise", rows=None, **options):
    plan = plan_of(rasters, table, **options)
    with ChipReader(plan, threads=threads, on_error=on_error) as reader:
        return reader.read(np.arange(plan.n_rows) if rows is None else rows)


def flipped(transform: Affine, height: int) -> Affine:
    """The bottom-up transform of the same ground."""
    return Affine(transform.a, 0, transform.c, 0, -transform.e, transform.f + transform.e * height)
