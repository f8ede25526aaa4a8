"""What an assignment statistic looks like when treatment has nothing to do with the images."""

from collections.abc import Callable

import numpy as np

from causalsat.checks.result import CheckResult
from causalsat.errors import DataError, count


def shuffled_treatment(
    d: np.ndarray, rng: np.random.Generator, cluster: np.ndarray | None = None, block: np.ndarray | None = None
) -> np.ndarray:
    """(n,) a shuffle of the treatment that keeps its level: single-arm clusters move as wholes, else rows inside them.

    Without clusters rows move. ``block`` restricts every move to rows (or clusters) of the same block. Where clusters
    move, the treated share of rows may change a little, as clusters differ in size.
    """
    d = np.asarray(d, dtype=np.float64)
    blocks = np.zeros(d.size, dtype=np.int64) if block is None else np.unique(block, return_inverse=True)[1]
    if cluster is None:
        return _within(d, blocks, rng)
    codes = np.unique(cluster, return_inverse=True)[1]
    size, treated = np.bincount(codes), np.bincount(codes, weights=d)
    if not ((treated == 0) | (treated == size)).all():
        return _within(d, codes, rng)
    first = np.zeros(size.size, dtype=np.int64)
    first[codes[::-1]] = np.arange(d.size)[::-1]
    if (blocks != blocks[first][codes]).any():
        raise DataError(
            "a cluster lies in two blocks; blocks must be unions of clusters to shuffle clusters within them."
        )
    return _within(treated / size, blocks[first], rng)[codes]


def _within(values: np.ndarray, group: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """``values`` permuted inside each group."""
    target = np.argsort(group, kind="stable")
    source = np.lexsort((rng.random(values.size), group))
    out = np.empty_like(values)
    out[target] = values[source]
    return out


def permutation_check(
    label: str,
    statistic: Callable[[np.ndarray], float],
    d: np.ndarray,
    *,
    cluster: np.ndarray | None = None,
    block: np.ndarray | None = None,
    n: int = 99,
    seed: int = 0,
) -> CheckResult:
    """Permutation distribution of an assignment statistic, usually the out-of-fold AUC with the propensity refitted.

    Parameters
    ----------
    label : str
        "treatment, set".
    statistic : callable
        Treatment (n,) -> number. To test the whole procedure it refits the propensity.
    d : np.ndarray
        (n,) float64 treatment, 0 or 1.
    cluster, block : np.ndarray, optional
        (n,) codes: see :func:`shuffled_treatment`.
    n : int
        Shuffles.
    seed : int
        Seed; shuffle b uses the b-th child, so a longer run keeps its prefix.

    Returns
    -------
    CheckResult
        ``statistic``: p = (1 + #{shuffled >= observed}) / (n + 1). Passes when p > .05: the set does not predict
        treatment. ``table``: the shuffled values.

    Examples
    --------
    >>> d = np.tile([0.0, 1.0], 50)
    >>> x = np.linspace(0.0, 1.0, 100)
    >>> permutation_check("w", lambda t: abs(x[t == 1].mean() - x[t == 0].mean()), d).passed
    True
    """
    n = count("n", n, minimum=1)
    observed = float(statistic(np.asarray(d, dtype=np.float64)))
    children = np.random.SeedSequence(count("seed", seed)).spawn(n)
    values = [float(statistic(shuffled_treatment(d, np.random.default_rng(c), cluster, block))) for c in children]
    p = (1 + sum(v >= observed for v in values)) / (n + 1)
    text = (
        f"{observed:.4g} against a mean of {np.mean(values):.4g} over {n} shuffles of the treatment (p = {p:.3f}, "
        "one-sided)."
    )
    return CheckResult(f"permutation[{label}]", p > 0.05, p, text, {"shuffled": values})
