"""From what the user names to a list of files: path, list, glob, folder, keyed template, mapping, table, array."""

import glob
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from causalsat.errors import DataError, OptionError, RasterReadError

if TYPE_CHECKING:
    from rasterio.io import MemoryFile

RASTER_ENDINGS = (".tif", ".tiff", ".jp2", ".img")


@dataclass(frozen=True)
class Listing:
    """Files in reading order; ``keys`` bind them to places, ``dates`` come from a table's column."""

    paths: tuple[str, ...]
    keys: tuple[str, ...] | None = None
    dates: tuple[Any, ...] | None = None
    memory: "MemoryFile | None" = None

    @property
    def names(self) -> tuple[str, ...]:
        """File names, with as much of their folders as tells them apart."""
        if self.memory is not None:
            return ("array",)
        short = [os.path.basename(p) for p in self.paths]
        if len(set(short)) == len(short):
            return tuple(short)
        common = os.path.commonpath([os.path.dirname(os.path.abspath(p)) for p in self.paths])
        return tuple(os.path.relpath(os.path.abspath(p), common).replace(os.sep, "/") for p in self.paths)


def collect(rasters: Any) -> Listing:
    """Find the files meant by ``rasters``; see :func:`causalsat.raster.sources.open_sources`."""
    if isinstance(rasters, tuple) and rasters and isinstance(rasters[0], np.ndarray):
        return _array(rasters)
    if isinstance(rasters, Mapping):
        if not rasters:
            raise DataError("rasters={} holds no file; map each place's id to the path of its raster.")
        return Listing(tuple(os.fspath(p) for p in rasters.values()), tuple(str(k) for k in rasters))
    if isinstance(rasters, (str, Path)):
        return _text(os.fspath(rasters))
    if hasattr(rasters, "columns"):
        return _table(rasters)
    if isinstance(rasters, Sequence) and all(isinstance(p, (str, Path)) for p in rasters):
        if not rasters:
            raise DataError("rasters=[] holds no file.")
        return Listing(tuple(os.fspath(p) for p in rasters))
    raise OptionError(
        f"rasters is a {type(rasters).__name__}; pass a path, a list of paths, a glob, a folder, a template like "
        '"chips/{site}.tif", a mapping of place id to path, a table with a "path" column, or (array, transform, crs).'
    )


def _text(text: str) -> Listing:
    if re.search(r"\{\w*\}", text):
        return _template(text)
    if os.path.isdir(text):
        inside = sorted(str(p) for p in Path(text).rglob("*") if p.is_file())
        found = [p for p in inside if p.lower().endswith(RASTER_ENDINGS)] or [
            p for p in inside if p.lower().endswith(".vrt")
        ]
        if not found:
            raise RasterReadError(f"The folder {text} holds no raster ({', '.join(RASTER_ENDINGS)}, .vrt).")
        return Listing(tuple(found))
    if glob.has_magic(text) and not os.path.exists(text):
        found = sorted(glob.glob(text, recursive=True))
        if not found:
            raise RasterReadError(f"rasters={text!r} matches no file.")
        return Listing(tuple(found))
    return Listing((text,))


def _template(text: str) -> Listing:
    field = re.findall(r"\{\w*\}", text)
    if len(field) > 1:
        raise OptionError(f"rasters={text!r} has {len(field)} fields; a template has one, the id of the place.")
    before, after = text.split(field[0])
    if "/" in after or os.sep in after:
        tail = re.compile(re.escape(before) + r"([^/\\]+)" + re.escape(after))
    else:
        tail = re.compile(re.escape(before) + r"(.+)" + re.escape(after))
    found = sorted(glob.glob(glob.escape(before) + "*" + glob.escape(after)))
    pairs = [(match.group(1), path) for path in found if (match := tail.fullmatch(path))]
    if not pairs:
        raise RasterReadError(f"rasters={text!r} matches no file: nothing fits {before}*{after}.")
    return Listing(tuple(p for _, p in pairs), tuple(k for k, _ in pairs))


def _table(table: Any) -> Listing:
    import narwhals as nw

    frame = nw.from_native(table, eager_only=True)
    if "path" not in frame.columns:
        raise DataError(f'A table of rasters needs a column "path"; it has: {", ".join(map(str, frame.columns))}.')
    dates = tuple(frame["date"].to_list()) if "date" in frame.columns else None
    return Listing(tuple(os.fspath(p) for p in frame["path"].to_list()), dates=dates)


def _array(given: tuple[Any, ...]) -> Listing:
    from rasterio.crs import CRS
    from rasterio.errors import CRSError
    from rasterio.io import MemoryFile

    if len(given) not in (3, 4) or given[1] is None or given[2] is None:
        raise DataError(
            "An array needs both its transform and its CRS: pass (array, transform, crs), or (array, transform, "
            "crs, nodata)."
        )
    array, transform, crs = given[:3]
    nodata = given[3] if len(given) == 4 else None
    if array.ndim not in (2, 3):
        raise DataError(f"The array has {array.ndim} dimensions; give (rows, columns) or (bands, rows, columns).")
    pixels = array[None] if array.ndim == 2 else array
    pixels = pixels.astype(np.uint8) if pixels.dtype == bool else pixels
    try:
        system = CRS.from_user_input(crs)
    except CRSError as error:
        raise DataError(f"crs={crs!r} of the array is not a coordinate system: {error}.") from error
    memory = MemoryFile()
    bands, height, width = pixels.shape
    tiles = {"tiled": True, "blockxsize": 256, "blockysize": 256} if min(height, width) > 256 else {}
    with memory.open(
        driver="GTiff", width=width, height=height, count=bands, dtype=pixels.dtype.name, crs=system,
        transform=transform, nodata=nodata, BIGTIFF="IF_SAFER", **tiles,
    ) as raster:  # fmt: skip
        raster.write(np.ma.getdata(pixels))
        if np.ma.isMaskedArray(pixels):
            raster.write_mask(~np.ma.getmaskarray(pixels).any(axis=0))
    return Listing((memory.name,), memory=memory)
