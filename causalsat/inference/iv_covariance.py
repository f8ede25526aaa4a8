"""Covariances of instrumental-variable estimates and moments, with one convention for degrees of freedom."""

from dataclasses import replace

import numpy as np

from causalsat.inference.covariance import Covariance, influence_covariance, pair_sum
from causalsat.inference.iv_rows import IvRows
from causalsat.inference.options import Sandwich
from causalsat.inference.small_sample import correction

INDEFINITE = ("conley", "twoway")
AS_PRECISIONS = (
    "classical standard errors take the unequal weights for precisions (inverse variances of the errors); for sampling "
    'weights use Sandwich("hc1") or clusters'
)


def resolved_sandwich(sandwich: Sandwich, rows: IvRows) -> Sandwich:
    """The covariance with the factor of the study's convention written out.

    ``dof="small"``: hc1 has n/(n - k), clusters g/(g - 1) (n - 1)/(n - k). ``dof="none"``: no factor.
    """
    if sandwich.kind == "hc1" and rows.dof == "none":
        return replace(sandwich, kind="hc0")
    if sandwich.kind in ("cluster", "twoway") and sandwich.small_sample == "auto":
        return replace(sandwich, small_sample="none" if rows.dof == "none" else "crv1")
    return sandwich


def tested_sandwich(sandwich: Sandwich, rows: IvRows) -> Sandwich:
    """The covariance of a test: with unequal weights "classical" is read as "hc1".

    Under homoskedastic errors Var(sum w z e) = sigma^2 sum w^2 z z', where the classical formula has w for w^2.
    """
    return Sandwich("hc1") if sandwich.kind == "classical" and rows.unequal else sandwich


def iv_covariance(
    rows: IvRows, influence: np.ndarray, sandwich: Sandwich, *, columns: int, classical: np.ndarray | None = None
) -> Covariance:
    """Covariance of k estimates from influence values, or the homoskedastic one.

    Parameters
    ----------
    rows : IvRows
        The study.
    influence : np.ndarray
        (n, k) float64, weights included: estimate - truth ~ mean(influence).
    sandwich : Sandwich
        "classical" returns ``classical``, whose notes then say under "assumption" what it takes unequal weights for;
        the other kinds sum influence values.
    columns : int
        p for a second stage, q for a first stage; the parameters partialled out are added.
    classical : np.ndarray, optional
        (k, k) homoskedastic covariance of the estimates.

    Returns
    -------
    Covariance
    """
    if sandwich.kind == "classical":
        matrix = np.asarray(classical, dtype=np.float64)
        error = np.sqrt(np.where(np.diag(matrix) > 0.0, np.diag(matrix), 0.0))
        notes = {"assumption": AS_PRECISIONS} if rows.unequal else {}
        return Covariance(matrix, error, "classical", 1.0, None, np.inf, notes=notes)
    used = resolved_sandwich(sandwich, rows)
    return influence_covariance(influence, used, rows.sampling, n_parameters=rows.parameters(used, columns))


def moment_variance(
    rows: IvRows, scores: np.ndarray, sandwich: Sandwich, *, columns: int, classical: np.ndarray | None = None
) -> np.ndarray:
    """Variance of sqrt(n) times the mean of r scores.

    Parameters
    ----------
    rows : IvRows
        The study.
    scores : np.ndarray
        (n, r) float64, weights included (for the moments of b: ``weights * z * (y - X b)``).
    sandwich : Sandwich
        As in :func:`iv_covariance`; for "classical" give ``classical``, the homoskedastic variance (r, r).
    columns : int
        Parameters of the equation that made the residuals, beside those partialled out.

    Returns
    -------
    np.ndarray
        (r, r) float64, symmetric; for "conley" and "twoway" it may have negative eigenvalues, which the caller clips.
    """
    if sandwich.kind == "classical":
        return np.asarray(classical, dtype=np.float64)
    if sandwich.kind in INDEFINITE:
        used = resolved_sandwich(sandwich, rows)
        meat = pair_sum(scores / rows.n, used, rows.sampling)
        factor = correction(used, "none", rows.n, rows.parameters(used, columns), meat.n_clusters).factor
        return np.asarray(rows.n * factor * meat.matrix)
    found = iv_covariance(rows, scores, sandwich, columns=columns)
    return rows.n * found.matrix
