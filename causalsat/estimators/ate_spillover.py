"""Treatment and exposure as one treatment of four levels: direct, spillover and total effects."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from causalsat.errors import ConvergenceWarning, WeakOverlapWarning, warn
from causalsat.estimators.ate_design import Arms, AteDesign
from causalsat.estimators.ate_options import AteOptions
from causalsat.estimators.nuisances import cross_fit_nuisances
from causalsat.study.exposure import EFFECTS

LEVELS = ("00", "10", "01", "11")


@dataclass(frozen=True, eq=False)
class Joint:
    """Doubly robust rows of the levels (own treatment, exposed), for one treatment and one adjustment set.

    Attributes
    ----------
    rows : ndarray (m,) int64
        Positions in the study.
    psi : ndarray (4, m) float64
        ``g_a + 1{A=a} (Y - g_a) / p_a``, in the order of ``LEVELS``; NaN for a level without enough rows.
    weights : ndarray (m,) float64
        Row weights with mean one.
    absent : dict
        Level -> why it has no estimate.
    clipped : float
        Share of rows with a propensity of a level below the bound.
    """

    rows: np.ndarray
    psi: np.ndarray
    weights: np.ndarray
    absent: Mapping[str, str] = field(default_factory=dict)
    clipped: float = 0.0

    def reason(self, effect: str) -> str:
        """Why an effect has no estimate; empty when it has one."""
        return "; ".join(self.absent[level] for level in EFFECTS[effect] if level in self.absent)

    def contrast(self, effect: str) -> tuple[float, np.ndarray, np.ndarray]:
        """Estimate, influence values (m,) and rows: mean of the difference of two levels' rows."""
        first, second = (LEVELS.index(level) for level in EFFECTS[effect])
        difference = self.psi[first] - self.psi[second]
        theta = float(np.mean(self.weights * difference))
        return theta, self.weights * (difference - theta), self.rows


def exposed_rows(arm: Arms) -> np.ndarray:
    """1 where any neighbour within the last ring is treated, 0 where none is, NaN where that is unknown: (n_t,)."""
    columns = np.asarray(arm.exposure)
    unknown = np.isnan(columns).any(axis=1)
    return np.where(unknown, np.nan, (np.where(unknown[:, None], 0.0, columns) > 0).any(axis=1).astype(np.float64))


def fit_joint(
    design: AteDesign,
    options: AteOptions,
    arm: Arms,
    adjust: str,
    fold: np.ndarray | None,
    features: tuple[np.ndarray | None, np.ndarray | None],
    train: np.ndarray | None,
) -> Joint:
    """Cross-fit the four levels and score them.

    Outcome regressions g_a are ridge fits on the rows of level a. Propensities p_a are a multinomial logit fitted by
    its individualised logits: level a against the most frequent level, each a calibrated logistic ridge on the rows of
    the two, then ``p_a = odds_a / (1 + sum of odds)``; every p_a is at least ``clip``.

    References
    ----------
    Begg and Gray (1984), "Calculation of polychotomous logistic regression parameters using individualized
    regressions", Biometrika 71(1). Aronow and Samii (2017) for effects of exposure levels.
    """
    exposed = exposed_rows(arm)
    code = np.where(np.isfinite(exposed), arm.d + 2.0 * exposed, -1.0).astype(np.int64)
    absent = _absent(arm.name, code, fold, options.eligibility.min_treated)
    present = [a for a, level in enumerate(LEVELS) if level not in absent]
    inside = np.isin(code, present)
    rows, code = arm.rows[inside], code[inside]
    w = design.weights[rows] / design.weights[rows].mean() if len(rows) else np.zeros(0)
    y = design.y[rows]
    g, p = np.full((4, len(rows)), np.nan), np.full((4, len(rows)), np.nan)
    if adjust == "none":
        for a in present:
            g[a], p[a] = np.average(y, weights=w * (code == a)), np.mean(w * (code == a))
    elif present:
        blocks = [None if block is None else block[inside] for block in features]
        part = None if fold is None else fold[inside]
        kept = None if train is None else train[:, inside]
        g, p = _cross_fit(options, blocks[0], blocks[1], y, code, w, part, kept, present, f"{arm.name}/{adjust}")
    low = p < options.nuisance.clip
    clipped = float(low.any(axis=0).mean()) if len(rows) else 0.0
    if clipped > 0.05:
        warn(
            f"{arm.name}/{adjust}: {100 * clipped:.0f}% of rows have a level of treatment and exposure with propensity "
            f"below {options.nuisance.clip:g}; direct, spillover and total effects rest on extrapolation there.",
            WeakOverlapWarning,
        )
    p = np.maximum(p, options.nuisance.clip)
    own = np.stack([code == a for a in range(4)]).astype(np.float64)
    return Joint(rows, g + own * (y[None, :] - g) / p, w, absent, clipped)


def _absent(name: str, code: np.ndarray, fold: np.ndarray | None, least: int) -> dict[str, str]:
    found = {}
    for a, level in enumerate(LEVELS):
        words = f"{name}={level[0]} with {'treated' if level[1] == '1' else 'no treated'} neighbours"
        n = int((code == a).sum())
        training = n if fold is None else min(int(((code == a) & (fold != k)).sum()) for k in np.unique(fold))
        if n < least:
            found[level] = f"{n} rows have {words}, fewer than Eligibility(min_treated={least})"
        elif training < 2:
            found[level] = f"a training fold has no rows with {words}"
    return found


def _cross_fit(
    options: AteOptions,
    tabular: np.ndarray | None,
    image: np.ndarray | None,
    y: np.ndarray,
    code: np.ndarray,
    w: np.ndarray,
    fold: np.ndarray | None,
    train: np.ndarray | None,
    present: list[int],
    label: str,
) -> tuple[np.ndarray, np.ndarray]:
    """Outcome regressions and propensities (4, m) of the levels present, out of fold."""
    g, odds = np.full((4, len(y)), np.nan), np.full((4, len(y)), np.nan)
    reference = max(present, key=lambda a: int((code == a).sum()))
    status = 0

    def fitted(a: int, weights: np.ndarray, need: str) -> np.ndarray:
        nonlocal status
        found = cross_fit_nuisances(
            tabular,
            image,
            y,
            (code == a).astype(np.float64),
            fold,
            weights=weights,
            options=options.nuisance,
            train=train,
            seed=options.seed,
            need=(need,),
        )
        status = max(status, found.status)
        return found.g1 if need == "g1" else found.m_raw

    for a in present:
        g[a] = fitted(a, w, "g1")
        if a == reference:
            odds[a] = 1.0
        else:
            m = np.clip(fitted(a, w * np.isin(code, (a, reference)), "m"), 1e-9, 1.0 - 1e-9)
            odds[a] = m / (1.0 - m)
    if status:
        warn(
            f"the nuisances of treatment and exposure ({label}) did not converge or are not finite; use fewer columns, "
            "or compress=.",
            ConvergenceWarning,
        )
    return g, odds / np.nansum(odds, axis=0)[None, :]
