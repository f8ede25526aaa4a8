"""All rasters of one job, with one header scan."""

import dataclasses
import hashlib
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from causalsat.errors import DataError, RasterReadError
from causalsat.raster.dates import Dates, date_in_name, period
from causalsat.raster.sources.collect import Listing, collect
from causalsat.raster.sources.header import CrsNames, Item, scan

if TYPE_CHECKING:
    from geopandas import GeoDataFrame

EDGE_BYTES = 64 * 1024


@dataclass(frozen=True)
class Sources:
    """Rasters of one job.

    Attributes
    ----------
    items : tuple of Item
        In reading order; ties between rasters are broken by it.
    keyed : bool
        Each raster is bound to one place, and rasters are never blended.
    """

    items: tuple[Item, ...]
    keyed: bool
    memory: Any = field(default=None, repr=False, compare=False)

    @property
    def dtype(self) -> np.dtype:
        """Type of the pixels, the same in every raster."""
        return np.dtype(self.items[0].dtype)

    @property
    def n_bands(self) -> int:
        """Bands chosen."""
        return len(self.items[0].bands)

    @property
    def band_names(self) -> tuple[str, ...]:
        """Names of the bands chosen: their descriptions, or ``band_<number>``."""
        return self.items[0].band_names

    @property
    def licences(self) -> tuple[str, ...]:
        """Distinct licence texts found in the files, sorted."""
        return tuple(sorted({item.licence for item in self.items if item.licence}))

    @cached_property
    def crs(self) -> tuple[str, ...]:
        """Distinct coordinate systems, in order of appearance."""
        return tuple(dict.fromkeys(item.crs for item in self.items))

    @cached_property
    def by_key(self) -> dict[str, int]:
        """Position of each keyed raster."""
        return {str(item.key): i for i, item in enumerate(self.items) if item.key is not None}

    @property
    def dated(self) -> bool:
        """Every raster has a date."""
        return not any(np.isnat(item.first_day) for item in self.items)

    def fingerprint(self, full_hash: bool = False) -> list[dict[str, Any]]:
        """Name, size and SHA-256 of each raster file, without folders of this machine.

        Parameters
        ----------
        full_hash : bool
            Hash the whole file instead of its first and last 64 KiB.
        """
        return [{"file": item.name, **_digest(item, full_hash)} for item in self.items]

    def footprints(self) -> "GeoDataFrame":
        """One row per raster: ``source_id, crs, gsd_m, date`` and its outline in degrees (WGS84)."""
        import geopandas as gpd
        from rasterio.warp import transform_geom
        from shapely.geometry import box, mapping, shape

        outlines = [
            shape(transform_geom(i.crs, "EPSG:4326", mapping(box(*i.bounds).segmentize(_side(i) / 16))))
            for i in self.items
        ]
        rows = {
            "source_id": [i.name for i in self.items],
            "crs": [i.crs for i in self.items],
            "gsd_m": [i.gsd_m for i in self.items],
            "date": np.array([i.first_day for i in self.items], dtype="datetime64[s]"),
        }
        return gpd.GeoDataFrame(rows, geometry=outlines, crs="EPSG:4326")


def open_sources(rasters: Any, *, bands: Any = None, dates: Any = None, image_date: Any = None) -> Sources:
    """Scan the headers of rasters.

    Parameters
    ----------
    rasters : path, list of paths, glob, folder, template, mapping, table or (array, transform, crs[, nodata])
        A template like ``"chips/{site}.tif"`` or a mapping of place id to path binds each place to its own file. A
        table has a column ``path`` and may have a column ``date``.
    bands : int, str or list of them, optional
        Band numbers (from 1), descriptions or colour names; None: all but alpha.
    dates : Dates, str or mapping, optional
        Where file dates come from: ``Dates.pattern`` or a regular expression on the file's name, or a mapping of file
        name to date. Otherwise the TIFF's date tag.
    image_date : date, year, text or mapping, optional
        States the date of all files (or of each, by file name), whatever the files say.

    Returns
    -------
    Sources

    Raises
    ------
    RasterReadError
        A file that is not there or cannot be opened.
    DataError
        A raster without CRS, an unknown band, or rasters that differ in band count, type, scale or offset (both files
        are named).

    Examples
    --------
    >>> import numpy as np
    >>> from rasterio.transform import from_origin
    >>> from causalsat.raster.sources import open_sources
    >>> image = np.zeros((3, 10, 10), np.uint8)
    >>> open_sources((image, from_origin(5e5, 1e5, 10, 10), "EPSG:32636")).n_bands
    3
    """
    listing = collect(rasters)
    crs_names = CrsNames()
    keys = listing.keys or (None,) * len(listing.paths)
    items = [scan(p, n, k, bands, crs_names) for p, n, k in zip(listing.paths, listing.names, keys)]
    for item in items[1:]:
        _refuse_mixture(items[0], item)
    dated = [_with_date(item, i, listing, dates, image_date) for i, item in enumerate(items)]
    return Sources(tuple(dated), listing.keys is not None, listing.memory)


def _refuse_mixture(first: Item, other: Item) -> None:
    for what, one, two in (
        ("band count", first.count - bool(first.alpha), other.count - bool(other.alpha)),
        ("bands chosen", len(first.bands), len(other.bands)),
        ("pixel type", first.dtype, other.dtype),
        ("scale", first.scales, other.scales),
        ("offset", first.offsets, other.offsets),
    ):
        if one != two:
            raise DataError(
                f"Rasters of one job must agree in {what}: {first.name} has {one}, {other.name} has {two}. Convert "
                "one of "
                "them, choose bands=, or run two jobs."
            )


def _with_date(item: Item, position: int, listing: Listing, dates: Any, image_date: Any) -> Item:
    stated = image_date.get(item.name) if isinstance(image_date, Mapping) else image_date
    pattern = dates.pattern if isinstance(dates, Dates) else dates if isinstance(dates, str) else None
    if stated is not None:
        first, last = period(stated)
    elif listing.dates is not None:
        first, last = period(listing.dates[position])
    elif isinstance(dates, Mapping) and item.name in dates:
        first, last = period(dates[item.name])
    elif pattern is not None:
        first, last = date_in_name(item.name, pattern)
    else:
        return item
    return dataclasses.replace(item, first_day=first, last_day=last)


def _digest(item: Item, full_hash: bool) -> dict[str, Any]:
    if item.path.startswith("/vsimem/"):
        import rasterio

        with rasterio.open(item.path, sharing=False) as raster:
            pixels = raster.read()
        return {"size": int(pixels.nbytes), "sha256": hashlib.sha256(pixels.tobytes()).hexdigest()}
    digest = hashlib.sha256()
    try:
        size = os.path.getsize(item.path)
        with open(item.path, "rb") as handle:
            if full_hash:
                for chunk in iter(lambda: handle.read(1 << 22), b""):
                    digest.update(chunk)
            else:
                digest.update(handle.read(EDGE_BYTES))
                handle.seek(max(0, size - EDGE_BYTES))
                digest.update(handle.read(EDGE_BYTES))
    except OSError as error:
        raise RasterReadError(f"{item.name} cannot be read for its fingerprint: {error}.") from error
    return {"size": size, "sha256": digest.hexdigest()}


def _side(item: Item) -> float:
    left, bottom, right, top = item.bounds
    return max(right - left, top - bottom)
