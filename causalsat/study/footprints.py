"""Footprints: from located projects to treatment columns per cell and period."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from causalsat.errors import DataError, FootprintWarning, OptionError, nearest, number, one_of, warn
from causalsat.study.cells import Cells, checked_names, holding_cell, read_cells, region_codes, texts_of_column
from causalsat.study.coordinates import study_lonlat
from causalsat.study.frame import Frame, read_frame
from causalsat.study.sphere import chord_of_km, unit_vectors

LEVELS = ("exact", "near", "adm2")
_NUMBERED = {"1": "exact", "2": "near", "3": "adm2"}


def footprints(
    projects: Any,
    cells: Any,
    *,
    period: str,
    unit: str = "cell",
    group: str | Sequence[str] = ("funder", "sector"),
    precision: str = "precision",
    radius_km: float = 25.0,
    rule: str = "any",
    admin: str = "adm2",
    ambiguous: str = "keep",
    use: Sequence[str] = LEVELS,
    regions: Mapping[Any, str | None] | None = None,
    coords: Sequence[str] | None = ("longitude", "latitude"),
    bounds: Sequence[str] = ("west", "south", "east", "north"),
    periods: Sequence[Any] | None = None,
) -> dict[str, np.ndarray]:
    """Which cells each programme treats in each period, given how precisely its projects are located.

    A project located exactly treats the cell that holds its point (edges are half-open: one cell, never two). One
    located nearly treats the cells whose centroids lie within ``radius_km`` of its point (great circle), and the cell
    that holds it. One located by district treats the cells of its ``admin`` district. A coarser one defines no
    treatment: whether the untreated cells of its region are treated is unknown, and they are flagged ambiguous; so are
    those of projects whose precision ``use`` leaves out.

    Parameters
    ----------
    projects : frame, GeoDataFrame or path
        One row per project and period; m rows.
    cells : frame, GeoDataFrame or path
        One row per cell, J rows: polygons, or boxes in the columns ``bounds``. A cell's district is that of its
        centroid.
    period : str
        Column of projects.
    unit : str
        Column that names the cells.
    group : str or sequence of str
        Columns of projects that together define a treatment.
    precision : str
        Column of projects: "exact", "near", "adm2" (or 1, 2, 3), or any other label of a coarser region.
    radius_km : float
        Reach of a nearly located project, kilometres.
    rule : str
        "any" (as above), or "adm2": every project of precision 1 to 3 treats its whole district.
    admin : str
        Column of cells with their district; where projects lack it, the district of the cell that holds the point.
    ambiguous : str
        "keep": cells of unknown treatment stay controls (0). "drop": they are missing (NaN) for that treatment, hence
        not eligible for it.
    use : sequence of str
        Precisions that define treatments; ("exact",), then ("exact", "near"), ... show how much hangs on footprints.
    regions : mapping, optional
        Coarser precision -> column of cells (and of projects, if they have it) with the region; None: anywhere. A
        label that is itself a column of cells needs no entry.
    coords : pair of str, optional
        Longitude and latitude columns of projects, degrees WGS84; a GeoDataFrame supplies its own with None.
    bounds : four str
        West, south, east and north columns of cells, degrees WGS84; not read for polygons.
    periods : sequence, optional
        Periods of the result; None: those of the projects.

    Returns
    -------
    dict of ndarray (J x periods,)
        ``unit``, ``period`` and ``admin`` columns; one float64 column of 0 and 1 (NaN: see ``ambiguous``) per
        treatment, named by its labels joined with "_", numbers after their column's name ("funder1_sector2");
        ``n_projects``; ``share_exact``, ``share_near``, ``share_adm2`` of the projects that treat the cell (NaN
        without one); ``ambiguous`` (bool). Period by period, cells in the order given.

    Raises
    ------
    DataError
        Unusable columns, places or shapes.

    Examples
    --------
    >>> import causalsat as cs
    >>> cells = {"cell": ["a", "b"], "west": [0, 1], "east": [1, 2], "south": [0, 0], "north": [1, 1]}
    >>> project = {"longitude": [1.0], "latitude": [0.5], "year": [2015], "funder": ["F"], "precision": ["exact"]}
    >>> cs.footprints(project, cells, period="year", group="funder")["F"]
    array([0., 1.])
    """
    radius = number("radius_km", radius_km, 0.0, 20_000.0)
    one_of("rule", rule, ("any", "adm2"))
    one_of("ambiguous", ambiguous, ("keep", "drop"))
    used = tuple(one_of("use", level, LEVELS) for level in ((use,) if isinstance(use, str) else use))
    if not used:
        raise OptionError(f"use is empty; allowed: {', '.join(LEVELS)}.")
    place = read_cells(cells, unit, bounds)
    located = _located(read_frame(projects), place, period, group, precision, coords, periods)
    reach = _Reach(place, located, radius, admin, dict(regions or {}), rule)
    return _columns(reach, used, ambiguous, unit, period, admin)


@dataclass(frozen=True, eq=False)
class _Located:
    """Projects as arrays: where, when, what, how precisely."""

    frame: Frame
    lonlat: np.ndarray
    period: np.ndarray
    periods: np.ndarray
    treatment: np.ndarray
    treatments: tuple[str, ...]
    precision: np.ndarray
    cell: np.ndarray


def _located(
    frame: Frame,
    cells: Cells,
    period: str,
    group: str | Sequence[str],
    precision: str,
    coords: Sequence[str] | None,
    periods: Sequence[Any] | None,
) -> _Located:
    lonlat = _places(frame, coords)
    when, labels = frame.column(period, "period").codes("period")
    _refuse_missing(when < 0, "period", period)
    if periods is not None:
        wanted = np.asarray(periods)
        at = {value: i for i, value in enumerate(wanted.tolist())}
        when, labels = np.array([at.get(value, -1) for value in labels.tolist()], dtype=np.int64)[when], wanted
    treatment, names = _treatments(frame, (group,) if isinstance(group, str) else tuple(group))
    level = texts_of_column(frame, precision, "precision")
    _refuse_missing(level == "", "precision", precision)
    level = np.array([_NUMBERED.get(text, text) for text in level.tolist()])
    return _Located(frame, lonlat, when, labels, treatment, names, level, holding_cell(cells, lonlat))


def _places(frame: Frame, coords: Sequence[str] | None) -> np.ndarray:
    if coords is None or (frame.lonlat is not None and not set(coords) <= set(frame.names)):
        if frame.lonlat is None:
            raise DataError("projects have no geometry; name their longitude and latitude columns with coords=.")
        return frame.lonlat
    pair = np.column_stack([frame.column(name, "coords").numbers("coords") for name in coords])
    known = np.isfinite(pair).all(axis=1)
    pair[~known] = np.nan
    if known.any():
        present = Frame(int(known.sum()), tuple(coords), {name: pair[known, j] for j, name in enumerate(coords)})
        pair[known] = study_lonlat(present, coords)
    return pair


def _refuse_missing(missing: np.ndarray, role: str, name: str) -> None:
    if missing.any():
        raise DataError(
            f"{role} column {name!r} of projects is missing in {int(missing.sum())} of {len(missing)} rows (first: row "
            f"{int(np.flatnonzero(missing)[0])}); fill it or drop those projects."
        )


def _treatments(frame: Frame, group: tuple[str, ...]) -> tuple[np.ndarray, tuple[str, ...]]:
    if not group:
        raise OptionError("group is empty; name the columns that define a treatment, for example funder and sector.")
    codes = []
    names: list[list[str]] = []
    for name in group:
        column = frame.column(name, "group")
        code, labels = column.codes("group")
        _refuse_missing(code < 0, "group", name)
        codes.append(code)
        names.append([f"{name}{v}" if column.kind in ("number", "bool") else str(v) for v in labels.tolist()])
    found, treatment = np.unique(np.stack(codes, axis=1), axis=0, return_inverse=True)
    return np.ravel(treatment), tuple("_".join(names[j][c] for j, c in enumerate(row)) for row in found.tolist())


@dataclass(frozen=True, eq=False)
class _Reach:
    """The cells that projects treat, or may treat, as counts (periods, J)."""

    cells: Cells
    projects: _Located
    radius_km: float
    admin: str
    regions: dict[Any, str | None]
    rule: str

    def counts(self, chosen: np.ndarray, level: str) -> np.ndarray:
        """How many of the ``chosen`` projects, all of one precision, reach each cell in each period."""
        if self.rule == "adm2" and level in LEVELS:
            return self._of_region(chosen, self.admin)
        if level == "exact":
            return self._of_pairs(chosen, self.projects.cell[chosen])
        if level == "near":
            return self._of_pairs(*self._near(chosen))
        return self._of_region(chosen, self.admin if level == "adm2" else self._region(level))

    def _empty(self) -> np.ndarray:
        return np.zeros((len(self.projects.periods), len(self.cells.unit)), dtype=np.int64)

    def _of_pairs(self, project: np.ndarray, cell: np.ndarray) -> np.ndarray:
        found, when = self._empty(), self.projects.period[project]
        inside = (cell >= 0) & (when >= 0)
        np.add.at(found, (when[inside], cell[inside]), 1)
        return found

    def _near(self, chosen: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        from scipy.spatial import cKDTree

        tree = cKDTree(unit_vectors(self.cells.centre))
        points = unit_vectors(self.projects.lonlat[chosen])
        # A rounding step of slack: a centroid exactly at the radius is within it.
        lists = tree.query_ball_point(points, chord_of_km(self.radius_km) * (1.0 + 1e-12))
        holding = self.projects.cell[chosen]
        reached = [np.union1d(np.asarray(c, np.int64), [h]) for c, h in zip(lists, holding.tolist())]
        project = np.repeat(chosen, [len(c) for c in reached])
        return project, np.concatenate(reached) if reached else np.zeros(0, np.int64)

    def _of_region(self, chosen: np.ndarray, column: str | None) -> np.ndarray:
        when = self.projects.period[chosen]
        if column is None:
            everywhere = np.bincount(when[when >= 0], minlength=len(self.projects.periods))
            return self._empty() + everywhere[:, None]
        own = texts_of_column(self.cells.frame, column, "admin")
        theirs = np.append(own, "")[self.projects.cell[chosen]]
        if column in self.projects.frame.names:
            given = texts_of_column(self.projects.frame, column, "admin")[chosen]
            theirs = np.where(given == "", theirs, given)
        cell_code, code, n_codes = region_codes(own, theirs)
        table = np.zeros((len(self.projects.periods), n_codes + 1), dtype=np.int64)
        known = (code >= 0) & (when >= 0)
        np.add.at(table, (when[known], code[known]), 1)
        return table[:, cell_code]

    def _region(self, level: str) -> str | None:
        for label, column in self.regions.items():
            if str(label) == level:
                return column
        if level in self.cells.frame.names:
            return level
        known = [*LEVELS, *map(str, self.regions), *self.cells.frame.names]
        raise DataError(
            f"precision {level!r} is neither exact, near, adm2 (1, 2, 3) nor a column of cells, so the region of its "
            f"projects is unknown. Write regions={{{level!r}: <column of cells with that region>}}, or "
            f"regions={{{level!r}: None}} for a project that may be anywhere.{nearest(level, known)}"
        )


def _columns(
    reach: _Reach, used: tuple[str, ...], ambiguous: str, unit: str, period: str, admin: str
) -> dict[str, np.ndarray]:
    cells, projects = reach.cells, reach.projects
    n_periods, n_cells = len(projects.periods), len(cells.unit)
    out = {unit: np.tile(cells.unit, n_periods), period: np.repeat(projects.periods, n_cells)}
    if admin in cells.frame.names:
        out[admin] = np.tile(texts_of_column(cells.frame, admin, "admin"), n_periods)
    reserved = {*out, "n_projects", "ambiguous", *(f"share_{level}" for level in LEVELS)}
    checked_names(projects.treatments, dict.fromkeys(reserved))
    _refuse_unplaced(reach, used)
    by_level = {level: np.zeros((n_periods, n_cells), dtype=np.int64) for level in LEVELS}
    unsure = np.zeros((n_periods, n_cells), dtype=bool)
    for k, name in enumerate(projects.treatments):
        treated = np.zeros((n_periods, n_cells), dtype=bool)
        unknown = np.zeros((n_periods, n_cells), dtype=bool)
        for level in dict.fromkeys(projects.precision[projects.treatment == k].tolist()):
            found = reach.counts(np.flatnonzero((projects.treatment == k) & (projects.precision == level)), level)
            if level in used:
                by_level[level] += found
                treated |= found > 0
            else:
                unknown |= found > 0
        unknown &= ~treated
        unsure |= unknown
        status = treated.astype(np.float64)
        out[name] = np.where(unknown & (ambiguous == "drop"), np.nan, status).ravel()
    total = np.sum(list(by_level.values()), axis=0)
    out["n_projects"] = total.ravel()
    for level, found in by_level.items():
        out[f"share_{level}"] = np.where(total > 0, found / np.maximum(total, 1), np.nan).ravel()
    return out | {"ambiguous": unsure.ravel()}


def _refuse_unplaced(reach: _Reach, used: tuple[str, ...]) -> None:
    """Points are needed by exact and near projects; projects that reach no cell are told of."""
    projects = reach.projects
    by_point = np.isin(projects.precision, ("exact", "near")) & (reach.rule == "any")
    lost = by_point & ~np.isfinite(projects.lonlat).all(axis=1)
    if lost.any():
        raise DataError(
            f"{int(lost.sum())} projects located exactly or nearly have no longitude and latitude (first: row "
            f"{int(np.flatnonzero(lost)[0])}); give their places, or a coarser precision."
        )
    outside = (projects.precision == "exact") & by_point & (projects.cell < 0)
    if outside.any() and "exact" in used:
        warn(
            f"footprints: {int(outside.sum())} of {len(outside)} projects are located exactly but outside every cell, "
            f"so they treat none (first: row {int(np.flatnonzero(outside)[0])}).",
            FootprintWarning,
        )
