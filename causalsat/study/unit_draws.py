"""Draws of units, read in blocks of units: long columns, lists, arrays and histograms look alike from here."""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from causalsat.errors import DataError

_BLOCK = 1 << 22


@dataclass(frozen=True, eq=False)
class DrawBlock:
    """Some units, their draws sorted.

    Attributes
    ----------
    rows : ndarray (b,) int64
        Positions of the units.
    values : ndarray (b, k) float32 or float64
        Draws in increasing order; the first ``sizes`` of a row count, the rest is padding.
    sizes : ndarray (b,) int64
        Draws of positive weight.
    weights : ndarray (b, k) float64, optional
        Their weights, zero in the padding; None where draws count alike.
    counts : bool
        Weights are numbers of draws.
    """

    rows: np.ndarray
    values: np.ndarray
    sizes: np.ndarray
    weights: np.ndarray | None = None
    counts: bool = False

    def shares(self) -> np.ndarray:
        """(b, k) shares of the draws in their unit, zero in the padding."""
        if self.weights is not None:
            return np.asarray(self.weights / self.weights.sum(axis=1, keepdims=True))
        inside = np.arange(self.values.shape[1])[None, :] < self.sizes[:, None]
        return inside / self.sizes[:, None].astype(np.float64)

    def finite(self) -> np.ndarray:
        """(b, k) float64 draws, zero in the padding."""
        inside = np.arange(self.values.shape[1])[None, :] < self.sizes[:, None]
        return np.where(inside, self.values, 0.0).astype(np.float64)


class UnitDraws(ABC):
    """Draws of n units; ``sizes`` (n,) int64 counts those of positive weight."""

    sizes: np.ndarray

    @abstractmethod
    def take(self, rows: np.ndarray) -> "UnitDraws":
        """The units at ``rows`` only; no draw is copied."""

    @abstractmethod
    def block(self, rows: np.ndarray, *, ordered: bool = True) -> DrawBlock:
        """Draws of the units at ``rows``, padded to the longest; in any order where ``ordered`` is false."""

    def __len__(self) -> int:
        return len(self.sizes)

    @property
    def totals(self) -> np.ndarray:
        """(n,) float64 number of draws: sizes, or the sum of counts."""
        return self.sizes.astype(np.float64)

    @property
    def weighted(self) -> bool:
        """Whether draws carry weights that are no counts."""
        return False

    def widths(self) -> np.ndarray:
        """(n,) int64 columns a unit takes in a block."""
        return self.sizes

    def blocks(self, elements: int = _BLOCK, *, ordered: bool = True) -> Iterator[DrawBlock]:
        """Blocks of units of like size, about ``elements`` draws each; units without draws are left out."""
        widths = self.widths()
        order = np.argsort(widths, kind="stable")
        order = order[self.sizes[order] > 0]
        first = 0
        while first < order.size:
            last = _block_end(widths[order], first, elements)
            yield self.block(order[first:last], ordered=ordered)
            first = last


@dataclass(frozen=True, eq=False)
class RaggedDraws(UnitDraws):
    """Draws of all units end to end: unit i owns ``sizes[i]`` of them from ``starts[i]``."""

    values: np.ndarray
    starts: np.ndarray
    sizes: np.ndarray
    weights: np.ndarray | None = None
    counts: bool = False

    def take(self, rows: np.ndarray) -> "RaggedDraws":
        """The units at ``rows`` only."""
        return replace(self, starts=self.starts[rows], sizes=self.sizes[rows])

    @property
    def weighted(self) -> bool:
        """Whether draws carry weights that are no counts."""
        return self.weights is not None and not self.counts

    @property
    def totals(self) -> np.ndarray:
        """(n,) number of draws."""
        if self.weights is None or not self.counts:
            return self.sizes.astype(np.float64)
        sums = np.concatenate([np.zeros(1), np.cumsum(self.weights)])
        return np.asarray(sums[self.starts + self.sizes] - sums[self.starts])

    def block(self, rows: np.ndarray, *, ordered: bool = True) -> DrawBlock:
        """Draws of the units at ``rows``, padded to the longest."""
        sizes = self.sizes[rows]
        at = np.arange(int(sizes.max()))[None, :]
        inside = at < sizes[:, None]
        index = np.where(inside, self.starts[rows][:, None] + at, 0)
        values = np.where(inside, self.values[index], np.inf)
        weights = None if self.weights is None else np.where(inside, self.weights[index], 0.0)
        return _sorted(rows, values, sizes, weights, self.counts, ordered)


@dataclass(frozen=True, eq=False)
class MatrixDraws(UnitDraws):
    """Draws as an array (J, k), NaN absent; unit i is row ``index[i]``. A memory map stays on disk."""

    values: np.ndarray
    index: np.ndarray
    sizes: np.ndarray
    weights: np.ndarray | None = None
    counts: bool = False

    def take(self, rows: np.ndarray) -> "MatrixDraws":
        """The units at ``rows`` only."""
        return replace(self, index=self.index[rows], sizes=self.sizes[rows])

    @property
    def weighted(self) -> bool:
        """Whether draws carry weights that are no counts."""
        return self.weights is not None and not self.counts

    @property
    def totals(self) -> np.ndarray:
        """(n,) number of draws."""
        if self.weights is None or not self.counts:
            return self.sizes.astype(np.float64)
        found = np.zeros(len(self.sizes))
        for block in self.blocks():
            found[block.rows] = np.asarray(block.weights).sum(axis=1)
        return found

    def widths(self) -> np.ndarray:
        """(n,) k for every unit."""
        return np.full(len(self.sizes), self.values.shape[1], dtype=np.int64)

    def block(self, rows: np.ndarray, *, ordered: bool = True) -> DrawBlock:
        """Draws of the units at ``rows``."""
        values = np.asarray(self.values[self.index[rows]])
        if values.dtype.kind != "f" or values.dtype.itemsize < 4:
            values = values.astype(np.float64)
        weights = None
        if self.weights is not None:
            weights = np.asarray(self.weights[self.index[rows]], dtype=np.float64)
            absent = np.isnan(values) | ~(weights > 0.0)
            weights = np.where(absent, 0.0, weights)
            values = np.where(absent, np.inf, values)
        return _sorted(rows, values, self.sizes[rows], weights, self.counts, ordered)


@dataclass(frozen=True, eq=False)
class BinnedDraws(UnitDraws):
    """Counts (J, k) of draws at common values (k,) in increasing order; unit i is row ``index[i]``.

    With ``scale`` (J,) the numbers are areas or shares of draws, and row j times ``scale[j]`` sums to its draws.
    """

    values: np.ndarray
    tallies: np.ndarray
    index: np.ndarray
    sizes: np.ndarray
    scale: np.ndarray | None = None

    def take(self, rows: np.ndarray) -> "BinnedDraws":
        """The units at ``rows`` only."""
        return replace(self, index=self.index[rows], sizes=self.sizes[rows])

    @property
    def weighted(self) -> bool:
        """Whether the numbers are areas or shares, no counts."""
        return self.scale is not None

    @property
    def totals(self) -> np.ndarray:
        """(n,) numbers of draws."""
        if self.scale is not None:
            return self.sizes.astype(np.float64)
        return np.asarray(self.tallies[self.index].sum(axis=1), dtype=np.float64)

    def widths(self) -> np.ndarray:
        """(n,) k for every unit."""
        return np.full(len(self.sizes), self.values.size, dtype=np.int64)

    def block(self, rows: np.ndarray, *, ordered: bool = True) -> DrawBlock:
        """Values in increasing order with the counts of the units at ``rows``."""
        tallies = np.asarray(self.tallies[self.index[rows]], dtype=np.float64)
        if self.scale is not None:
            tallies = tallies * self.scale[self.index[rows], None]
        values = np.broadcast_to(self.values[None, :], tallies.shape)
        return DrawBlock(rows, values, np.full(len(rows), self.values.size), tallies, True)


def ragged_draws(
    parts: Sequence[np.ndarray], weights: Sequence[np.ndarray] | None = None, *, counts: bool = False
) -> tuple[RaggedDraws, int]:
    """Draws given as one array per unit, and how many were missing.

    Raises
    ------
    DataError
        Infinite draws, weights that are negative, infinite, or of another length.
    """
    lengths = np.array([len(part) for part in parts], dtype=np.int64)
    values = np.concatenate([np.zeros(0), *parts]).astype(np.float64)
    own = None
    if weights is not None:
        if [len(part) for part in weights] != lengths.tolist():
            unit = next(i for i, part in enumerate(weights) if len(part) != lengths[i])
            raise DataError(
                f"weights of unit {unit} have {len(weights[unit])} values and its draws {lengths[unit]}; one per draw."
            )
        own = np.concatenate([np.zeros(0), *weights]).astype(np.float64)
    return grouped_draws(values, np.repeat(np.arange(len(parts)), lengths), len(parts), own, counts=counts)


def grouped_draws(
    values: np.ndarray, unit: np.ndarray, n: int, weights: np.ndarray | None = None, *, counts: bool = False
) -> tuple[RaggedDraws, int]:
    """Draws (N,) of units named by codes (N,) in 0..n-1, and how many were missing (NaN draw or NaN weight).

    Draws of weight zero are left out without being counted.

    Raises
    ------
    DataError
        Infinite draws, weights that are negative or infinite.
    """
    if np.isinf(values).any():
        at = int(np.flatnonzero(np.isinf(values))[0])
        raise DataError(
            f"outcome is infinite in {int(np.isinf(values).sum())} draws (first: draw {at}); a division by zero or "
            "log(0)? Set them to NaN, or drop them."
        )
    _check_weights(weights)
    lost = np.isnan(values) if weights is None else np.isnan(values) | np.isnan(weights)
    keep = ~lost if weights is None else ~lost & (weights > 0.0)
    if not keep.all():
        values, unit = values[keep], unit[keep]
        weights = None if weights is None else weights[keep]
    if bool((unit[1:] < unit[:-1]).any()):
        order = np.argsort(unit, kind="stable")
        values, weights = values[order], None if weights is None else weights[order]
    sizes = np.bincount(unit, minlength=n).astype(np.int64)
    starts = np.concatenate([np.zeros(1, np.int64), np.cumsum(sizes)[:-1]])
    return RaggedDraws(values, starts, sizes, weights, counts), int(lost.sum())


def matrix_draws(values: np.ndarray, weights: np.ndarray | None = None) -> tuple[MatrixDraws, int]:
    """Draws (n, k), NaN absent: read once in blocks of rows; absent ones are padding, so none is counted as lost.

    Raises
    ------
    DataError
        Not two-dimensional or not numeric, infinite draws, weights of another shape, negative or infinite.
    """
    if values.ndim != 2 or values.dtype.kind not in "fiub" or not values.shape[1]:
        raise DataError(f"outcome has shape {values.shape} and dtype {values.dtype}; give numbers (n, k).")
    if weights is not None and weights.shape != values.shape:
        raise DataError(f"weights have shape {weights.shape} and draws {values.shape}; give one per draw.")
    sizes = np.zeros(len(values), np.int64)
    step = max(1, _BLOCK // values.shape[1])
    for first in range(0, len(values), step):
        part = np.asarray(values[first : first + step], dtype=np.float64 if values.dtype.kind != "f" else None)
        if np.isinf(part).any():
            row = first + int(np.flatnonzero(np.isinf(part).any(axis=1))[0])
            raise DataError(f"outcome is infinite (first: row {row}); set such draws to NaN, or drop them.")
        present = ~np.isnan(part)
        if weights is not None:
            own = np.asarray(weights[first : first + step], dtype=np.float64)
            _check_weights(own)
            present &= own > 0.0
        sizes[first : first + step] = present.sum(axis=1)
    return MatrixDraws(values, np.arange(len(values)), sizes, weights), 0


def binned_draws(values: np.ndarray, tallies: np.ndarray, n_draws: np.ndarray | None = None) -> BinnedDraws:
    """Counts (n, k) of draws at values (k,) in increasing order; areas or shares of ``n_draws`` (n,) where given."""
    totals = tallies.sum(axis=1)
    whole = np.rint(totals if n_draws is None else np.where(totals > 0.0, n_draws, 0.0))
    sizes = np.where((whole == 0) & (totals > 0.0), 1, whole).astype(np.int64)
    scale = None if n_draws is None else sizes / np.where(totals > 0.0, totals, 1.0)
    return BinnedDraws(values, tallies, np.arange(len(tallies)), sizes, scale)


def _block_end(widths: np.ndarray, first: int, elements: int) -> int:
    """Units from ``first`` on whose padded block holds at most ``elements`` draws, half of them padding at worst."""
    limit = max(2 * int(widths[first]), int(widths[first]) + 64)
    last = int(np.searchsorted(widths, limit, side="right"))
    cost = (np.arange(first, last) - first + 1) * widths[first:last]
    return first + max(1, int(np.searchsorted(cost, elements, side="right")))


def _sorted(
    rows: np.ndarray, values: np.ndarray, sizes: np.ndarray, weights: np.ndarray | None, counts: bool, ordered: bool
) -> DrawBlock:
    # Sorting also moves absent draws to the end, so an unsorted block must have none.
    if not ordered and bool((sizes == values.shape[1]).all()):
        return DrawBlock(rows, values, sizes, weights, counts)
    if weights is None:
        return DrawBlock(rows, np.sort(values, axis=1), sizes)
    order = np.argsort(values, axis=1)
    return DrawBlock(rows, np.take_along_axis(values, order, 1), sizes, np.take_along_axis(weights, order, 1), counts)


def _check_weights(weights: np.ndarray | None) -> None:
    if weights is not None and ((weights < 0.0).any() or np.isinf(weights).any()):
        odd = weights[(weights < 0.0) | np.isinf(weights)]
        raise DataError(f"weights hold {odd[0]:g} ({odd.size} such draws); weights are finite and zero or positive.")
