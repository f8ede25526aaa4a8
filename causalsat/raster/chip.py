"""One raster read onto one chip's grid: a plain window where the grids agree, else one small warp."""

import functools
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from causalsat.raster.grid import SQUARE_RTOL
from causalsat.raster.masks import combine, data_set_mask, value_validity, warp_groups

if TYPE_CHECKING:
    from pyproj import Transformer
    from rasterio import DatasetReader

    from causalsat.raster.sources import Item

PHASE_TOLERANCE = 1e-3
WHOLE_TURN = 359.0

# Valid pixels (n, n), and the validity of each band (n, n, bands) where bands can differ.
Validity = tuple[np.ndarray, np.ndarray | None]


@dataclass(frozen=True)
class Frame:
    """The grid of one chip: upper left corner and step in its CRS, ``n`` pixels a side."""

    crs: str
    x: float
    y: float
    step: float
    n: int

    @property
    def bounds(self) -> tuple[float, float, float, float]:
        """minx, miny, maxx, maxy."""
        side = self.n * self.step
        return self.x, self.y - side, self.x + side, self.y


def plain_window(item: "Item", frame: Frame) -> tuple[int, int] | None:
    """First column and row (from the north) of the chip on the raster's own grid; None where the grids differ."""
    if item.crs != frame.crs or not item.axis_aligned:
        return None
    left, top, step_x, step_y = item.north_up
    if abs(step_x - frame.step) > SQUARE_RTOL * frame.step or abs(step_y - frame.step) > SQUARE_RTOL * frame.step:
        return None
    column, row = (frame.x - left) / step_x, (top - frame.y) / step_y
    whole = round(column), round(row)
    off_phase = abs(column - whole[0]) > PHASE_TOLERANCE or abs(row - whole[1]) > PHASE_TOLERANCE
    return None if off_phase else whole


def read_onto(raster: "DatasetReader", item: "Item", frame: Frame, resampling: str, mask_rule: str,
              out: np.ndarray) -> np.ndarray:  # fmt: skip
    """Fill ``out`` with the raster's pixels on the chip's grid.

    Parameters
    ----------
    raster, item
        Open data set and its header.
    frame : Frame
    resampling : str
        Name of a rasterio method; used only where grids differ.
    mask_rule : {"all", "any"}
    out : ndarray (n, n, bands), zeros on entry
        Receives the pixels; what is invalid stays or becomes 0.

    Returns
    -------
    ndarray (n, n) bool, the valid pixels.
    """
    corner = plain_window(item, frame)
    if corner is None:
        valid, bands = _read_warped(raster, item, frame, resampling, out)
    else:
        valid, bands = _read_plain(raster, item, frame, corner, out)
    if bands is not None:
        valid &= combine(bands, mask_rule)
        out[~bands] = 0
    if not valid.all():
        out[~valid] = 0
    return valid


def _read_plain(
    raster: "DatasetReader", item: "Item", frame: Frame, corner: tuple[int, int], out: np.ndarray
) -> Validity:
    from rasterio.windows import Window

    (column, row), n = corner, frame.n
    left, right = max(column, 0), min(column + n, item.width)
    top, bottom = max(row, 0), min(row + n, item.height)
    if left >= right or top >= bottom:
        return np.zeros((n, n), bool), None
    inside = (slice(top - row, bottom - row), slice(left - column, right - column))
    first_row = item.height - bottom if item.bottom_up else top
    window = Window(left, first_row, right - left, bottom - top)
    part = out[inside]
    # Reading into a strided view lets GDAL interleave while it copies; a transpose afterwards costs six times as much.
    raster.read(list(item.bands), window=window, out=part.transpose(2, 0, 1))
    mask = data_set_mask(raster, item, window)
    if item.bottom_up:
        part[:] = part[::-1].copy()
        mask = None if mask is None else mask[::-1]
    known = value_validity(part, item.nodata)
    valid = np.zeros((n, n), bool)
    valid[inside] = True if mask is None else mask
    if known is None:
        return valid, None
    bands = np.zeros(out.shape, bool)
    bands[inside] = known
    return valid, bands


def _read_warped(raster: "DatasetReader", item: "Item", frame: Frame, resampling: str, out: np.ndarray) -> Validity:
    from rasterio.enums import Resampling
    from rasterio.transform import from_origin

    grid: dict[str, Any] = {
        "crs": frame.crs,
        "transform": from_origin(frame.x, frame.y, frame.step, frame.step),
        "width": frame.n,
        "height": frame.n,
        "resampling": Resampling[resampling],
    }
    if item.has_mask and any(value is not None for value in item.nodata):
        return _warp_opaque(raster, item, frame, grid, out), None
    first, *others = _turns(item, frame)
    valid, bands = _warp_once(raster, item, grid | first, out)
    for other in others:
        canvas = np.zeros_like(out)
        more, more_bands = _warp_once(raster, item, grid | other, canvas)
        gained = more & ~valid if bands is None or more_bands is None else more_bands.any(axis=-1) & ~bands.any(axis=-1)
        out[gained] = canvas[gained]
        valid |= more
        if bands is not None and more_bands is not None:
            bands[gained] = more_bands[gained]
    return valid, bands


def _warp_once(raster: "DatasetReader", item: "Item", grid: dict[str, Any], out: np.ndarray) -> Validity:
    from rasterio.vrt import WarpedVRT

    valid = np.ones(out.shape[:2], bool)
    bands: np.ndarray | None = None
    for positions, options, alpha in warp_groups(item):
        with WarpedVRT(raster, **grid, **options) as chip:
            if len(positions) == len(item.bands):
                chip.read(list(item.bands), out=out.transpose(2, 0, 1))
                bands = value_validity(out, tuple(_value(options, item, p) for p in positions))
            elif positions:
                pixels = chip.read([item.bands[p] for p in positions]).transpose(1, 2, 0)
                known = value_validity(pixels, tuple(_value(options, item, p) for p in positions))
                bands = np.ones(out.shape, bool) if bands is None else bands
                out[:, :, list(positions)] = pixels
                bands[:, :, list(positions)] = True if known is None else known
            if alpha is not None:
                valid &= chip.read(alpha) != 0
    return valid, bands


def _warp_opaque(
    raster: "DatasetReader", item: "Item", frame: Frame, grid: dict[str, Any], out: np.ndarray
) -> np.ndarray:
    """Warp a raster that declares both nodata and a mask: GDAL would look at one of the two only.

    The pixels around the chip are copied to memory with one alpha band that says what both allow.
    """
    from rasterio.enums import ColorInterp
    from rasterio.io import MemoryFile
    from rasterio.vrt import WarpedVRT
    from rasterio.windows import Window

    left, top, right, bottom = _around(item, frame)
    if left >= right or top >= bottom:
        return np.zeros(out.shape[:2], bool)
    window = Window(left, top, right - left, bottom - top)
    pixels = raster.read(list(item.bands), window=window)
    known = value_validity(pixels.transpose(1, 2, 0), item.nodata)
    seen = raster.read_masks(item.bands[0], window=window) != 0
    seen &= True if known is None else combine(known, "all")
    opaque = np.where(seen, 255, 0).astype(pixels.dtype)
    profile = {
        "driver": "GTiff", "count": len(pixels) + 1, "dtype": pixels.dtype.name, "width": right - left,
        "height": bottom - top, "crs": item.crs, "transform": raster.window_transform(window),
    }  # fmt: skip
    with MemoryFile() as memory:
        with memory.open(**profile) as copy:
            copy.colorinterp = [ColorInterp.undefined] * len(pixels) + [ColorInterp.alpha]
            copy.write(np.concatenate([np.where(seen, pixels, 0), opaque[None]]))
        with memory.open() as copy, WarpedVRT(copy, **grid) as chip:
            chip.read(list(range(1, len(pixels) + 1)), out=out.transpose(2, 0, 1))
            return np.asarray(chip.read(len(pixels) + 1) != 0)


def _around(item: "Item", frame: Frame) -> tuple[int, int, int, int]:
    """Columns and rows of the raster under a chip and a margin for resampling: left, top, right, bottom."""
    xs, ys = _corners(item, frame)
    a, b, c, d, e, f = item.transform
    area = a * e - b * d
    columns, rows = (e * (xs - c) - b * (ys - f)) / area, (a * (ys - f) - d * (xs - c)) / area
    margin = 4.0 + 4.0 * max(np.ptp(columns), np.ptp(rows)) / frame.n
    low = np.floor([columns.min() - margin, rows.min() - margin])
    high = np.ceil([columns.max() + margin, rows.max() + margin])
    left, top = (int(v) for v in np.maximum(low, 0))
    right, bottom = (int(v) for v in np.minimum(high, [item.width, item.height]))
    return left, top, right, bottom


def _turns(item: "Item", frame: Frame) -> list[dict[str, Any]]:
    """Options that keep longitude continuous where a chip or a raster in degrees crosses the antimeridian.

    GDAL wraps longitude at 180 degrees, so it would see such a chip on both ends of the raster. A raster of a whole
    turn is read twice, once per side of its seam.
    """
    if not item.geographic:
        return [{}]
    lon, _ = _corners(item, frame)
    west, _, east, _ = item.bounds
    if max(lon) - min(lon) < 180.0 and west >= -180.0 and east <= 180.0:
        return [{}]
    from rasterio.crs import CRS

    middle = (west + east) / 2.0
    centres = [middle] if east - west < WHOLE_TURN else [middle + 180.0, middle - 180.0]
    plain = CRS.from_user_input(item.crs).to_dict(projjson=False)
    return [{"src_crs": CRS.from_dict({**plain, "lon_wrap": centre})} for centre in centres]


def _value(options: dict[str, Any], item: "Item", position: int) -> float | None:
    return options.get("nodata", item.nodata[position])


def covered_by(item: "Item", frame: Frame) -> np.ndarray:
    """Pixels of the chip whose centres lie on the raster's grid, ``(n, n)`` bool.

    Corners are projected and pixels between them interpolated, which is exact on the raster's own grid and good to a
    fraction of a pixel over a chip elsewhere.
    """
    n = frame.n
    xs, ys = _corners(item, frame)
    if item.geographic:
        west, _, east, _ = item.bounds
        xs = xs[0] + np.mod(xs - xs[0] + 180.0, 360.0) - 180.0
        xs = xs + 360.0 * np.round(((west + east) / 2.0 - xs.mean()) / 360.0)
    a, b, c, d, e, f = item.transform
    area = a * e - b * d
    columns = (e * (xs - c) - b * (ys - f)) / area
    rows = (a * (ys - f) - d * (xs - c)) / area
    share = np.linspace(0.0, 1.0, n) if n > 1 else np.full(1, 0.5)

    def spread(corner: np.ndarray) -> np.ndarray:
        upper = corner[0] + (corner[1] - corner[0]) * share
        lower = corner[2] + (corner[3] - corner[2]) * share
        return np.asarray(upper[None, :] + (lower - upper)[None, :] * share[:, None])

    column, row = spread(columns), spread(rows)
    if item.geographic and item.bounds[2] - item.bounds[0] >= WHOLE_TURN:
        column = np.mod(column, 360.0 / abs(a))
    return np.asarray((column >= 0) & (column <= item.width) & (row >= 0) & (row <= item.height))


def _corners(item: "Item", frame: Frame) -> tuple[np.ndarray, np.ndarray]:
    """Centres of the chip's corner pixels in the raster's CRS: the upper two from the left, then the lower two."""
    left, bottom, right, top = frame.bounds
    half = frame.step / 2.0
    xs = np.array([left + half, right - half, left + half, right - half])
    ys = np.array([top - half, top - half, bottom + half, bottom + half])
    if item.crs == frame.crs:
        return xs, ys
    return _transformer(frame.crs, item.crs, threading.get_ident()).transform(xs, ys)


@functools.lru_cache(maxsize=64)
def _transformer(source: str, target: str, thread: int) -> "Transformer":
    """Kept because building one costs as much as a small warp; one per thread because pyproj asks for it."""
    from pyproj import Transformer

    return Transformer.from_crs(source, target, always_xy=True)
