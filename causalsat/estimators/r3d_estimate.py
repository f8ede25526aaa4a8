"""One set of units of `r3d`: bandwidths, curves, uncertainty, functionals."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from causalsat.errors import BandwidthWarning, DataError, NumericalError, warn
from causalsat.estimators.r3d_bandwidth import BandwidthReport, select_bandwidth, treatment_bandwidth
from causalsat.estimators.r3d_compat import compat_fit, compat_infer
from causalsat.estimators.r3d_contributions import blocks_of, refuse_clusters_with_blocks
from causalsat.estimators.r3d_design import R3dDesign
from causalsat.estimators.r3d_draws import seed_of_set
from causalsat.estimators.r3d_fit import R3dFit, fit_curves
from causalsat.estimators.r3d_functional_columns import FunctionalColumns, functional_columns
from causalsat.estimators.r3d_functional_names import parsed_functionals
from causalsat.estimators.r3d_functionals import FunctionalRow, functional_rows, side_draws
from causalsat.estimators.r3d_guards import (
    guard_groups,
    guard_sides,
    guard_treatment,
    guard_widths,
    warn_donut,
    warn_draws,
    warn_widened,
    warn_widths,
)
from causalsat.estimators.r3d_inference import R3dInference, infer
from causalsat.estimators.r3d_options import Bandwidth, R3dChoices
from causalsat.estimators.r3d_units import POOLED
from causalsat.progress import Progress


@dataclass(frozen=True, eq=False)
class R3dEstimate:
    """Everything computed for one set of units.

    Attributes
    ----------
    cutoff : str
        The cutoff or the segment, or "pooled".
    design : R3dDesign
        The units.
    h : np.ndarray
        (2,) bandwidths right and left, or (2, M).
    h_treatment : np.ndarray or None
        (2,) bandwidths of the treatment.
    selected, selected_treatment : BandwidthReport or None
        How they were chosen; None for numbers of the user.
    fit : R3dFit
        Curves.
    inference : R3dInference
        Uncertainty.
    columns : FunctionalColumns
        Unit-level columns behind the functionals.
    functionals : tuple of FunctionalRow
        Effects on functionals.
    """

    cutoff: str
    design: R3dDesign
    h: np.ndarray
    h_treatment: np.ndarray | None
    selected: BandwidthReport | None
    selected_treatment: BandwidthReport | None
    fit: R3dFit
    inference: R3dInference
    columns: FunctionalColumns
    functionals: tuple[FunctionalRow, ...]

    @property
    def window(self) -> np.ndarray:
        """(n,) bool, units with weight in the (widest) window."""
        return np.asarray((np.atleast_2d(self.fit.columns.weights) > 0.0).any(axis=0))

    def n_window(self, column: int) -> int:
        """Units with weight in the window of one column of the fit."""
        weights = self.fit.columns.weights
        return int(((weights[column] if weights.ndim == 2 else weights) > 0.0).sum())


@dataclass(frozen=True)
class R3dFailure:
    """A cutoff or segment that cannot be fitted: its label, its units, and why."""

    cutoff: str
    n: int
    reason: str


def estimate(
    design: R3dDesign, choices: R3dChoices, cutoff: str, progress: Progress, blocks: np.ndarray | None = None
) -> R3dEstimate:
    """Fit one set of units; ``blocks`` (n,) are theirs where spatial blocks span several sets."""
    h, selected = outcome_bandwidth(design, choices)
    h_treatment, selected_treatment = first_stage_bandwidth(design, choices, h)
    functionals = parsed_functionals(choices.functionals, choices.thresholds)
    columns = functional_columns(functionals, design)
    if choices.compat is None:
        fit = fit_curves(
            design, h, estimator=choices.estimator, kernel=choices.kernel, order=choices.order,
            h_treatment=h_treatment, extra=columns.values,
        )  # fmt: skip
        inference = infer(design, fit, choices, progress=progress, blocks=blocks)
    else:
        fit = compat_fit(design, h, choices, h_treatment=h_treatment, extra=columns.values)
        inference = compat_infer(design, fit, choices, progress=progress)
    rows: list[FunctionalRow] = []
    if functionals:
        rows = functional_rows(
            functionals, columns, fit, side_draws(inference), quantiles=design.quantiles, level=choices.level
        )
    found = R3dEstimate(
        cutoff, design, h, h_treatment, selected, selected_treatment, fit, inference, columns, tuple(rows)
    )
    design.warn_small_units(found.window)
    return found


def outcome_bandwidth(design: R3dDesign, choices: R3dChoices) -> tuple[np.ndarray, BandwidthReport | None]:
    """Bandwidths of the curves: chosen by the rule, or as given."""
    guard_groups(design.sampling.cluster, design.treated, isinstance(choices.bandwidth, Bandwidth))
    if not isinstance(choices.bandwidth, Bandwidth):
        guard_widths(choices.bandwidth, design.quantiles, bool(design.notes.get("levels_left_off")))
        return choices.bandwidth, None
    report = select_bandwidth(
        design.x, design.treated, design.Q, design.cells, design.omega, design.sampling.cluster, choices.bandwidth,
        kernel=choices.kernel, residuals=choices.residuals, order=choices.order, covariates=design.covariates,
    )  # fmt: skip
    warn_widened(report.widened)
    return report.h, report


def first_stage_bandwidth(
    design: R3dDesign, choices: R3dChoices, h: np.ndarray
) -> tuple[np.ndarray | None, BandwidthReport | None]:
    """Bandwidths of the treatment in a fuzzy design."""
    if design.treatment is None:
        return None, None
    rule = choices.bandwidth_treatment
    if rule is None:
        if not isinstance(choices.bandwidth, Bandwidth):
            return (np.median(h, axis=1) if h.ndim == 2 else h), None
        rule = choices.bandwidth
    if isinstance(rule, np.ndarray):
        return rule, None
    found, report = treatment_bandwidth(
        design.x, design.treated, design.treatment, design.omega, design.sampling.cluster,
        rule, h, kernel=choices.kernel, residuals=choices.residuals, order=choices.order, covariates=design.covariates,
    )  # fmt: skip
    if report is not None:
        warn_widened(report.widened, "treatment")
    return found, report


def estimates(
    design: R3dDesign, choices: R3dChoices, progress: Progress
) -> tuple[tuple[R3dEstimate, ...], tuple[R3dFailure, ...]]:
    """All units pooled, then each cutoff or segment where there are several; those that cannot be fitted, and why.

    Raises
    ------
    DataError, NumericalError, OptionError
        All units together cannot be fitted.
    """
    warn_draws(choices.bootstrap.n)
    sets = [(POOLED, design)]
    if len(design.parts) > 1:
        sets += [(label, design.take(design.part == k)) for k, label in enumerate(design.parts)]
    found: list[R3dEstimate] = []
    failed: list[R3dFailure] = []
    blocks = _blocks([own for _, own in sets], choices)
    for k, (label, own) in enumerate(sets):
        chosen = replace(choices, seed=seed_of_set(choices.seed, k))
        try:
            if k:
                _guard_part(own)
            found.append(estimate(own, chosen, label, progress, blocks[k]))
        except (DataError, NumericalError) as error:
            if label == POOLED:
                raise
            failed.append(R3dFailure(label, own.n, str(error)))
            warn(
                f"{design.split} {label} ({own.n} of {design.n} units) has no estimate, and its rows are NaN: {error}",
                BandwidthWarning,
            )
            continue
        warn_widths(found[-1].h, own.x, own.treated, f"{design.split} {label}" if k else "")
        warn_donut(choices.donut, found[-1].h)
    return tuple(found), tuple(failed)


def _guard_part(design: R3dDesign) -> None:
    """Refuse a cutoff or segment without units on a side, or without a first stage (raises DataError)."""
    guard_sides(design.x, design.treated, design.names["running"], design.notes["donut"])
    if design.treatment is not None:
        guard_treatment(design.treatment, design.treated, design.names["treatment"])


def refitted(found: R3dEstimate, choices: R3dChoices, **changes: Any) -> R3dEstimate:
    """One set of units with other choices."""
    return estimate(found.design, replace(choices, **changes), found.cutoff, False)


def _blocks(designs: Sequence[R3dDesign], choices: R3dChoices) -> list[np.ndarray | None]:
    """Spatial blocks of every set: those of all units, so that a block is the same piece of land at every cutoff."""
    if choices.bootstrap.scheme != "block":
        return [None] * len(designs)
    every = designs[0]
    refuse_clusters_with_blocks(every)
    codes = blocks_of(every.sampling.lonlat, choices.bootstrap, choices.seed)
    return [codes[unit_positions(every, own)] for own in designs]


def unit_positions(every: R3dDesign, some: R3dDesign) -> np.ndarray:
    """(n,) where the units of one set stand among all."""
    order = np.argsort(every.rows)
    return np.asarray(order[np.searchsorted(every.rows[order], some.rows)])
