"""What is kept of the pixels under zones: a summary always, and rows, histograms or quantiles."""

from dataclasses import dataclass, field

import numpy as np

from causalsat.errors import DataError
from causalsat.raster.zonal_sweep import Chunk

MAX_HISTOGRAM_BYTES = 2**30


@dataclass(eq=False)
class Summary:
    """Counts and shares of each zone, updated block by block."""

    n: int
    pixels: np.ndarray = field(init=False)
    masked: np.ndarray = field(init=False)
    weight: np.ndarray = field(init=False)
    masked_weight: np.ndarray = field(init=False)
    total: np.ndarray = field(init=False)
    low: np.ndarray = field(init=False)
    high: np.ndarray = field(init=False)
    at_low: np.ndarray = field(init=False)
    at_high: np.ndarray = field(init=False)

    def __post_init__(self) -> None:
        self.pixels, self.masked = np.zeros(self.n, np.int64), np.zeros(self.n, np.int64)
        self.weight, self.masked_weight, self.total = np.zeros(self.n), np.zeros(self.n), np.zeros(self.n)
        self.low, self.high = np.full(self.n, np.inf), np.full(self.n, -np.inf)
        self.at_low, self.at_high = np.zeros(self.n), np.zeros(self.n)

    def add(self, chunk: Chunk) -> None:
        """Count the pixels of one block."""
        starts = (
            np.flatnonzero(np.r_[True, chunk.code[1:] != chunk.code[:-1]]) if len(chunk.code) else np.array([], int)
        )
        for first, last in zip(starts, np.r_[starts[1:], len(chunk.code)]):
            zone, run = int(chunk.code[first]), slice(first, last)
            ok = chunk.valid[run]
            self.masked[zone] += int((~ok).sum())
            self.masked_weight[zone] += float(chunk.weight[run][~ok].sum())
            if ok.any():
                self._run(zone, chunk.value[run][ok].astype(np.float64), chunk.weight[run][ok])

    def _run(self, zone: int, value: np.ndarray, weight: np.ndarray) -> None:
        self.pixels[zone] += len(value)
        self.weight[zone] += float(weight.sum())
        self.total[zone] += float(weight @ value)
        low, high = float(value.min()), float(value.max())
        if low <= self.low[zone]:
            kept = self.at_low[zone] if low == self.low[zone] else 0.0
            self.low[zone], self.at_low[zone] = low, kept + float(weight[value == low].sum())
        if high >= self.high[zone]:
            kept = self.at_high[zone] if high == self.high[zone] else 0.0
            self.high[zone], self.at_high[zone] = high, kept + float(weight[value == high].sum())


class LongRows:
    """Every valid pixel of every zone."""

    def __init__(self) -> None:
        self.parts: list[tuple[np.ndarray, ...]] = []

    def add(self, chunk: Chunk) -> None:
        """Keep the rows of one block."""
        ok = chunk.valid
        item = np.full(int(ok.sum()), chunk.item, np.int32)
        self.parts.append((chunk.code[ok], item, chunk.pixel[ok], chunk.value[ok], chunk.weight[ok]))

    def take(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Zone, value and weight by zone, raster and pixel, so that the size of blocks leaves no trace; then empty."""
        if not self.parts:
            return np.zeros(0, np.int64), np.zeros(0), np.zeros(0)
        code, item, pixel, value, weight = (np.concatenate(column) for column in zip(*self.parts))
        self.parts = []
        order = np.lexsort((pixel, item, code))
        return code[order], value[order], weight[order]


class IntegerHistogram:
    """Exact weight of every integer between the least and the greatest seen."""

    def __init__(self, n: int) -> None:
        self.n, self.low = n, 0
        self.counts = np.zeros((n, 0))

    def add(self, chunk: Chunk) -> None:
        """Count the values of one block."""
        raw = chunk.raw[chunk.valid].astype(np.int64)
        if raw.size:
            self._grow(int(raw.min()), int(raw.max()))
            tally(self.counts, chunk.code[chunk.valid], raw - self.low, chunk.weight[chunk.valid])

    def _grow(self, low: int, high: int) -> None:
        width = self.counts.shape[1]
        if not width:
            self.low, self.counts = low, np.zeros((self.n, guarded(self.n, high - low + 1)))
            return
        before, after = max(0, self.low - low), max(0, high - (self.low + width - 1))
        if before or after:
            guarded(self.n, width + before + after)
            self.counts = np.pad(self.counts, ((0, 0), (before, after)))
            self.low -= before

    def edges(self, scale: float, offset: float) -> tuple[np.ndarray, np.ndarray]:
        """Edges halfway between neighbouring values, in units of value, and the counts between them."""
        edges = (np.arange(self.counts.shape[1] + 1) + (self.low - 0.5)) * scale + offset
        return (edges, self.counts) if scale > 0 else (edges[::-1].copy(), self.counts[:, ::-1].copy())


class FloatHistogram:
    """Weights in bins of equal width between the least and the greatest value of all zones."""

    def __init__(self, n: int, low: float, high: float, n_bins: int) -> None:
        if not low < high:
            half = max(abs(low), 1.0) * 1e-9
            low, high, n_bins = low - half, low + half, 1
        self.edges = np.linspace(low, high, n_bins + 1)
        self.counts = np.zeros((n, guarded(n, n_bins)))

    def add(self, chunk: Chunk) -> None:
        """Count the values of one block."""
        value = chunk.value[chunk.valid].astype(np.float64)
        place = np.searchsorted(self.edges, value, side="right") - 1
        place = np.clip(place, 0, len(self.edges) - 2)
        tally(self.counts, chunk.code[chunk.valid], place, chunk.weight[chunk.valid])


def tally(counts: np.ndarray, row: np.ndarray, column: np.ndarray, weight: np.ndarray) -> None:
    """Add weights to a table of counts; a flat index is several times as fast as a pair."""
    np.add.at(counts.reshape(-1), row * counts.shape[1] + column, weight)


def guarded(n: int, k: int) -> int:
    """``k`` bins, unless the table of counts would exceed a gibibyte."""
    if 8 * n * k > MAX_HISTOGRAM_BYTES:
        raise DataError(
            f'as_="histogram" needs {n} zones x {k} bins = {8 * n * k / 2**30:.1f} GiB of counts; narrow the values '
            'with valid=(low, high), lower n_bins (floating point), take as_="quantiles", or pass zones in parts.'
        )
    return k


def weighted_quantiles(value: np.ndarray, weight: np.ndarray, levels: np.ndarray) -> np.ndarray:
    """Quantiles of type 7 of weighted values.

    Weights are scaled to the sum n. Position ``t = 1 + (n − 1) q``; the order statistic of a position is the first
    value whose cumulated weight reaches it; neighbours ⌊t⌋ and ⌊t⌋ + 1 are blended. Equal weights give type 7.

    Parameters
    ----------
    value, weight : ndarray (n,)
        Weights positive.
    levels : ndarray (M,) in (0, 1)

    Returns
    -------
    ndarray (M,) float64
    """
    n = len(value)
    if not n:
        return np.full(len(levels), np.nan)
    order = np.argsort(value, kind="stable")
    ordered = value[order].astype(np.float64)
    reached = np.cumsum(weight[order])
    reached *= n / reached[-1]
    position = 1.0 + (n - 1.0) * levels
    lower = np.floor(position + 1e-9)
    share = np.clip(position - lower, 0.0, 1.0)
    at = [np.searchsorted(reached, np.minimum(p, n) - 1e-9 * n, side="left") for p in (lower, lower + 1.0)]
    below, above = (ordered[np.minimum(index, n - 1)] for index in at)
    # Blending may lower a tie by its last bit; a quantile function does not fall.
    return np.asarray(np.maximum.accumulate(below + share * (above - below)))
