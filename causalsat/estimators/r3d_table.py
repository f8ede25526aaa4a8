"""From estimates to the effect tables of `r3d`."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from causalsat.effects.table import EffectTable
from causalsat.estimators.r3d_covariance import joint_covariance
from causalsat.estimators.r3d_design import R3dDesign
from causalsat.estimators.r3d_estimate import R3dEstimate, R3dFailure
from causalsat.estimators.r3d_functionals import functional_findings
from causalsat.estimators.r3d_inference import CurveInference
from causalsat.estimators.r3d_options import R3dChoices
from causalsat.estimators.r3d_words import assumptions, estimand, units_shown

DRAWS_REASON = (
    "the draws are centred at the estimate and lack the factor of the t law; intervals of r3d are t intervals, bands "
    "come from the draws' suprema."
)
BETWEEN = (
    "Between {0}s, standard errors of contrasts count the units, clusters or blocks that {0}s share. The draws "
    "of each {0} are made apart: joint() over rows of several {0}s has bands on the wide side, and joint() of "
    "contrasts between {0}s takes them as independent."
)


@dataclass(frozen=True)
class Row:
    """One row: index, numbers, band, and draws (B,) around the estimate."""

    cutoff: str
    quantile: float
    term: str
    estimate: float
    std_error: float
    low: float
    high: float
    p_value: float
    df: float
    n_obs: int
    band: tuple[float, float] = (np.nan, np.nan)
    reason: str | None = None
    draws: np.ndarray | None = None


def build_table(
    found: Sequence[R3dEstimate], choices: R3dChoices, failed: Sequence[R3dFailure] = ()
) -> EffectTable:  # fmt: skip
    """The effect table: quantile effects with bands, functionals, first stages; NaN rows for sets that failed."""
    made = {one.cutoff: [*curve_rows(one), *functional_rows(one), *first_stage_rows(one)] for one in found}
    rows = _in_order(made, found[0], failed)
    covariance = np.full((len(rows), len(rows)), np.nan)
    at: list[int] = []
    column: list[int] = []
    first = 0
    for one in found:
        place = {"laqte": 0} | {name: one.fit.n_quantiles + k for name, k in one.columns.linear.items()}
        own = [i for i, row in enumerate(rows) if row.cutoff == one.cutoff and row.term in place]
        column += [first + place[rows[i].term] + (j if rows[i].term == "laqte" else 0) for j, i in enumerate(own)]
        at += own
        first += one.inference.merged.shape[1]
    covariance[np.ix_(at, at)] = joint_covariance(found)[np.ix_(column, column)]
    critical = found[0].inference.curve.critical
    return _table(rows, found[0], choices, _meta(found, choices, failed), critical, covariance)


def average_quantiles(
    found: Sequence[R3dEstimate], choices: R3dChoices, failed: Sequence[R3dFailure] = ()
) -> EffectTable:
    """The average quantile functions right ("above") and left ("below") of the cutoff, in the same schema."""
    made: dict[str, list[Row]] = {one.cutoff: [] for one in found}
    for one in found:
        for term, curve, side in zip(("above", "below"), one.fit.curves, one.inference.sides(), strict=True):
            made[one.cutoff] += [_curve_row(one, side, j, term, float(curve[j])) for j in range(curve.size)]
    rows = _in_order(made, found[0], failed)
    critical = found[0].inference.sides()[0].critical
    return _table(rows, found[0], choices, _meta(found, choices, failed), critical)


def _in_order(made: dict[str, list[Row]], pooled: R3dEstimate, failed: Sequence[R3dFailure]) -> list[Row]:
    """Rows of the pooled units, then of every cutoff or segment in their order; those that failed are NaN."""
    nothing = (np.nan,) * 6
    for one in failed:
        made[one.cutoff] = [
            Row(one.cutoff, row.quantile, row.term, *nothing, 0, reason=one.reason) for row in made[pooled.cutoff]
        ]
    return [row for label in (pooled.cutoff, *pooled.design.parts) if label in made for row in made[label]]


def _index(rows: Sequence[Row], design: R3dDesign, choices: R3dChoices) -> dict[str, Any]:
    index: dict[str, Any] = {"method": [choices.estimator] * len(rows), "quantile": [row.quantile for row in rows]}
    return ({design.split: [row.cutoff for row in rows]} if len(design.parts) > 1 else {}) | index


def curve_rows(found: R3dEstimate) -> list[Row]:
    """The effect at every quantile level."""
    curve = found.inference.curve
    return [_curve_row(found, curve, j, "laqte", float(curve.estimate[j])) for j in range(found.design.quantiles.size)]


def functional_rows(found: R3dEstimate) -> list[Row]:
    """The effect on every functional; those that are local polynomials of a column have degrees of freedom."""
    n, extra = found.n_window(-1), found.inference.extra
    df = {name: float(extra.df[k]) for name, k in found.columns.linear.items()}
    return [
        Row(
            found.cutoff, np.nan, f.name, f.estimate, f.std_error, f.conf_low, f.conf_high, f.p_value,
            df.get(f.name, np.inf), n, reason=f.reason or None, draws=f.draws if f.draws.size else None,
        )
        for f in found.functionals
    ]  # fmt: skip


def first_stage_rows(found: R3dEstimate) -> list[Row]:
    """The jump of the treatment, in fuzzy designs."""
    stage = found.inference.first_stage
    own = found.fit.treatment
    if stage is None or own is None:
        return []
    return [
        Row(
            found.cutoff, np.nan, "first_stage", float(stage.estimate[0]), float(stage.se[0]), float(stage.conf_low[0]),
            float(stage.conf_high[0]), float(stage.p_value[0]), float(stage.df[0]), int((own.weights > 0.0).sum()),
            reason=stage.unavailable.get(0), draws=stage.estimate[0] + stage.draws[:, 0],
        )
    ]  # fmt: skip


def _curve_row(found: R3dEstimate, curve: CurveInference, j: int, term: str, estimate: float) -> Row:
    return Row(
        found.cutoff, float(found.design.quantiles[j]), term, estimate, float(curve.se[j]), float(curve.conf_low[j]),
        float(curve.conf_high[j]), float(curve.p_value[j]), float(curve.df[j]), found.n_window(j),
        band=(float(curve.band_low[j]), float(curve.band_high[j])), reason=curve.unavailable.get(j),
        draws=estimate + curve.draws[:, j],
    )  # fmt: skip


def _table(
    rows: Sequence[Row],
    pooled: R3dEstimate,
    choices: R3dChoices,
    meta: dict[str, Any],
    critical: float,
    covariance: np.ndarray | None = None,
) -> EffectTable:
    b = max((row.draws.size for row in rows if row.draws is not None), default=0)
    draws = [np.full(b, np.nan) if row.draws is None else row.draws for row in rows]
    table = EffectTable.build(
        _index(rows, pooled.design, choices),
        term=[row.term for row in rows],
        estimate=[row.estimate for row in rows],
        std_error=[row.std_error for row in rows],
        n_obs=[row.n_obs for row in rows],
        level=choices.level,
        df=[row.df if row.df > 0.0 and choices.critical == "t" else np.inf for row in rows],
        covariance=covariance,
        draws=np.column_stack(draws) if b else None,
        interval="t by effective degrees of freedom" if choices.critical == "t" else "normal by effective units",
        conf=([row.low for row in rows], [row.high for row in rows]),
        p_value=[row.p_value for row in rows],
        unavailable={i: row.reason for i, row in enumerate(rows) if row.reason},
        meta=meta | {"refused_intervals": dict.fromkeys(("percentile", "basic", "bca"), DRAWS_REASON)},
    )
    if choices.band is None:
        return table
    bands = np.array([row.band for row in rows])
    return table.with_bands(
        bands[:, 0], bands[:, 1], critical=critical, source=f"{choices.band} suprema of the draws over all quantiles"
    )


def _meta(found: Sequence[R3dEstimate], choices: R3dChoices, failed: Sequence[R3dFailure]) -> dict[str, Any]:
    import causalsat

    first = found[0]
    design, inference = first.design, first.inference
    several = len(design.parts) > 1
    notes = {str(key): value for key, value in design.notes.items()} | design.draw_notes(first.window)
    if "draw_error_rate" in notes:
        # Few draws matter while this rate is not small beside that of the units of the thinner side.
        notes["unit_error_rate"] = float(max(1, int(inference.n_window.min())) ** -0.5)
    return {
        "estimator": "r3d",
        "estimand": {one.cutoff: estimand(one.design, one.cutoff) for one in found}
        if several
        else estimand(design, first.cutoff),
        "assumptions": assumptions(design),
        "design": "sharp" if design.treatment is None else "fuzzy",
        "order": choices.order,
        "kernel": choices.kernel,
        "functionals": {f.name: f.note for f in first.functionals if f.note},
        "h": {one.cutoff: _widths(one.h) for one in found} if several else _widths(first.h),
        "h_treatment": None if first.h_treatment is None else _widths(first.h_treatment),
        "bandwidth": "given" if first.selected is None else first.selected.notes(),
        "anderson_rubin": {one.cutoff: _sets(one) for one in found} if inference.sets else None,
        "findings": [
            *findings(first),
            *(f"{design.split} {one.cutoff} ({one.n} units) has no estimate: {one.reason}" for one in failed),
            *([BETWEEN.format(design.split)] if several else []),
        ],
        "not_estimated": {one.cutoff: one.reason for one in failed},
        "residuals": inference.residuals,
        "df": float(np.nanmedian(inference.curve.df)),
        "n_window": {"right": int(inference.n_window[0]), "left": int(inference.n_window[1])},
        "n_effective": {"right": float(inference.n_effective[0]), "left": float(inference.n_effective[1])},
        "n_units": design.n,
        "n_clusters": int(inference.n_clusters),
        "resampling": choices.bootstrap.scheme,
        "n_boot": int(inference.curve.draws.shape[0]),
        "n_failed": dict(inference.n_failed),
        "band": choices.band or "none",
        "critical": choices.critical,
        "quantile_rule": choices.quantile_rule,
        "small_sample": choices.small_sample or "none",
        "donut": choices.donut,
        "tie": choices.tie,
        "compat": choices.compat or "none",
        "n_input": design.n_input,
        "dropped": dict(design.dropped),
        "seed": choices.seed,
        "versions": {"causalsat": causalsat.__version__},
        "data_hash": design.data_hash,
        "notes": notes | dict(inference.notes),
    }


def _sets(found: R3dEstimate) -> dict[str, Any]:
    """Anderson-Rubin sets of the effects, as lists of pieces by quantile; None is an end at infinity."""
    sets = found.inference.sets
    if sets is None:
        return {}
    ends = {
        name: [[[float(end) if np.isfinite(end) else None for end in piece] for piece in pieces] for pieces in own]
        for name, own in (("pointwise", sets.pointwise), ("uniform", sets.uniform))
    }
    critical = sets.critical if np.isfinite(sets.critical) else None
    return ends | {"quantile": found.design.quantiles.tolist(), "critical": critical, "level": sets.level}


def findings(found: R3dEstimate) -> list[str]:
    """Tests of the curve, first stage and Anderson-Rubin set of fuzzy designs, what functionals mean, in words."""
    inference, levels = found.inference, found.design.quantiles
    lines = []
    for test in inference.tests:
        answer = test.unavailable or f"statistic {test.statistic:.3f}, p = {test.p_value:.4f}"
        lines.append(f"{test.name} over q in [{test.test_range[0]:.3g}, {test.test_range[1]:.3g}]: {answer}")
    if inference.first_stage is not None:
        stage = inference.first_stage
        error = f"s.e. {stage.se[0]:.4g}" if stage.se[0] > 0.0 else "known exactly"
        lines.append(f"first stage: jump {stage.estimate[0]:.4g} ({error})")
    if inference.sets is not None:
        at = int(np.argmin(np.abs(levels - 0.5)))
        pieces = " and ".join(f"[{low:.4g}, {high:.4g}]" for low, high in inference.sets.pointwise[at])
        lines.append(f"Anderson-Rubin set at q = {levels[at]:.3g}: {pieces or 'none: no standard error'}")
    lines += functional_findings(found.functionals, found.columns)
    scope = units_shown(found)
    return [f"{scope}: {line}" for line in lines] if scope else lines


def _widths(h: np.ndarray) -> Any:
    if h.ndim == 2:
        return {"right": h[0].tolist(), "left": h[1].tolist()}
    return float(h[0]) if h[0] == h[1] else {"right": float(h[0]), "left": float(h[1])}
