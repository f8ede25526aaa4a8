"""Diagnostics of every treatment and adjustment set, from the fit."""

from collections.abc import Iterator

import numpy as np

from causalsat.checks.assignment import assignment_check
from causalsat.checks.balance import balance_check, embedding_components
from causalsat.checks.overlap import inverse_propensity_weights, normalization_check, overlap_check, overlap_form_check
from causalsat.checks.result import CheckResult
from causalsat.checks.trimming import trimming_check
from causalsat.estimators.ate_design import AteDesign, Cell
from causalsat.estimators.ate_fit import CellFit, SetFit, score_rows
from causalsat.estimators.ate_options import AteOptions
from causalsat.estimators.ate_uncertainty import cluster_codes


def ate_checks(design: AteDesign, options: AteOptions, fit: CellFit) -> list[CheckResult]:
    """Assignment, overlap, balance and sensitivity to weighting choices, per treatment and set."""
    components = _components(design)
    found: list[CheckResult] = []
    for (t, adjust), fitted in fit.sets.items():
        found += _set_checks(design, options, t, adjust, fitted, components)
    return found


def _set_checks(
    design: AteDesign, options: AteOptions, t: int, adjust: str, fitted: SetFit, components: dict[str, np.ndarray]
) -> Iterator[CheckResult]:
    arm, nuisances, keep = design.arms[t], fitted.nuisances, fitted.keep
    label = f"{arm.name}, {adjust}"
    d, w, m = arm.d[keep], design.weights[arm.rows[keep]], nuisances.m[keep]
    assignment = None
    if design.known_propensity is None and np.ptp(nuisances.m_raw[keep]) > 0:
        assignment = _assignment(design, label, t, fitted)
        yield assignment
    columns = _columns(design, t, components)
    kept = {name: values[keep] for name, values in columns.items()}
    for estimand in options.estimands:
        target = label if len(options.estimands) == 1 else f"{label}, {estimand}"
        treated, control = target_weights(estimand, d, m)
        yield overlap_check(
            target,
            d,
            m,
            treated,
            control,
            m != nuisances.m_raw[keep],
            weights=w,
            auc=None if assignment is None or adjust == "tabular" else assignment.statistic,
            image=adjust != "tabular",
        )
        if kept:
            yield balance_check(target, kept, d, treated, control, weights=w)
    if fitted.trim is not None:
        yield trimming_check(label, arm.d, nuisances.m, fitted.trim, columns)
    yield from _weighting_checks(design, options, t, adjust, fitted, label)


def _assignment(design: AteDesign, label: str, t: int, fitted: SetFit) -> CheckResult:
    """The assignment check on the rows the estimate uses, under its sampling weights."""
    arm, nuisances, keep = design.arms[t], fitted.nuisances, fitted.keep
    d, fold = arm.d[keep], nuisances.fold[keep]
    if not any(np.ptp(d[fold == k]) > 0 for k in np.unique(fold)):
        text = "No fold holds both treated and controls after trimming, so no pair of rows can be compared."
        return CheckResult(f"assignment[{label}]", None, float("nan"), text)
    rows = arm.rows[keep]
    codes = cluster_codes(design.study)[rows]
    m, insample = nuisances.m_raw[keep], nuisances.m_insample[keep]
    return assignment_check(label, d, m, insample, fold, codes, weights=design.weights[rows])


def _columns(design: AteDesign, t: int, components: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    arm = design.arms[t]
    tabular = np.zeros((len(design.y), 0)) if design.tabular is None else design.tabular
    columns = {name: tabular[arm.rows, j] for j, name in enumerate(design.tabular_names)}
    if arm.exposure is not None:
        columns |= dict(zip(arm.exposure_names, arm.exposure.T, strict=True))
    return columns | {name: values[arm.rows] for name, values in components.items()}


def target_weights(estimand: str, d: np.ndarray, m: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Weights (n,) of treated and of control rows that target an estimand."""
    if estimand == "att":
        return d, (1 - d) * m / np.where(d > 0, 1.0, 1 - m)
    if estimand == "ato":
        return d * (1 - m), (1 - d) * m
    return inverse_propensity_weights(d, m)


def _weighting_checks(
    design: AteDesign, options: AteOptions, t: int, adjust: str, fitted: SetFit, label: str
) -> Iterator[CheckResult]:
    """How far the AIPW estimates depend on rescaled weights, and on the form of the overlap weights."""
    from dataclasses import replace

    if "aipw" not in options.methods:
        return
    n = len(design.y)
    for estimand in options.estimands:
        cell = Cell(t, adjust, "aipw", estimand)
        base, phi, rows = score_rows(design, options, cell, design.arms[t], fitted)
        influence = np.zeros(n)
        influence[rows] = phi
        if estimand != "ato" and options.normalize is False:
            other, _, _ = score_rows(design, replace(options, normalize="arm"), cell, design.arms[t], fitted)
            yield normalization_check(f"{label}, {estimand}", base, other, float(np.sqrt((phi**2).sum()) / len(rows)))
        if estimand == "ato" and options.normalize is False:
            form = "orthogonal" if options.form == "fitted" else "fitted"
            other, psi, _ = score_rows(design, replace(options, form=form), cell, design.arms[t], fitted)
            pair = (base, other) if options.form == "fitted" else (other, base)
            yield overlap_form_check(label, *pair, float(np.sqrt(((phi - psi) ** 2).sum()) / len(rows)))


def _components(design: AteDesign) -> dict[str, np.ndarray]:
    study = design.study
    columns: dict[str, np.ndarray] = {}
    if study.embeddings is not None and study.image is not None:
        columns |= embedding_components(study.embeddings.matrix, study.image)
    if study.lonlat is not None:
        columns |= {"longitude": study.lonlat[:, 0], "latitude": study.lonlat[:, 1]}
    return columns
