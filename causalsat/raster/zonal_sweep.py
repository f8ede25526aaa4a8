"""Pixels under zones, one block of a raster at a time: each is read once, whatever the number of zones on it."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from causalsat.errors import OptionError, RasterReadError
from causalsat.raster.handles import MIN_CACHE, SETTINGS, Handles, gdal_cache, read_errors
from causalsat.raster.masks import data_set_mask, value_validity
from causalsat.raster.sources import Item, Sources
from causalsat.raster.zonal_shapes import OnGrid

if TYPE_CHECKING:
    from causalsat.progress import Bar

BLOCK_CELLS = 2**20
# Radius of the sphere with the area of WGS84, metres.
AUTHALIC_RADIUS_M = 6_371_007.181

Valid = tuple[float, float] | Callable[[np.ndarray], np.ndarray] | None


@dataclass(frozen=True, eq=False)
class Task:
    """One block of one raster with the zones on it (positions in ``grid``)."""

    grid: OnGrid
    row: int
    column: int
    height: int
    width: int
    members: np.ndarray


@dataclass(frozen=True, eq=False)
class Chunk:
    """Pixels of one block under zones.

    Attributes
    ----------
    code : ndarray (m,) int64
        Zone of each row; rows of one zone stand together.
    item : int
        Position of the raster.
    pixel : ndarray (m,) int64
        ``row * width + column`` in the file.
    raw : ndarray (m,)
        As stored.
    value : ndarray (m,)
        Scale and offset applied (float64), or ``raw`` where the file declares none.
    weight : ndarray (m,) float64
    coverage : ndarray (m,) float64
        Share of the pixel inside the zone.
    valid : ndarray (m,) bool
    """

    code: np.ndarray
    item: int
    pixel: np.ndarray
    raw: np.ndarray
    value: np.ndarray
    weight: np.ndarray
    coverage: np.ndarray
    valid: np.ndarray


@dataclass(frozen=True)
class Rules:
    """Which pixels count, and how much."""

    weight: str
    min_coverage: float
    valid: Valid


def block_tasks(sources: Sources, grids: list[OnGrid]) -> list[Task]:
    """Blocks to read: whole blocks of the file, joined up to about a million pixels, that some zone touches."""
    import shapely

    tasks = []
    for grid in grids:
        item = sources.items[grid.item]
        rows, columns = _block_shape(item)
        first_rows, first_columns = np.arange(0, item.height, rows), np.arange(0, item.width, columns)
        tops, lefts = np.repeat(first_rows, len(first_columns)), np.tile(first_columns, len(first_rows))
        bottoms, rights = np.minimum(tops + rows, item.height), np.minimum(lefts + columns, item.width)
        boxes = shapely.box(lefts, item.height - bottoms, rights, item.height - tops)
        which, member = shapely.STRtree(boxes).query(grid.shapes, predicate="intersects")[::-1]
        order = np.lexsort((member, which))
        which, member = which[order], member[order]
        for block, members in zip(np.unique(which), np.split(member, np.flatnonzero(np.diff(which)) + 1)):
            top, left = int(tops[block]), int(lefts[block])
            tasks.append(Task(grid, top, left, int(bottoms[block]) - top, int(rights[block]) - left, members))
    return tasks


def _block_shape(item: Item) -> tuple[int, int]:
    """Rows and columns read together: as few whole blocks of the file as make up about ``BLOCK_CELLS``."""
    rows, columns = item.block
    side = max(1, int(np.sqrt(BLOCK_CELLS)))
    columns = min(item.width, max(columns, columns * (side // columns)))
    if columns > BLOCK_CELLS:
        columns = BLOCK_CELLS
    limit = max(1, BLOCK_CELLS // columns)
    rows = limit if rows > limit else rows * (limit // rows)
    return min(rows, item.height), columns


def sweep(sources: Sources, tasks: list[Task], rules: Rules, bar: "Bar") -> Iterator[Chunk]:
    """Yield the pixels of each block; raises RasterReadError naming file, window and zones."""
    import rasterio

    handles = Handles(1)
    with rasterio.Env(**SETTINGS), gdal_cache(MIN_CACHE):
        try:
            for task in tasks:
                yield _chunk(sources, task, rules, handles)
                bar.update()
        finally:
            handles.close()


def _chunk(sources: Sources, task: Task, rules: Rules, handles: Handles) -> Chunk:
    item = sources.items[task.grid.item]
    pixels, valid = _read(item, task, handles)
    code, cell, coverage = _coverage(task, item)
    keep = coverage >= rules.min_coverage
    code, cell, coverage = code[keep], cell[keep], coverage[keep]
    raw, ok = pixels.ravel()[cell], valid.ravel()[cell]
    scale, offset = item.scales[0], item.offsets[0]
    value = raw if (scale, offset) == (1.0, 0.0) else raw.astype(np.float64) * scale + offset
    row, column = np.divmod(cell, task.width)
    row, column = row + task.row, column + task.column
    if rules.weight == "count":
        weight = np.ones(len(coverage))
    elif rules.weight == "area":
        weight = coverage * pixel_area(item, row, column)
    else:
        weight = coverage
    ok = ok & _accepted(rules.valid, value, ok)
    return Chunk(code, task.grid.item, row * item.width + column, raw, value, weight, coverage, ok)


def _read(item: Item, task: Task, handles: Handles) -> tuple[np.ndarray, np.ndarray]:
    from rasterio.windows import Window

    window = Window(task.column, task.row, task.width, task.height)
    try:
        raster = handles.get(item.path)
        pixels = raster.read(item.bands[0], window=window)
        mask = data_set_mask(raster, item, window)
    except read_errors() as error:
        raise RasterReadError(
            f"{item.name} cannot be read at rows {task.row}-{task.row + task.height - 1}, columns {task.column}-"
            f"{task.column + task.width - 1} (under {len(task.members)} zones): {error}. Check that the file is whole."
        ) from error
    valid = value_validity(pixels[..., None], item.nodata)
    ok = np.ones(pixels.shape, bool) if valid is None else valid[..., 0]
    return pixels, ok if mask is None else ok & mask


def _coverage(task: Task, item: Item) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Zone, cell of the block (row-major) and share of the cell inside the zone, for all cells that a zone touches."""
    import json

    import shapely
    from exactextract import exact_extract
    from exactextract.raster import NumPyRasterSource

    bottom = item.height - task.row - task.height
    edges = (float(task.column), float(bottom), float(task.column + task.width), float(bottom + task.height))
    # A margin of a cell keeps the cut edges of a clipped coastline out of the block.
    near = (edges[0] - 1.0, edges[1] - 1.0, edges[2] + 1.0, edges[3] + 1.0)
    shapes = task.grid.shapes[task.members]
    large = shapely.get_num_coordinates(shapes) > 1000
    shapes = np.where(large, _clipped(shapes, near), shapes)
    features = [
        {"type": "Feature", "properties": {}, "geometry": json.loads(text)} for text in shapely.to_geojson(shapes)
    ]
    blank = NumPyRasterSource(np.zeros((task.height, task.width), np.uint8), *edges)
    found = exact_extract(blank, features, ["cell_id", "coverage"], max_cells_in_memory=4 * BLOCK_CELLS + 2**20)
    cells = [np.asarray(f["properties"]["cell_id"], dtype=np.int64) for f in found]
    shares = [np.asarray(f["properties"]["coverage"], dtype=np.float64) for f in found]
    code = np.repeat(task.grid.codes[task.members], [len(c) for c in cells])
    cell, share = np.concatenate(cells), np.concatenate(shares)
    inside = share > 0.0
    return code[inside], cell[inside], share[inside]


def _clipped(shapes: np.ndarray, near: tuple[float, float, float, float]) -> np.ndarray:
    import shapely

    cut = shapely.clip_by_rect(shapes, *near)
    areal = np.isin(shapely.get_type_id(cut), (3, 6)) & ~shapely.is_empty(cut)
    return np.where(areal, cut, shapes)


def pixel_area(item: Item, row: np.ndarray, column: np.ndarray) -> np.ndarray:
    """Ground area of pixels, m².

    Projected: step by step. Geographic: ``R² Δλ · 2 cos φ sin(Δφ / 2)`` on the sphere of equal area, φ the latitude of
    the pixel's centre.
    """
    from pyproj import CRS

    a, b, _, d, e, f = item.transform
    crs = CRS.from_user_input(item.crs)
    unit = crs.axis_info[0].unit_conversion_factor
    determinant = abs(a * e - b * d)
    if not crs.is_geographic:
        return np.full(len(row), determinant * unit * unit)
    latitude = (d * (column + 0.5) + e * (row + 0.5) + f) * unit
    height = np.hypot(d, e) * unit
    east = determinant / np.hypot(d, e) * unit
    return np.asarray(AUTHALIC_RADIUS_M**2 * east * 2.0 * np.cos(latitude) * np.sin(height / 2.0))


def _accepted(rule: Valid, value: np.ndarray, ok: np.ndarray) -> np.ndarray:
    if rule is None:
        return ok
    if not callable(rule):
        return np.asarray((value >= rule[0]) & (value <= rule[1]))
    answer = np.asarray(rule(value))
    if answer.dtype != bool or answer.shape != value.shape:
        raise OptionError(
            f"valid returned {answer.dtype} of shape {answer.shape} for {value.shape[0]} values; it must return one "
            "True or False for each value."
        )
    return answer
