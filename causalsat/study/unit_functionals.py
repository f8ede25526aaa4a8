"""Numbers that sum up the draws of each unit: mean, spread, inequality, shares above thresholds."""

from collections.abc import Callable

import numpy as np

from causalsat.errors import OptionError, nearest, number
from causalsat.study.distributions import QuantileMatrix
from causalsat.study.unit_draws import DrawBlock, MatrixDraws, UnitDraws, matrix_draws
from causalsat.study.unit_quantiles import unit_quantiles

_MIDPOINTS = 1000


def unit_means(draws: UnitDraws) -> np.ndarray:
    """(n,) exact weighted means of the draws; NaN for units without draws."""
    return unit_functional(draws, "mean")


def unit_functional(draws: UnitDraws, name: str, *arguments: float, rule: str = "type7") -> np.ndarray:
    """One number per unit from its own draws, read as a discrete distribution with shares p_j.

    mean; variance (sum of p (z - mean)^2) and sd; iqr and range(a, b), from quantiles by ``rule``; gini, the area
    sum of p_j z_j (2 F_j - p_j - 1) over the mean with F cumulated shares; lorenz(p), share_top(p), share_bottom(p);
    exceed(z), the share of draws above z. Gini and shares of units with a negative draw or a mean that is not positive
    are NaN.

    Parameters
    ----------
    draws : UnitDraws
        Draws of n units.
    name : str
        One of the names above.
    *arguments : float
        Level, levels or threshold.
    rule : str
        Quantile rule of iqr and range.

    Returns
    -------
    ndarray (n,) float64, NaN for units without draws

    Raises
    ------
    OptionError
        An unknown name, or the wrong number of arguments.
    """
    _check_arguments(name, arguments)
    if name in ("iqr", "range"):
        ends = unit_quantiles(draws, np.array(arguments if name == "range" else (0.25, 0.75)), rule=rule)
        return np.asarray(ends[:, 1] - ends[:, 0])
    found = np.full(len(draws), np.nan)
    for block in draws.blocks(ordered=name not in _UNORDERED):
        found[block.rows] = _FUNCTIONALS[name](block, *arguments)
    return found


def matrix_means(matrix: QuantileMatrix) -> np.ndarray:
    """(n,) means of the units: those given, else the integral of the quantile function (constant beyond its levels)."""
    if matrix.means is not None:
        return matrix.means
    q = matrix.quantiles
    edges = np.concatenate([np.zeros(1), 0.5 * (q[1:] + q[:-1]), np.ones(1)])
    return np.asarray(matrix.values @ np.diff(edges))


def matrix_levels(matrix: QuantileMatrix, levels: np.ndarray) -> np.ndarray:
    """(n, M) quantiles at other levels: linear between the levels given, constant beyond them."""
    q = matrix.quantiles
    if q.size == 1:
        return np.repeat(matrix.values, len(levels), axis=1)
    at = np.clip(np.asarray(levels, dtype=np.float64), q[0], q[-1])
    low = np.clip(np.searchsorted(q, at, side="right") - 1, 0, q.size - 2)
    blend = (at - q[low]) / (q[low + 1] - q[low])
    below, above = matrix.values[:, low], matrix.values[:, low + 1]
    return np.asarray(below + blend[None, :] * (above - below))


def matrix_as_draws(matrix: QuantileMatrix) -> MatrixDraws:
    """A thousand equally spaced quantiles of each unit as its draws, for functionals of units without draws."""
    return matrix_draws(matrix_levels(matrix, (np.arange(_MIDPOINTS) + 0.5) / _MIDPOINTS))[0]


def _mean(block: DrawBlock) -> np.ndarray:
    if block.weights is None and bool((block.sizes == block.values.shape[1]).all()):
        return np.asarray(block.values.mean(axis=1, dtype=np.float64))
    return np.asarray((block.shares() * block.finite()).sum(axis=1))


def _variance(block: DrawBlock) -> np.ndarray:
    shares, values = block.shares(), block.finite()
    away = values - (shares * values).sum(axis=1)[:, None]
    return np.asarray((shares * away**2).sum(axis=1))


def _sd(block: DrawBlock) -> np.ndarray:
    return np.sqrt(_variance(block))


def _gini(block: DrawBlock) -> np.ndarray:
    shares, values = block.shares(), block.finite()
    mean = _positive_mean(shares, values)
    upper = np.cumsum(shares, axis=1)
    return np.asarray((shares * values * (2.0 * upper - shares - 1.0)).sum(axis=1) / mean)


def _lorenz(block: DrawBlock, p: float) -> np.ndarray:
    shares, values = block.shares(), block.finite()
    below = np.cumsum(shares, axis=1) - shares
    taken = np.clip(p - below, 0.0, shares)
    return np.asarray((taken * values).sum(axis=1) / _positive_mean(shares, values))


def _share_top(block: DrawBlock, p: float) -> np.ndarray:
    return 1.0 - _lorenz(block, 1.0 - p)


def _exceed(block: DrawBlock, z: float) -> np.ndarray:
    return np.asarray((block.shares() * (block.finite() > z)).sum(axis=1))


def _positive_mean(shares: np.ndarray, values: np.ndarray) -> np.ndarray:
    mean = (shares * values).sum(axis=1)
    usable = (mean > 0.0) & ~((values < 0.0) & (shares > 0.0)).any(axis=1)
    return np.where(usable, mean, np.nan)


_FUNCTIONALS: dict[str, Callable[..., np.ndarray]] = {
    "mean": _mean,
    "variance": _variance,
    "sd": _sd,
    "gini": _gini,
    "lorenz": _lorenz,
    "share_top": _share_top,
    "share_bottom": _lorenz,
    "exceed": _exceed,
}
_UNORDERED = ("mean", "variance", "sd", "exceed")
_ARGUMENTS = {"iqr": 0, "range": 2, "mean": 0, "variance": 0, "sd": 0, "gini": 0}


def _check_arguments(name: str, arguments: tuple[float, ...]) -> None:
    names = ("iqr", "range", *_FUNCTIONALS)
    if name not in names:
        raise OptionError(
            f"functional {name!r} of the units is not known; allowed: {', '.join(names)}.{nearest(name, names)}"
        )
    wanted = _ARGUMENTS.get(name, 1)
    if len(arguments) != wanted:
        raise OptionError(f"functional {name!r} takes {wanted} numbers; {len(arguments)} were given.")
    if name != "exceed":
        for value in arguments:
            number(f"{name}({value})", value, 0.0, 1.0, open_ends=False)
