"""The grid of every chip, from its primary raster, and the order in which chips are read."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from causalsat.raster.dates import NAT
from causalsat.raster.grid import first_pixel, hilbert_index, laea, project, utm_epsg
from causalsat.raster.match import Geometry, Pairs, positions, unit_of
from causalsat.raster.places import Places
from causalsat.raster.sources import Sources


@dataclass(frozen=True)
class Rule:
    """How chips lie: grid rule, alignment, pixel step (metres), pixels a side, half the side (metres)."""

    grid: str
    align: str
    gsd_m: float
    n: int
    half_m: float


@dataclass(frozen=True)
class Chips:
    """Grids of all chips, fields as in the plan; ``first`` are the primary pairs of ``rows``."""

    status: np.ndarray
    rows: np.ndarray
    first: np.ndarray
    source_start: np.ndarray
    crs: tuple[str, ...]
    grid_crs: np.ndarray
    origin: np.ndarray
    step: np.ndarray
    warped: np.ndarray
    centre_offset_m: np.ndarray
    native_gsd_m: np.ndarray
    position: np.ndarray
    image_date: np.ndarray
    window_id: np.ndarray


def lay_chips(places: Places, sources: Sources, geometry: Geometry, rule: Rule, pairs: Pairs, native: np.ndarray,
           status: np.ndarray) -> Chips:  # fmt: skip
    """The grid of each place's chip, from its primary raster."""
    n_places = len(places)
    source_start = np.searchsorted(pairs.place, np.arange(n_places + 1))
    rows = np.flatnonzero(np.diff(source_start) > 0)
    first = source_start[rows]
    primary, stays = pairs.take(first), native[first]
    crs, grid_crs, x, y, step = _frames(places, sources, rule, rows, primary, stays)
    snapped = stays & (rule.align == "snap")
    column, row = positions(geometry, primary)
    left, top, _, _ = geometry.north_up[primary.source].T
    corner_x = np.where(snapped, left + first_pixel(column, rule.n) * step, x - rule.n * step / 2.0)
    corner_y = np.where(snapped, top - first_pixel(row, rule.n) * step, y + rule.n * step / 2.0)
    off = np.hypot(corner_x + rule.n * step / 2.0 - x, corner_y - rule.n * step / 2.0 - y) * rule.gsd_m / step
    window = _window_ids(pairs, source_start, rows, grid_crs, corner_x, corner_y)
    native_gsd = np.sqrt(geometry.area[primary.source] * primary.metres_x * primary.metres_y)

    def spread(values: np.ndarray, empty: Any) -> np.ndarray:
        full = np.full((n_places, *values.shape[1:]), empty, values.dtype)
        full[rows] = values
        return full

    return Chips(
        status, rows, first, source_start, crs, spread(grid_crs, -1),
        spread(np.stack([corner_x, corner_y], axis=1), np.nan), spread(step, np.nan), spread(~snapped, False),
        spread(np.where(snapped, off, 0.0), np.nan), spread(native_gsd, np.nan),
        spread(np.stack([column, row], axis=1), np.nan),
        spread(geometry.last_day[primary.source], NAT), spread(window, -1),
    )  # fmt: skip


def _frames(places: Places, sources: Sources, rule: Rule, rows: np.ndarray, primary: Pairs,
            stays: np.ndarray) -> tuple[tuple[str, ...], np.ndarray, np.ndarray, np.ndarray, np.ndarray]:  # fmt: skip
    """CRS of each chip (as names and positions), the place in it, and the pixel step in its units."""
    lon, lat = places.lon[rows], places.lat[rows]
    crs = list(sources.crs)
    grid_crs = np.array([sources.crs.index(i.crs) for i in sources.items], np.int64)[primary.source]
    x, y = primary.x.copy(), primary.y.copy()
    units = np.array([unit_of(name) for name in crs])
    step = np.where(stays, rule.gsd_m / units[grid_crs], rule.gsd_m)
    away = np.flatnonzero(~stays)
    if rule.grid == "laea":
        texts = np.array([laea(float(a), float(b)) for a, b in zip(lon, lat)], dtype=object)
    elif rule.grid in ("auto", "utm"):
        texts = np.array([f"EPSG:{code}" for code in utm_epsg(lon, lat)], dtype=object)
    else:
        texts = np.full(len(rows), rule.grid, dtype=object)
    position = {name: i for i, name in enumerate(crs)}
    for i in away:
        if texts[i] not in position:
            position[texts[i]] = len(crs)
            crs.append(texts[i])
        grid_crs[i] = position[texts[i]]
    for k in np.unique(grid_crs[away]):
        these = away[grid_crs[away] == k]
        if rule.grid == "laea":
            x[these], y[these] = 0.0, 0.0
        else:
            x[these], y[these] = project(crs[k], lon[these], lat[these])
            step[these] = rule.gsd_m / unit_of(crs[k])
    return tuple(crs), grid_crs, x, y, step


def _window_ids(pairs: Pairs, source_start: np.ndarray, rows: np.ndarray, grid_crs: np.ndarray, x: np.ndarray,
                y: np.ndarray) -> np.ndarray:  # fmt: skip
    """Equal numbers for equal chips: same grid, same corner, same rasters in the same order."""
    if len(rows) == 0:
        return np.zeros(0, np.int64)
    rank = np.arange(len(pairs)) - source_start[pairs.place]
    with np.errstate(over="ignore"):
        mixed = (pairs.source.astype(np.uint64) + np.uint64(1)) * np.uint64(0x9E3779B97F4A7C15)
        mixed = (mixed ^ (mixed >> np.uint64(31))) * (
            np.uint64(2) * rank.astype(np.uint64) + np.uint64(0xBF58476D1CE4E5B9)
        )
        lists = np.add.reduceat(mixed, source_start[rows])
    keys = np.stack([grid_crs.astype(np.uint64), x.view(np.uint64), y.view(np.uint64), lists], axis=1)
    return np.unique(keys, axis=0, return_inverse=True)[1].reshape(-1).astype(np.int64)


def reading_order(sources: Sources, geometry: Geometry, rule: Rule, primary: Pairs, chips: Chips) -> np.ndarray:
    """Rows by raster, then along a Hilbert curve over its blocks; rows without raster last."""
    column, row = positions(geometry, primary)
    step = chips.native_gsd_m[chips.rows] / rule.gsd_m
    low_column, low_row = column - rule.n / (2.0 * step), row - rule.n / (2.0 * step)
    blocks = np.array([item.block for item in sources.items])[primary.source]
    flip = np.array([item.bottom_up for item in sources.items])[primary.source]
    low_row = np.where(flip, geometry.height[primary.source] - low_row - rule.n / step, low_row)
    block_column = np.maximum(low_column, 0.0).astype(np.int64) // blocks[:, 1]
    block_row = np.maximum(low_row, 0.0).astype(np.int64) // blocks[:, 0]
    largest = int(max(block_column.max(initial=0), block_row.max(initial=0)))
    curve = hilbert_index(block_column, block_row, max(1, largest.bit_length()))
    order = np.lexsort((chips.rows, low_column, low_row, curve, primary.source))
    rest = np.setdiff1d(np.arange(len(chips.status)), chips.rows)
    return np.concatenate([chips.rows[order], rest])
