"""From fitted cells to the effect table: covariance or draws, rows, and what `meta` says."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from causalsat.effects.table import EffectTable
from causalsat.estimators.ate_design import AteDesign, AteOptions, Cell
from causalsat.estimators.ate_exposure import NO_INTERFERENCE, assumptions_with, exposure_meta
from causalsat.estimators.ate_fit import CellFit
from causalsat.estimators.ate_rows import Row, derived_estimates, derived_influence, table_rows
from causalsat.inference.covariance import Covariance, influence_covariance
from causalsat.inference.options import Bootstrap, Sandwich
from causalsat.inference.sampling import Sampling
from causalsat.progress import Progress
from causalsat.study.exposure import EFFECTS
from causalsat.study.open import Study

ASSUMPTIONS = (
    "consistency",
    NO_INTERFERENCE,
    "ignorability of treatment given the adjustment set of the row",
    "overlap",
    "imagery shows the state before treatment",
    "the embedding keeps what confounds treatment and outcome",
)
ESTIMAND_WORDS = {
    "ate": "average effect over all eligible rows",
    "att": "average effect over treated rows",
    "ato": "average effect weighted by overlap m(1-m)",
}


def cluster_codes(study: Study) -> np.ndarray:
    """Cluster (n,) of each row: the cluster column, else the image, else the row itself."""
    found = study.codes.get("cluster", study.image)
    return np.arange(len(study.rows)) if found is None else np.asarray(found)


def sampling_of(study: Study) -> Sampling:
    """What the rows are for the covariance."""
    return Sampling(
        n=len(study.rows),
        cluster=cluster_codes(study),
        second=study.codes.get("second cluster"),
        lonlat=study.lonlat,
        time=study.codes.get("time"),
    )


def build_table(
    design: AteDesign,
    options: AteOptions,
    fits: Sequence[CellFit],
    progress: Progress,
    *,
    seconds: float,
    notes: list[str],
) -> EffectTable:
    """The effect table of all rows, aggregated over repeated deals of the folds.

    Repeats are combined by ``theta = median theta_r`` and ``se² = median(se_r² + (theta_r - theta)²)``.
    """
    rows = table_rows(design.cells, options.reference)
    sampling = sampling_of(design.study)
    per_repeat = [_repeat_rows(rows, fit) for fit in fits]
    estimate = np.median([e for e, _ in per_repeat], axis=0)
    influence = np.mean([phi for _, phi in per_repeat], axis=0)
    sandwich = sandwich_of(options)
    covariances = [finite_covariance(phi, sandwich, sampling) for _, phi in per_repeat]
    spread = [c.std_error**2 + (e - estimate) ** 2 for c, (e, _) in zip(covariances, per_repeat, strict=True)]
    std_error = np.sqrt(np.median(spread, axis=0))
    covariance = _rescaled(covariances[0].matrix, std_error)
    unavailable = _reasons(rows, fits[0], covariances[0])
    draws, sampled = None, None
    if isinstance(options.inference, Bootstrap):
        sampled = _combined_draws(
            design, options, fits, rows, per_repeat, estimate, options.inference, sampling, progress
        )
        draws = sampled.values
        std_error = np.sqrt(np.diag(_draw_covariance(draws)))
        covariance = _rescaled(_draw_covariance(draws), std_error)
    _withhold(rows, design, options, estimate, std_error, unavailable)
    return EffectTable.build(
        _index(rows, design, fits[0]),
        term=[row.term for row in rows],
        estimate=estimate,
        std_error=std_error,
        n_obs=[int(fits[0].n_obs[row.cell]) for row in rows],
        level=options.level,
        df=covariances[0].df,
        covariance=covariance,
        draws=draws,
        influence=influence,
        interval="normal" if draws is None else "percentile",
        unavailable=unavailable,
        meta=_meta(design, options, fits, covariances[0], sampled, seconds, notes),
    )


def _repeat_rows(rows: Sequence[Row], fit: CellFit) -> tuple[np.ndarray, np.ndarray]:
    with np.errstate(divide="ignore", invalid="ignore"):
        return derived_estimates(rows, fit.theta), derived_influence(rows, fit.theta, fit.influence)


def sandwich_of(options: AteOptions) -> Sandwich:
    """The covariance asked for; cluster scores beside a bootstrap."""
    if isinstance(options.inference, Sandwich):
        chosen = options.inference
        return chosen if options.small_sample == "auto" else replace(chosen, small_sample=options.small_sample)
    return Sandwich("cluster", small_sample=options.small_sample)


def finite_covariance(phi: np.ndarray, sandwich: Sandwich, sampling: Sampling) -> Covariance:
    """Covariance of the rows that have an estimate; NaN elsewhere. crv1 counts the two arm means as parameters."""
    finite = np.isfinite(phi).all(axis=0)
    found = influence_covariance(phi[:, finite], sandwich, sampling, n_parameters=2)
    k = len(finite)
    matrix, std_error = np.full((k, k), np.nan), np.full(k, np.nan)
    matrix[np.ix_(finite, finite)] = found.matrix
    std_error[finite] = found.std_error
    position = np.flatnonzero(finite)
    return replace(
        found,
        matrix=matrix,
        std_error=std_error,
        unavailable={int(position[i]): reason for i, reason in found.unavailable.items()},
    )


def _draw_covariance(draws: np.ndarray) -> np.ndarray:
    """Covariance (k, k) of the draws; NaN for rows without an estimate, failed draws left out."""
    used = np.isfinite(draws).any(axis=0)
    matrix = np.full((draws.shape[1], draws.shape[1]), np.nan)
    values = draws[:, used]
    values = values[np.isfinite(values).all(axis=1)]
    matrix[np.ix_(used, used)] = np.cov(values, rowvar=False)
    return matrix


def _rescaled(matrix: np.ndarray, std_error: np.ndarray) -> np.ndarray:
    """The same correlations with the variances of ``std_error``."""
    sd = np.sqrt(np.diag(matrix))
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = np.where(sd > 0, std_error / sd, 0.0)
    return matrix * ratio[:, None] * ratio[None, :]


def _reasons(rows: Sequence[Row], fit: CellFit, covariance: Covariance) -> dict[int, str]:
    reasons = dict(covariance.unavailable)
    for i, row in enumerate(rows):
        for cell in (row.cell, row.reference):
            if cell in fit.unavailable:
                reasons[i] = fit.unavailable[cell]
    return reasons


def _withhold(
    rows: Sequence[Row],
    design: AteDesign,
    options: AteOptions,
    estimate: np.ndarray,
    std_error: np.ndarray,
    unavailable: dict[int, str],
) -> None:
    """NaN with a reason where a number would mislead."""
    refit = isinstance(options.inference, Bootstrap) and options.inference.refit
    effect = {row.cell: i for i, row in enumerate(rows) if row.term == "effect"}
    for i, row in enumerate(rows):
        if row.term == "shrinkage" and i not in unavailable:
            base = effect[row.reference]
            if not abs(estimate[base]) >= 2 * std_error[base]:
                estimate[i] = std_error[i] = np.nan
                unavailable[i] = (
                    "the reference effect is smaller than two standard errors, so a share of it means little"
                )
        methods = {design.cells[c].method for c in (row.cell, row.reference) if c >= 0}
        if "outcome" in methods and not refit and i not in unavailable:
            std_error[i] = np.nan
            unavailable[i] = 'method="outcome" has no valid score; use inference=Bootstrap(refit=True)'


def _index(rows: Sequence[Row], design: AteDesign, fit: CellFit) -> dict[str, list[str]]:
    cells = [design.cells[row.cell] for row in rows]

    def estimand(cell: Cell) -> str:
        found = fit.sets.get((cell.treatment, cell.adjust))
        if cell.estimand in EFFECTS:
            return "ate"
        if found is None or found.trim is None:
            return cell.estimand
        return f"{cell.estimand} on {found.trim:.3g} <= m <= {1 - found.trim:.3g}"

    return {
        "treatment": [design.arms[cell.treatment].name for cell in cells],
        "adjust": [cell.adjust for cell in cells],
        "method": [cell.method for cell in cells],
        "estimand": [estimand(cell) for cell in cells],
    }


def _combined_draws(
    design: AteDesign,
    options: AteOptions,
    fits: Sequence[CellFit],
    rows: tuple[Row, ...],
    per_repeat: Sequence[tuple[np.ndarray, np.ndarray]],
    estimate: np.ndarray,
    bootstrap: Bootstrap,
    sampling: Sampling,
    progress: Progress,
) -> Any:
    """Draws of every repeat under the same weights, combined by the median draw by draw."""
    from causalsat.estimators.ate_bootstrap import ate_draws

    sampled = [
        ate_draws(design, options, fit, rows, phi, theta, bootstrap, sampling, progress)
        for fit, (theta, phi) in zip(fits, per_repeat, strict=True)
    ]
    if len(sampled) == 1:
        return sampled[0]
    return replace(sampled[0], values=np.median([s.values for s in sampled], axis=0))


def _meta(
    design: AteDesign,
    options: AteOptions,
    fits: Sequence[CellFit],
    covariance: Covariance,
    sampled: Any,
    seconds: float,
    notes: list[str],
) -> dict[str, Any]:
    import causalsat

    study = design.study
    sets = fits[0].sets
    meta: dict[str, Any] = {
        "estimator": "image_ate",
        "estimand": {e: ESTIMAND_WORDS[e] for e in options.estimands},
        "assumptions": assumptions_with(options.exposure, ASSUMPTIONS),
        **exposure_meta(options.exposure, fits[0].joints, [arm.name for arm in design.arms]),
        "reference": options.reference,
        "form": options.form,
        "normalize": str(options.normalize),
        "clip": options.nuisance.clip,
        "clipped": {f"{design.arms[t].name}/{a}": dict(f.nuisances.clipped) for (t, a), f in sets.items()},
        "trim": {f"{design.arms[t].name}/{a}": f.trim for (t, a), f in sets.items() if f.trim is not None},
        "folds": "in sample" if options.folds is None else f"{options.folds.n} folds, {options.folds.repeats} deal(s)",
        "cross_fitted": options.folds is not None and not design.supplied,
        "left_out": dict(design.left_out),
        "resampling": "none" if sampled is None else sampled.scheme,
        "refit": False if sampled is None else bool(sampled.refit),
        "law": "" if sampled is None or sampled.law is None else sampled.law,
        "n_boot": 0 if sampled is None else len(sampled.values),
        "n_failed": {} if sampled is None else dict(sampled.n_failed),
        "covariance": covariance.kind if sampled is None else "bootstrap",
        "small_sample_factor": covariance.factor,
        "df": float(covariance.df),
        "n_clusters": covariance.n_clusters,
        "cutoff_km": covariance.cutoff_km,
        "covariance_notes": dict(covariance.notes),
        "n_input": study.n_input,
        "dropped": dict(study.dropped),
        "seed": options.seed,
        "warnings": list(notes),
        "versions": {"causalsat": causalsat.__version__},
        "data_hash": study.data_hash,
        "seconds": round(seconds, 3),
    }
    return {key: value for key, value in meta.items() if value is not None}
