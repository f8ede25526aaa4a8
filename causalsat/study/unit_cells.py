"""Means of the quantile function of each unit over cells of (0, 1), exact for draws and for given quantiles."""

from dataclasses import dataclass

import numpy as np

from causalsat.study.distributions import QuantileMatrix
from causalsat.study.unit_draws import DrawBlock, UnitDraws
from causalsat.study.unit_quantiles import whole_counts

# Half of the draws of a larger unit miss too little of the tails to be worth a table of n / 2 times n numbers.
_CORRECTED = 1000
# Up to here one product with the coefficients of all cells is faster than cumulated sums.
_AT_ONCE = 4096


@dataclass(frozen=True, eq=False)
class UnitCells:
    """Cell means of n units.

    Attributes
    ----------
    means : ndarray (n, K) float64
        Mean of each unit's quantile function over each of the K cells, in the outcome's unit; NaN without draws.
    variance : ndarray (n,) float64
        Variance of each unit's draws (divided by their number).
    plain : ndarray (n, K) float64 or None
        Means before a correction for small samples, where ``means`` are corrected: what the cells hold within them is
        the variance less that between these, for both are of the draws as they are.
    """

    means: np.ndarray
    variance: np.ndarray
    plain: np.ndarray | None = None

    def within(self, widths: np.ndarray) -> np.ndarray:
        """(n,) mean square of the quantile function around its cell means, cells of ``widths`` (K,) summing to one."""
        means = self.means if self.plain is None else self.plain
        away = means - (means @ widths)[:, None]
        left = self.variance - (away**2) @ widths
        # Fewer draws than cells leave rounding alone inside them, of either sign.
        return np.where(left > 1e-12 * self.variance, left, 0.0)

    def merged(self, edges: np.ndarray, coarse: np.ndarray) -> "UnitCells":
        """The same over the cells of ``coarse`` (K' + 1,), each of them an edge of these cells ``edges`` (K + 1,)."""
        widths = np.diff(edges)
        first = np.searchsorted(edges, coarse[:-1])

        def wider(means: np.ndarray) -> np.ndarray:
            return np.asarray(np.add.reduceat(means * widths, first, axis=1) / np.diff(coarse))

        return UnitCells(wider(self.means), self.variance, None if self.plain is None else wider(self.plain))


def cell_means(draws: UnitDraws, edges: np.ndarray, *, small_sample: str | None = None) -> UnitCells:
    """Means of the draws of every unit between the levels ``edges``, block by block.

    The draws of a unit are a discrete distribution: draw j, in increasing order, holds the levels from its cumulated
    share less its own to its cumulated share, and a cell takes the part of it that falls inside. The mean over all
    cells is the unit's mean, whatever its number of draws and their weights.

    Parameters
    ----------
    draws : UnitDraws
        Draws of n units.
    edges : ndarray (K + 1,) float64
        Increasing from 0 to 1.
    small_sample : str, optional
        "half": the generalised jackknife of :func:`~causalsat.study.unit_quantiles.half_coefficients` on the cell
        means, for units of at most 1000 draws (beyond, it changes little).

    Returns
    -------
    UnitCells
    """
    empty = np.full((len(draws), edges.size - 1), np.nan)
    found = UnitCells(empty, np.full(len(draws), np.nan), None if small_sample is None else empty.copy())
    tables: dict[int, np.ndarray] = {}
    for block in draws.blocks():
        shares = (
            None if block.weights is None and bool((block.sizes == block.values.shape[1]).all()) else block.shares()
        )
        # Around the unit's mean, differences of cumulated sums keep their digits however far from zero the draws are.
        centre, away = _centred(block, shares)
        if block.weights is not None and shares is not None:
            means = _weighted(away, shares, edges)
        elif shares is None and away.shape[1] <= _AT_ONCE:
            means = away @ _step_coefficients(away.shape[1], edges).T
        else:
            means = _plain(away, block.sizes, edges)
        if found.plain is not None:
            found.plain[block.rows] = means + centre[:, None]
            _correct(means, block, away, edges, tables)
        found.means[block.rows] = means + centre[:, None]
        square = np.einsum("ij,ij->i", away, away) / away.shape[1]
        found.variance[block.rows] = square if shares is None else np.einsum("ij,ij,ij->i", shares, away, away)
    return found


def _centred(block: DrawBlock, shares: np.ndarray | None) -> tuple[np.ndarray, np.ndarray]:
    """Means (b,) of the units, and their draws (b, k) around them, zero in the padding."""
    if shares is None:
        values = block.values.astype(np.float64)
        centre = values.mean(axis=1)
        return centre, values - centre[:, None]
    values = block.finite()
    centre = np.einsum("ij,ij->i", shares, values)
    return centre, np.where(shares > 0.0, values - centre[:, None], 0.0)


def matrix_cell_means(matrix: QuantileMatrix, edges: np.ndarray) -> UnitCells:
    """The same of given quantiles, exactly: linear between the levels, constant beyond the outermost.

    Tails beyond the outermost levels are not seen, so spread and inequality are on the low side.
    """
    knots = np.union1d(edges, matrix.quantiles)
    low = np.clip(np.searchsorted(matrix.quantiles, knots, side="right") - 1, 0, matrix.quantiles.size - 1)
    high = np.minimum(low + 1, matrix.quantiles.size - 1)
    gap = matrix.quantiles[high] - matrix.quantiles[low]
    blend = np.clip((knots - matrix.quantiles[low]) / np.where(gap > 0.0, gap, 1.0), 0.0, 1.0)
    below, above = matrix.values[:, low], matrix.values[:, high]
    values = below + blend * (above - below)
    widths = np.diff(knots)
    pieces = 0.5 * (values[:, :-1] + values[:, 1:]) * widths
    means = np.add.reduceat(pieces, np.searchsorted(knots, edges[:-1]), axis=1) / np.diff(edges)
    away = values - pieces.sum(axis=1)[:, None]
    left, right = away[:, :-1], away[:, 1:]
    return UnitCells(means, ((left**2 + left * right + right**2) / 3.0) @ widths)


def _plain(values: np.ndarray, sizes: np.ndarray, edges: np.ndarray) -> np.ndarray:
    """(b, K) cell means of sorted draws (b, k) that count alike."""
    sums = np.concatenate([np.zeros((len(values), 1)), np.cumsum(values, axis=1)], axis=1)
    same = bool((sizes == sizes[0]).all())
    n = sizes[:1, None] if same else sizes[:, None]
    position = n * edges[None, :]
    low = np.minimum(np.floor(position).astype(np.int64), n - 1)
    if same:
        reached, own = sums[:, low[0]], values[:, low[0]]
    else:
        reached, own = np.take_along_axis(sums, low, 1), np.take_along_axis(values, low, 1)
    return np.asarray(np.diff(reached + (position - low) * own, axis=1) / (n * np.diff(edges)[None, :]))


def _weighted(values: np.ndarray, shares: np.ndarray, edges: np.ndarray) -> np.ndarray:
    """(b, K) cell means of sorted draws (b, k) with shares that sum to one in a row."""
    found = np.empty((len(values), edges.size - 1))
    for i, own in enumerate(shares):
        keep = own > 0.0
        upper = np.cumsum(own[keep])
        upper = np.concatenate([np.zeros(1), upper / upper[-1]])
        sums = np.concatenate([np.zeros(1), np.cumsum(own[keep] * values[i, keep])])
        found[i] = np.diff(np.interp(edges, upper, sums)) / np.diff(edges)
    return found


def _correct(
    means: np.ndarray, block: DrawBlock, away: np.ndarray, edges: np.ndarray, tables: dict[int, np.ndarray]
) -> None:
    """Put the jackknife's cell means in place of the plain ones, in units small enough."""
    sizes = block.sizes
    if block.weights is not None:
        sizes = np.rint(np.asarray(block.weights).sum(axis=1)).astype(np.int64)
    for n in np.unique(sizes[(sizes > 1) & (sizes <= _CORRECTED)]).tolist():
        if n not in tables:
            # Blocks come by size, so tables of smaller units are not needed again.
            tables.clear()
            tables[n] = half_cells(n, edges)
        own = np.flatnonzero(sizes == n)
        if block.weights is None:
            drawn = away[own, :n]
        else:
            drawn = np.stack([np.repeat(away[i], whole_counts(np.asarray(block.weights)[i])) for i in own.tolist()])
        means[own] = drawn @ tables[n].T


def half_cells(n: int, edges: np.ndarray) -> np.ndarray:
    """Coefficients (K, n) of the order statistics in the jackknife of cell means with k = floor(n / 2).

    (n A - k A_k) / (n - k), with A the cell means of all draws and A_k their mean over all subsets of k draws; the
    j-th smallest of a subset is Z_(l) with probability C(l - 1, j - 1) C(n - l, k - j) / C(n, k).
    """
    k = n // 2
    whole = _step_coefficients(n, edges)
    if k == 0:
        return whole
    logs = np.concatenate([np.zeros(1), np.cumsum(np.log(np.arange(1, n + 1)))])
    rank, j = np.arange(1, n + 1)[None, :], np.arange(1, k + 1)[:, None]
    possible = (rank >= j) & (n - rank >= k - j)
    at = [np.where(possible, part, 0) for part in (rank - 1, rank - j, n - rank, n - rank - k + j)]
    size = logs[at[0]] - logs[j - 1] - logs[at[1]] + logs[at[2]] - logs[k - j] - logs[at[3]]
    chance = np.where(possible, np.exp(size - (logs[n] - logs[k] - logs[n - k])), 0.0)
    return np.asarray((n * whole - k * (_step_coefficients(k, edges) @ chance)) / (n - k))


def _step_coefficients(n: int, edges: np.ndarray) -> np.ndarray:
    """(K, n) share of each of n equal steps in each cell; rows sum to one."""
    upper = np.clip(n * edges[:, None] - np.arange(n)[None, :], 0.0, 1.0)
    return np.asarray(np.diff(upper, axis=0) / (n * np.diff(edges)[:, None]))
