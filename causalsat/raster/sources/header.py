"""What one scan of a raster's header tells."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from causalsat.errors import DataError, RasterReadError, nearest
from causalsat.raster.dates import NAT, period
from causalsat.raster.grid import SQUARE_RTOL, metres_per_unit

if TYPE_CHECKING:
    from rasterio import DatasetReader

CATEGORICAL_NAMES = frozenset({"scl", "qa_pixel", "qa_radsat", "qa60", "fmask", "bqa"})
COLOURS = ("red", "green", "blue", "alpha")


@dataclass(frozen=True)
class Item:
    """One raster as its header describes it.

    Attributes
    ----------
    path : str
        What GDAL opens.
    name : str
        ``source_id`` of its rows: the file's name without the machine's folders.
    key : str or None
        The place it is bound to, for keyed sources.
    crs : str
        "EPSG:..." where there is a code, else WKT.
    transform : tuple of 6 floats
        ``x = a col + b row + c``, ``y = d col + e row + f``.
    width, height, count : int
        Pixels and bands of the file.
    dtype : str
        NumPy name of the pixels' type, the same in all chosen bands.
    bands : tuple of int
        Chosen bands, counted from 1, in the order asked for.
    band_names : tuple of str
    nodata : tuple of float or None
        Of each chosen band.
    alpha : int or None
        The alpha band.
    has_mask : bool
        A mask of the whole data set, inside the file or beside it (``.msk``).
    block : (int, int)
        Rows and columns of a block.
    scales, offsets : tuple of float
        As declared; pixels are handed on unscaled.
    categorical : bool
        A chosen band holds classes, which must not be averaged.
    layout : dict
        ``tiled, interleave, compress, n_bytes``.
    gsd_m : float
        Native step in metres; NaN when the CRS is geographic or pixels are not square.
    geographic : bool
        The CRS counts degrees.
    first_day, last_day : datetime64[D]
        The frame's period; NaT when nobody says.
    licence : str
    """

    path: str
    name: str
    key: str | None
    crs: str
    transform: tuple[float, float, float, float, float, float]
    width: int
    height: int
    count: int
    dtype: str
    bands: tuple[int, ...]
    band_names: tuple[str, ...]
    nodata: tuple[float | None, ...]
    alpha: int | None
    has_mask: bool
    block: tuple[int, int]
    scales: tuple[float, ...]
    offsets: tuple[float, ...]
    categorical: bool
    layout: dict[str, Any]
    gsd_m: float
    geographic: bool
    first_day: np.datetime64 = NAT
    last_day: np.datetime64 = NAT
    licence: str = ""

    @property
    def axis_aligned(self) -> bool:
        """Neither rotated nor sheared, and columns run east."""
        a, b, _, d, e, _ = self.transform
        return b == 0.0 and d == 0.0 and a > 0.0 and e != 0.0

    @property
    def bottom_up(self) -> bool:
        """Rows run north."""
        return self.transform[4] > 0.0

    @property
    def north_up(self) -> tuple[float, float, float, float]:
        """Left, top, column step and (positive) row step of the grid read from the north, for aligned rasters."""
        a, _, c, _, e, f = self.transform
        return c, (f + e * self.height if e > 0 else f), a, abs(e)

    @property
    def bounds(self) -> tuple[float, float, float, float]:
        """minx, miny, maxx, maxy in the raster's CRS, of all four corners."""
        a, b, c, d, e, f = self.transform
        corners = [(0, 0), (self.width, 0), (0, self.height), (self.width, self.height)]
        xs = [a * i + b * j + c for i, j in corners]
        ys = [d * i + e * j + f for i, j in corners]
        return min(xs), min(ys), max(xs), max(ys)


class CrsNames:
    """Short names of coordinate systems; the search for a code is slow, so each WKT is looked up once."""

    def __init__(self) -> None:
        self.names: dict[str, str] = {}

    def of(self, crs: Any) -> str:
        """ "EPSG:..." where the system has a code, else its WKT."""
        wkt = crs.to_wkt()
        if wkt not in self.names:
            code = crs.to_epsg()
            self.names[wkt] = f"EPSG:{code}" if code else wkt
        return self.names[wkt]


def scan(path: str, name: str, key: str | None, bands: Any, crs_names: CrsNames) -> Item:
    """Read the header of one raster.

    Raises
    ------
    RasterReadError
        The file cannot be opened.
    DataError
        No CRS, no georeference, unknown band, complex pixels, chosen bands of several types.
    """
    import rasterio
    from rasterio.errors import RasterioIOError

    try:
        with rasterio.open(path, sharing=False) as raster:
            return _item(raster, path, name, key, bands, crs_names)
    except RasterioIOError as error:
        raise RasterReadError(
            f"{name} cannot be opened as a raster: {error}. Check that the file exists, is whole and is in a "
            "format that "
            "GDAL reads."
        ) from error


def _item(raster: "DatasetReader", path: str, name: str, key: str | None, bands: Any, crs_names: CrsNames) -> Item:
    if raster.crs is None:
        raise DataError(
            f"{name} has no CRS, so its pixels have no place; write it into the file (rio edit-info --crs "
            "EPSG:...), or "
            "pass (array, transform, crs)."
        )
    if raster.transform.is_identity:
        raise DataError(f"{name} has no georeference (its transform is the identity); write one into the file.")
    chosen = choose_bands(raster, bands, name)
    kinds = sorted({raster.dtypes[b - 1] for b in chosen})
    if len(kinds) > 1 or kinds[0].startswith("complex"):
        raise DataError(f"{name}: the bands {chosen} are of type {', '.join(kinds)}; choose bands= of one real type.")
    colours = [c.name for c in raster.colorinterp]
    alpha = colours.index("alpha") + 1 if "alpha" in colours else None
    flags = {flag.name for b in chosen for flag in raster.mask_flag_enums[b - 1]}
    names = tuple(raster.descriptions[b - 1] or f"band_{b}" for b in chosen)
    categorical = any(colours[b - 1] == "palette" for b in chosen) or any(n.lower() in CATEGORICAL_NAMES for n in names)
    crs = crs_names.of(raster.crs)
    first, last = _tag_date(raster.tags().get("TIFFTAG_DATETIME"))
    return Item(
        path=path, name=name, key=key, crs=crs, transform=tuple(raster.transform)[:6], width=raster.width,
        height=raster.height, count=raster.count, dtype=kinds[0], bands=chosen, band_names=names,
        nodata=tuple(raster.nodatavals[b - 1] for b in chosen), alpha=alpha,
        has_mask="per_dataset" in flags and "alpha" not in flags, block=raster.block_shapes[chosen[0] - 1],
        scales=tuple(raster.scales[b - 1] for b in chosen), offsets=tuple(raster.offsets[b - 1] for b in chosen),
        categorical=categorical, layout=_layout(raster, path), gsd_m=_gsd(raster),
        geographic=bool(raster.crs.is_geographic), first_day=first, last_day=last,
        licence=raster.tags().get("TIFFTAG_COPYRIGHT", ""),
    )  # fmt: skip


def choose_bands(raster: "DatasetReader", bands: Any, name: str) -> tuple[int, ...]:
    """Band numbers for numbers, descriptions or colour names; all but alpha when ``bands`` is None."""
    colours = [c.name for c in raster.colorinterp]
    if bands is None:
        return tuple(b for b in range(1, raster.count + 1) if colours[b - 1] != "alpha") or (1,)
    known = {c: i + 1 for i, c in reversed(list(enumerate(colours))) if c in COLOURS}
    known |= {d.lower(): i + 1 for i, d in reversed(list(enumerate(raster.descriptions))) if d}
    chosen = []
    for band in [bands] if isinstance(bands, (str, int, np.integer)) else list(bands):
        number = known.get(band.lower()) if isinstance(band, str) else int(band)
        if number is None or not 1 <= number <= raster.count:
            present = ", ".join(f"{i + 1} ({d or colours[i]})" for i, d in enumerate(raster.descriptions))
            raise DataError(f"bands={band!r} is not a band of {name}; it has: {present}.{nearest(band, known)}")
        chosen.append(number)
    if not chosen:
        raise DataError("bands=[] chooses no band; leave bands out to take all of them.")
    return tuple(chosen)


def _tag_date(tag: str | None) -> tuple[np.datetime64, np.datetime64]:
    if not tag:
        return NAT, NAT
    try:
        return period(tag[:10])
    except DataError:
        return NAT, NAT


def _gsd(raster: "DatasetReader") -> float:
    from pyproj import CRS

    a, b, _, d, e, _ = tuple(raster.transform)[:6]
    if raster.crs.is_geographic or b or d or abs(abs(a) - abs(e)) > SQUARE_RTOL * abs(a):
        return float("nan")
    crs: CRS = CRS.from_wkt(raster.crs.to_wkt())
    return float(abs(a) * metres_per_unit(crs))


def _layout(raster: "DatasetReader", path: str) -> dict[str, Any]:
    local = Path(path)
    rows, columns = raster.block_shapes[0]
    return {
        "tiled": columns < raster.width or rows >= raster.height,
        "interleave": raster.interleaving.name if raster.interleaving else "band",
        "compress": raster.compression.name if raster.compression else "none",
        "n_bytes": local.stat().st_size if local.is_file() else 0,
    }
