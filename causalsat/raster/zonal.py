"""Pixels of each zone as a distribution: rows, histograms or quantiles."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from causalsat.errors import DataError, OptionError, RasterCoverageWarning, count, number, one_of, warn
from causalsat.facts import as_html, as_text
from causalsat.progress import Progress, progress_bar
from causalsat.public import public
from causalsat.raster.sources import Sources, open_sources
from causalsat.raster.zonal_collect import FloatHistogram, IntegerHistogram, LongRows, Summary, weighted_quantiles
from causalsat.raster.zonal_shapes import OnGrid, Zones, on_grids, read_zones
from causalsat.raster.zonal_sweep import Rules, Task, Valid, block_tasks, sweep
from causalsat.raster.zonal_words import told

if TYPE_CHECKING:
    import pandas as pd

WEIGHTS = ("coverage", "area", "count")
FORMS = ("long", "histogram", "quantiles")
BATCH_PIXELS = 2**22


@public
@dataclass(frozen=True, eq=False, repr=False)
class PixelDistributions:
    """Distribution of pixel values in each zone; printed, a summary of statuses, pixels, masks and values.

    Attributes
    ----------
    zones : ndarray (n,)
        Labels, in the order given.
    summary : DataFrame (n rows)
        ``zone, status, n_pixels, n_masked, share_masked, share_outside, weight, mean, low, high, share_at_low,
        share_at_high, flagged``. ``status``: ok, few_pixels (fewer than ``min_pixels``), all_masked, no_pixel (every
        pixel under ``min_coverage``), off_raster, no_geometry. ``share_masked``: weight of pixels without value.
        ``share_outside``: part of the zone's area that no raster covers. ``share_at_low/high``: weight at the zone's
        least and greatest value, large where values are tied (no light, saturation). ``flagged``: status is not ok.
    pixels : DataFrame or None
        ``as_="long"``: columns ``zone, value, weight``, by zone, raster and pixel.
    edges, counts : ndarray (k + 1,), (n, k) float64, or None
        ``as_="histogram"``: bin edges in units of the values, weight of each zone in each bin. Weights are no numbers
        of pixels: ``causalsat.Histogram(edges, counts, n_pixels=summary["n_pixels"])`` says both.
    quantiles, values : ndarray (M,), (n, M) float64, or None
        ``as_="quantiles"``: levels and weighted type-7 quantiles; NaN where a zone has no pixel.
    meta : dict
        Rasters, CRS, band, rules, and for histograms ``bin_width`` (0 error for integers, see ``exact``).
    """

    zones: np.ndarray
    summary: "pd.DataFrame"
    pixels: "pd.DataFrame | None" = None
    edges: np.ndarray | None = None
    counts: np.ndarray | None = None
    quantiles: np.ndarray | None = None
    values: np.ndarray | None = None
    meta: dict[str, Any] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.zones)

    def __repr__(self) -> str:
        return as_text(*told(self))

    def _repr_html_(self) -> str:
        return as_html(*told(self))

    def merge(self, zones: Any, **options: Any) -> "pd.DataFrame":
        """Columns of the zones beside every pixel (``as_="long"``).

        Columns of the pixels keep their names; those of the zones that are called ``zone``, ``value`` or ``weight`` too
        get ``_zone`` appended, unless ``options`` name other ``suffixes``.

        Parameters
        ----------
        zones : DataFrame
            One row per zone; joined on the column or index that named the zones, unless ``options`` (of
            ``pandas.DataFrame.merge``) say otherwise.

        Raises
        ------
        DataError
            The distributions were not asked for as rows; a name with ``_zone`` appended is taken.
        """
        if self.pixels is None:
            raise DataError(f'merge joins pixels to zones; these are {self.meta["as_"]}: ask for as_="long".')
        if not options:
            column = self.meta["zone_id"]
            keys: dict[str, Any] = {"right_index": True} if column is None else {"right_on": column}
            options = {"on": "zone"} if column == "zone" else {"left_on": "zone", **keys}
        if "suffixes" not in options:
            _refuse_taken(zones, [c for c in self.pixels.columns if c != options.get("on")])
            options = {**options, "suffixes": ("", "_zone")}
        joined = self.pixels.merge(zones, **options)
        return joined.reset_index(drop=True)


def _refuse_taken(zones: Any, columns: list[str]) -> None:
    """Names that a column of the zones would get may not be another's."""
    own = {str(c) for c in getattr(zones, "columns", [])}
    taken = [c for c in columns if c in own and f"{c}_zone" in own]
    if taken:
        raise DataError(
            f"zones has both a column {taken[0]!r}, which is a column of the pixels too, and a column "
            f"'{taken[0]}_zone', its name in the result; rename one, or pass suffixes= of pandas.DataFrame.merge."
        )


def pixel_distributions(
    rasters: Any,
    zones: Any,
    *,
    band: int | str = 1,
    zone_id: str | None = None,
    weight: str = "coverage",
    min_coverage: float = 0.0,
    valid: Valid = None,
    as_: str = "long",
    quantiles: int | Sequence[float] = 99,
    n_bins: int = 4096,
    min_pixels: int = 30,
    progress: Progress = None,
) -> PixelDistributions:
    """Collect the pixel values of each zone with exact shares of the pixels that its border cuts.

    Zones are reprojected to the raster, pixels never. Values carry the file's scale and offset; nodata, masks of the
    data set, alpha and NaN are left out and counted. Files of a mosaic are read block by block, each pixel once;
    where they overlap, the file listed first counts.

    Parameters
    ----------
    rasters : path, list, glob, folder, template, mapping, table or (array, transform, crs[, nodata])
        As for :func:`causalsat.embed`; a template or mapping binds each zone to its own file.
    zones : GeoDataFrame, GeoSeries or path
        Polygons with a CRS; overlapping zones each get the pixel.
    band : int or str
        Number from 1, description or colour name.
    zone_id : str, optional
        Column of unique labels; None: the column ``zone``, else the index.
    weight : {"coverage", "area", "count"}
        Share of the pixel inside the zone; that share times the pixel's area in m² (cos latitude in degrees); or 1.
    min_coverage : float in [0, 1]
        Pixels with a smaller share inside are left out.
    valid : (low, high) or callable, optional
        Range of values that count, ends included, or a function of an array of values that returns booleans.
    as_ : {"long", "histogram", "quantiles"}
        Histograms are exact for integer rasters; floating-point files are read twice, first for their range.
    quantiles : int m (levels k / (m + 1)) or increasing levels in (0, 1)
    n_bins : int
        Bins of a floating-point histogram; the bin width is in ``meta["bin_width"]``.
    min_pixels : int
        Zones with fewer pixels are returned and flagged.
    progress : bool or callable, optional

    Returns
    -------
    PixelDistributions

    Raises
    ------
    OptionError, DataError, RasterReadError
        Unknown options; zones that are no valid polygons, have no CRS, repeat a label or all miss the raster.

    Notes
    -----
    Coverage: Baston, exactextract; shares are computed in pixel coordinates, so rotated and bottom-up rasters are as
    exact as others, to single precision (about 1e-7).

    Examples
    --------
    >>> import geopandas as gpd, numpy as np, shapely
    >>> from rasterio.transform import from_origin
    >>> import causalsat as cs
    >>> light = (np.arange(16, dtype=np.uint8).reshape(4, 4), from_origin(0, 4, 1, 1), "EPSG:32636")
    >>> districts = gpd.GeoDataFrame({"zone": ["a"]}, geometry=[shapely.box(0, 3, 1.5, 4)], crs="EPSG:32636")
    >>> cs.pixel_distributions(light, districts).pixels["weight"].tolist()
    [1.0, 0.5]
    """
    rules, levels = _checked(weight, min_coverage, valid, as_, quantiles), _levels(quantiles)
    n_bins, min_pixels = count("n_bins", n_bins, 1), count("min_pixels", min_pixels)
    if isinstance(band, bool) or not isinstance(band, (int, str, np.integer)):
        raise OptionError(f"band={band!r} must be one band: its number from 1, its description or its colour.")
    polygons = read_zones(zones, zone_id)
    sources = open_sources(rasters, bands=[band])
    grids = on_grids(polygons, sources)
    if not grids:
        raise DataError(_nothing_meets(polygons, sources))
    job = _Job(sources, grids, block_tasks(sources, grids), rules, len(polygons), progress)
    meta = {
        "as_": as_, "band": sources.band_names[0], "weight": weight, "min_coverage": rules.min_coverage,
        "valid": list(valid) if isinstance(valid, tuple) else None if valid is None else "callable",
        "min_pixels": min_pixels, "zone_id": polygons.id_column, "rasters": [i.name for i in sources.items],
        "crs": list(sources.crs), "scale": sources.items[0].scales[0], "offset": sources.items[0].offsets[0],
    }  # fmt: skip
    if as_ == "long":
        summary, filled = _long(job, polygons)
    elif as_ == "histogram":
        summary, filled = _histogram(job, n_bins, meta)
    else:
        summary, filled = _quantiles(job, levels)
    table = _summary_table(summary, polygons, grids, min_pixels)
    return PixelDistributions(zones=polygons.ids, summary=table, meta=meta, **filled)


def _checked(weight: str, min_coverage: float, valid: Valid, as_: str, quantiles: Any) -> Rules:
    one_of("weight", weight, WEIGHTS)
    one_of("as_", as_, FORMS)
    share = number("min_coverage", min_coverage, 0.0, 1.0, open_ends=False)
    if valid is None or callable(valid):
        return Rules(weight, share, valid)
    try:
        low, high = (float(v) for v in valid)
    except (TypeError, ValueError):
        low, high = np.nan, np.nan
    if not low <= high:
        raise OptionError(f"valid={valid!r} must be a range (low, high) of values, or a function of an array.")
    return Rules(weight, share, (low, high))


def _levels(quantiles: int | Sequence[float]) -> np.ndarray:
    if np.ndim(quantiles) == 0:
        m = count("quantiles", quantiles, 1)
        return np.arange(1, m + 1) / (m + 1.0)
    levels = np.asarray(quantiles, dtype=np.float64)
    inside = levels.ndim == 1 and levels.size and levels[0] > 0.0 and levels[-1] < 1.0
    if not inside or not (np.diff(levels) > 0.0).all():
        raise OptionError(f"quantiles={quantiles!r} must be a whole number, or increasing levels inside (0, 1).")
    return levels


@dataclass(frozen=True, eq=False)
class _Job:
    sources: Sources
    grids: list[OnGrid]
    tasks: list[Task]
    rules: Rules
    n: int
    progress: Progress

    def run(self, *keepers: Any, tasks: list[Task] | None = None, what: str = "blocks") -> None:
        """Hand every block to the keepers."""
        tasks = self.tasks if tasks is None else tasks
        bar = progress_bar(len(tasks), what, self.progress)
        try:
            for chunk in sweep(self.sources, tasks, self.rules, bar):
                for keeper in keepers:
                    keeper.add(chunk)
        finally:
            bar.close()


def _long(job: _Job, zones: Zones) -> tuple[Summary, dict[str, Any]]:
    import pandas as pd

    summary, rows = Summary(job.n), LongRows()
    job.run(summary, rows)
    code, value, weight = rows.take()
    return summary, {"pixels": pd.DataFrame({"zone": zones.ids[code], "value": value, "weight": weight})}


def _histogram(job: _Job, n_bins: int, meta: dict[str, Any]) -> tuple[Summary, dict[str, Any]]:
    summary, item = Summary(job.n), job.sources.items[0]
    if job.sources.dtype.kind in "iu":
        whole = IntegerHistogram(job.n)
        job.run(summary, whole)
        meta.update(exact=True, bin_width=abs(item.scales[0]))
        edges, counts = whole.edges(item.scales[0], item.offsets[0])
        return summary, {"edges": edges, "counts": counts}
    job.run(summary, what="range")
    seen = summary.pixels > 0
    low, high = (float(summary.low[seen].min()), float(summary.high[seen].max())) if seen.any() else (0.0, 1.0)
    binned = FloatHistogram(job.n, low, high, n_bins)
    job.run(binned)
    meta.update(exact=False, bin_width=float(binned.edges[1] - binned.edges[0]))
    return summary, {"edges": binned.edges, "counts": binned.counts}


def _quantiles(job: _Job, levels: np.ndarray) -> tuple[Summary, dict[str, Any]]:
    """Zones in batches of neighbours, so that only one batch of pixels is in memory."""
    summary, values = Summary(job.n), np.full((job.n, len(levels)), np.nan)
    for batch in _batches(job):
        rows, tasks = LongRows(), []
        for task in job.tasks:
            members = task.members[np.isin(task.grid.codes[task.members], batch)]
            if members.size:
                tasks.append(Task(task.grid, task.row, task.column, task.height, task.width, members))
        job.run(summary, rows, tasks=tasks)
        code, value, weight = rows.take()
        starts = np.flatnonzero(np.r_[True, code[1:] != code[:-1]]) if len(code) else np.zeros(0, np.int64)
        for first, last in zip(starts, np.r_[starts[1:], len(code)]):
            values[code[first]] = weighted_quantiles(value[first:last], weight[first:last], levels)
    return summary, {"quantiles": levels, "values": values}


def _batches(job: _Job) -> list[np.ndarray]:
    import shapely

    size, first = np.zeros(job.n), np.full(job.n, len(job.tasks))
    for grid in job.grids:
        np.add.at(size, grid.codes, shapely.area(grid.shapes))
    for position, task in enumerate(job.tasks):
        np.minimum.at(first, task.grid.codes[task.members], position)
    order = np.argsort(first, kind="stable")
    group = (np.cumsum(size[order]) / BATCH_PIXELS).astype(np.int64)
    return np.split(order, np.flatnonzero(np.diff(group)) + 1)


def _summary_table(summary: Summary, zones: Zones, grids: list[OnGrid], min_pixels: int) -> "pd.DataFrame":
    import pandas as pd

    inside = np.zeros(len(zones))
    for grid in grids:
        np.add.at(inside, grid.codes, grid.inside)
    seen, absent = summary.pixels > 0, np.array([s is None for s in zones.shapes])
    status = np.full(len(zones), "ok", dtype="<U11")
    status[summary.pixels < min_pixels] = "few_pixels"
    status[~seen] = "no_pixel"
    status[~seen & (summary.masked > 0)] = "all_masked"
    status[~seen & (summary.masked == 0) & (inside <= 0.0)] = "off_raster"
    status[absent] = "no_geometry"
    with np.errstate(invalid="ignore", divide="ignore"):
        masked = summary.masked_weight / (summary.weight + summary.masked_weight)
        shares = [np.where(seen, x / summary.weight, np.nan) for x in (summary.at_low, summary.at_high)]
        mean = np.where(seen, summary.total / summary.weight, np.nan)
    empty = np.isin(status, ("off_raster", "no_geometry", "no_pixel", "all_masked"))
    if empty.any():
        warn(
            f"{int(empty.sum())} of {len(zones)} zones have no usable pixel (first: {zones.ids[np.argmax(empty)]!r}, "
            f"{status[np.argmax(empty)]}); their rows stay in .summary.",
            RasterCoverageWarning,
        )
    return pd.DataFrame(
        {
            "zone": zones.ids, "status": status, "n_pixels": summary.pixels, "n_masked": summary.masked,
            "share_masked": masked, "share_outside": np.where(absent, np.nan, np.clip(1.0 - inside, 0.0, 1.0)),
            "weight": summary.weight, "mean": mean, "low": np.where(seen, summary.low, np.nan),
            "high": np.where(seen, summary.high, np.nan), "share_at_low": shares[0], "share_at_high": shares[1],
            "flagged": status != "ok",
        }
    )  # fmt: skip


def _nothing_meets(zones: Zones, sources: Sources) -> str:
    import shapely

    present = [s for s in zones.shapes if s is not None]
    if not present:
        return "No zone has a geometry; check the file that zones came from."
    if sources.keyed:
        return (
            f"No zone meets its own raster: labels such as {zones.ids[0]!r} must be the keys of rasters, such as "
            f"{sources.items[0].key!r}; name their column with zone_id=."
        )
    zone_bounds = [round(float(v), 4) for v in shapely.total_bounds(np.array(present, dtype=object))]
    raster_bounds = [round(float(v), 4) for v in sources.items[0].bounds]
    return (
        f"No zone touches a raster: zones span {zone_bounds} in {zones.crs.to_string()[:40]}, {sources.items[0].name} "
        f"spans {raster_bounds} in {sources.items[0].crs[:40]}. Check the CRS of both (set_crs where it is wrong), "
        "and that longitude comes first."
    )
