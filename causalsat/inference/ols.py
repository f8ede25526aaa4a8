"""Covariances of least-squares coefficients: the forms that need regressors, residuals and leverages."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from causalsat.errors import DataError, NumericalError, OptionError
from causalsat.inference.covariance import (
    Covariance,
    Meat,
    clusters_of,
    finished,
    pair_sum,
    required,
    without,
)
from causalsat.inference.meat import cluster_sums, outer_sum
from causalsat.inference.options import Sandwich
from causalsat.inference.sampling import Sampling
from causalsat.inference.small_sample import CLUSTERED

_SINGULAR = 1e-12
_LOST_CLUSTER = 1e-10
_FULL_LEVERAGE = 1e-9


@dataclass(frozen=True)
class Absorbed:
    """Parameters used up by effects that were partialled out.

    Attributes
    ----------
    everywhere : int
        All of them: sum of levels, minus one per effect after the first. Counted by hc1, hc3 and classical.
    unnested : int
        One, plus levels minus one per effect that is not nested in the cluster. Counted by crv1.
    """

    everywhere: int
    unnested: int


def absorbed_parameters(effects: Sequence[np.ndarray], cluster: np.ndarray | None = None) -> Absorbed:
    """Count the parameters of absorbed effects, an effect nested in the cluster apart.

    Parameters
    ----------
    effects : sequence of np.ndarray
        (n,) codes of each absorbed effect.
    cluster : np.ndarray, optional
        (n,) cluster codes; an effect is nested when each of its levels lies in one cluster.

    Examples
    --------
    >>> absorbed_parameters([np.array([0, 0, 1, 1])], cluster=np.array([0, 0, 1, 1]))
    Absorbed(everywhere=2, unnested=1)
    """
    if not effects:
        return Absorbed(0, 0)
    levels = [np.unique(codes).size for codes in effects]
    nested = [cluster is not None and _nested(codes, cluster) for codes in effects]
    unnested = sum(m - 1 for m, inside in zip(levels, nested, strict=True) if not inside)
    return Absorbed(sum(levels) - (len(levels) - 1), 1 + unnested)


def ols_covariance(
    X: np.ndarray,
    residuals: np.ndarray,
    sandwich: Sandwich,
    sampling: Sampling,
    *,
    weights: np.ndarray | None = None,
    n_absorbed: int = 0,
    n_absorbed_unnested: int | None = None,
    absorbed_leverage: np.ndarray | None = None,
) -> Covariance:
    """Covariance of the coefficients of a (weighted) least-squares regression.

    V = factor * B M B with B = (X'WX)^{-1} and scores s_i = w_i x_i e_i. It assumes E[x e] = 0 and that rows outside
    the dependence structure named by ``sandwich`` are uncorrelated.

    Parameters
    ----------
    X : np.ndarray
        (n, k) float64 regressors, constant included, absorbed effects partialled out.
    residuals : np.ndarray
        (n,) float64 in the unit of the outcome.
    sandwich : Sandwich
        "classical" s^2 B with s^2 = sum w e^2/(n - k); "hc0"; "hc1" times n/(n - k); "hc3" scores over 1 - h_i;
        "cluster"; "twoway"; "crv3" (G - 1)/G sum (b_(c) - b)(b_(c) - b)' by exact downdates; "conley".
        ``small_sample="auto"`` is "crv1" for "cluster" and "twoway", no factor for "conley".
    sampling : Sampling
        Clusters, coordinates, periods and units of the rows.
    weights : np.ndarray, optional
        (n,) float64 non-negative regression weights.
    n_absorbed, n_absorbed_unnested : int
        Parameters of absorbed effects for hc1, hc3 and classical, and for crv1 (None: the same); see
        :func:`absorbed_parameters`.
    absorbed_leverage : np.ndarray, optional
        (n,) leverages of the absorbed effects, needed by "hc3" when there are any.

    Returns
    -------
    Covariance
        In products of (unit of the outcome per unit of each regressor).

    Raises
    ------
    DataError
        Shapes that differ, weights that are negative or all zero, one cluster, no degree of freedom.
    NumericalError
        Regressors that are linearly dependent.
    OptionError
        hc3 or crv3 with absorbed effects whose part is unknown; clusters or coordinates missing.

    References
    ----------
    MacKinnon & White (1985), "Some heteroskedasticity-consistent covariance matrix estimators with improved finite
    sample properties"; Cameron, Gelbach & Miller (2011); MacKinnon, Nielsen & Webb (2023).

    Examples
    --------
    >>> X = np.array([[1.0, 0.0], [1.0, 1.0], [1.0, 2.0], [1.0, 3.0]])
    >>> e = np.array([0.1, -0.2, 0.1, 0.0])
    >>> ols_covariance(X, e, Sandwich("classical"), Sampling(4)).std_error.round(4)
    array([0.1449, 0.0775])
    """
    x, e, w = _arrays(X, residuals, weights, sampling.n)
    bread = _bread(x, w)
    contributions = (x * (w * e)[:, None]) @ bread
    unnested = n_absorbed if n_absorbed_unnested is None else n_absorbed_unnested
    n_parameters = x.shape[1] + (unnested if sandwich.kind in CLUSTERED else n_absorbed)
    lost = np.zeros(x.shape[1], dtype=bool)
    if sandwich.kind == "classical":
        meat = _classical(w, e, bread, sampling.n - n_parameters)
    elif sandwich.kind == "hc3":
        leverage = _leverage(x, w, bread, n_absorbed, absorbed_leverage)
        full = leverage > 1.0 - _FULL_LEVERAGE
        lost = _touched(x[full] * w[full, None], bread)
        meat = Meat(outer_sum(contributions / np.where(full, 1.0, 1.0 - leverage)[:, None]), "hc3")
    elif sandwich.kind == "crv3":
        meat, lost = _crv3(x, w, e, bread, sampling, unnested)
    else:
        meat = pair_sum(contributions, sandwich, sampling)
    covariance = finished(meat, contributions, sandwich, sampling.n, n_parameters, auto="crv1")
    return without(covariance, lost, _LOST[sandwich.kind]) if lost.any() else covariance


_LOST = {
    "hc3": "a row has leverage one (a regressor that varies in that row only), so its hc3 score is not defined",
    "crv3": "leaving out one of the clusters leaves a regressor without variation; merge clusters or drop it",
}


def _arrays(
    X: np.ndarray, residuals: np.ndarray, weights: np.ndarray | None, n: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    x, e = np.asarray(X, dtype=np.float64), np.asarray(residuals, dtype=np.float64)
    w = np.ones(n) if weights is None else np.asarray(weights, dtype=np.float64)
    if x.ndim != 2 or x.shape[0] != n or e.shape != (n,) or w.shape != (n,):
        raise DataError(
            f"X has shape {x.shape}, residuals {e.shape} and weights {w.shape}; (n, k), (n,) and (n,) with n={n} are "
            "needed."
        )
    if not (np.isfinite(x).all() and np.isfinite(e).all()):
        raise DataError("X and residuals must be finite; drop or mend the rows that are not before the regression.")
    if not np.isfinite(w).all() or (w < 0.0).any() or not w.sum() > 0.0:
        raise DataError("weights must be finite and not negative, with a positive sum.")
    return x, e, w


def _bread(x: np.ndarray, w: np.ndarray) -> np.ndarray:
    """(X'WX)^{-1}, inverted in the scale in which its diagonal is one."""
    gram = x.T @ (x * w[:, None])
    scale = np.sqrt(np.diag(gram))
    if (scale == 0.0).any():
        raise NumericalError(f"regressor {int(np.flatnonzero(scale == 0.0)[0])} is zero in every row; drop it.")
    values, vectors = np.linalg.eigh(gram / (scale[:, None] * scale[None, :]))
    if values[0] <= _SINGULAR:
        worst = int(np.argmax(np.abs(vectors[:, 0])))
        raise NumericalError(
            f"the regressors are linearly dependent (regressor {worst} has the largest part in it); drop one of them."
        )
    inverse: np.ndarray = (vectors / values[None, :]) @ vectors.T
    unscaled: np.ndarray = inverse / (scale[:, None] * scale[None, :])
    return unscaled


def _classical(w: np.ndarray, e: np.ndarray, bread: np.ndarray, df: int) -> Meat:
    # A non-positive df is refused with its words by the small-sample rule.
    return Meat(float((w * e * e).sum()) / max(df, 1) * bread, "classical")


def _leverage(
    x: np.ndarray, w: np.ndarray, bread: np.ndarray, n_absorbed: int, absorbed_leverage: np.ndarray | None
) -> np.ndarray:
    """h_i = w_i x_i'B x_i, plus the leverage of absorbed effects."""
    own: np.ndarray = w * np.einsum("ij,jk,ik->i", x, bread, x, optimize=True)
    if absorbed_leverage is not None:
        return own + np.asarray(absorbed_leverage, dtype=np.float64)
    if n_absorbed:
        raise OptionError(
            'kind="hc3" with absorbed effects needs absorbed_leverage, the leverages of the effects; or use kind="hc1".'
        )
    return own


def _touched(rows: np.ndarray, bread: np.ndarray) -> np.ndarray:
    """Coefficients (k,) that move with the outcomes of rows of full leverage; a row's own dummy takes up the rest."""
    reach = np.abs(rows @ bread).max(axis=0, initial=0.0)
    return np.asarray(reach > _FULL_LEVERAGE * np.sqrt(np.diag(bread)))


def _crv3(
    x: np.ndarray, w: np.ndarray, e: np.ndarray, bread: np.ndarray, sampling: Sampling, unnested: int
) -> tuple[Meat, np.ndarray]:
    codes = required("cluster", sampling.cluster, "crv3")
    if unnested > 1:
        raise OptionError(
            'kind="crv3" is exact only for absorbed effects that are nested in the clusters; put the others into X as '
            'dummies, or use kind="cluster".'
        )
    g, notes = clusters_of(codes)
    grams, scores = _cluster_grams(x, w, codes, g), cluster_sums(x * (w * e)[:, None], codes)
    shifts, smallest = _shifts(x.T @ (x * w[:, None]), grams, scores)
    lost = np.full(x.shape[1], bool((smallest < _LOST_CLUSTER).any()))
    return Meat(outer_sum(shifts), "crv3", g, notes=notes), lost


def _cluster_grams(x: np.ndarray, w: np.ndarray, codes: np.ndarray, g: int) -> np.ndarray:
    order = np.argsort(codes, kind="stable")
    edges = np.flatnonzero(np.diff(codes[order])) + 1
    grams = np.empty((g, x.shape[1], x.shape[1]))
    for c, rows in enumerate(np.split(order, edges)):
        grams[c] = x[rows].T @ (x[rows] * w[rows, None])
    return grams


def _shifts(gram: np.ndarray, grams: np.ndarray, scores: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    from causalsat.kernels.precision import float64
    from causalsat.kernels.sandwich import leave_cluster_out

    g = scores.shape[0]
    # Empty clusters up to a power of two: a handful of compilations serve every G.
    room = 1 << max(g - 1, 7).bit_length()
    padded_grams, padded_scores = np.zeros((room, *grams.shape[1:])), np.zeros((room, scores.shape[1]))
    padded_grams[:g], padded_scores[:g] = grams, scores
    with float64():
        shifts, smallest = leave_cluster_out(gram, padded_grams, padded_scores)
        return np.asarray(shifts)[:g], np.asarray(smallest)[:g]


def _nested(effect: np.ndarray, cluster: np.ndarray) -> bool:
    pairs = np.unique(np.stack([effect, cluster], axis=1), axis=0)
    return bool(pairs.shape[0] == np.unique(effect).size)
