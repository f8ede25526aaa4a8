"""Spatial standard errors against their cutoff, beside the ones that ignore distance."""

from dataclasses import dataclass

import numpy as np

from causalsat.errors import DataError, OptionError
from causalsat.inference.conley import checked_panel, one_meat, spatial_sums
from causalsat.inference.covariance import Covariance, finished, influence_covariance, influence_matrix, required
from causalsat.inference.options import Sandwich
from causalsat.inference.sampling import Sampling
from causalsat.inference.spatial_range import extent_km, neighbour_distances

N_CUTOFFS = 12


@dataclass(frozen=True)
class BandwidthSweep:
    """Columns of a bandwidth sweep, one entry per covariance: hc0, cluster (if given), then the cutoffs.

    Attributes
    ----------
    kind : tuple of str
        "hc0", "cluster" or "conley"; a cutoff without any neighbour is "hc0" with a cutoff.
    cutoff_km : np.ndarray
        (m,) float64, NaN on the rows without a cutoff.
    kernel : tuple of str
        Spatial kernel, "" on the rows without one.
    lag : np.ndarray
        (m,) int64 serial lag.
    std_error : np.ndarray
        (m, k) float64 in the units of the estimates, NaN where unavailable.
    pairs : np.ndarray
        (m,) int64 pairs of different rows within the cutoff; 0 without one.
    mean_neighbours : np.ndarray
        (m,) float64 rows within the cutoff of a row; NaN without one.
    unavailable : dict of (int, int) to str
        (entry, effect) -> why the standard error is NaN.
    covariances : tuple of Covariance
        The full covariance of each entry.
    """

    kind: tuple[str, ...]
    cutoff_km: np.ndarray
    kernel: tuple[str, ...]
    lag: np.ndarray
    std_error: np.ndarray
    pairs: np.ndarray
    mean_neighbours: np.ndarray
    unavailable: dict[tuple[int, int], str]
    covariances: tuple[Covariance, ...]


def default_cutoffs(lonlat: np.ndarray) -> np.ndarray:
    """Twelve cutoffs (km), equally spaced in logs: median nearest-neighbour distance to a third of the extent.

    Raises
    ------
    DataError
        Places so few or so regular that the first distance is not below the second.
    """
    low, high = float(np.median(neighbour_distances(lonlat))), extent_km(lonlat) / 3.0
    if not low < high:
        raise DataError(
            f"the median distance to the nearest place, {low:g} km, is not below a third of the extent, {high:g} km: "
            "too few places for a bandwidth sweep; give cutoffs."
        )
    return np.geomspace(low, high, N_CUTOFFS)


def bandwidth_sweep(
    influence: np.ndarray,
    sampling: Sampling,
    *,
    cutoffs_km: np.ndarray | None = None,
    kernel: str = "bartlett",
    lag: int = 0,
) -> BandwidthSweep:
    """Conley standard errors over many cutoffs in one walk over the pairs, under hc0 and cluster rows.

    A standard error that rises with the cutoff and then falls again is common (beyond the range of the dependence
    the sum only collects the constraint that scores add to zero), so a wide cutoff is not a conservative one.

    Parameters
    ----------
    influence : np.ndarray
        (n, k) float64 influence values.
    sampling : Sampling
        Coordinates, and for a panel periods and units; clusters add a row.
    cutoffs_km : np.ndarray, optional
        (m,) cutoffs; None takes :func:`default_cutoffs`.
    kernel : str
        Spatial kernel.
    lag : int
        Serial lag of a panel.

    Returns
    -------
    BandwidthSweep
        Plain columns.

    Raises
    ------
    OptionError
        No coordinates, or a cutoff that is not positive.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> sweep = bandwidth_sweep(rng.normal(size=(60, 1)), Sampling(60, lonlat=rng.uniform(0, 5, (60, 2))))
    >>> len(sweep.kind), sweep.kind[:2]
    (13, ('hc0', 'conley'))
    """
    lonlat = required("lonlat", sampling.lonlat, "conley")
    checked_panel(lag, sampling)
    chosen = default_cutoffs(lonlat) if cutoffs_km is None else np.asarray(cutoffs_km, dtype=np.float64).reshape(-1)
    if chosen.size == 0 or not (np.isfinite(chosen).all() and (chosen > 0.0).all()):
        raise OptionError(f"cutoffs_km={chosen.tolist()} must hold positive distances in kilometres.")
    values = influence_matrix(influence, sampling.n)
    top = [Sandwich("hc0")] + ([Sandwich("cluster")] if sampling.cluster is not None else [])
    covariances = [influence_covariance(values, s, sampling) for s in top]
    covariances += _conley_rows(values, sampling, chosen, kernel, lag)
    return _columns(covariances, len(top), kernel)


def _conley_rows(
    values: np.ndarray, sampling: Sampling, cutoffs: np.ndarray, kernel: str, lag: int
) -> list[Covariance]:
    contributions = values / sampling.n
    lonlat = required("lonlat", sampling.lonlat, "conley")
    sums = spatial_sums(contributions, lonlat, cutoffs, kernel=kernel, time=sampling.time)
    rows = []
    for j, cutoff in enumerate(cutoffs):
        sandwich = Sandwich("conley", cutoff_km=float(cutoff), kernel=kernel, lag=lag)
        meat = one_meat(contributions, sampling, sums, j, float(cutoff), kernel, lag, "sweep")
        rows.append(finished(meat, contributions, sandwich, sampling.n, 1, auto="none"))
    return rows


def _columns(covariances: list[Covariance], n_top: int, kernel: str) -> BandwidthSweep:
    n_conley = len(covariances) - n_top
    return BandwidthSweep(
        kind=tuple(c.kind for c in covariances),
        cutoff_km=np.array([np.nan if c.cutoff_km is None else c.cutoff_km for c in covariances]),
        kernel=("",) * n_top + (kernel,) * n_conley,
        lag=np.array([c.notes.get("lag", 0) for c in covariances], dtype=np.int64),
        std_error=np.stack([c.std_error for c in covariances]),
        pairs=np.array([c.notes.get("pairs", 0) for c in covariances], dtype=np.int64),
        mean_neighbours=np.array([c.notes.get("mean_neighbours", np.nan) for c in covariances]),
        unavailable={(i, j): reason for i, c in enumerate(covariances) for j, reason in c.unavailable.items()},
        covariances=tuple(covariances),
    )
