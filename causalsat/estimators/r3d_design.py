"""What `r3d` estimates from: units with their side of the cutoff, quantiles, weights and dependence."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from causalsat.errors import number, one_of
from causalsat.estimators.ate_options import names_of
from causalsat.estimators.r3d_guards import (
    guard_cutoff,
    guard_outcome,
    guard_raw_images,
    guard_roles,
    guard_segments,
    guard_sides,
    guard_treatment,
)
from causalsat.estimators.r3d_units import (
    covariate_matrix,
    data_notes,
    distribution,
    grid,
    kept_units,
    matrix_rows,
    n_draws,
    number_labels,
    sampling_rows,
    segment_parts,
    unit_sampling,
)
from causalsat.inference.sampling import Sampling
from causalsat.study.coordinates import study_lonlat
from causalsat.study.distributions import QuantileMatrix
from causalsat.study.roles import Role, RoleColumns, numeric_array, role_columns
from causalsat.study.unit_draws import UnitDraws
from causalsat.study.unit_functionals import (
    matrix_as_draws,
    matrix_levels,
    unit_functional,
    unit_means,
)
from causalsat.study.unit_quantiles import cell_weights, check_rule, sampling_variance, unit_quantiles, warn_small_units
from causalsat.study.unit_rows import UnitRows, open_units


@dataclass(frozen=True, eq=False)
class R3dDesign:
    """Units of a regression discontinuity, ready to fit; n units in an order that labels and rows do not change.

    Attributes
    ----------
    x : np.ndarray
        (n,) float64 running variable minus cutoff.
    treated : np.ndarray
        (n,) bool, whether the unit counts as right of the cutoff.
    Q : np.ndarray
        (n, M) float64 quantiles of the units in the outcome's unit.
    quantiles, cells : np.ndarray
        (M,) levels and their cell weights in integrals over quantiles (not normalised).
    means : np.ndarray
        (n,) exact means of the units.
    draws : UnitDraws or None
        The draws themselves; None when quantiles were given.
    matrix : QuantileMatrix or None
        The quantiles given by the caller.
    omega : np.ndarray
        (n,) unit weights with mean one.
    n_draws : np.ndarray
        (n,) int64 draws per unit (zero when quantiles were given).
    treatment : np.ndarray or None
        (n,) treatment received, in fuzzy designs.
    covariates : np.ndarray
        (n, k) independent covariates.
    covariate_names : tuple of str
        Their names.
    sampling : Sampling
        Clusters and places of the units.
    labels : np.ndarray
        (n,) labels of the units.
    cutoffs : np.ndarray
        (C,) cutoffs in use.
    cutoff : np.ndarray
        (n,) int64 position of each unit's cutoff among them.
    parts : tuple of str
        Labels of the cutoffs, or of the segments of the border.
    part : np.ndarray
        (n,) int64 position of each unit's cutoff or segment among them.
    names : dict
        Argument to the column it named.
    notes : dict
        What was left off, tied, dropped or read into the data, for ``meta``.
    n_input : int
        Units before any was dropped.
    dropped : dict
        Reason to units left out.
    data_hash : str
        SHA-256 of the data in use.
    rows : np.ndarray
        (n,) int64 positions of the units among those read (the rows of a table with one row per unit).
    rule, small_sample : str
        How quantiles of units were taken.
    """

    x: np.ndarray
    treated: np.ndarray
    Q: np.ndarray
    quantiles: np.ndarray
    cells: np.ndarray
    means: np.ndarray
    draws: UnitDraws | None
    matrix: QuantileMatrix | None
    omega: np.ndarray
    n_draws: np.ndarray
    treatment: np.ndarray | None
    covariates: np.ndarray
    covariate_names: tuple[str, ...]
    sampling: Sampling
    labels: np.ndarray
    cutoffs: np.ndarray
    cutoff: np.ndarray
    parts: tuple[str, ...]
    part: np.ndarray
    names: dict[str, Any]
    notes: dict[str, Any]
    n_input: int
    dropped: dict[str, int]
    data_hash: str
    rows: np.ndarray
    rule: str = "type7"
    small_sample: str | None = None

    @property
    def n(self) -> int:
        """Number of units."""
        return int(self.x.size)

    @property
    def split(self) -> str:
        """What tells the sets of units apart: "segment" or "cutoff"."""
        return "segment" if self.names.get("segments") else "cutoff"

    def take(self, rows: np.ndarray) -> "R3dDesign":
        """The units at positions ``rows`` (or where a mask holds); weights keep their scale."""
        rows = np.flatnonzero(rows) if np.asarray(rows).dtype == bool else np.asarray(rows, dtype=np.int64)
        names = ("x", "treated", "Q", "means", "omega", "n_draws", "covariates", "labels", "cutoff", "part", "rows")
        changed = {name: getattr(self, name)[rows] for name in names}
        return replace(
            self,
            **changed,
            treatment=None if self.treatment is None else self.treatment[rows],
            draws=None if self.draws is None else self.draws.take(rows),
            matrix=None if self.matrix is None else matrix_rows(self.matrix, rows),
            sampling=sampling_rows(self.sampling, rows),
        )

    def at_levels(self, levels: np.ndarray) -> np.ndarray:
        """(n, M') quantiles of the units at other levels by the same rule; interpolated where quantiles were given."""
        if self.draws is None:
            return matrix_levels(self._given(), levels)
        return unit_quantiles(self.draws, levels, rule=self.rule, small_sample=self.small_sample)

    def unit_column(self, name: str, *arguments: float) -> np.ndarray:
        """(n,) a functional of each unit's own distribution, see :func:`~causalsat.study.unit_functionals`."""
        if name == "mean":
            return self.means
        if self.draws is not None:
            return unit_functional(self.draws, name, *arguments, rule=self.rule)
        return unit_functional(matrix_as_draws(self._given()), name, *arguments, rule=self.rule)

    def with_quantiles(self, rule: str, small_sample: str | None = None) -> "R3dDesign":
        """The same units with quantiles by another rule; given quantiles stay."""
        if self.draws is None:
            return self
        columns = unit_quantiles(self.draws, self.quantiles, rule=rule, small_sample=small_sample)
        return replace(self, Q=columns, rule=rule, small_sample=small_sample)

    def without_clusters(self) -> "R3dDesign":
        """The same units, each its own cluster."""
        return replace(self, sampling=replace(self.sampling, cluster=None))

    def draw_notes(self, window: np.ndarray) -> dict[str, Any]:
        """Draws per unit in the window (n,) bool, and the noise that few draws leave in the quantiles; for ``meta``.

        ``noise_share`` (M,) is the share of the variance between units that is sampling noise within them.
        """
        rows = np.flatnonzero(window)
        if self.draws is None or not rows.size:
            return {}
        sizes = self.n_draws[rows]
        noise = sampling_variance(self.draws.take(rows), self.quantiles)
        some = ~np.isnan(noise)
        mean = np.where(some, noise, 0.0).sum(axis=0) / np.maximum(some.sum(axis=0), 1)
        between = self.Q[rows].var(axis=0)
        known = some.any(axis=0) & (between > 0.0)
        share = np.where(known, np.minimum(mean / np.where(known, between, 1.0), 1.0), np.nan)
        return {
            "draws_min": int(sizes.min()),
            "draws_median": float(np.median(sizes)),
            "draw_error_rate": float(sizes.min() ** -0.5),
            "noise_share": tuple(share.tolist()),
        }

    def warn_small_units(self, window: np.ndarray) -> bool:
        """Warn when units in the window (n,) bool have few draws, see :mod:`causalsat.study.unit_quantiles`."""
        if self.draws is None or not np.any(window):
            return False
        return warn_small_units(self.n_draws[window], self.quantiles, rule=self.rule, small_sample=self.small_sample)

    def _given(self) -> QuantileMatrix:
        return self.matrix if self.matrix is not None else QuantileMatrix(self.Q, self.quantiles, self.means)


def open_design(
    data: Any,
    *,
    outcome: Any,
    running: str,
    unit: str | None = None,
    cutoff: float | str = 0.0,
    segments: str | None = None,
    treatment: str | None = None,
    covariates: str | Sequence[str] | None = None,
    weights: Any = None,
    unit_weights: str | None = None,
    cluster: str | None = None,
    coords: Sequence[str] | None = None,
    quantiles: Any = 99,
    quantile_rule: str = "type7",
    small_sample: str | None = None,
    donut: float = 0.0,
    tie: str = "treated",
    count_weights: bool = False,
    verb: str = "r3d",
) -> R3dDesign:
    """Check data in any of the five shapes and turn them into units.

    Parameters
    ----------
    data, outcome, running, unit, cutoff, segments, treatment, covariates, weights, unit_weights, cluster, coords,
    quantiles, quantile_rule, small_sample, donut, tie
        As in `r3d`. ``unit=None`` makes every row a unit. A number of ``quantiles`` does not change the levels of a
        QuantileMatrix; an array picks or interpolates some of them.
    count_weights : bool
        ``weights`` are numbers of draws.
    verb : str
        Name of the calling verb, for messages.

    Returns
    -------
    R3dDesign

    Raises
    ------
    DataError
        Columns that vary inside a unit, no units on a side, a constant running variable or outcome, a treatment that
        is the same on both sides, infinite draws, negative weights.
    OptionError
        A quantile rule, grid or correction that is not allowed.
    """
    guard_raw_images(covariates)
    guard_roles(outcome, running, unit, treatment, covariates)
    check_rule(quantile_rule, small_sample)
    one_of("tie", tie, ("treated", "control", "drop"))
    cutoff = cutoff if isinstance(cutoff, str) else number("cutoff", cutoff, -math.inf, math.inf)
    guard_segments(cutoff, segments)
    roles = _roles(running, cutoff, segments, treatment, covariates, unit_weights, cluster)
    constant = {role.name: role.names() for role in roles}
    if coords is not None and not isinstance(coords, str):
        constant["coords"] = tuple(coords)
    column = cutoff if isinstance(cutoff, str) else None
    units = open_units(
        data, outcome=outcome, unit=unit, constant=constant, weights=weights, cutoff=column,
        count_weights=count_weights,
    )  # fmt: skip
    names = {
        "outcome": outcome if isinstance(outcome, str) else type(outcome).__name__,
        "running": running, "unit": unit, "cutoff": column, "segments": segments, "treatment": treatment,
        "covariates": names_of(covariates), "unit_weights": unit_weights, "cluster": cluster,
        "weights": weights if isinstance(weights, str) or weights is None else type(weights).__name__,
        "weights_column": weights if isinstance(weights, str) else None, "count_weights": bool(count_weights),
        "coords": None if coords is None else coords if isinstance(coords, str) else tuple(coords),
    }  # fmt: skip
    return _design(units, roles, coords, cutoff, quantiles, quantile_rule, small_sample, donut, tie, names, verb)


def _ordered(units: UnitRows, found: dict[str, RoleColumns], x: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Positions by running variable; what else is known of the units, not their labels or rows, breaks ties."""
    rows = rows[np.argsort(x[rows], kind="stable")]
    if bool((np.diff(x[rows]) > 0.0).all()):
        return rows
    if units.draws is not None:
        means = unit_means(units.draws.take(rows))
    else:
        means = np.zeros(rows.size) if units.matrix is None else units.matrix.values[rows].mean(axis=1)
    known = [numeric_array(found[name], rows) for name in ("unit_weights", "treatment") if name in found]
    return np.asarray(rows[np.lexsort((*known, means, x[rows]))])


def _roles(
    running: str,
    cutoff: float | str,
    segments: str | None,
    treatment: str | None,
    covariates: str | Sequence[str] | None,
    unit_weights: str | None,
    cluster: str | None,
) -> tuple[Role, ...]:
    roles = (
        Role("running", running, "numeric", constant="allow"),
        Role("cutoff", cutoff if isinstance(cutoff, str) else None, "numeric", constant="allow"),
        Role("segments", segments, "codes", constant="allow"),
        Role("treatment", treatment, "numeric", constant="allow"),
        Role("covariates", names_of(covariates) or None, "design", many=True, constant="allow"),
        Role("unit_weights", unit_weights, "weights"),
        Role("cluster", cluster, "codes", constant="allow"),
    )
    return tuple(role for role in roles if role.columns is not None)


def _design(
    units: UnitRows,
    roles: Sequence[Role],
    coords: Sequence[str] | None,
    cutoff: float | str,
    quantiles: Any,
    rule: str,
    small_sample: str | None,
    donut: float,
    tie: str,
    names: dict[str, Any],
    verb: str,
) -> R3dDesign:
    found = {item.role.name: item for item in role_columns(units.frame, roles)}
    lonlat = study_lonlat(units.frame, coords)
    every = np.arange(units.frame.n)
    running = numeric_array(found["running"], every)
    points = numeric_array(found["cutoff"], every) if "cutoff" in found else np.full(every.size, float(cutoff))
    guard_cutoff(running, points, names["running"])
    x = running - points
    rows, dropped = kept_units(units, found, x, donut, tie, verb)
    rows = _ordered(units, found, x, rows)
    x = x[rows]
    treated = x > 0.0 if tie == "control" else x >= 0.0
    guard_sides(x, treated, names["running"], donut)
    notes = data_notes(units, x, donut, tie)
    covariates, covariate_names = covariate_matrix(found, rows, notes)
    treatment = None
    if "treatment" in found:
        treatment = numeric_array(found["treatment"], rows)
        notes["treatment"] = guard_treatment(treatment, treated, names["treatment"])
    weights = numeric_array(found["unit_weights"], rows) if "unit_weights" in found else np.ones(rows.size)
    levels = grid(units, quantiles, rows, notes)
    draws = None if units.draws is None else units.draws.take(rows)
    matrix = None if units.matrix is None else matrix_rows(units.matrix, rows)
    columns, means = distribution(draws, matrix, levels, rule, small_sample)
    guard_outcome(columns)
    cutoffs, which = np.unique(points[rows], return_inverse=True)
    which = which.astype(np.int64)
    parts, part = segment_parts(found["segments"], rows) if "segments" in found else (number_labels(cutoffs), which)
    return R3dDesign(
        x=x, treated=treated, Q=columns, quantiles=levels, cells=cell_weights(levels), means=means, draws=draws,
        matrix=matrix, omega=weights / weights.mean(), n_draws=n_draws(draws, rows.size), treatment=treatment,
        covariates=covariates, covariate_names=covariate_names,
        sampling=unit_sampling(units, found, lonlat, rows, notes),
        labels=units.labels[rows], cutoffs=cutoffs, cutoff=which, parts=parts, part=part, names=names, notes=notes,
        n_input=units.frame.n, dropped=dropped, data_hash=units.data_hash, rows=rows, rule=rule,
        small_sample=small_sample,
    )  # fmt: skip
