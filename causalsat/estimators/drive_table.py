"""From fitted equations to the effect table of `drive`: rows, intervals, and what `meta` says."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from causalsat.effects.table import EffectTable
from causalsat.estimators.drive_equation import Equation
from causalsat.estimators.drive_options import DriveChoices
from causalsat.estimators.drive_problem import DriveProblem
from causalsat.estimators.drive_spread import tail_factors
from causalsat.estimators.drive_words import (
    ASSUMPTIONS,
    LIMIT_REASON,
    PERCENTILE_REASON,
    complier_words,
    estimand_words,
    flags,
    resampling_note,
    set_title,
)
from causalsat.inference.intervals import interval
from causalsat.inference.iv_rows import IvRows
from causalsat.inference.iv_sets import SetRow
from causalsat.inference.seam import Draws
from causalsat.study.open import Study

NOT_CENTRED = "the law of DRIVE is not centred at zero, so no ratio to a standard error is reported"
NO_BANDS = (
    "bands need a law centred at the estimate, and the rows of this table are one effect estimated in several ways and "
    'not a family of effects; with several treatments result.check("joint_null") tests all of their effects together.'
)
_OF_DRIVE = {"percentile": PERCENTILE_REASON, "bca": PERCENTILE_REASON, "normal": NOT_CENTRED, "statistic": NOT_CENTRED}
REFUSED: dict[str, Any] = {
    kind: {"reason": reason, "rows": {"method": ["drive"]}} for kind, reason in _OF_DRIVE.items()
} | {"joint": NO_BANDS}
MULTIPLIERS_ABOVE = (
    "multipliers hold the strength of the instruments, on which a pseudo-true value depends, as it is: use "
    'Bootstrap(n, "cluster") with clusters, "bayes" or "iid"'
)
SET_ONLY = "a set inverts a test and has no point estimate"
_PERFECT = (
    "the treatments fit the outcome exactly: no residual variance is left from which a standard error could be made"
)
_ROUNDING = 1e-26


@dataclass(frozen=True)
class Row:
    """One row of the table; ``draws`` (b,) are estimates under resampling."""

    method: str
    treatment: str
    interval: str
    estimate: float
    std_error: float
    statistic: float
    p_value: float
    low: float
    high: float
    n_obs: int
    df: float = np.inf
    reason: str | None = None
    draws: np.ndarray | None = None
    null: float = 0.0
    statistic_name: str = "t"


def build_table(equations: Sequence[Equation], choices: DriveChoices, facts: dict[str, Any]) -> EffectTable:
    """The effect table of all equations; ``facts`` are what the verb knows about the study."""
    rows = [row for equation in equations for row in table_rows(equation, choices)]
    b = max((row.draws.size for row in rows if row.draws is not None), default=0)
    draws = None
    if b:
        draws = np.column_stack([np.full(b, np.nan) if row.draws is None else row.draws for row in rows])
    return EffectTable.build(
        {name: [getattr(row, name) for row in rows] for name in ("method", "treatment", "interval")},
        term="effect",
        estimate=[row.estimate for row in rows],
        std_error=[row.std_error for row in rows],
        n_obs=[row.n_obs for row in rows],
        level=choices.level,
        df=[row.df for row in rows],
        draws=draws,
        interval="by row",
        conf=([row.low for row in rows], [row.high for row in rows]),
        p_value=[row.p_value for row in rows],
        statistic=[row.statistic for row in rows],
        statistic_name=[row.statistic_name for row in rows],
        unavailable={i: row.reason for i, row in enumerate(rows) if row.reason is not None},
        null=choices.null,
        meta=_meta(equations, choices) | facts,
    )


def study_facts(study: Study, equations: Sequence[Equation]) -> dict[str, Any]:
    """What `meta` says about the data: rows, weights, what was partialled out."""
    import causalsat

    designs = [equation.design for equation in equations]
    facts: dict[str, Any] = {
        "n_input": study.n_input,
        "dropped": dict(study.dropped) | _joined(dict(design.dropped) for design in designs),
        "n_partialled": designs[0].rows.n_partialled,
        "dropped_covariates": _union(design.dropped_covariates for design in designs),
        "dropped_instruments": _union(design.dropped_instruments for design in designs),
        "fixed_effects": _joined(dict(design.levels) for design in designs),
        "embedding_instruments": _union(design.embedding_instruments for design in designs),
        "versions": {"causalsat": causalsat.__version__},
        "data_hash": study.data_hash,
    }
    reading = complier_words(designs[0]) if len(designs) == 1 else ""
    if reading:
        facts["reading"] = reading
    if "weights" in study.numeric:
        facts["effective_n"] = designs[0].effective_n
    facts["embedding_r2"] = _joined(dict(design.images.r2) for design in designs if design.images is not None)
    return {name: value for name, value in facts.items() if value not in ({}, [])}


def _joined(parts: Iterable[dict[str, Any]]) -> dict[str, Any]:
    """Facts of every equation; those that equations share are the same."""
    return {name: value for part in parts for name, value in part.items()}


def _union(parts: Iterable[tuple[str, ...]]) -> list[str]:
    return list(dict.fromkeys(name for part in parts for name in part))


def table_rows(equation: Equation, choices: DriveChoices) -> list[Row]:
    """Rows of one equation: DRIVE, comparators, sets; the sets first when instruments are weak."""
    estimates = [*drive_rows(equation, choices), *wald_rows(equation, choices)]
    sets = set_rows(equation, choices)
    return [*sets, *estimates] if equation.weak else [*estimates, *sets]


def drive_rows(equation: Equation, choices: DriveChoices) -> list[Row]:
    """DRIVE with its intervals: limit law and recentred bootstrap below the threshold, pseudo-true above it."""
    problem, fit = equation.problem, equation.fit
    estimate = problem.to_raw(fit.b)
    if not equation.identified:
        why = "the instruments identify no effect: no radius is consistent and no law is known"
        return [_no_interval(equation, j, estimate[j], "none", why) for j in range(estimate.size)]
    if _fits_exactly(equation, equation.rows.moments.b_tsls):
        kinds = ("pseudo_true",) if equation.radius.above else choices.intervals
        return [_no_interval(equation, j, float(b), kind, _PERFECT) for kind in kinds for j, b in enumerate(estimate)]
    rows: list[Row] = []
    if equation.radius.above:
        why = LIMIT_REASON + "; its bootstrap interval needs inference=Bootstrap(...)"
        shifts = None
        if equation.draws is not None and equation.draws.scheme == "multiplier":
            why = f"{LIMIT_REASON}; {MULTIPLIERS_ABOVE}"
        elif equation.draws is not None:
            shifts = problem.to_raw(equation.draws.values[:, : problem.rows.p] - fit.b[None, :])
        return _drive_kind(equation, choices, "pseudo_true", estimate, shifts, why)
    for kind in choices.intervals:
        shifts, why = None, "no bootstrap was asked for"
        if kind == "limit" and equation.law is not None and not equation.law.valid:
            why = str(equation.law.notes.get("reason", "the limit law does not exist here"))
        elif kind == "limit" and equation.law is not None:
            shifts = problem.to_raw(equation.law.draws) / np.sqrt(equation.rows.n)
        elif kind == "recentred" and equation.draws is not None:
            shifts = _recentred_shifts(problem, equation.draws)
        rows += _drive_kind(equation, choices, kind, estimate, shifts, why)
    return rows


def wald_rows(equation: Equation, choices: DriveChoices) -> list[Row]:
    """OLS, TSLS, LIML, ... with Wald intervals; TSLS carries the draws that DRIVE's recentred row shares."""
    rows = []
    for found in equation.comparators:
        why = _PERFECT if _fits_exactly(equation, found.b) else found.unavailable or ""
        if found.covariance is None or why == _PERFECT:
            rows += [
                _no_interval(equation, j, float(b), "wald", why, method=found.method) for j, b in enumerate(found.b)
            ]
            continue
        error = found.covariance.std_error
        made = interval("normal", found.b, error, level=choices.level, df=found.df, null=choices.null)
        draws = _tsls_draws(equation, found.b) if found.method == "tsls" else None
        rows += [
            Row(
                found.method, equation.rows.treatments[j], "wald", float(found.b[j]), float(error[j]),
                float((found.b[j] - choices.null) / error[j]) if error[j] > 0.0 else np.nan, float(made.p_value[j]),
                float(made.low[j]), float(made.high[j]), equation.rows.n, df=found.df, null=choices.null,
                reason=found.covariance.unavailable.get(j), draws=None if draws is None else draws[:, j],
            )
            for j in range(found.b.size)
        ]  # fmt: skip
    return rows


def _fits_exactly(equation: Equation, b: np.ndarray) -> bool:
    """Whether the residuals are rounding: a standard error made of them would be, too."""
    rows = equation.rows
    spread = float(np.mean(rows.weights * rows.residuals(b) ** 2))
    return spread <= _ROUNDING * float(np.mean(rows.weights * rows.y**2))


def set_rows(equation: Equation, choices: DriveChoices) -> list[Row]:
    """Sets that invert a test: the hull in the table, the pieces in ``meta["sets"]``."""
    rows = []
    for found in equation.sets:
        low, high = (np.nan, np.nan) if found.found is None else found.found.hull()
        reason = SET_ONLY if found.found is None or found.found.pieces else f"{SET_ONLY}; {found.found.text}"
        rows.append(
            Row(
                found.method, found.treatment, found.kind, np.nan, np.nan, found.statistic, found.p_value, low, high,
                equation.rows.n, reason=found.reason or reason, null=choices.null,
                statistic_name=_test_name(found, equation.rows, choices),
            )
        )  # fmt: skip
    return rows


def _test_name(found: SetRow, rows: IvRows, choices: DriveChoices) -> str:
    """The statistic of a set's test and its law, on the scale on which it is reported; no law without a p-value."""
    if np.isnan(found.p_value):
        return {"clr": "LR"}.get(found.method, found.method.upper())
    if found.method == "clr":
        return "conditional LR"
    if found.method == "lm":
        return f"chi2({rows.p})"
    if found.kind == "robust":
        return f"chi2({rows.q})"
    df = rows.q - rows.p + 1
    if choices.fine.ar_law == "f":
        return f"F({df}, {rows.d1})"
    return "chi2(1)" if df == 1 else f"chi2({df})/{df}"


def _drive_kind(
    equation: Equation, choices: DriveChoices, kind: str, estimate: np.ndarray, shifts: np.ndarray | None, why: str
) -> list[Row]:
    """Rows of one interval from ``shifts`` (b, p), draws of estimate minus truth in raw units."""
    if shifts is None:
        return [_no_interval(equation, j, float(b), kind, why) for j, b in enumerate(estimate)]
    # With clusters the draws have the tails of a t law, whose own sd is not the standard error that it multiplies.
    if kind == "limit" and equation.law is not None:
        error = equation.problem.to_raw(equation.law.sd) / np.sqrt(equation.rows.n)
    else:
        error = np.nanstd(shifts, axis=0, ddof=1)
        shifts = _with_tails(equation, shifts)
    draws = estimate[None, :] + shifts
    made = interval("basic", estimate, error, level=choices.level, draws=draws, null=choices.null)
    note = "" if kind == "limit" else _draws_note(equation, choices)
    return [
        Row(
            "drive", equation.rows.treatments[j], kind, float(estimate[j]), float(error[j]), np.nan,
            float(made.p_value[j]), float(made.low[j]), float(made.high[j]), equation.rows.n, null=choices.null,
            reason=made.unavailable.get(j, f"{NOT_CENTRED}; {note}" if note else NOT_CENTRED),
            draws=None if kind == "limit" else draws[:, j],
        )
        for j in range(estimate.size)
    ]  # fmt: skip


def _draws_note(equation: Equation, choices: DriveChoices) -> str:
    """What to know about the units of the draws; "" when they are those of the covariance."""
    draws = equation.draws
    return "" if draws is None else resampling_note(equation, draws.scheme, choices.covariance.kind)


def _recentred_shifts(problem: DriveProblem, draws: Draws) -> np.ndarray:
    """(b, p) b* - b_tsls in raw units: in the recentred world TSLS is the truth."""
    return problem.to_raw(draws.values[:, : problem.rows.p] - problem.b_tsls[None, :])


def _with_tails(equation: Equation, shifts: np.ndarray) -> np.ndarray:
    """(b, p) shifts of the equation's draws with t(g - 1) tails where g clusters were drawn, as Wald rows have."""
    return shifts if equation.draws is None else shifts * tail_factors(equation.rows, equation.draws)


def _tsls_draws(equation: Equation, b: np.ndarray) -> np.ndarray | None:
    """(b, p) TSLS under the same resamples, when the solver's metric is TSLS."""
    problem, draws = equation.problem, equation.draws
    if draws is None or problem.metric != "tsls":
        return None
    shifts = problem.to_raw(draws.values[:, problem.rows.p :] - problem.b_tsls[None, :])
    return np.asarray(b[None, :] + _with_tails(equation, shifts))


def _no_interval(equation: Equation, j: int, estimate: float, kind: str, why: str, method: str = "drive") -> Row:
    nan = np.nan
    return Row(
        method, equation.rows.treatments[j], kind, float(estimate), nan, nan, nan, nan, nan, equation.rows.n, reason=why
    )


def _meta(equations: Sequence[Equation], choices: DriveChoices) -> dict[str, Any]:
    first = equations[0]
    told = [_told(e, flags(e), len(equations) > 1) for e in equations]
    meta: dict[str, Any] = {
        "estimator": "drive",
        "estimand": estimand_words(equations),
        "assumptions": list(ASSUMPTIONS),
        "rho": _each(equations, [e.radius.rho for e in equations]),
        "radius": _each(equations, [float(np.sqrt(e.radius.rho)) for e in equations]),
        "rho_rule": choices.rho if isinstance(choices.rho, str) else "given",
        "scale": choices.scale,
        "shrink_to": choices.shrink_to,
        "metric": choices.metric,
        "refused_intervals": {kind: why if isinstance(why, str) else dict(why) for kind, why in REFUSED.items()},
        "n_law": choices.fine.n_law,
        "covariance": choices.covariance.kind,
        "sets": [entry for e in equations for entry in _set_entries(e)],
        "weak": any(e.weak for e in equations),
        "flags": [text for texts in told for text in texts],
        "seed": choices.seed,
    }
    meta |= _resampled(equations, choices)
    meta["findings"] = _findings(equations) + meta["flags"]
    near = [e.rows.treatments[0] for e in equations if e.radius.near]
    if near:
        where = "" if len(equations) == 1 else f" in the equation of {', '.join(near)}"
        meta["limit_unreliable"] = (
            f"rho is so close to its threshold{where} that the shrinkage of the limit law diverges"
        )
    clusters = first.rows.sampling.cluster
    if clusters is not None:
        meta["n_clusters"] = int(np.unique(clusters).size)
    if choices.rho == "cv":
        meta["radius_note"] = "intervals are conditional on rho, and no guarantee is known for a cross-validated one"
    return meta


def _resampled(equations: Sequence[Equation], choices: DriveChoices) -> dict[str, Any]:
    """How the draws were made; counts of failures by status, named by treatment where there are several equations."""
    drawn = [e for e in equations if e.draws is not None]
    made = [e.draws for e in equations if e.draws is not None]
    failed = {
        status if len(equations) == 1 else f"{status}[{e.rows.treatments[0]}]": number
        for e, draws in zip(drawn, made, strict=True)
        for status, number in draws.n_failed.items()
    }
    refitted = [_refitted(e) for e in equations]
    facts: dict[str, Any] = {
        "resampling": made[0].scheme if made else "none",
        "refit": refitted[0] if len(set(refitted)) == 1 else _each(equations, refitted),
        "n_boot": max((len(draws) for draws in made), default=0),
        "n_failed": failed,
    }
    notes = list(dict.fromkeys(note for e in drawn if (note := _draws_note(e, choices))))
    return facts | ({"resampling_note": "; ".join(notes)} if notes else {})


def _findings(equations: Sequence[Equation]) -> list[str]:
    return [f"{set_title(row)}: {row.found.text}" for e in equations for row in e.sets if row.found is not None]


def _told(equation: Equation, texts: list[str], several: bool) -> list[str]:
    """Sentences about an equation, with its treatment where there are several."""
    return [f"{equation.rows.treatments[0]}: {text}" if several else text for text in texts]


def _set_entries(equation: Equation) -> list[dict[str, Any]]:
    entries = []
    for row in equation.sets:
        entry: dict[str, Any] = {"method": row.method, "treatment": row.treatment, "interval": row.kind}
        if row.found is None:
            entry["reason"] = row.reason
        else:
            entry |= {"shape": row.found.shape, "pieces": [_ends(p) for p in row.found.pieces], "text": row.found.text}
        entries.append(entry)
    return entries


def _ends(piece: tuple[float, float]) -> list[Any]:
    """Ends as numbers, infinite ones as text, which JSON can hold."""
    return [float(end) if np.isfinite(end) else str(end) for end in piece]


def _refitted(equation: Equation) -> bool:
    """Whether the draws partial everything out again.

    Absorbed fixed effects are held. A draw of whole clusters leaves those nested in the clusters as they were, so that
    holding them changes nothing; any other scheme would move them.
    """
    draws, rows = equation.draws, equation.rows
    if draws is None or not draws.refit or rows.controls.shape[1] == 0:
        return False
    whole = draws.scheme == "cluster" or (draws.scheme == "bayes" and rows.sampling.cluster is not None)
    return equation.design.absorbed is None or whole


def _each(equations: Sequence[Equation], values: Sequence[Any]) -> Any:
    """One number, or one per equation by treatment."""
    if len(values) == 1:
        return values[0]
    return {e.rows.treatments[0]: v for e, v in zip(equations, values, strict=True)}
