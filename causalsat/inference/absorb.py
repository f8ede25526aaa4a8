"""Fixed effects taken out of columns: weighted alternating projections, singletons, degrees of freedom.

The function is numeric and free of data frames, so that it stands beside the covariances that read its degrees of
freedom. It is NumPy because it runs once per study, outside every resampling loop, and group sums are sparse products.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from causalsat.errors import NumericalError

RTOL = 1e-10
MAX_STEPS = 10_000
# A column that the effects determine is zero up to rounding; changes are judged against at least this share of it.
_FLOOR = 1e-4
# Below this share of a column its gradient is rounding, along which a conjugate step has no bound.
_NOISE = 1e-14

Centring = Callable[[np.ndarray], np.ndarray]


@dataclass(frozen=True, eq=False)
class Factor:
    """One set of fixed effects.

    Attributes
    ----------
    name : str
        Column.
    codes : np.ndarray
        (n,) int64 level of each row, 0 to n_levels - 1, every level in use.
    n_levels : int
        Levels.
    """

    name: str
    codes: np.ndarray
    n_levels: int


@dataclass(frozen=True)
class AbsorbedParameters:
    """Parameters that fixed effects take.

    Attributes
    ----------
    total : int
        Rank of all dummies, the constant included; with three factors or more an upper bound.
    clustered : int
        Counted in cluster factors: the constant and what factors not nested in a cluster add.
    per_factor : dict
        Factor to its share of ``total``; the first of them holds the constant.
    nested : tuple of str
        Factors nested in the cluster.
    exact : bool
        False with three factors or more.
    """

    total: int
    clustered: int
    per_factor: dict[str, int]
    nested: tuple[str, ...]
    exact: bool


def factor(name: str, codes: np.ndarray) -> Factor:
    """A factor with its levels numbered without gaps."""
    levels, compact = np.unique(codes, return_inverse=True)
    return Factor(name, compact.astype(np.int64), len(levels))


def without_singletons(factors: Sequence[np.ndarray]) -> np.ndarray:
    """Rows (n,) bool left when rows alone in a level are dropped, again and again until none is alone.

    A level with one row fits it exactly: it says nothing and makes cluster and degrees-of-freedom counts wrong.

    Parameters
    ----------
    factors : sequence of np.ndarray
        (n,) int codes each, >= 0.

    References
    ----------
    Correia (2015), "Singletons, cluster-robust standard errors and fixed effects: a bad mix".
    """
    keep = np.ones(len(factors[0]), dtype=bool)
    while True:
        before = int(keep.sum())
        for codes in factors:
            keep &= np.bincount(codes, weights=keep, minlength=int(codes.max()) + 1)[codes] > 1.5
        if int(keep.sum()) == before:
            return keep


def absorb(
    columns: np.ndarray,
    factors: Sequence[Factor],
    weights: np.ndarray,
    *,
    rtol: float = RTOL,
    max_steps: int = MAX_STEPS,
) -> np.ndarray:
    r"""Residuals of columns on the dummies of all factors.

    With P_f the weighted projection off the means of factor f, the symmetric sweep T = P_1 ... P_F ... P_1 is
    self-adjoint, and what the effects explain solves (I - T) u = (I - T) x; conjugate gradients solve it
    (Hernandez-Ramos, Escalante and Raydan 2011). Plain alternation, x <- T x, has the same limit
    and needs many more sweeps on sparsely connected factors.

    Parameters
    ----------
    columns : np.ndarray
        (n, k) float64.
    factors : sequence of Factor
        At least one.
    weights : np.ndarray
        (n,) positive.
    rtol : float
        Stop when the last change of every column is below this share of what is left of it.
    max_steps : int
        Sweeps allowed.

    Returns
    -------
    np.ndarray
        (n, k) float64.

    Raises
    ------
    NumericalError
        No convergence within ``max_steps``.

    Examples
    --------
    >>> import numpy as np
    >>> absorb(np.array([[1.0], [3.0], [5.0]]), [factor("g", np.array([0, 0, 1]))], np.ones(3)).ravel().tolist()
    [-1.0, 1.0, 0.0]
    """
    centre = [_centring(f, weights) for f in factors]
    left = np.array(columns, dtype=np.float64)
    if len(factors) == 1:
        # Twice, because one pass leaves rounding of the size of the means.
        return centre[0](centre[0](left))
    left = _sweep(left, centre)
    return _conjugate(left, centre, np.asarray(weights, dtype=np.float64), rtol, max_steps, factors)


def _centring(effects: Factor, weights: np.ndarray) -> Centring:
    """x -> x less its weighted mean in each level."""
    from scipy.sparse import csr_array

    n = len(effects.codes)
    total = np.bincount(effects.codes, weights=weights, minlength=effects.n_levels)
    mean = csr_array((weights / total[effects.codes], (effects.codes, np.arange(n))), shape=(effects.n_levels, n))

    def centred(values: np.ndarray) -> np.ndarray:
        return np.asarray(values - (mean @ values)[effects.codes])

    return centred


def _sweep(values: np.ndarray, centre: Sequence[Centring]) -> np.ndarray:
    """T values: off every factor and back, which makes T self-adjoint."""
    for step in (*centre, *centre[-2::-1]):
        values = step(values)
    return values


def _conjugate(
    start: np.ndarray,
    centre: Sequence[Centring],
    weights: np.ndarray,
    rtol: float,
    max_steps: int,
    factors: Sequence[Factor],
) -> np.ndarray:
    """Columns less the solution of (I - T) u = (I - T) x; columns stop on their own."""

    def moved(values: np.ndarray) -> np.ndarray:
        return np.asarray(values - _sweep(values, centre))

    def size(values: np.ndarray) -> np.ndarray:
        return np.asarray(np.sqrt(weights @ np.square(values)))

    left = start.copy()
    live = np.arange(start.shape[1])
    whole = size(left)
    residual = moved(left)
    direction = residual.copy()
    power = np.square(size(residual))
    power = np.where(np.sqrt(power) > _NOISE * whole, power, 0.0)
    for _ in range(max_steps):
        image = moved(direction)
        curvature = weights @ (direction * image)
        length = np.divide(power, curvature, out=np.zeros_like(power), where=curvature > 0.0)
        left[:, live] -= length[None, :] * direction
        residual = residual - length[None, :] * image
        next_power = np.square(size(residual))
        change = length * size(direction)
        bound = rtol * np.maximum(size(left[:, live]), _FLOOR * whole[live])
        on = (change > bound) & (np.sqrt(next_power) > _NOISE * whole[live])
        if not on.any():
            return left
        gain = np.divide(next_power, power, out=np.zeros_like(power), where=power > 0.0)
        direction = (residual + gain[None, :] * direction)[:, on]
        residual, power, live = residual[:, on], next_power[on], live[on]
    listed = ", ".join(f"{f.name} ({f.n_levels} levels)" for f in factors)
    raise NumericalError(
        f"fixed effects {listed} were not absorbed within max_steps={max_steps} sweeps for {len(live)} columns. Levels "
        "that are linked by very few rows cause this: merge rare levels, or drop a factor."
    )


def absorbed_parameters(factors: Sequence[Factor], *clusters: np.ndarray | None) -> AbsorbedParameters:
    """Parameters taken by the dummies of all factors.

    The first factor takes its levels (the constant among them); every further one its levels less the connected
    components of the graph that links its levels to those of an earlier factor, the largest number over the earlier
    ones (Abowd, Creecy and Kramarz 2002; exact for two factors). In the factor of a cluster covariance the levels that
    are nested in a cluster are not counted: only the constant and what the other factors add to the nested ones.

    Parameters
    ----------
    factors : sequence of Factor
        The fixed effects.
    *clusters : np.ndarray or None
        (n,) int cluster codes of each way of clustering; nested in one of them is enough.

    Returns
    -------
    AbsorbedParameters
    """
    nested = [f for f in factors if any(c is not None and is_nested(f.codes, c) for c in clusters)]
    ordered = [*nested, *(f for f in factors if all(f is not g for g in nested))]
    shares: dict[str, int] = {}
    for i, f in enumerate(ordered):
        lost = max((_components(f, g) for g in ordered[:i]), default=0)
        shares[f.name] = f.n_levels - lost
    total = sum(shares.values())
    clustered = total
    if nested:
        clustered = 1 + sum(shares[f.name] for f in ordered[len(nested) :])
    names = tuple(f.name for f in nested)
    return AbsorbedParameters(total, clustered, shares, names, len(factors) < 3)


def is_nested(codes: np.ndarray, cluster: np.ndarray) -> bool:
    """Whether every level lies inside one cluster."""
    pairs = np.unique(np.column_stack([codes, cluster]), axis=0)
    return len(pairs) == len(np.unique(codes))


def _components(a: Factor, b: Factor) -> int:
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    nodes = a.n_levels + b.n_levels
    links = coo_array((np.ones(len(a.codes), np.int8), (a.codes, a.n_levels + b.codes)), shape=(nodes, nodes))
    return int(connected_components(links.tocsr(), directed=False, return_labels=False))
