"""The plan of an embedding job: every chip's grid, rasters and turn, before a pixel is read."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from causalsat.errors import DataError, OptionError, UndatedImageryError, count, one_of
from causalsat.raster.dates import Dates, frame_rule
from causalsat.raster.grid import SCALE_TOLERANCE, SQUARE_RTOL, chip_pixels, utm_epsg
from causalsat.raster.gridding import Rule, lay_chips, reading_order
from causalsat.raster.match import Geometry, Pairs, candidate_pairs, coverage, unit_of
from causalsat.raster.places import Places
from causalsat.raster.sources import Sources

RESAMPLING = ("auto", "nearest", "bilinear", "cubic", "average", "mode")


@dataclass(frozen=True)
class Plan:
    """Every chip's window, rasters and place in the reading order. Arrays have one row per place (J rows).

    Attributes
    ----------
    places, sources : Places, Sources
    n_px : int
        Pixels along a chip's side, the same for every place.
    gsd_m, size_m, size_m_actual : float
        Step of the chip's pixels; side asked for; side obtained, ``n_px * gsd_m``. Metres.
    grid, align, resampling, mask_rule : str
        As asked for.
    bands : tuple of int
    status : ndarray (J,) str
        ``"ok"`` where there is something to read, else the reason why not.
    source_start : ndarray (J + 1,) int64
        Rasters of place j are ``source_list[source_start[j]:source_start[j + 1]]``, the primary first.
    source_list : ndarray int64
    crs : tuple of str
        Coordinate systems of the chips.
    grid_crs : ndarray (J,) int64
        Position in ``crs``; -1 where nothing is read.
    origin : ndarray (J, 2) float64
        Upper left corner of the chip in its CRS.
    step : ndarray (J,) float64
        Pixel step in units of the chip's CRS.
    warped : ndarray (J,) bool
        The primary raster must be resampled.
    centre_offset_m, native_gsd_m : ndarray (J,) float64
        Distance from the place to the chip's centre; step of the primary raster at the place. Metres.
    position : ndarray (J, 2) float64
        Fractional column and row of the place in its primary raster, rows counted from the north.
    image_date : ndarray (J,) datetime64[D]
        Last day of the primary raster's period.
    window_id : ndarray (J,) int64
        Equal exactly when two places have the same chip; -1 where nothing is read.
    shards : tuple of ndarray int64
        Rows of the places, in reading order, ``shard_rows`` at a time.
    """

    places: Places
    sources: Sources
    n_px: int
    gsd_m: float
    size_m: float
    size_m_actual: float
    grid: str
    align: str
    resampling: str
    mask_rule: str
    bands: tuple[int, ...]
    allow_post_treatment: bool
    window_months: tuple[int, int] | None
    status: np.ndarray
    source_start: np.ndarray
    source_list: np.ndarray
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
    shards: tuple[np.ndarray, ...]
    shard_rows: int = 4096

    @property
    def n_rows(self) -> int:
        """Rows asked for."""
        return len(self.places)

    @property
    def order(self) -> np.ndarray:
        """All rows in reading order, ``(J,)`` int64."""
        return np.concatenate(self.shards) if self.shards else np.zeros(0, np.int64)

    def sources_of(self, row: int) -> np.ndarray:
        """Rasters of one place, the primary first."""
        return self.source_list[self.source_start[row] : self.source_start[row + 1]]

    def spec(self) -> dict[str, Any]:
        """All that determines the chips' pixels besides places and rasters, as plain JSON."""
        return {
            "n_px": self.n_px,
            "gsd_m": self.gsd_m,
            "size_m": self.size_m,
            "size_m_actual": self.size_m_actual,
            "grid": self.grid,
            "align": self.align,
            "resampling": self.resampling,
            "mask_rule": self.mask_rule,
            "bands": list(self.bands),
            "window_months": None if self.window_months is None else list(self.window_months),
            "allow_post_treatment": self.allow_post_treatment,
            "shard_rows": self.shard_rows,
        }

    def describe(self) -> dict[str, Any]:
        """Counts, blocks, bytes, memory and disk, as plain JSON; see :func:`causalsat.raster.forecast.describe`."""
        from causalsat.raster.forecast import describe

        return describe(self)


def make_plan(
    places: Places,
    sources: Sources,
    *,
    size_m: float,
    gsd_m: float | None = None,
    grid: Any = "auto",
    align: str = "snap",
    resampling: str = "auto",
    bands: Any = None,
    dates: Dates | None = None,
    mask_rule: str = "all",
    shard_rows: int = 4096,
    allow_post_treatment: bool = False,
) -> Plan:
    """Decide every chip's grid, its rasters and its turn from places and headers alone.

    Parameters
    ----------
    places, sources
        From :func:`~causalsat.raster.places.read_places` and :func:`~causalsat.raster.sources.open_sources` (which
        chooses the ``bands``; repeated here they must agree).
    size_m : float
        Side of the window, metres.
    gsd_m : float, optional
        Step of the chip's pixels, metres; None: the rasters' own step where they share one.
    grid : {"auto", "native", "utm", "laea"} or a projected CRS
        "auto" stays on the raster's grid where that is metric, square, of this step and true to scale within 0.5% at
        the place, and otherwise uses the place's UTM zone.
    align : {"snap", "exact"}
        "snap": windows on the raster's grid hold whole pixels, so a centre may be off by up to ``gsd_m / sqrt(2)``;
        "exact": every chip is resampled around its place.
    resampling : {"auto", "nearest", "bilinear", "cubic", "average", "mode"}
        "auto": bilinear; average where ``gsd_m`` is more than twice the raster's step; nearest for classes.
    dates : Dates, optional
        Which frames count; must be the one that the places were read with.
    mask_rule : {"all", "any"}
        A pixel is valid when all (any) of its bands are.
    shard_rows : int
        Rows of one shard.
    allow_post_treatment : bool
        Keep frames at or after treatment.

    Returns
    -------
    Plan

    Raises
    ------
    OptionError
        Unknown option; ``gsd_m`` missing where the rasters share no step; classes asked with an averaging resampling.
    DataError
        More than half of the places lie off the rasters (the message says when longitude and latitude are swapped).
    UndatedImageryError
        Treatment is dated and a raster is not.
    """
    one_of("align", align, ["snap", "exact"])
    one_of("resampling", resampling, RESAMPLING)
    one_of("mask_rule", mask_rule, ["all", "any"])
    count("shard_rows", shard_rows, 1)
    grid_name = _grid_name(grid)
    _refuse_averaged_classes(sources, resampling)
    _refuse_undated(places, sources, dates)
    gsd_m = _default_gsd(places, sources) if gsd_m is None else gsd_m
    n, actual = chip_pixels(size_m, gsd_m)
    rule = Rule(grid_name, align, float(gsd_m), n, actual / 2.0)
    geometry = Geometry.of(sources)
    status = places.status.astype("<U14")
    pairs, native = _pairs(places, sources, geometry, rule)
    status = _off_raster(places, sources, geometry, rule, status, pairs)
    pairs, native, status = _dated(places, geometry, pairs, native, status, dates, allow_post_treatment)
    chips = lay_chips(places, sources, geometry, rule, pairs, native, status)
    order = reading_order(sources, geometry, rule, pairs.take(chips.first), chips)
    shards = tuple(order[i : i + shard_rows] for i in range(0, len(order), shard_rows))
    plan = Plan(
        places=places, sources=sources, n_px=n, gsd_m=float(gsd_m), size_m=float(size_m), size_m_actual=actual,
        grid=grid_name, align=align, resampling=resampling, mask_rule=mask_rule, bands=sources.items[0].bands,
        allow_post_treatment=allow_post_treatment, window_months=None if dates is None else dates.window_months,
        status=chips.status, source_start=chips.source_start, source_list=pairs.source, crs=chips.crs,
        grid_crs=chips.grid_crs, origin=chips.origin, step=chips.step, warped=chips.warped,
        centre_offset_m=chips.centre_offset_m, native_gsd_m=chips.native_gsd_m, position=chips.position,
        image_date=chips.image_date,
        window_id=chips.window_id, shards=shards, shard_rows=shard_rows,
    )  # fmt: skip
    from causalsat.raster.forecast import warn_layout

    warn_layout(plan)
    return plan


def _grid_name(grid: Any) -> str:
    from pyproj import CRS
    from pyproj.exceptions import CRSError

    if isinstance(grid, str) and grid in ("auto", "native", "utm", "laea"):
        return grid
    try:
        crs = CRS.from_user_input(grid)
    except CRSError as error:
        raise OptionError(
            f'grid={grid!r} is not known; allowed: "auto", "native", "utm", "laea", or a projected CRS such as '
            '"EPSG:32636".'
        ) from error
    if not crs.is_projected:
        raise OptionError(
            f'grid={grid!r} counts degrees; chips are squares in metres: use "utm", "laea" or a projected CRS.'
        )
    code = crs.to_epsg()
    return f"EPSG:{code}" if code else crs.to_wkt()


def _refuse_averaged_classes(sources: Sources, resampling: str) -> None:
    for item in sources.items:
        if item.categorical and resampling not in ("auto", "nearest", "mode"):
            raise OptionError(
                f'resampling="{resampling}" would average the classes of {item.name} (bands '
                f"{', '.join(item.band_names)}); "
                'use "nearest", "mode" or "auto".'
            )


def _refuse_undated(places: Places, sources: Sources, dates: Dates | None) -> None:
    if dates is None or sources.dated:
        return
    undated = [item.name for item in sources.items if np.isnat(item.first_day)]
    raise UndatedImageryError(
        f'Treatment is dated (column "{dates.column}") and {len(undated)} of {len(sources.items)} rasters are not, for '
        f"example {undated[0]}: images taken after treatment would be bad controls. State image_date=, give "
        "Dates(pattern=...) for dates in file names, or leave dates out and answer for it."
    )


def _default_gsd(places: Places, sources: Sources) -> float:
    steps = sorted({round(item.gsd_m, 9) for item in sources.items if np.isfinite(item.gsd_m)})
    whole = all(np.isfinite(item.gsd_m) for item in sources.items)
    if whole and steps and steps[-1] - steps[0] <= SQUARE_RTOL * steps[0]:
        return steps[0]
    found = sorted({_step_text(item, places.lat) for item in sources.items})
    raise OptionError(
        f"gsd_m must be given: the rasters do not share one square step in metres. Steps found: {'; '.join(found[:8])}."
    )


def _step_text(item: Any, lat: np.ndarray) -> str:
    from pyproj import CRS

    from causalsat.raster.grid import METRES_PER_DEGREE

    a, b, _, d, e, _ = item.transform
    across, down = float(np.hypot(a, d)), float(np.hypot(b, e))
    if CRS.from_user_input(item.crs).is_geographic:
        middle = float(np.nanmedian(lat)) if np.isfinite(lat).any() else 0.0
        metres = METRES_PER_DEGREE * across * np.cos(np.radians(middle))
        return (
            f"{across:.8g} x {down:.8g} degrees (about {metres:.3g} m at latitude {middle:.1f}: try gsd_m={metres:.2g})"
        )
    return f"{across:.8g} x {down:.8g} units of {item.crs[:40]}"


def _pairs(places: Places, sources: Sources, geometry: Geometry, rule: Rule) -> tuple[Pairs, np.ndarray]:
    """Pairs with pixels in common, and whether each may stay on its raster's own grid."""
    rows = np.flatnonzero(places.status == "ok")
    pairs = candidate_pairs(sources, geometry, rows, places.ids, places.lon, places.lat, rule.half_m)
    native = _may_stay(places, sources, pairs, rule)
    share = coverage(geometry, pairs, native & (rule.align == "snap"), rule.n, rule.half_m)
    order = np.lexsort((pairs.source, -share, pairs.place))
    order = order[share[order] > 0.0]
    return pairs.take(order), native[order]


def _may_stay(places: Places, sources: Sources, pairs: Pairs, rule: Rule) -> np.ndarray:
    """The grid rule, pair by pair."""
    fits = np.array([_fits(item, rule.gsd_m) for item in sources.items], bool)
    if rule.grid == "native":
        if not fits.all():
            item = sources.items[int(np.flatnonzero(~fits)[0])]
            raise OptionError(
                f'grid="native" needs unrotated square pixels of gsd_m={rule.gsd_m:g} in a projected CRS; {item.name} '
                "has "
                f'{_step_text(item, places.lat)}. Use grid="auto", or gsd_m= the native step.'
            )
        return np.ones(len(pairs), bool)
    if rule.grid == "laea":
        return np.zeros(len(pairs), bool)
    stay = fits[pairs.source]
    names = np.array([item.crs for item in sources.items], dtype=object)
    if rule.grid == "auto":
        units = np.array([unit_of(name) for name in sources.crs])
        metric = np.array([units[sources.crs.index(n)] == 1.0 for n in names], bool)
        true = (np.abs(1.0 / pairs.metres_x - 1.0) <= SCALE_TOLERANCE) & (
            np.abs(1.0 / pairs.metres_y - 1.0) <= SCALE_TOLERANCE
        )
        return np.asarray(stay & metric[pairs.source] & true)
    if rule.grid == "utm":
        zone = utm_epsg(places.lon[pairs.place], places.lat[pairs.place])
        code = np.array([int(n[5:]) if n.startswith("EPSG:") else -1 for n in names])
        return np.asarray(stay & (code[pairs.source] == zone))
    return np.asarray(stay & (names == rule.grid)[pairs.source])


def _fits(item: Any, gsd_m: float) -> bool:
    return item.axis_aligned and bool(np.isfinite(item.gsd_m)) and abs(item.gsd_m - gsd_m) <= SQUARE_RTOL * gsd_m


def _off_raster(places: Places, sources: Sources, geometry: Geometry, rule: Rule, status: np.ndarray,
                pairs: Pairs) -> np.ndarray:  # fmt: skip
    """Mark places without raster; refuse when they are most of the places."""
    touched = np.zeros(len(places), bool)
    touched[pairs.place] = True
    usable = status == "ok"
    off = usable & ~touched
    if off.sum() * 2 > usable.sum():
        raise DataError(_off_message(places, sources, geometry, rule, np.flatnonzero(off), int(usable.sum())))
    return np.where(off, "off_raster", status)


def _off_message(places: Places, sources: Sources, geometry: Geometry, rule: Rule, off: np.ndarray, n: int) -> str:
    i = off[0]
    text = (
        f"{len(off)} of {n} places lie off every raster, for example {str(places.ids[i])!r} at longitude "
        f"{places.lon[i]:g}, latitude {places.lat[i]:g}. "
    )
    if sources.keyed:
        lost = [k for k in places.ids[off].tolist() if k not in sources.by_key]
        if lost:
            known = ", ".join(sorted(sources.by_key)[:4])
            return text + f"{len(lost)} ids have no file of their own (files are bound to ids such as {known})."
    swap = off[np.abs(places.lon[off]) <= 90.0]
    hit = candidate_pairs(sources, geometry, swap, places.ids, places.lat, places.lon, rule.half_m)
    if hit.n_places * 2 > len(off):
        return text + "Longitude and latitude are swapped: with the two columns exchanged the places hit the rasters."
    left, bottom, right, top = sources.items[0].bounds
    return text + (
        f"The first raster, {sources.items[0].name}, spans x {left:g} to {right:g}, y {bottom:g} to {top:g} in "
        f"{sources.items[0].crs[:60]}; check coords=, the CRS of the places, or leave those places out."
    )


def _dated(places: Places, geometry: Geometry, pairs: Pairs, native: np.ndarray, status: np.ndarray,
           dates: Dates | None, allow_post_treatment: bool) -> tuple[Pairs, np.ndarray, np.ndarray]:  # fmt: skip
    """Keep the frames that the dates allow, latest first."""
    if dates is None or places.event is None:
        return pairs, native, status
    anchor = places.event if places.anchor is None else places.anchor
    first, last = geometry.first_day[pairs.source], geometry.last_day[pairs.source]
    usable, late = frame_rule(
        first, last, anchor[pairs.place], places.event[pairs.place], dates.window_months,
        allow_post_treatment=allow_post_treatment,
    )  # fmt: skip
    some_usable, some_early = np.zeros((2, len(places)), bool)
    some_usable[pairs.place[usable]] = True
    some_early[pairs.place[~late]] = True
    lost = (status == "ok") & ~some_usable
    reason = np.where(some_early | allow_post_treatment, "no_frame", "post_treatment")
    keep = np.flatnonzero(usable)
    newest = -last[keep].astype(np.int64)
    keep = keep[np.lexsort((np.arange(len(keep)), newest, pairs.place[keep]))]
    return pairs.take(keep), native[keep], np.where(lost, reason, status)
