"""From a Bootstrap and a Sampling to a plan: what is resampled, by which pure sampler, with which arrays."""

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from causalsat.errors import DataError, FewClustersWarning, OptionError, warn
from causalsat.inference.options import Bootstrap
from causalsat.inference.planar import equal_area, grid_loadings, unit_vectors
from causalsat.inference.sampling import Sampling

FEW_CLUSTERS = 30
MULTIPLIER_SCHEMES = ("multiplier", "wild", "dependent")
CHOLESKY_PLACES = 5000
_MANY = 2048


@dataclass(frozen=True)
class Plan:
    """How the weights of one run are made.

    Attributes
    ----------
    sampler : callable
        Pure function (key, replicate, arrays) -> (padded,) weights.
    arrays : tuple of np.ndarray
        Its arrays, padded to ``padded`` units.
    unit : np.ndarray
        (n,) int32: the resampling unit of each row (row, cluster, place, or place in a period).
    n_units, padded : int
        Units, and units after padding to a bucket (compiled code is shared inside a bucket).
    scheme, law : str
        The scheme and the law of the multipliers (None for counts).
    n_clusters : int or None
        Number of clusters where clusters are resampled.
    n_distinct : int or None
        Number of distinct draws when they are enumerated.
    notes : dict
        Facts for ``meta``: the kernel of the dependent scheme, the number of places.
    """

    sampler: Callable[..., Any]
    arrays: tuple[np.ndarray, ...]
    unit: np.ndarray
    n_units: int
    padded: int
    scheme: str
    law: str | None = None
    n_clusters: int | None = None
    n_distinct: int | None = None
    notes: dict[str, Any] = field(default_factory=dict)

    @property
    def rows_are_units(self) -> bool:
        """Whether every row is its own unit, in order."""
        return self.n_units == self.unit.size and bool(np.array_equal(self.unit, np.arange(self.unit.size)))

    def sorted_rows(self) -> tuple[np.ndarray, np.ndarray]:
        """Rows sorted by unit, in the order of the data within a unit, and where each unit starts."""
        # NumPy sorts 16-bit codes by counting, which is many times faster.
        codes = self.unit.astype(np.uint16) if self.n_units <= 2**16 else self.unit
        counts = np.bincount(self.unit, minlength=self.n_units)
        return np.argsort(codes, kind="stable"), np.concatenate([[0], np.cumsum(counts)[:-1]])


def bucket(n: int) -> int:
    """Smallest padded size of at least ``n``: eight even sizes per doubling, so that near sizes share compiled code.

    Examples
    --------
    >>> bucket(1000), bucket(1001), bucket(5)
    (1024, 1024, 16)
    """
    if n <= 16:
        return 16
    step = max(2 ** (math.ceil(math.log2(n)) - 4), 2)
    return int(-(-n // step) * step)


def default_law(scheme: str, n_units: int) -> str:
    """webb under 12 clusters, else rademacher for wild and normal for multiplier."""
    from causalsat.kernels.weights import ENUMERATE_BELOW

    if scheme == "dependent":
        return "normal"
    if n_units < ENUMERATE_BELOW:
        return "webb"
    return "rademacher" if scheme == "wild" else "normal"


def make_plan(bootstrap: Bootstrap, sampling: Sampling, strata: np.ndarray | None = None) -> Plan:
    """Choose units, sampler and arrays for a scheme.

    Parameters
    ----------
    bootstrap : Bootstrap
        Scheme, law, block side.
    sampling : Sampling
        Clusters, places and periods of the rows.
    strata : np.ndarray, optional
        (n,) codes within which units are resampled; a unit lies in one stratum.

    Raises
    ------
    OptionError
        A scheme without what it needs; strata with a scheme that has none.
    DataError
        One cluster, one row, a cluster in two strata.
    """
    scheme = bootstrap.scheme
    if bootstrap.strata is not None and strata is None:
        raise OptionError(f'Bootstrap.strata="{bootstrap.strata}" is set; this estimator passes no strata.')
    if strata is not None and scheme not in ("iid", "cluster", "bayes"):
        raise OptionError(f'Bootstrap(scheme="{scheme}") has no strata; use "iid", "cluster" or "bayes".')
    if scheme == "cluster" and sampling.cluster is None:
        raise OptionError(
            'Bootstrap(scheme="cluster") needs cluster=, the column of the clusters; or use scheme="iid".'
        )
    if scheme in ("block", "dependent"):
        return _spatial(bootstrap, sampling)
    codes = None if scheme == "iid" else sampling.cluster
    unit, n_units, stratum = _units(sampling.n, codes, strata)
    n_clusters = None if codes is None else n_units
    _enough(scheme, n_units, n_clusters)
    if scheme in MULTIPLIER_SCHEMES:
        return _multiplier(bootstrap, unit, n_units, n_clusters)
    return _counts(scheme, unit, n_units, n_clusters, stratum)


def _units(n: int, codes: np.ndarray | None, strata: np.ndarray | None) -> tuple[np.ndarray, int, np.ndarray | None]:
    """Unit of each row, numbered by stratum and then by code, and the stratum of each unit."""
    unit = np.arange(n) if codes is None else _ranks(codes)
    n_units = int(unit.max()) + 1
    if strata is None:
        return unit.astype(np.int32), n_units, None
    level = np.unique(np.asarray(strata), return_inverse=True)[1].reshape(-1)
    if level.shape != (n,):
        raise DataError(f"strata have {level.size} codes for {n} rows.")
    of_unit = np.zeros(n_units, dtype=np.int64)
    of_unit[unit] = level
    if (of_unit[unit] != level).any():
        raise DataError(f"{int((of_unit[unit] != level).sum())} rows lie in another stratum than their cluster.")
    order = np.argsort(of_unit, kind="stable")
    place = np.empty(n_units, dtype=np.int32)
    place[order] = np.arange(n_units)
    return place[unit], n_units, of_unit[order]


def _ranks(codes: np.ndarray) -> np.ndarray:
    """Rank of each code among the distinct ones; counting instead of sorting where the range allows."""
    low, high = int(codes.min()), int(codes.max())
    if high - low > 4 * codes.size:
        return np.unique(codes, return_inverse=True)[1].reshape(-1)
    shifted = codes - low
    return np.asarray((np.cumsum(np.bincount(shifted) > 0) - 1)[shifted])


def _enough(scheme: str, n_units: int, n_clusters: int | None) -> None:
    if n_units < 2:
        what = "rows" if n_clusters is None else "clusters"
        raise DataError(f"a bootstrap needs at least two {what}; there is one. Use another scheme or more data.")
    if n_clusters is not None and n_clusters < FEW_CLUSTERS:
        advice = "" if scheme == "wild" else ' For least squares prefer Bootstrap(scheme="wild").'
        warn(f"{n_clusters} clusters are few for a bootstrap (fewer than {FEW_CLUSTERS}).{advice}", FewClustersWarning)


def _counts(scheme: str, unit: np.ndarray, n_units: int, n_clusters: int | None, stratum: np.ndarray | None) -> Plan:
    from causalsat.kernels import weights

    padded = bucket(n_units)
    real = _pad(np.ones(n_units), padded)
    levels = np.zeros(n_units, dtype=np.int32) if stratum is None else stratum.astype(np.int32)
    sizes = np.bincount(levels).astype(np.float64)
    if (sizes < 2).any():
        raise DataError("a stratum holds a single unit, which can not be resampled; merge strata.")
    sampler: Callable[..., Any]
    arrays: tuple[np.ndarray, ...]
    if scheme == "bayes":
        sampler, arrays = weights.bayes, (_pad(levels, padded), sizes, real)
    elif stratum is None and n_units >= _MANY:
        sampler, arrays = weights.multinomial_many, (real, np.array(float(n_units)))
    else:
        starts = np.concatenate([[0.0], np.cumsum(sizes)[:-1]])
        sampler, arrays = weights.multinomial, (_pad(starts[levels], padded), _pad(sizes[levels], padded), real)
    return Plan(sampler, arrays, unit, n_units, padded, scheme, None, n_clusters)


def _multiplier(bootstrap: Bootstrap, unit: np.ndarray, n_units: int, n_clusters: int | None) -> Plan:
    from causalsat.kernels import weights

    law = bootstrap.law or default_law(bootstrap.scheme, n_units)
    samplers = {
        "rademacher": weights.rademacher,
        "mammen": weights.mammen,
        "webb": weights.webb,
        "normal": weights.normal,
        "exponential": weights.exponential,
    }
    padded = bucket(n_units)
    real = (_pad(np.ones(n_units), padded),)
    if law == "rademacher" and n_units < weights.ENUMERATE_BELOW:
        distinct = 2**n_units
        return Plan(weights.enumerated, real, unit, n_units, padded, bootstrap.scheme, law, n_clusters, distinct)
    return Plan(samplers[law], real, unit, n_units, padded, bootstrap.scheme, law, n_clusters)


def _spatial(bootstrap: Bootstrap, sampling: Sampling) -> Plan:
    if sampling.lonlat is None:
        raise OptionError(f'Bootstrap(scheme="{bootstrap.scheme}") needs coords=, longitude and latitude of the rows.')
    if bootstrap.block_km is None:
        raise OptionError(f'Bootstrap(scheme="{bootstrap.scheme}") needs block_km, the distance in kilometres.')
    lonlat = np.column_stack([(sampling.lonlat[:, 0] + 180.0) % 360.0 - 180.0, sampling.lonlat[:, 1]])
    places, place = np.unique(lonlat, axis=0, return_inverse=True)
    place = place.reshape(-1).astype(np.int32)
    if places.shape[0] < 2:
        raise DataError(f'Bootstrap(scheme="{bootstrap.scheme}") needs at least two distinct places; there is one.')
    if bootstrap.scheme == "block":
        return _block(places, place, bootstrap.block_km)
    return _dependent(bootstrap, sampling, places, place)


def _block(places: np.ndarray, place: np.ndarray, block_km: float) -> Plan:
    from causalsat.kernels import weights

    plane = equal_area(places) / block_km
    plane -= plane.min(axis=0)
    if not (plane.max(axis=0) >= 1.0).any():
        raise OptionError(f"block_km={block_km:g} is larger than the extent of the places; use a smaller block.")
    padded = bucket(places.shape[0])
    filled = np.vstack([plane, np.repeat(plane[:1], padded - places.shape[0], axis=0)])
    arrays = (filled, _pad(np.ones(places.shape[0]), padded))
    notes = {"n_places": int(places.shape[0]), "block_km": float(block_km)}
    return Plan(weights.blocks, arrays, place, places.shape[0], padded, "block", notes=notes)


def _dependent(bootstrap: Bootstrap, sampling: Sampling, places: np.ndarray, place: np.ndarray) -> Plan:
    from causalsat.kernels import weights

    if bootstrap.law not in (None, "normal"):
        raise OptionError(f'Bootstrap(scheme="dependent", law="{bootstrap.law}"): the dependent scheme draws normals.')
    period = np.zeros(sampling.n, dtype=np.int64)
    if sampling.time is not None:
        period = np.unique(sampling.time, return_inverse=True)[1].reshape(-1)
    pairs, unit = np.unique(np.column_stack([period, place]), axis=0, return_inverse=True)
    padded = bucket(pairs.shape[0])
    of_unit = _pad(pairs[:, 1].astype(np.int32), padded), _pad(pairs[:, 0].astype(np.int32), padded)
    n_periods, cutoff = int(period.max()) + 1, float(bootstrap.block_km or 0.0)
    notes: dict[str, Any] = {"n_places": int(places.shape[0]), "cutoff_km": cutoff, "n_periods": n_periods}
    arrays: tuple[np.ndarray, ...]
    sampler: Callable[..., Any]
    if places.shape[0] <= CHOLESKY_PLACES:
        notes["kernel"] = "askey"
        sampler, arrays = weights.dependent, (_factor(places, cutoff), *of_unit, np.zeros(n_periods))
    else:
        node, loading, n_nodes = grid_loadings(places, cutoff)
        notes["kernel"] = "autocorrelation of a cone of radius cutoff/2"
        sampler, arrays = weights.dependent_grid, (node, loading, *of_unit, np.zeros((n_periods, n_nodes)))
    codes = unit.reshape(-1).astype(np.int32)
    return Plan(sampler, arrays, codes, pairs.shape[0], padded, "dependent", "normal", notes=notes)


def _factor(places: np.ndarray, cutoff_km: float) -> np.ndarray:
    """Lower factor L with L L' = K for the askey kernel; the eigenvalue root where rounding defeats Cholesky."""
    import jax.numpy as jnp

    from causalsat.kernels.weights import askey

    kernel = np.asarray(askey(jnp.asarray(unit_vectors(places)), jnp.float64(cutoff_km)))
    try:
        return np.linalg.cholesky(kernel)
    except np.linalg.LinAlgError:
        values, vectors = np.linalg.eigh(kernel)
        return np.asarray(vectors * np.sqrt(np.clip(values, 0.0, None)))


def _pad(values: np.ndarray, padded: int) -> np.ndarray:
    return np.concatenate([values, np.zeros(padded - values.shape[0], dtype=values.dtype)])
