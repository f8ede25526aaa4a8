"""Fit the cells of `image_ate`: folds, cross-fitted nuisances, scores."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from causalsat.errors import ConvergenceWarning, DataError, PenaltyEdgeWarning, WeakOverlapWarning, warn
from causalsat.estimators.ate_design import Arms, AteDesign, Cell
from causalsat.estimators.ate_options import AteOptions
from causalsat.estimators.ate_spillover import Joint, fit_joint
from causalsat.estimators.nuisances import Nuisances, cross_fit_nuisances
from causalsat.study.exposure import EFFECTS
from causalsat.study.folds import deal_folds, training_sets


@dataclass(frozen=True)
class SetFit:
    """Nuisances of one treatment and one adjustment set, on the treatment's eligible rows."""

    nuisances: Nuisances
    keep: np.ndarray
    trim: float | None


@dataclass(frozen=True)
class CellFit:
    """Estimates (c,) and influence (n, c) of all cells for one deal of the folds."""

    theta: np.ndarray
    influence: np.ndarray
    n_obs: np.ndarray
    sets: Mapping[tuple[int, str], SetFit]
    folds: Mapping[int, np.ndarray | None]
    unavailable: Mapping[int, str] = field(default_factory=dict)
    joints: Mapping[tuple[int, str], Joint] = field(default_factory=dict)
    members: tuple[np.ndarray, ...] = ()


def fit_cells(design: AteDesign, options: AteOptions, units: np.ndarray, labels: Any, repeat: int) -> CellFit:
    """One deal of the folds, all nuisances, all scores."""
    wanted = dict.fromkeys((c.treatment, c.adjust) for c in design.cells if c.adjust != "none")
    reasons = {t: arm.reason for t, arm in enumerate(design.arms) if arm.reason}
    folds, sets, refused = {}, {}, {}
    for t in dict.fromkeys(t for t, _ in wanted if t not in reasons):
        try:
            folds[t] = _deal(design, options, design.arms[t], units, labels, repeat)
        except DataError as error:
            if len(design.arms) == 1:
                raise
            refused[t] = str(error)
    for t, adjust in wanted:
        if t in folds:
            sets[t, adjust] = fit_set(design, options, t, adjust, folds[t])
    _tell(design, sets)
    joints = _joints(design, options, folds)
    n = len(design.y)
    theta = np.full(len(design.cells), np.nan)
    influence = np.zeros((n, len(design.cells)))
    n_obs = np.zeros(len(design.cells), dtype=np.int64)
    unavailable = {}
    members = [np.empty(0, dtype=np.int64)] * len(design.cells)
    for i, cell in enumerate(design.cells):
        arm = design.arms[cell.treatment]
        reason = arm.reason or ("" if cell.adjust == "none" else refused.get(cell.treatment, ""))
        if cell.estimand in EFFECTS and not reason:
            reason = joints[cell.treatment, cell.adjust].reason(cell.estimand)
        if reason:
            influence[:, i] = np.nan
            unavailable[i] = reason
            continue
        if cell.estimand in EFFECTS:
            value, phi, rows = joints[cell.treatment, cell.adjust].contrast(cell.estimand)
        else:
            value, phi, rows = score_rows(design, options, cell, arm, sets.get((cell.treatment, cell.adjust)))
        theta[i], n_obs[i], members[i] = value, len(rows), np.asarray(rows)
        influence[rows, i] = phi * (n / len(rows))
    return CellFit(theta, influence, n_obs, sets, folds, unavailable, joints, tuple(members))


def _joints(
    design: AteDesign, options: AteOptions, folds: Mapping[int, np.ndarray | None]
) -> dict[tuple[int, str], Joint]:
    """Treatment and exposure fitted together, for the treatments and sets whose cells ask for it."""
    wanted = dict.fromkeys((c.treatment, c.adjust) for c in design.cells if c.estimand in EFFECTS)
    found = {}
    for t, adjust in wanted:
        arm, fold = design.arms[t], folds.get(t)
        if not arm.reason and (adjust == "none" or t in folds):
            features = set_features(design, options, adjust, arm)
            found[t, adjust] = fit_joint(
                design, options, arm, adjust, fold, features, training_rows(design, options, arm, fold)
            )
    return found


def _tell(design: AteDesign, sets: Mapping[tuple[int, str], SetFit]) -> None:
    """Warn once of penalties at the edge of their grid, and of fits that did not converge."""
    labels = {key: f"{design.arms[key[0]].name}/{key[1]}" for key in sets}
    edges = [f"{labels[key]}: {edge}" for key, fit in sets.items() for edge in fit.nuisances.edge]
    if edges:
        more = f" and {len(edges) - 3} more" if len(edges) > 3 else ""
        warn(
            f"penalties were chosen at the edge of their grid ({'; '.join(edges[:3])}{more}); the largest one means "
            "that the features do not predict, the smallest one that they hardly need a penalty.",
            PenaltyEdgeWarning,
        )
    stopped = [labels[key] for key, fit in sets.items() if fit.nuisances.status != 0]
    if stopped:
        warn(
            f"the nuisances of {', '.join(stopped)} did not converge or are not finite; see the notes of "
            "result.nuisances(adjust). Fewer columns, or compress=, usually cure it.",
            ConvergenceWarning,
        )


def _deal(
    design: AteDesign, options: AteOptions, arm: Arms, units: np.ndarray, labels: Any, repeat: int
) -> np.ndarray | None:
    if options.folds is None:
        return None
    return deal_folds(
        units[arm.rows],
        arm.d,
        n_folds=options.folds.n,
        seed=options.seed,
        repeat=repeat,
        unit_labels=labels,
    )


def set_features(
    design: AteDesign, options: AteOptions, adjust: str, arm: Arms
) -> tuple[np.ndarray | None, np.ndarray | None]:
    """The tabular block, with the exposure that is adjusted for, and the image block of a set on an arm's rows."""
    blocks = [] if design.tabular is None else [design.tabular[arm.rows]]
    if arm.exposure is not None and options.exposure is not None and options.exposure.role == "covariate":
        blocks.append(arm.exposure)
    tabular = np.hstack(blocks) if adjust in ("tabular", "both") and blocks else None
    image = design.image[arm.rows] if adjust in ("image", "both") and design.image is not None else None
    return tabular, image


def known(design: AteDesign, rows: np.ndarray) -> np.ndarray | None:
    """The known propensity on ``rows``."""
    return None if design.known_propensity is None else design.known_propensity[rows]


def fit_set(design: AteDesign, options: AteOptions, t: int, adjust: str, fold: np.ndarray | None) -> SetFit:
    """Cross-fitted nuisances of one treatment and one adjustment set, clipped and trimmed."""
    arm = design.arms[t]
    if design.supplied:
        nuisances = supplied_nuisances(design, arm.rows, options)
    else:
        tabular, image = set_features(design, options, adjust, arm)
        nuisances = cross_fit_nuisances(
            tabular,
            image,
            design.y[arm.rows],
            arm.d,
            fold,
            weights=design.weights[arm.rows],
            options=options.nuisance,
            train=training_rows(design, options, arm, fold),
            seed=options.seed,
            known_propensity=known(design, arm.rows),
        )
    keep, bound = _trimmed(options, nuisances.m)
    if keep.sum() < 2 or len(np.unique(arm.d[keep])) < 2:
        raise DataError(
            f"trim={options.trim!r} leaves no treated or no control rows of {arm.name} (adjust={adjust!r})."
        )
    return SetFit(nuisances, keep, bound)


def training_rows(design: AteDesign, options: AteOptions, arm: Arms, fold: np.ndarray | None) -> np.ndarray | None:
    """Training rows (K, n_t) of each fold when a buffer leaves some out; None otherwise."""
    if fold is None or options.folds is None or not options.folds.buffer_km:
        return None
    if design.study.lonlat is None:
        raise DataError("Folds(buffer_km=...) measures distances: give coords or a GeoDataFrame.")
    return training_sets(fold, design.study.lonlat[arm.rows], options.folds.buffer_km, treated=arm.d)


def supplied_nuisances(design: AteDesign, rows: np.ndarray, options: AteOptions) -> Nuisances:
    """Nuisances that the user brought as columns, clipped like ours."""
    columns = {key: value[rows] for key, value in design.supplied.items()}
    m_raw = columns["m"]
    clip = options.nuisance.clip
    m = np.clip(m_raw, clip, 1 - clip)
    empty = np.full(len(rows), np.nan)
    return Nuisances(
        g0=columns.get("g0", empty),
        g1=columns.get("g1", empty),
        m=m,
        m_raw=m_raw,
        m_insample=m_raw,
        fold=np.full(len(rows), -1),
        penalties={},
        edge=[],
        clipped={"share": float((m != m_raw).mean())},
        notes=["nuisances were supplied as columns"],
        status=0,
    )


def _trimmed(options: AteOptions, m: np.ndarray) -> tuple[np.ndarray, float | None]:
    if options.trim is None:
        return np.ones(len(m), dtype=bool), None
    if options.trim == "crump":
        from causalsat.checks.trimming import crump_threshold

        bound = float(crump_threshold(m))
    else:
        bound = float(options.trim)
    keep = (m >= bound) & (m <= 1 - bound)
    if keep.mean() < 0.95:
        lost = int((~keep).sum())
        warn(
            f'trim={options.trim!r} drops {lost} of {len(m)} rows; the overlap estimand estimand="ato" keeps them all.',
            WeakOverlapWarning,
        )
    return keep, bound


def score_rows(
    design: AteDesign, options: AteOptions, cell: Cell, arm: Arms, fit: SetFit | None
) -> tuple[float, np.ndarray, np.ndarray]:
    """Estimate, influence values and the rows they belong to, for one cell."""
    import jax.numpy as jnp

    from causalsat.estimators.ate_scores import score
    from causalsat.kernels.precision import float64

    keep = slice(None) if fit is None else fit.keep
    rows = arm.rows[keep]
    w = design.weights[rows]
    nuisances = None if fit is None else tuple(v[keep] for v in (fit.nuisances.g0, fit.nuisances.g1, fit.nuisances.m))
    with float64():
        arrays = None if nuisances is None else tuple(jnp.asarray(v, jnp.float64) for v in nuisances)
        theta, phi = score(
            cell, options, jnp.asarray(design.y[rows]), jnp.asarray(arm.d[keep]), arrays, jnp.asarray(w / w.mean())
        )
        return float(theta), np.asarray(phi, dtype=np.float64), rows
