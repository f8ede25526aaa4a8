"""The estimate of `image_ate` without the controls near treated rows."""

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from causalsat.effects.table import EffectTable
from causalsat.errors import OptionError, number
from causalsat.estimators.ate_design import AteDesign, Cell
from causalsat.estimators.ate_fit import CellFit, SetFit, fit_set, score_rows
from causalsat.estimators.ate_options import DIFFERENCE, AteOptions
from causalsat.estimators.ate_uncertainty import row_covariances, sandwich_of
from causalsat.study.exposure import EFFECTS, nearest_treated_km

if TYPE_CHECKING:
    from causalsat.estimators.ate_result import AteResult

_MIN_CONTROLS = 20
Found = tuple[float, np.ndarray, int, str]


def buffer_table(result: "AteResult", buffers_km: Sequence[float]) -> EffectTable:
    """Every effect again without the controls within d km of a treated row of the same period, for each d.

    If treatment spills over, controls near treated rows are partly treated, and the estimate moves as they go; with
    growing d it compares ever farther places, so what moves it may also be that they differ. Nuisances are learned
    again on the rows that stay, in the first deal of the folds; a known propensity is learned too, since it does not
    hold among them. Dropping controls leaves the ATT's target as it is, while the ATE is that of the rows that stay.
    """
    design, options = result.design, result.options
    if design.study.lonlat is None:
        raise OptionError("buffer_table needs coordinates: give coords=(longitude, latitude) or a GeoDataFrame.")
    if design.supplied:
        raise OptionError("buffer_table learns nuisances again; it cannot do so with nuisances= supplied as columns.")
    given = (buffers_km,) if isinstance(buffers_km, (int, float)) else tuple(buffers_km)
    buffers = [number("buffers_km", d, 0.0, 20_000.0, open_ends=False) for d in given]
    if not buffers:
        raise OptionError("buffers_km is empty; name distances in kilometres, for example (0, 10, 25).")
    free = replace(design, known_propensity=None)
    wanted = [(i, d) for i, cell in enumerate(design.cells) if _buffers_hold_for(cell) for d in buffers]
    if not wanted:
        raise OptionError('buffer_table shows method="aipw" and the difference in means; this fit has neither.')
    found = _buffered(free, options, result.fits[0], wanted)
    influence = np.stack([column for _, column, _, _ in found], axis=1)
    members = [np.flatnonzero(column != 0) for column in influence.T]
    several = len(design.arms) > 1
    covariance = row_covariances(influence, members, sandwich_of(options), design.study, several=several)
    reasons = {i: reason for i, (_, _, _, reason) in enumerate(found) if reason}
    cells = [design.cells[i] for i, _ in wanted]
    return EffectTable.build(
        {
            "treatment": [design.arms[cell.treatment].name for cell in cells],
            "adjust": [cell.adjust for cell in cells],
            "method": [cell.method for cell in cells],
            "estimand": [cell.estimand for cell in cells],
            "buffer_km": [d for _, d in wanted],
        },
        term=["effect"] * len(wanted),
        estimate=[theta for theta, _, _, _ in found],
        std_error=covariance.std_error,
        n_obs=[n for _, _, n, _ in found],
        level=options.level,
        df=covariance.df,
        covariance=covariance.covariance,
        influence=influence,
        unavailable=covariance.unavailable | reasons,
        meta={
            "estimator": "image_ate without controls near treated rows",
            "assumptions": [*result.meta["assumptions"], "controls beyond the buffer are not exposed"],
            "covariance": covariance.kind,
        },
    )


def _buffers_hold_for(cell: Cell) -> bool:
    return cell.method in ("aipw", DIFFERENCE) and cell.estimand not in EFFECTS


def _buffered(design: AteDesign, options: AteOptions, fit: CellFit, wanted: Sequence[tuple[int, float]]) -> list[Found]:
    """Estimate, influence (n,), rows and reason of each cell and distance; each set is fitted once per distance."""
    n, sets, found = len(design.y), dict[tuple[int, str, float], SetFit](), []
    stays = {(design.cells[i].treatment, d): _staying(design, design.cells[i].treatment, d) for i, d in wanted}
    for i, d in wanted:
        cell = design.cells[i]
        stay, key = stays[cell.treatment, d], (cell.treatment, cell.adjust, d)
        fold = fit.folds.get(cell.treatment)
        reason = fit.unavailable.get(i, "") or _too_few(design.arms[cell.treatment].d, stay, fold, d)
        if reason:
            found.append((np.nan, np.full(n, np.nan), 0, reason))
            continue
        arm = design.arms[cell.treatment]
        if cell.adjust == "none":
            theta, phi, rows = score_rows(design, options, cell, replace(arm, rows=arm.rows[stay], d=arm.d[stay]), None)
        else:
            if key not in sets:
                sets[key] = _staying_fit(design, options, cell, fold, stay)
            theta, phi, rows = score_rows(design, options, cell, arm, sets[key])
        influence = np.zeros(n)
        influence[rows] = phi * (n / len(rows))
        found.append((theta, influence, len(rows), ""))
    return found


def _staying(design: AteDesign, t: int, d: float) -> np.ndarray:
    """Eligible rows (n_t,) that are treated or farther than d from every treated row; all of them for d = 0."""
    arm, study = design.arms[t], design.study
    if d == 0.0 or study.lonlat is None:
        return np.ones(len(arm.rows), dtype=bool)
    km = nearest_treated_km(study.lonlat, study.numeric["treatment"][:, t], study.codes.get("time"))[arm.rows]
    return np.asarray((arm.d == 1.0) | (km > d))


def _too_few(treated: np.ndarray, stay: np.ndarray, fold: np.ndarray | None, d: float) -> str:
    controls = stay & (treated == 0.0)
    parts = [controls] if fold is None else [controls & (fold != k) for k in np.unique(fold)]
    least = min(int(part.sum()) for part in parts)
    return "" if least >= _MIN_CONTROLS else f"{least} controls of a training part stay outside {d:g} km"


def _staying_fit(
    design: AteDesign, options: AteOptions, cell: Cell, fold: np.ndarray | None, stay: np.ndarray
) -> SetFit:
    """Nuisances of the rows that stay: the others have weight zero, so that shapes, and compiled code, are the same."""
    arm = design.arms[cell.treatment]
    weights = design.weights.copy()
    weights[arm.rows[~stay]] = 0.0
    fit = fit_set(replace(design, weights=weights), options, cell.treatment, cell.adjust, fold)
    return replace(fit, keep=fit.keep & stay)
