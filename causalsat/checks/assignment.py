"""How well the adjustment set tells treated from controls, and whether the propensity is calibrated."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from causalsat.checks.result import CheckResult
from causalsat.errors import DataError

DECILES = 10
_EDGE = 1e-12


@dataclass(frozen=True)
class Assignment:
    """Numbers about one propensity.

    Attributes
    ----------
    auc : float
        Out-of-fold AUC: pairs of the same fold only, folds averaged with weights n1 n0.
    auc_pooled : float
        AUC over all pairs, whatever their folds.
    auc_insample : float
        AUC of the in-sample propensity; its gap to ``auc`` measures overfitting (NaN without one).
    se_jackknife, se_influence : float
        Standard errors of ``auc`` by leaving out one cluster at a time, and from the influence values.
    influence : np.ndarray
        (n,) float64, auc - truth ~ mean(influence) with m held; differences of two assignments on the same rows have
        the paired standard error.
    log_loss, log_loss_base : float
        Mean negative log-likelihood of m, and of the base rate.
    """

    auc: float
    auc_pooled: float
    auc_insample: float
    se_jackknife: float
    se_influence: float
    influence: np.ndarray
    log_loss: float
    log_loss_base: float


def assignment(
    d: np.ndarray,
    m_oof: np.ndarray,
    *,
    m_insample: np.ndarray | None = None,
    fold: np.ndarray | None = None,
    cluster: np.ndarray | None = None,
    weights: np.ndarray | None = None,
) -> Assignment:
    """Discrimination of a propensity.

    AUC = share of (treated, control) pairs with m1 > m0, ties one half. Standard errors hold m: they describe sampling
    of the rows judged, not of the rows that taught m.

    Parameters
    ----------
    d, m_oof : np.ndarray
        (n,) float64 treatment (0 or 1) and out-of-fold propensity.
    m_insample : np.ndarray, optional
        (n,) float64 propensity fitted on all rows.
    fold, cluster : np.ndarray, optional
        (n,) int64 fold and cluster codes; None: one fold, one row per cluster.
    weights : np.ndarray, optional
        (n,) float64 row weights.

    Raises
    ------
    DataError
        No fold holds both arms.

    Examples
    --------
    >>> d = np.array([0.0, 0.0, 1.0, 1.0])
    >>> assignment(d, np.array([0.1, 0.4, 0.35, 0.8])).auc
    0.75
    """
    d, m = np.asarray(d, dtype=np.float64), np.asarray(m_oof, dtype=np.float64)
    w = np.ones_like(d) if weights is None else np.asarray(weights, dtype=np.float64)
    folds = np.zeros(d.size, dtype=np.int64) if fold is None else _codes(fold)
    clusters = np.arange(d.size) if cluster is None else _codes(cluster)
    if not any({0.0, 1.0} <= set(d[folds == k]) for k in range(int(folds.max()) + 1)):
        raise DataError("no fold holds both treated and controls, so no pair can be compared; use fewer folds.")
    second = m if m_insample is None else np.asarray(m_insample, dtype=np.float64)
    value, pooled, insample, influence, without = _ranked(m, second, d, w, folds, clusters)
    kept = without[np.isfinite(without)]
    g = kept.size
    sums = np.bincount(clusters, weights=influence)
    p = np.average(d, weights=w)
    return Assignment(
        auc=value,
        auc_pooled=pooled,
        auc_insample=float("nan") if m_insample is None else insample,
        se_jackknife=float(np.sqrt((g - 1) / g * ((kept - kept.mean()) ** 2).sum())) if g > 1 else float("nan"),
        se_influence=float(np.sqrt((sums**2).sum()) / d.size),
        influence=influence,
        log_loss=log_loss(d, m, w),
        log_loss_base=log_loss(d, np.full_like(m, p), w),
    )


def assignment_check(
    label: str,
    d: np.ndarray,
    m_oof: np.ndarray,
    m_insample: np.ndarray | None = None,
    fold: np.ndarray | None = None,
    cluster: np.ndarray | None = None,
    *,
    weights: np.ndarray | None = None,
) -> CheckResult:
    """The out-of-fold AUC of assignment in words, with the numbers beside it.

    Fails above .95: the set nearly identifies the treated and the effect is extrapolated. Arguments as
    :func:`assignment`; ``label`` is "treatment, set". ``table``: quantity and value.
    """
    found = assignment(d, m_oof, m_insample=m_insample, fold=fold, cluster=cluster, weights=weights)
    w = np.ones(len(d)) if weights is None else np.asarray(weights, dtype=np.float64)
    intercept, slope = calibration_line(d, m_oof, w)
    values = {
        "auc": found.auc,
        "auc_se_jackknife": found.se_jackknife,
        "auc_se_influence": found.se_influence,
        "auc_pooled": found.auc_pooled,
        "auc_insample": found.auc_insample,
        "log_loss": found.log_loss,
        "log_loss_base_rate": found.log_loss_base,
        "calibration_intercept": intercept,
        "calibration_slope": slope,
    }
    text = (
        f"Out-of-fold AUC {found.auc:.3f} (SE {found.se_jackknife:.3f}), in sample {found.auc_insample:.3f}; log loss "
        f"{found.log_loss:.4f} against {found.log_loss_base:.4f} of the base rate; calibration slope {slope:.2f}."
    )
    if found.auc > 0.95:
        text += (
            " The adjustment set nearly identifies the treated; the effect is extrapolated: use the ATO, fewer "
            "components, or a trimmed estimand."
        )
    table: dict[str, list[Any]] = {"quantity": list(values), "value": [float(v) for v in values.values()]}
    return CheckResult(f"assignment[{label}]", found.auc <= 0.95, found.auc, text, table)


def reliability_check(label: str, d: np.ndarray, m: np.ndarray, *, weights: np.ndarray | None = None) -> CheckResult:
    """Calibration of a propensity: logistic regression of d on logit m, and deciles of m against treated shares.

    Slope one and intercept zero mean calibrated; passes when the slope lies in [.8, 1.25]. ``statistic`` is the slope;
    ``table`` holds the deciles. A propensity that does not vary cannot be judged (``passed`` None).
    """
    d, m = np.asarray(d, dtype=np.float64), np.asarray(m, dtype=np.float64)
    w = np.ones_like(d) if weights is None else np.asarray(weights, dtype=np.float64)
    intercept, slope = calibration_line(d, m, w)
    table = _deciles(d, m, w)
    name = f"reliability[{label}]"
    if not np.isfinite(slope):
        return CheckResult(name, None, float("nan"), "The propensity does not vary or separates the arms.", table)
    text = (
        f"Logistic regression of the treatment on logit m: slope {slope:.2f}, intercept {intercept:.2f} (ideal 1, 0)."
    )
    return CheckResult(name, bool(0.8 <= slope <= 1.25), slope, text, table)


def calibration_line(d: np.ndarray, m: np.ndarray, w: np.ndarray, *, steps: int = 50) -> tuple[float, float]:
    """(intercept, slope) of the logistic regression of d on logit m by Newton's method; NaN when it has none."""
    d, m = np.asarray(d, dtype=np.float64), np.clip(np.asarray(m, dtype=np.float64), _EDGE, 1.0 - _EDGE)
    z = np.log(m / (1.0 - m))
    if z.std() <= 1e-10 * max(1.0, float(np.abs(z).max())):
        return float("nan"), float("nan")
    x = np.column_stack([np.ones_like(z), z])
    b = np.array([0.0, 1.0])
    for _ in range(steps):
        p = 1.0 / (1.0 + np.exp(-np.clip(x @ b, -500.0, 500.0)))
        information = (x * (w * p * (1.0 - p))[:, None]).T @ x
        if np.linalg.cond(information) > 1e14:
            return float("nan"), float("nan")
        move = np.linalg.solve(information, x.T @ (w * (d - p)))
        # Large first moves overshoot where the curve is flat.
        b = b + move * min(1.0, 5.0 / max(1e-300, float(np.abs(move).max())))
        if np.abs(move).max() < 1e-10 * (1.0 + np.abs(b).max()):
            return float(b[0]), float(b[1])
    return float("nan"), float("nan")


def log_loss(d: np.ndarray, m: np.ndarray, w: np.ndarray) -> float:
    """Weighted mean of -log of the probability given to what happened."""
    p = np.clip(m, _EDGE, 1.0 - _EDGE)
    return float(-np.average(d * np.log(p) + (1.0 - d) * np.log1p(-p), weights=w))


def _deciles(d: np.ndarray, m: np.ndarray, w: np.ndarray) -> dict[str, list[Any]]:
    edges = np.unique(np.quantile(m, np.linspace(0.0, 1.0, DECILES + 1)))
    group = np.clip(np.searchsorted(edges, m, side="right") - 1, 0, max(edges.size - 2, 0))
    table: dict[str, list[Any]] = {"group": [], "n": [], "mean_m": [], "share_treated": []}
    for k in np.unique(group):
        rows = group == k
        if w[rows].sum() > 0.0:
            table["group"].append(int(k) + 1)
            table["n"].append(int(rows.sum()))
            table["mean_m"].append(float(np.average(m[rows], weights=w[rows])))
            table["share_treated"].append(float(np.average(d[rows], weights=w[rows])))
    return table


def _codes(values: np.ndarray) -> np.ndarray:
    return np.unique(np.asarray(values), return_inverse=True)[1].astype(np.int64)


def _ranked(
    m: np.ndarray, second: np.ndarray, d: np.ndarray, w: np.ndarray, fold: np.ndarray, cluster: np.ndarray
) -> tuple[float, float, float, np.ndarray, np.ndarray]:
    """AUC, pooled AUC, AUC of ``second``, influence values (n,) and AUC without each cluster (g,).

    Rows are padded by zero weights to a power of two, so that few sizes are ever compiled.
    """
    import jax.numpy as jnp

    from causalsat.kernels.precision import float64
    from causalsat.kernels.rank import ranked

    n, g = d.size, int(cluster.max()) + 1
    size, clusters = _power_of_two(n), _power_of_two(g)
    with float64():
        columns = [jnp.asarray(_padded(v, size), dtype=jnp.float64) for v in (m, second, d, w)]
        codes = [jnp.asarray(_padded(v, size), dtype=jnp.int64) for v in (fold, cluster)]
        found = ranked(columns[0], columns[1], columns[2], columns[3], codes[0], codes[1], n_clusters=clusters)
        influence, without = np.asarray(found.influence)[:n] * (n / size), np.asarray(found.without)[:g]
        return float(found.auc), float(found.pooled), float(found.second), influence, without


def _power_of_two(n: int) -> int:
    return 1 << max(n - 1, 1).bit_length()


def _padded(values: np.ndarray, size: int) -> np.ndarray:
    return np.concatenate([values, np.zeros(size - values.size, dtype=values.dtype)])
