"""Quantiles of the draws of each unit: types 7, 8 and 9, weighted, of counts, and corrected for small samples."""

import math
from typing import Any

import numpy as np

from causalsat.errors import DataError, OptionError, SmallUnitsWarning, count, one_of, warn
from causalsat.study.unit_draws import DrawBlock, UnitDraws

RULES = ("type7", "type8", "type9")
_ALPHA = {"type8": 1.0 / 3.0, "type9": 3.0 / 8.0}
_TOLERANCE = 1e-9
_SMALL = 50
# Losing 1% and 99% of 99 levels is ordinary; losing a tenth of them changes what is estimated.
_MATERIAL = 0.9


def quantile_levels(quantiles: Any, sizes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Levels (M,) of the grid, and those (L,) left off because units are too small for them.

    A whole number m stands for k/(m + 1), k = 1..m, without the levels outside [1/(s + 1), s/(s + 1)], where s is the
    5th percentile of the numbers of draws; the median stays. An array is taken as it is.

    Parameters
    ----------
    quantiles : int or array-like (M,)
        Number of levels, or the levels.
    sizes : ndarray (n,)
        Draws per unit.

    Raises
    ------
    OptionError
        A number below one; levels that are not strictly increasing inside (0, 1).

    Warns
    -----
    SmallUnitsWarning
        More than a tenth of the levels are left off because of units with few draws (of several each).
    """
    given = np.asarray(quantiles)
    if given.ndim == 0:
        m = count("quantiles", quantiles, minimum=1)
        levels = np.arange(1, m + 1) / (m + 1.0)
        small = float(np.quantile(sizes, 0.05))
        low = 1.0 / (small + 1.0)
        keep = (levels >= low - 1e-12) & (levels <= 1.0 - low + 1e-12)
        keep |= np.abs(levels - 0.5) < 1e-12
        kept = levels[keep] if keep.any() else np.array([0.5])
        if kept.size < _MATERIAL * m and np.max(sizes) > 1:
            _warn_cut(m, kept, sizes, small)
        return kept, levels[~keep]
    if given.ndim != 1 or not given.size or given.dtype.kind not in "fiu":
        raise OptionError(f"quantiles={quantiles!r} must be a whole number or an array of levels (M,).")
    levels = given.astype(np.float64)
    if not ((levels > 0.0) & (levels < 1.0)).all() or not (np.diff(levels) > 0.0).all():
        raise OptionError(f"quantiles={levels[:5].tolist()}... must be strictly increasing and inside (0, 1).")
    return levels, np.zeros(0)


def _warn_cut(m: int, kept: np.ndarray, sizes: np.ndarray, small: float) -> None:
    few = int((np.asarray(sizes) <= small).sum())
    stay = f"q={kept[0]:.4g} to {kept[-1]:.4g}" if kept.size > 1 else f"q={kept[0]:.4g} alone"
    median = " and the median of a skewed unit is off as well" if kept.size == 1 else ""
    warn(
        f"quantiles={m}: {kept.size} of {m} levels stay ({stay}), because {few} of {len(sizes)} units have at most "
        f"{small:.4g} draws (least {np.min(sizes):.4g}, median {np.median(sizes):.4g}): such a unit says nothing of "
        f"levels outside [1/{small + 1.0:.4g}, {small:.4g}/{small + 1.0:.4g}]{median}. Leave out the units with few "
        "draws, or pass an array of levels, which is taken as it is.",
        SmallUnitsWarning,
    )


def cell_weights(quantiles: np.ndarray) -> np.ndarray:
    """(M,) weights w_j of the levels in integrals over [q_1, q_M]: half the distance between the neighbours.

    w_j = (q_{j+1} - q_{j-1}) / 2 inside, w_1 = q_2 - q_1, w_M = q_M - q_{M-1}; 1 for a single level.
    """
    levels = np.asarray(quantiles, dtype=np.float64)
    if levels.size == 1:
        return np.ones(1)
    steps = np.diff(levels)
    inner = 0.5 * (steps[1:] + steps[:-1])
    return np.concatenate([steps[:1], inner, steps[-1:]])


def unit_quantiles(
    draws: UnitDraws, levels: np.ndarray, *, rule: str = "type7", small_sample: str | None = None
) -> np.ndarray:
    """Quantiles (n, M) of the draws of every unit, block by block; NaN for units without draws.

    Type 7 blends the order statistics around position 1 + (n_i - 1) q; types 8 and 9 around n_i q + a + q (1 - 2a) with
    a = 1/3 and 3/8, clamped to [1, n_i] (Hyndman and Fan 1996). Weighted type 7: weights are rescaled to sum n_i, and
    the order statistic at t is the first value whose cumulated weight reaches t. Counts use the positions of the
    expanded sample. Weighted types 8 and 9 interpolate at plotting positions (n_e c + 1/2 - a) / (n_e + 1 - 2a) with
    c = cumulated share less half the own one and Kish's n_e.

    Parameters
    ----------
    draws : UnitDraws
        Draws of n units.
    levels : ndarray (M,) float64
        In (0, 1).
    rule : str
        "type7", "type8" or "type9".
    small_sample : str, optional
        "half": generalised jackknife of type 7 with half of the draws, see :func:`half_coefficients`.

    Returns
    -------
    ndarray (n, M) float64

    Raises
    ------
    OptionError
        Unknown rules; "half" with types 8 and 9 or with weights that are no counts.
    """
    check_rule(rule, small_sample, weighted=draws.weighted)
    levels = np.asarray(levels, dtype=np.float64)
    found = np.full((len(draws), levels.size), np.nan)
    coefficients: dict[int, tuple[np.ndarray, np.ndarray]] = {}
    for block in draws.blocks():
        if small_sample == "half":
            found[block.rows] = _half(block, levels, coefficients)
        elif block.weights is None:
            found[block.rows] = _plain(block.values, block.sizes, levels, rule)
        else:
            found[block.rows] = _weighted(block, levels, rule)
    return found


def check_rule(rule: str, small_sample: str | None, *, weighted: bool = False) -> None:
    """Refuse unknown quantile rules and corrections that do not fit them (raises OptionError)."""
    one_of("quantile_rule", rule, RULES)
    if small_sample is None:
        return
    one_of("small_sample", small_sample, ("half",))
    if rule != "type7":
        raise OptionError(f'small_sample="half" corrects quantile_rule="type7"; with "{rule}" leave it out.')
    if weighted:
        raise OptionError(
            'small_sample="half" is defined for draws that count alike (or counts of draws); with weights use '
            'quantile_rule="type9".'
        )


def half_coefficients(n: int, levels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Coefficients (M, n) of the order statistics in the jackknife, and the sums (M,) they were normalised by.

    With k = floor(n / 2), the corrected quantile is (n Q - k Q_k) / (n - k), Q_k the mean type-7 quantile over all
    subsets of size k: the j-th smallest of a subset is Z_(l) with probability
    C(l - 1, j - 1) C(n - l, k - j) / C(n, k) (Quenouille 1956; Gray and Schucany 1972).
    """
    m, k = len(levels), n // 2
    table = np.zeros((m, n))
    position = (n - 1) * levels
    low = np.minimum(np.floor(position).astype(np.int64), max(n - 2, 0))
    blend = position - low
    rows = np.arange(m)
    table[rows, low] += 1.0 - blend
    table[rows, np.minimum(low + 1, n - 1)] += blend
    if k == 0:
        return table, np.ones(m)
    position = (k - 1) * levels
    low = np.minimum(np.floor(position).astype(np.int64), max(k - 2, 0))
    blend = position - low
    subset = np.zeros((m, n))
    sums = np.ones(m)
    logs = np.concatenate([np.zeros(1), np.cumsum(np.log(np.arange(1, n + 1)))])
    ranks = np.stack([low + 1, np.minimum(low + 2, k)])
    by_rank = {j: _rank_probabilities(j, k, n, logs) for j in np.unique(ranks).tolist()}
    for i in range(m):
        first, second = by_rank[int(ranks[0, i])], by_rank[int(ranks[1, i])]
        sums[i] = first.sum()
        subset[i] = (1.0 - blend[i]) * first / first.sum() + blend[i] * second / second.sum()
    return (n * table - k * subset) / (n - k), sums


def expected_attenuation(
    n: int, levels: np.ndarray, *, rule: str = "type7", small_sample: str | None = None
) -> np.ndarray:
    """(M,) E[estimate] / Q - 1 for n standard normal draws, NaN at the median, from exact order statistics."""
    check_rule(rule, small_sample)
    from scipy.special import ndtri

    levels = np.asarray(levels, dtype=np.float64)
    means = normal_order_statistics(n)
    if small_sample == "half":
        expected = half_coefficients(n, levels)[0] @ means
    else:
        expected = _plain(means[None, :], np.array([n]), levels, rule)[0]
    truth = ndtri(levels)
    away = np.abs(truth) > 1e-12
    return np.where(away, expected / np.where(away, truth, 1.0) - 1.0, np.nan)


def normal_order_statistics(n: int) -> np.ndarray:
    """(n,) expected order statistics of n standard normal draws, by quadrature on a fine grid."""
    from scipy.special import gammaln, log_ndtr

    z = np.linspace(-9.5, 9.5, 1521)
    j = np.arange(1, n + 1)[:, None]
    size = gammaln(n + 1) - gammaln(j) - gammaln(n - j + 1)
    log_density = size + (j - 1) * log_ndtr(z)[None, :] + (n - j) * log_ndtr(-z)[None, :]
    density = np.exp(log_density - 0.5 * (z**2)[None, :] - 0.5 * math.log(2.0 * math.pi))
    return np.asarray((density * z[None, :]).sum(axis=1) * (z[1] - z[0]))


def warn_small_units(
    sizes: np.ndarray, levels: np.ndarray, *, rule: str = "type7", small_sample: str | None = None
) -> bool:
    """Warn when the smallest of these units has fewer than 50 draws under plain type 7.

    A shift of the whole distribution is immune; an effect on spread at level q is attenuated by the share named. Where
    the median alone is left, the bias named is that of the median of a skewed unit.

    Parameters
    ----------
    sizes : ndarray
        Draws of the units in the window.
    levels : ndarray (M,)
        Levels in use.
    rule, small_sample
        As in :func:`unit_quantiles`.

    Returns
    -------
    bool
        Whether it warned.
    """
    least = int(np.min(sizes))
    if least >= _SMALL or rule != "type7" or small_sample is not None:
        return False
    if int(np.max(sizes)) == 1:
        warn(
            "Every unit in the window has one draw, so each quantile is that draw: the estimate is the ordinary "
            "regression discontinuity on a scalar outcome and says nothing of effects on spread.",
            SmallUnitsWarning,
        )
        return True
    few = int((np.asarray(sizes) < _SMALL).sum())
    who = f"{few} of {len(sizes)} units in the window have fewer than {_SMALL} draws (least {least})."
    share = expected_attenuation(max(least, 1), levels)
    if np.isnan(share).all():
        typical = max(int(np.median(sizes)), 1)
        warn(
            f"{who} Only the median is estimated, which few draws leave unbiased where units are symmetric and not "
            f"where they are skewed: the median of {typical} exponential draws is {_exponential_median(typical):+.1%} "
            f"off on average, that of {least} {_exponential_median(least):+.1%}, and so is an effect on their scale.",
            SmallUnitsWarning,
        )
        return True
    worst = int(np.nanargmax(np.abs(share)))
    warn(
        f'{who} With quantile_rule="type7" an effect on spread at q={levels[worst]:.4g} is expected to be attenuated '
        f"by {-100.0 * share[worst]:.1f} % in a unit of {least} normal draws (a shift of the whole distribution is "
        'not). Use quantile_rule="type9", or small_sample="half".',
        SmallUnitsWarning,
    )
    return True


def _exponential_median(n: int) -> float:
    """Relative bias of the type-7 median of n exponential draws, from E[Z_(j)] = sum of 1 / (n - i + 1) over i <= j."""
    means = np.cumsum(1.0 / np.arange(n, 0, -1))
    return float(0.5 * (means[(n - 1) // 2] + means[n // 2]) / math.log(2.0) - 1.0)


def sampling_variance(draws: UnitDraws, levels: np.ndarray) -> np.ndarray:
    """(n, M) variance of each unit's quantiles from having few draws, by the spacing of its order statistics.

    With d = sqrt(q (1 - q) / n_i), the standard error of Q(q) is d times the slope of Q between q - d and q + d
    (clipped to [0, 1]); NaN for units of one draw.
    """
    levels = np.asarray(levels, dtype=np.float64)
    found = np.full((len(draws), levels.size), np.nan)
    for block in draws.blocks():
        sizes = block.sizes if block.weights is None else _effective_sizes(block)
        reach = np.sqrt((levels * (1.0 - levels))[None, :] / sizes[:, None])
        low, high = np.maximum(levels[None, :] - reach, 0.0), np.minimum(levels[None, :] + reach, 1.0)
        if block.weights is None:
            gap = _plain(block.values, block.sizes, high, "type7") - _plain(block.values, block.sizes, low, "type7")
        else:
            gap = _weighted(block, high, "type7") - _weighted(block, low, "type7")
        slope = gap / (high - low)
        found[block.rows] = np.where(sizes[:, None] > 1.0, (slope * reach) ** 2, np.nan)
    return found


def _effective_sizes(block: DrawBlock) -> np.ndarray:
    weights = np.asarray(block.weights)
    total = weights.sum(axis=1)
    return np.asarray(total if block.counts else total**2 / (weights**2).sum(axis=1))


def _plain(values: np.ndarray, sizes: np.ndarray, levels: np.ndarray, rule: str) -> np.ndarray:
    """(b, M) blends of order statistics; ``levels`` (M,) or (b, M)."""
    same = bool((sizes == sizes[0]).all()) and levels.ndim == 1
    n = sizes[:1, None] if same else sizes[:, None]
    q = levels[None, :] if levels.ndim == 1 else levels
    if rule == "type7":
        position = (n - 1) * q
    else:
        alpha = _ALPHA[rule]
        position = np.clip(n * q + (alpha + q * (1.0 - 2.0 * alpha)) - 1.0, 0.0, n - 1.0)
    low = np.clip(np.floor(position).astype(np.int64), 0, np.maximum(n - 2, 0))
    blend = position - low
    high = np.minimum(low + 1, n - 1)
    if same:
        below, above = values[:, low[0]].astype(np.float64), values[:, high[0]].astype(np.float64)
    else:
        below = np.take_along_axis(values, low, 1).astype(np.float64)
        above = np.take_along_axis(values, high, 1).astype(np.float64)
    # Rounding may lift a blend above its upper end by the last bit, and a quantile function does not fall.
    return np.asarray(np.minimum(below + blend * (above - below), above))


def _weighted(block: DrawBlock, levels: np.ndarray, rule: str) -> np.ndarray:
    found = np.empty((len(block.rows), levels.shape[-1]))
    for i, weights in enumerate(np.asarray(block.weights)):
        keep = weights > 0.0
        own = levels if levels.ndim == 1 else levels[i]
        found[i] = weighted_quantiles(block.values[i][keep], weights[keep], own, rule=rule, counts=block.counts)
    return found


def weighted_quantiles(
    values: np.ndarray, weights: np.ndarray, levels: np.ndarray, *, rule: str = "type7", counts: bool = False
) -> np.ndarray:
    """Quantiles (M,) of sorted draws (k,) with positive weights (k,); see :func:`unit_quantiles`."""
    values = np.asarray(values, dtype=np.float64)
    total = float(weights.sum())
    if rule != "type7" and not counts:
        alpha = _ALPHA[rule]
        effective = total**2 / float((weights**2).sum())
        # Among equal draws the order would matter, so the lighter come first whatever the order of the rows.
        if bool((values[1:] == values[:-1]).any()):
            weights = weights[np.lexsort((weights, values))]
        centre = (np.cumsum(weights) - 0.5 * weights) / total
        at = (effective * centre + 0.5 - alpha) / (effective + 1.0 - 2.0 * alpha)
        return np.interp(levels, at, values)
    if not counts or total < 1.0:
        weights = weights * (values.size / total)
        total = float(values.size)
    if rule == "type7":
        position = (total - 1.0) * levels
    else:
        alpha = _ALPHA[rule]
        position = np.clip(total * levels + (alpha + levels * (1.0 - 2.0 * alpha)) - 1.0, 0.0, total - 1.0)
    reached = np.cumsum(weights) + _TOLERANCE * total
    low = np.floor(position)
    below = np.minimum(np.searchsorted(reached, low + 1.0, side="left"), values.size - 1)
    above = np.minimum(np.searchsorted(reached, np.minimum(low + 2.0, total), side="left"), values.size - 1)
    lower, upper = values[below], values[above]
    return np.asarray(np.minimum(lower + (position - low) * (upper - lower), upper))


def _half(block: DrawBlock, levels: np.ndarray, coefficients: dict[int, tuple[np.ndarray, np.ndarray]]) -> np.ndarray:
    found = np.empty((len(block.rows), levels.size))
    values, sizes = block.values, block.sizes
    if block.weights is not None:
        parts = [np.repeat(block.values[i], whole_counts(w)) for i, w in enumerate(np.asarray(block.weights))]
        sizes = np.array([part.size for part in parts], dtype=np.int64)
        values = np.zeros((len(parts), int(sizes.max())))
        for i, part in enumerate(parts):
            values[i, : part.size] = part
    for n in np.unique(sizes).tolist():
        if n not in coefficients:
            # Blocks come by size, so tables of smaller units are not needed again.
            coefficients.clear()
            coefficients[n] = half_coefficients(n, levels)
        own = sizes == n
        found[own] = values[own, :n].astype(np.float64) @ coefficients[n][0].T
    return found


def whole_counts(counts: np.ndarray) -> np.ndarray:
    """Counts as whole numbers, for the correction of small samples (raises DataError where they are shares)."""
    whole = np.rint(counts)
    if (np.abs(whole - counts) > 1e-9).any():
        raise DataError(
            'small_sample="half" needs whole counts of draws; a histogram of coverage or area shares has none. Use '
            'quantile_rule="type9".'
        )
    return whole.astype(np.int64)


def _rank_probabilities(j: int, k: int, n: int, logs: np.ndarray) -> np.ndarray:
    """(n,) probability that the j-th smallest of a random subset of size k is the l-th smallest of all."""
    # Beyond 12 sqrt(n) ranks from the centre the probability is below rounding, which keeps large units cheap.
    centre, reach = j * (n + 1) // (k + 1), 12 * math.isqrt(n) + 20
    rank = np.arange(max(j, centre - reach), min(n - k + j, centre + reach) + 1)
    size = logs[rank - 1] - logs[j - 1] - logs[rank - j] + logs[n - rank] - logs[k - j] - logs[n - rank - k + j]
    found = np.zeros(n)
    found[rank - 1] = np.exp(size - (logs[n] - logs[k] - logs[n - k]))
    return found
