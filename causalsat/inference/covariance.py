"""Covariance of estimates from their influence values: heteroskedastic, clustered, two-way and spatial."""

import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from causalsat.errors import DataError, FewClustersWarning, OptionError, warn
from causalsat.inference.meat import cluster_sizes, cluster_sums, intersection, outer_sum
from causalsat.inference.options import Sandwich
from causalsat.inference.sampling import Sampling
from causalsat.inference.small_sample import correction

FEW_CLUSTERS = 30
_ROUNDING = 1e-13


@dataclass(frozen=True)
class Covariance:
    """Covariance matrix of k estimates with the facts a reader needs to judge it.

    Attributes
    ----------
    matrix : np.ndarray
        (k, k) float64 in products of the units of the estimates. The row and column of an effect without a usable
        variance are NaN.
    std_error : np.ndarray
        (k,) float64, NaN where unavailable; zero only when every influence value of the effect is zero.
    kind : str
        The kind computed (a Conley cutoff below the nearest neighbour becomes "hc0").
    factor : float
        Small-sample factor inside ``matrix``.
    n_clusters : int or None
        Number of clusters, the smaller one of two ways; None without clusters.
    df : float
        Degrees of freedom of the t law; infinite means the normal law.
    cutoff_km : float or None
        Conley cutoff in kilometres.
    unavailable : dict of int to str
        Position of an effect -> why it has no standard error.
    notes : dict
        Kernel, lag, singletons, the parts of a two-way covariance, pairs within the cutoff.
    """

    matrix: np.ndarray
    std_error: np.ndarray
    kind: str
    factor: float
    n_clusters: int | None
    df: float
    cutoff_km: float | None = None
    unavailable: dict[int, str] = field(default_factory=dict)
    notes: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Meat:
    """A sum over pairs K_ij u_i u_j' before its factor, with what it was made of."""

    matrix: np.ndarray
    kind: str
    n_clusters: int | None = None
    cutoff_km: float | None = None
    notes: dict[str, Any] = field(default_factory=dict)


def influence_covariance(
    influence: np.ndarray, sandwich: Sandwich, sampling: Sampling, *, n_parameters: int = 1
) -> Covariance:
    """Covariance of k estimates from their influence values.

    With estimate - truth = mean(phi) + smaller terms, V = factor * sum_ij K_ij phi_i phi_j' / n^2, where K_ij is 1 on
    the diagonal only (hc0), within clusters (cluster), or falls with distance (conley). It assumes that rows with
    K_ij = 0 are uncorrelated and that nuisances matter only to second order (orthogonal scores).

    Parameters
    ----------
    influence : np.ndarray
        (n, k) float64 influence values, mean zero; a column with values that are not finite has no standard error.
    sandwich : Sandwich
        "hc0", "hc1" (times n/(n - n_parameters)), "cluster", "twoway", "crv3" (one-step leave-one-cluster-out
        values -S_c/(n - n_c), exact for a mean) or "conley". ``small_sample="auto"`` means no factor.
    sampling : Sampling
        Clusters, coordinates, periods and units of the rows.
    n_parameters : int
        Parameters counted by hc1 and crv1.

    Returns
    -------
    Covariance
        A negative variance (possible for "twoway", and for "conley" with any kernel but "askey") is NaN with its
        reason, never clipped.

    Raises
    ------
    OptionError
        "classical" or "hc3" (they need a regression), or a kind whose clusters or coordinates are missing.
    DataError
        One cluster, or arrays of unequal length.

    References
    ----------
    Cameron, Gelbach & Miller (2011), "Robust inference with multiway clustering"; Conley (1999), "GMM estimation with
    cross sectional dependence"; MacKinnon, Nielsen & Webb (2023), "Cluster-robust inference: a guide to empirical
    practice".

    Examples
    --------
    >>> phi = np.array([[1.0], [-1.0], [2.0], [-2.0]])
    >>> out = influence_covariance(phi, Sandwich("hc0"), Sampling(4))
    >>> out.std_error.round(4)
    array([0.7906])
    """
    if sandwich.kind in ("classical", "hc3"):
        raise OptionError(
            f'kind="{sandwich.kind}" needs the residuals and leverages of a regression; influence values allow "hc0", '
            '"hc1", "cluster", "crv3", "twoway" and "conley".'
        )
    values = influence_matrix(influence, sampling.n)
    finite = np.isfinite(values).all(axis=0)
    contributions = np.where(finite[None, :], values, 0.0) / sampling.n
    if sandwich.kind == "crv3":
        meat = _one_step_crv3(contributions, sampling)
    else:
        meat = pair_sum(contributions, sandwich, sampling)
    covariance = finished(meat, contributions, sandwich, sampling.n, n_parameters, auto="none")
    return without(covariance, ~finite, "its influence values are not finite")


def influence_matrix(influence: np.ndarray, n: int) -> np.ndarray:
    """``influence`` as an (n, k) float64 matrix; a vector is one column."""
    values = np.asarray(influence, dtype=np.float64)
    values = values[:, None] if values.ndim == 1 else values
    if values.ndim != 2 or values.shape[0] != n:
        raise DataError(f"influence has shape {np.shape(influence)}; (n, k) with n={n} rows is needed.")
    return values


def pair_sum(contributions: np.ndarray, sandwich: Sandwich, sampling: Sampling) -> Meat:
    """Sum of K_ij u_i u_j' for the kinds that need nothing but contributions u (n, k)."""
    kind = sandwich.kind
    if kind in ("hc0", "hc1"):
        return Meat(outer_sum(contributions), kind)
    if kind == "cluster":
        return _one_way(contributions, required("cluster", sampling.cluster, kind))
    if kind == "twoway":
        first = required("cluster", sampling.cluster, kind)
        return _two_way(contributions, first, required("second", sampling.second, kind))
    from causalsat.inference.conley import conley_meat

    return conley_meat(contributions, sandwich, sampling)


def required(name: str, values: np.ndarray | None, kind: str) -> np.ndarray:
    """``values``, or an error that says what ``kind`` lacks."""
    if values is None:
        wanted = {"second": "a second cluster column", "lonlat": "coordinates"}.get(name, f"a {name} column")
        raise OptionError(f'Sandwich(kind="{kind}") needs {wanted} and none was given.')
    return values


def clusters_of(codes: np.ndarray) -> tuple[int, dict[str, Any]]:
    """Number of clusters and notes on their sizes; one cluster is an error, fewer than 30 a warning."""
    sizes = cluster_sizes(codes)
    if sizes.size < 2:
        raise DataError(
            "all rows are in one cluster, so no variance between clusters exists; use a finer cluster column."
        )
    if sizes.size < FEW_CLUSTERS:
        warn(
            f"{sizes.size} clusters are few: a cluster-robust standard error is then too small on average. For least "
            'squares use kind="crv3", or a wild bootstrap with webb weights.',
            FewClustersWarning,
        )
    return int(sizes.size), {"singletons": int((sizes == 1).sum()), "largest_cluster": int(sizes.max())}


def finished(
    meat: Meat, contributions: np.ndarray, sandwich: Sandwich, n: int, n_parameters: int, *, auto: str
) -> Covariance:
    """A meat with its factor, reference law, standard errors and the reasons for those that do not exist."""
    fixed = correction(sandwich, auto, n, n_parameters, meat.n_clusters)
    matrix = fixed.factor * meat.matrix
    variance = np.diag(matrix).copy()
    scale = (contributions**2).sum(axis=0)
    unavailable = _reasons(meat, variance, scale)
    std_error = np.sqrt(np.where(variance > 0.0, variance, 0.0))
    covariance = Covariance(
        matrix, std_error, meat.kind, fixed.factor, meat.n_clusters, fixed.df, meat.cutoff_km, {}, dict(meat.notes)
    )
    for position, reason in unavailable.items():
        covariance = without(covariance, np.arange(variance.size) == position, reason)
    return covariance


def without(covariance: Covariance, lost: np.ndarray, reason: str) -> Covariance:
    """``covariance`` with the effects marked in ``lost`` (k,) set to NaN for ``reason``."""
    if not lost.any():
        return covariance
    matrix, std_error = covariance.matrix.copy(), covariance.std_error.copy()
    matrix[lost, :], matrix[:, lost], std_error[lost] = np.nan, np.nan, np.nan
    reasons = covariance.unavailable | {int(j): reason for j in np.flatnonzero(lost)}
    return Covariance(
        matrix, std_error, covariance.kind, covariance.factor, covariance.n_clusters, covariance.df,
        covariance.cutoff_km, reasons, covariance.notes,
    )  # fmt: skip


def positive_part(matrix: np.ndarray) -> tuple[np.ndarray, int]:
    """Nearest positive semi-definite matrix and the number of eigenvalues set to zero.

    For matrices that must be inverted (Wald tests, weighting) only: standard errors are never clipped.

    Examples
    --------
    >>> positive_part(np.diag([1.0, -0.5]))[1]
    1
    """
    values, vectors = np.linalg.eigh(0.5 * (matrix + matrix.T))
    negative = values < -_ROUNDING * max(float(np.abs(values).max()), 0.0)
    kept = np.where(values > 0.0, values, 0.0)
    clipped = (vectors * kept[None, :]) @ vectors.T
    return 0.5 * (clipped + clipped.T), int(negative.sum())


def _one_way(contributions: np.ndarray, codes: np.ndarray) -> Meat:
    g, notes = clusters_of(codes)
    return Meat(outer_sum(cluster_sums(contributions, codes)), "cluster", g, notes=notes)


def _two_way(contributions: np.ndarray, first: np.ndarray, second: np.ndarray) -> Meat:
    """V1 + V2 - V12 (Cameron, Gelbach & Miller 2011, equation 2.13)."""
    (g1, notes1), (g2, notes2) = clusters_of(first), clusters_of(second)
    both = intersection(first, second)
    parts = [outer_sum(cluster_sums(contributions, codes)) for codes in (first, second, both)]
    notes = {
        "singletons": (notes1["singletons"], notes2["singletons"]),
        "clusters": (g1, g2, int(cluster_sizes(both).size)),
        "first": np.diag(parts[0]).copy(),
        "second": np.diag(parts[1]).copy(),
        "intersection": np.diag(parts[2]).copy(),
    }
    return Meat(parts[0] + parts[1] - parts[2], "twoway", min(g1, g2), notes=notes)


def _one_step_crv3(contributions: np.ndarray, sampling: Sampling) -> Meat:
    codes = required("cluster", sampling.cluster, "crv3")
    g, notes = clusters_of(codes)
    n, sizes = float(sampling.n), cluster_sizes(codes)
    shifts = cluster_sums(contributions, codes) * (n / (n - sizes))[:, None]
    return Meat(outer_sum(shifts), "crv3", g, notes=notes)


def _reasons(meat: Meat, variance: np.ndarray, scale: np.ndarray) -> dict[int, str]:
    reasons: dict[int, str] = {}
    for j in range(variance.size):
        if scale[j] == 0.0:
            continue
        if not math.isfinite(variance[j]):
            reasons[j] = "its variance is not finite"
        elif abs(variance[j]) <= _ROUNDING * scale[j]:
            reasons[j] = "its variance is zero up to rounding: the influence values cancel in every sum that is formed"
        elif variance[j] < 0.0:
            reasons[j] = _negative(meat, variance[j], j)
    return reasons


def _negative(meat: Meat, value: float, j: int) -> str:
    if meat.kind == "twoway":
        larger = max(meat.notes["first"][j], meat.notes["second"][j])
        return (
            f"the two-way variance is negative ({value:.3g}); the larger one-way variance, {larger:.3g} before its "
            "factor, is an alternative"
        )
    return f"the Conley variance is negative ({value:.3g}); kernel='askey' cannot give one, a different cutoff may not"
