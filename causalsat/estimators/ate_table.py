"""From fitted cells to the effect table: covariance or draws, rows, and what `meta` says."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from causalsat.effects.table import EffectTable
from causalsat.estimators.ate_design import AteDesign, Cell
from causalsat.estimators.ate_exposure import NO_INTERFERENCE, assumptions_with, exposure_meta
from causalsat.estimators.ate_fit import CellFit
from causalsat.estimators.ate_options import AteOptions
from causalsat.estimators.ate_rows import Row, table_rows
from causalsat.estimators.ate_uncertainty import Uncertainty, quantify
from causalsat.progress import Progress
from causalsat.study.exposure import EFFECTS

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


def build_table(design: AteDesign, options: AteOptions, fits: Sequence[CellFit], progress: Progress) -> EffectTable:
    """The effect table of all rows, aggregated over the deals of the folds; `meta` is completed by `finished_meta`."""
    rows = table_rows(design.cells, options.reference)
    found = quantify(design, options, fits, rows, progress)
    draws = None if found.draws is None else found.draws.values
    refit = draws is not None and found.draws.refit
    return EffectTable.build(
        _index(rows, design, fits[0]),
        term=[row.term for row in rows],
        estimate=found.estimate,
        std_error=found.std_error,
        n_obs=[int(fits[0].n_obs[row.cell]) for row in rows],
        level=options.level,
        df=found.df,
        covariance=found.covariance,
        draws=draws,
        influence=found.influence,
        interval="normal" if draws is None else "basic" if refit else "percentile",
        unavailable=found.unavailable,
        meta=_meta(design, options, fits, found),
    )


def finished_meta(table: EffectTable, notes: Sequence[str], seconds: float) -> EffectTable:
    """The table with every warning of the call and its seconds in `meta`."""
    return table.with_meta(warnings=list(notes), seconds=round(seconds, 3))


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


def _meta(design: AteDesign, options: AteOptions, fits: Sequence[CellFit], found: Uncertainty) -> dict[str, Any]:
    import causalsat

    study, sets, sampled = design.study, fits[0].sets, found.draws
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
        "allow_post_treatment": options.allow_post_treatment,
        **_resampling_meta(sampled),
        "covariance": found.kind,
        "covariance_notes": found.notes,
        "small_sample_factor": _one_or_all(found.factor),
        "df": _one_or_all(found.df),
        "n_clusters": _one_or_all(np.where(found.n_clusters < 0, np.nan, found.n_clusters)),
        "n_input": study.n_input,
        "dropped": dict(study.dropped),
        "seed": options.seed,
        "versions": {"causalsat": causalsat.__version__},
        "data_hash": study.data_hash,
    }
    return {key: value for key, value in meta.items() if value is not None}


def _resampling_meta(sampled: Any) -> dict[str, Any]:
    if sampled is None:
        return {"resampling": "none", "refit": False, "n_boot": 0, "n_failed": {}}
    return {
        "resampling": sampled.scheme,
        "refit": bool(sampled.refit),
        "law": sampled.law or "",
        "n_boot": len(sampled.values),
        "n_failed": dict(sampled.n_failed),
    }


def _one_or_all(values: np.ndarray) -> Any:
    """The common value of all rows, or the list of them; whole numbers as int; None when unknown everywhere."""
    known = values[~np.isnan(values)]
    if not len(known):
        return None
    plain = [int(v) if float(v).is_integer() else float(v) for v in values if not np.isnan(v)]
    return plain[0] if len(set(plain)) == 1 else [float(v) for v in values]
