"""Where a chip lies: sizes, the centre rule, UTM zones, scale factors, the Hilbert order. Pure arithmetic."""

from typing import TYPE_CHECKING, Any

import numpy as np

from causalsat.errors import ChipSizeWarning, number, warn

if TYPE_CHECKING:
    from pyproj import CRS

TIE_DECIMALS = 6
SQUARE_RTOL = 1e-6
SCALE_TOLERANCE = 0.005
METRES_PER_DEGREE = 111_320.0


def chip_pixels(size_m: float, gsd_m: float) -> tuple[int, float]:
    """Number of pixels along a chip's side, ``round(size_m / gsd_m)``, and the side that this gives.

    Parameters
    ----------
    size_m, gsd_m : float
        Side of the window and step of its pixels, metres.

    Returns
    -------
    n : int
        Pixels along one side, at least 1.
    size_m_actual : float
        ``n * gsd_m``; a gap of more than 0.5% from ``size_m`` warns.
    """
    size_m, gsd_m = number("size_m", size_m, 0.0, 1e7), number("gsd_m", gsd_m, 0.0, 1e6)
    n = max(1, int(np.floor(size_m / gsd_m + 0.5)))
    actual = n * gsd_m
    if abs(actual - size_m) > 0.005 * size_m:
        warn(
            f"size_m={size_m:g} is not a whole number of pixels of gsd_m={gsd_m:g}: chips measure {n} pixels = "
            f"{actual:g} m; pass size_m={actual:g} to agree, or another gsd_m.",
            ChipSizeWarning,
        )
    return n, actual


def first_pixel(position: np.ndarray, n: int) -> np.ndarray:
    """First pixel of the window of ``n`` pixels around a fractional pixel position (native grid, one axis).

    ``n`` odd: ``floor(c) - (n - 1) / 2``; ``n`` even: ``floor(c + 0.5) - n / 2``. Positions are rounded to a
    millionth of a pixel first, so that ties do not hang on rounding errors.

    Parameters
    ----------
    position : ndarray (m,) float64
        Pixel positions; 0 is the outer edge of the first pixel, 0.5 its centre.
    n : int
        Pixels along the side.

    Returns
    -------
    ndarray (m,) int64
    """
    c = np.round(np.asarray(position, float), TIE_DECIMALS)
    first = np.floor(c) - (n - 1) // 2 if n % 2 else np.floor(c + 0.5) - n // 2
    return first.astype(np.int64)


def utm_epsg(lon: np.ndarray, lat: np.ndarray) -> np.ndarray:
    """EPSG code of the UTM zone of each place (UPS north of 84 degrees and south of 80), ``(m,)`` int64."""
    zone = (np.floor((np.asarray(lon, float) + 180.0) / 6.0).astype(np.int64) % 60) + 1
    code = np.where(np.asarray(lat) >= 0, 32600, 32700) + zone
    code = np.where(np.asarray(lat) > 84.0, 32661, code)
    return np.where(np.asarray(lat) < -80.0, 32761, code).astype(np.int64)


def laea(lon: float, lat: float) -> str:
    """The Lambert azimuthal equal-area projection centred on one place, as a PROJ text."""
    return f"+proj=laea +lat_0={lat!r} +lon_0={lon!r} +x_0=0 +y_0=0 +datum=WGS84 +units=m +no_defs"


def project(crs: Any, lon: np.ndarray, lat: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Degrees (WGS84) to coordinates of ``crs`` in bulk; what cannot be projected comes back infinite.

    Parameters
    ----------
    crs : anything pyproj reads
    lon, lat : ndarray (m,) float64, degrees

    Returns
    -------
    x, y : ndarray (m,) float64, units of ``crs``
    """
    from pyproj import Transformer

    transformer = Transformer.from_crs("EPSG:4326", crs, always_xy=True)
    x, y = transformer.transform(np.asarray(lon, float), np.asarray(lat, float))
    return np.atleast_1d(x), np.atleast_1d(y)


def scale_factors(crs: "CRS", lon: np.ndarray, lat: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Parallel and meridional scale of a projected CRS at places, ``(m,)`` float64 each (NaN where undefined)."""
    from pyproj import Proj
    from pyproj.exceptions import ProjError

    if len(lon) == 0:
        return np.ones(0), np.ones(0)
    try:
        factors = Proj(crs).get_factors(np.asarray(lon, float), np.asarray(lat, float))
    except ProjError:
        return np.full(len(lon), np.nan), np.full(len(lon), np.nan)
    parallel, meridional = np.atleast_1d(factors.parallel_scale), np.atleast_1d(factors.meridional_scale)
    bad = ~(np.isfinite(parallel) & np.isfinite(meridional) & (parallel < 1e6) & (meridional < 1e6))
    return np.where(bad, np.nan, parallel), np.where(bad, np.nan, meridional)


def metres_per_unit(crs: "CRS") -> float:
    """Metres in one unit of a projected CRS; NaN for a geographic one."""
    if crs.is_geographic or not crs.axis_info:
        return float("nan")
    return float(crs.axis_info[0].unit_conversion_factor)


def metres_at(crs: "CRS", lon: np.ndarray, lat: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Metres on the ground in one unit of ``crs`` along x and y, at each place, ``(m,)`` float64 each."""
    lat = np.asarray(lat, float)
    if crs.is_geographic:
        along = METRES_PER_DEGREE * np.maximum(np.cos(np.radians(lat)), 1e-3)
        return along, np.full(len(lat), METRES_PER_DEGREE)
    unit = metres_per_unit(crs)
    parallel, meridional = scale_factors(crs, lon, lat)
    return unit / np.where(np.isnan(parallel), 1.0, parallel), unit / np.where(np.isnan(meridional), 1.0, meridional)


def scale_is_true(crs: "CRS", lon: np.ndarray, lat: np.ndarray) -> np.ndarray:
    """Whether both scale factors at each place are within 0.5% of 1, ``(m,)`` bool."""
    parallel, meridional = scale_factors(crs, lon, lat)
    return (np.abs(parallel - 1.0) <= SCALE_TOLERANCE) & (np.abs(meridional - 1.0) <= SCALE_TOLERANCE)


def hilbert_index(x: np.ndarray, y: np.ndarray, order: int) -> np.ndarray:
    """Position of cells along a Hilbert curve over a ``2**order`` square (Hilbert 1891), ``(m,)`` int64.

    Parameters
    ----------
    x, y : ndarray (m,) int64
        Column and row of each cell, in ``[0, 2**order)``.
    order : int
        Levels of the curve.
    """
    x, y = np.array(x, np.int64), np.array(y, np.int64)
    index = np.zeros(x.shape, np.int64)
    for level in range(order - 1, -1, -1):
        side = np.int64(1) << level
        right, up = (x & side) > 0, (y & side) > 0
        index += side * side * ((3 * right) ^ up)
        flip = right & ~up
        x, y = np.where(flip, (side << 1) - 1 - x, x), np.where(flip, (side << 1) - 1 - y, y)
        x, y = np.where(up, x, y), np.where(up, y, x)
        x, y = x & (side - 1), y & (side - 1)
    return index
