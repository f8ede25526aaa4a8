"""Parts of a design of `r3d`: units in use, grid, distributions, covariates and dependence."""

from typing import Any

import numpy as np

from causalsat.errors import DataError, DroppedRowsWarning, warn
from causalsat.estimators.r3d_guards import guard_repeated_units, independent_covariates
from causalsat.inference.sampling import Sampling
from causalsat.study.distributions import QuantileMatrix
from causalsat.study.roles import RoleColumns, code_array, design_array
from causalsat.study.unit_draws import UnitDraws
from causalsat.study.unit_functionals import matrix_levels, matrix_means, unit_means
from causalsat.study.unit_quantiles import quantile_levels, unit_quantiles
from causalsat.study.unit_rows import UnitRows

POOLED = "pooled"


def kept_units(
    units: UnitRows, found: dict[str, RoleColumns], x: np.ndarray, donut: float, tie: str, verb: str
) -> tuple[np.ndarray, dict[str, int]]:
    """Positions of the units in use, and reason to units left out."""
    empty = np.isnan(units.matrix.values[:, 0]) if units.matrix is not None else np.zeros(x.size, bool)
    if units.draws is not None:
        empty = units.draws.sizes == 0
    reasons = [reason for item in found.values() for reason in item.missing()] + [("no draws", empty)]
    if "unit_weights" in found:
        reasons.append(("unit weight zero", found["unit_weights"].columns[0].numbers("unit_weights") == 0.0))
    if tie == "drop":
        reasons.append(("exactly at the cutoff", x == 0.0))
    reasons.append((f"inside the donut of {donut:g}", np.abs(x) < donut))
    keep = np.ones(x.size, bool)
    dropped: dict[str, int] = {}
    for reason, rows in reasons:
        fresh = int((rows & keep).sum())
        if fresh:
            dropped[reason] = fresh
        keep &= ~rows
    asked = ("exactly", "inside")
    surprising = {reason: number for reason, number in dropped.items() if not reason.startswith(asked)}
    listed = [f"{number} units: {reason}" for reason, number in surprising.items()]
    listed += [f"{number} draws: {reason}" for reason, number in units.lost.items()]
    if listed:
        warn(f"{verb}: left out of {x.size} units with {units.n_rows} rows: {'; '.join(listed)}.", DroppedRowsWarning)
    return np.flatnonzero(keep), dropped


def covariate_matrix(
    found: dict[str, RoleColumns], rows: np.ndarray, notes: dict[str, Any]
) -> tuple[np.ndarray, tuple[str, ...]]:
    """Independent covariates (n, k) and their names; those left out go to ``notes``."""
    if "covariates" not in found:
        return np.zeros((rows.size, 0)), ()
    matrix, names = design_array(found["covariates"], rows)
    kept, left_out = independent_covariates(matrix, names)
    if left_out:
        notes["dropped_covariates"] = left_out
    return matrix[:, kept], tuple(names[j] for j in kept.tolist())


def grid(units: UnitRows, quantiles: Any, rows: np.ndarray, notes: dict[str, Any]) -> np.ndarray:
    """Levels (M,) of the quantiles; those left off go to ``notes``."""
    if units.matrix is not None:
        return _matrix_choice(units.matrix, quantiles)
    sizes = np.maximum(np.rint(units.draws.take(rows).totals), 1.0) if units.draws is not None else np.ones(1)
    levels, left_off = quantile_levels(quantiles, sizes)
    if left_off.size:
        notes["levels_left_off"] = tuple(left_off.tolist())
    return levels


def _matrix_choice(matrix: QuantileMatrix, quantiles: Any) -> np.ndarray:
    """Levels of a quantile matrix: its own, or the ones asked for within their range."""
    if np.ndim(quantiles) == 0:
        return matrix.quantiles
    levels, _ = quantile_levels(quantiles, np.ones(1))
    beyond = levels[(levels < matrix.quantiles[0] - 1e-12) | (levels > matrix.quantiles[-1] + 1e-12)]
    if beyond.size:
        raise DataError(
            f"quantiles holds the level {beyond[0]:g}, outside the levels {matrix.quantiles[0]:g} to "
            f"{matrix.quantiles[-1]:g} of the QuantileMatrix; leave it out, or pass the draws."
        )
    return levels


def distribution(
    draws: UnitDraws | None, matrix: QuantileMatrix | None, levels: np.ndarray, rule: str, small_sample: str | None
) -> tuple[np.ndarray, np.ndarray]:
    """Quantiles (n, M) and means (n,) of the units."""
    if draws is not None:
        return unit_quantiles(draws, levels, rule=rule, small_sample=small_sample), unit_means(draws)
    if matrix is None:
        return np.zeros((0, levels.size)), np.zeros(0)
    same = levels.shape == matrix.quantiles.shape and bool((levels == matrix.quantiles).all())
    return (matrix.values if same else matrix_levels(matrix, levels)), matrix_means(matrix)


def n_draws(draws: UnitDraws | None, n: int) -> np.ndarray:
    """(n,) draws per unit, at least one; zero where quantiles were given."""
    if draws is None:
        return np.zeros(n, dtype=np.int64)
    return np.asarray(np.maximum(np.rint(draws.totals), 1.0).astype(np.int64))


def unit_sampling(
    units: UnitRows, found: dict[str, RoleColumns], lonlat: np.ndarray | None, rows: np.ndarray, notes: dict[str, Any]
) -> Sampling:
    """Clusters and places of the units; a unit at several cutoffs is a cluster unless one is named."""
    own = units.unit[rows]
    repeated = np.unique(own).size < own.size
    cluster = code_array(found["cluster"], rows)[0] if "cluster" in found else None
    if repeated:
        guard_repeated_units(own, cluster, units.labels[rows])
    if repeated and cluster is None:
        cluster = own
        notes["clusters"] = "units used at several cutoffs"
    places = None if lonlat is None else lonlat[rows]
    return Sampling(rows.size, cluster=None if cluster is None else _by_appearance(cluster), lonlat=places)


def _by_appearance(codes: np.ndarray) -> np.ndarray:
    """Codes renumbered in the order of the units, so that labels of clusters do not matter."""
    _, first, inverse = np.unique(codes, return_index=True, return_inverse=True)
    rank = np.empty(first.size, dtype=np.int64)
    rank[np.argsort(first)] = np.arange(first.size)
    return np.asarray(rank[inverse])


def number_labels(values: np.ndarray) -> tuple[str, ...]:
    """Shortest texts that tell numbers apart, with six digits at least and whole numbers in full."""
    numbers = values.tolist()
    texts: list[str] = []
    for digits in range(6, 18):
        texts = [str(int(v)) if v == int(v) and abs(v) < 1e15 else f"{v:.{digits}g}" for v in numbers]
        if len(set(texts)) == len(texts):
            break
    return tuple(texts)


def segment_parts(item: RoleColumns, rows: np.ndarray) -> tuple[tuple[str, ...], np.ndarray]:
    """Labels of the segments in use and (n,) the segment of each unit (raises DataError for labels that collide)."""
    codes, found = code_array(item, rows)
    labels = number_labels(found) if found.dtype.kind == "f" else tuple(str(label) for label in found.tolist())
    if POOLED in labels or len(set(labels)) < len(labels):
        raise DataError(
            f'segments column {item.columns[0].name!r} has labels that cannot be told apart, or "{POOLED}", the name '
            f"of all units together: {', '.join(labels[:8])}. Rename them."
        )
    return labels, codes


def data_notes(units: UnitRows, x: np.ndarray, donut: float, tie: str) -> dict[str, Any]:
    """What ``meta`` should say of the data."""
    notes: dict[str, Any] = {"rows_input": units.n_rows, "tie": tie, "ties": int((x == 0.0).sum()), "donut": donut}
    if units.lost:
        notes["draws_dropped"] = dict(units.lost)
    return notes


def matrix_rows(matrix: QuantileMatrix, rows: np.ndarray) -> QuantileMatrix:
    """The quantile matrix of some units."""
    return QuantileMatrix(matrix.values[rows], matrix.quantiles, None if matrix.means is None else matrix.means[rows])


def sampling_rows(sampling: Sampling, rows: np.ndarray) -> Sampling:
    """Clusters and places of some units."""
    return Sampling(
        rows.size,
        cluster=None if sampling.cluster is None else sampling.cluster[rows],
        lonlat=None if sampling.lonlat is None else sampling.lonlat[rows],
    )
