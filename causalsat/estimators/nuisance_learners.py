"""Nuisances from scikit-learn learners, and isotonic calibration: loops over folds outside compiled code."""

from collections.abc import Callable
from typing import Any

import numpy as np

from causalsat.errors import OptionError
from causalsat.estimators.features import training_columns
from causalsat.estimators.nuisance_layout import Columns, Split

MIN_ISOTONIC = 500
LOGIT_BOUND = 1e-6


def logit(m: np.ndarray) -> np.ndarray:
    """log(m / (1 - m)), m held 1e-6 inside (0, 1)."""
    inside = np.clip(m, LOGIT_BOUND, 1.0 - LOGIT_BOUND)
    return np.asarray(np.log(inside) - np.log1p(-inside))


def _fresh(learner: Any, seed: int) -> Any:
    """An unfitted copy whose random state, if it has one and it is not set, is the seed."""
    from sklearn.base import clone

    copy = clone(learner)
    if "random_state" in copy.get_params() and copy.get_params()["random_state"] is None:
        copy.set_params(random_state=seed)
    return copy


def _fitted(
    learner: Any, columns: Columns, target: np.ndarray, w: np.ndarray, rows: np.ndarray, seed: int
) -> Callable[[np.ndarray], np.ndarray]:
    """Fit on flagged rows; returns predictions (probability of 1 for a classifier) for flagged rows."""
    matrix = training_columns(columns, w * rows)
    model = _fresh(learner, seed)
    weight = {} if np.ptp(w[rows]) == 0 else {"sample_weight": w[rows]}
    model.fit(matrix[rows], target[rows], **weight)

    def predict(where: np.ndarray) -> np.ndarray:
        if hasattr(model, "predict_proba"):
            return np.asarray(model.predict_proba(matrix[where])[:, -1], dtype=np.float64)
        return np.asarray(model.predict(matrix[where]), dtype=np.float64)

    return predict


def learned_outcome(
    learner: Any, columns: Columns, y: np.ndarray, arm: np.ndarray, w: np.ndarray, split: Split, seed: int
) -> np.ndarray:
    """(n,) out-of-fold predictions of y from models fitted on the rows of one arm (flags)."""
    found = np.full(len(y), np.nan)
    for k in range(split.n_folds):
        test = split.fold == k
        found[test] = _fitted(learner, columns, y, w, split.train[k] & arm & (w > 0), seed)(test)
    return found


def learned_propensity(
    learner: Any, columns: Columns, d: np.ndarray, w: np.ndarray, split: Split, seed: int, *, inner: bool
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Out-of-fold m (n,), inner out-of-fold logits (n, K) of each training part, and m of a fit on all rows."""
    labels = d.astype(np.int64)
    n, k_folds = len(d), split.n_folds
    m, logits = np.full(n, np.nan), np.zeros((n, k_folds))
    used = w > 0
    for k in range(k_folds):
        test = split.fold == k
        m[test] = _fitted(learner, columns, labels, w, split.train[k] & used, seed)(test)
        for j in range(k + 1, k_folds) if inner else ():
            predict = _fitted(learner, columns, labels, w, split.train[k] & split.train[j] & used, seed)
            for outer, held in ((k, j), (j, k)):
                rows = (split.fold == held) & split.train[outer]
                logits[rows, outer] = logit(predict(rows))
    whole = m if split.in_sample else _fitted(learner, columns, labels, w, used, seed)(np.ones(n, dtype=bool))
    return m, logits, whole


def platt_calibrated(
    m: np.ndarray, inner: np.ndarray, d: np.ndarray, w: np.ndarray, split: Split
) -> tuple[np.ndarray, np.ndarray]:
    """Calibrated m, and the (K, 2) lines; fitted on the inner logits of each training part."""
    import jax.numpy as jnp

    from causalsat.kernels.logistic import platt_line
    from causalsat.kernels.precision import float64

    lines = []
    with float64():
        for k in range(split.n_folds):
            weight = jnp.asarray(w * split.train[k], jnp.float64)
            found = platt_line(jnp.asarray(inner[:, k], jnp.float64), jnp.asarray(d, jnp.float64), weight)
            lines.append(np.asarray(found))
    line = np.stack(lines)
    eta = line[split.fold, 0] + line[split.fold, 1] * logit(m)
    return 1.0 / (1.0 + np.exp(-eta)), line


def isotonic_calibrated(m: np.ndarray, inner: np.ndarray, d: np.ndarray, w: np.ndarray, split: Split) -> np.ndarray:
    """m passed through an isotonic regression of d on the inner logits of each training part.

    Raises
    ------
    OptionError
        With fewer than 500 treated or 500 control rows in a training part.
    """
    from sklearn.isotonic import IsotonicRegression

    found = np.empty_like(m)
    for k in range(split.n_folds):
        rows = split.train[k] & (w > 0)
        arms = (int((d[rows] == 0).sum()), int((d[rows] == 1).sum()))
        if min(arms) < MIN_ISOTONIC:
            raise OptionError(
                f'calibrate="isotonic" needs {MIN_ISOTONIC} rows of each arm in every training part; fold {k} has '
                f'{arms[0]} controls and {arms[1]} treated. Use calibrate="platt".'
            )
        curve = IsotonicRegression(out_of_bounds="clip").fit(inner[rows, k], d[rows], sample_weight=w[rows])
        test = split.fold == k
        found[test] = curve.predict(logit(m[test]))
    return found
