"""Data that a regression discontinuity with distributions refuses, each with its reason and cure."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from causalsat.errors import BandwidthWarning, CollinearWarning, DataError, FewDrawsWarning, OptionError, warn
from causalsat.inference.independent import independent_columns

LEAST_UNITS, LEAST_DRAWS = 5, 199


def guard_cutoff(running: np.ndarray, cutoff: np.ndarray, name: str) -> None:
    """Refuse a running variable that does not vary and cutoffs outside the data (raises DataError)."""
    present = running[~np.isnan(running)]
    if present.size and bool((present == present[0]).all()):
        raise DataError(
            f"running column {name!r} is constant: {present[0]:g} in all units. Without units on both sides of the "
            "cutoff nothing can be estimated; name another column."
        )
    for point in np.unique(cutoff[~np.isnan(cutoff)]).tolist():
        own = running[(cutoff == point) & ~np.isnan(running)]
        if own.size and not own.min() <= point <= own.max():
            raise DataError(
                f"cutoff={point:g} lies outside the running variable {name!r}, which runs from {own.min():g} to "
                f"{own.max():g}; give a cutoff inside the data."
            )


def guard_sides(x: np.ndarray, treated: np.ndarray, name: str, donut: float) -> None:
    """Refuse a design without units on a side (raises DataError)."""
    for side, own in (("right", treated), ("left", ~treated)):
        if not own.any():
            hole = f", after units nearer than {donut:g} were dropped" if donut > 0.0 else ""
            raise DataError(
                f"No unit lies {side} of the cutoff in {name!r} ({x.size} units in use{hole}); check the cutoff, the "
                "sign of the running variable and missing values."
            )


def guard_roles(
    outcome: Any, running: str, unit: str | None, treatment: str | None, covariates: str | Sequence[str] | None
) -> None:
    """Refuse one column in two of the roles outcome, running, unit, treatment and covariates (raises DataError)."""
    listed = [covariates] if isinstance(covariates, str) else list(covariates or ())
    played = {"outcome": outcome if isinstance(outcome, str) else None, "running": running, "unit": unit}
    played |= {"treatment": treatment} | {f"covariates[{k}]": name for k, name in enumerate(listed)}
    first: dict[str, str] = {}
    for role, name in played.items():
        if name is None:
            continue
        if name in first:
            raise DataError(f"Column {name!r} is both {first[name]} and {role}; a column plays one of these roles.")
        first[name] = role


def guard_segments(cutoff: float | str, segments: Any) -> None:
    """Refuse segments that are no column, and segments beside a column of cutoffs (raises OptionError)."""
    if segments is None:
        return
    if not isinstance(segments, str):
        raise OptionError(f"segments={segments!r} must name one column, the segment of the border of each unit.")
    if isinstance(cutoff, str):
        raise OptionError(
            f"segments={segments!r} splits the units at one cutoff, cutoff={cutoff!r} gives each unit its own cutoff: "
            "give one of them."
        )


def guard_treatment(treatment: np.ndarray, treated: np.ndarray, name: str) -> str:
    """Refuse a treatment without a first stage; say what it is: "sharp", "binary", "share" or "dose"."""
    if bool((treatment == treatment[0]).all()):
        raise DataError(
            f"treatment column {name!r} is {treatment[0]:g} on both sides of the cutoff: there is no first stage, so "
            "no effect per unit of treatment. Leave treatment out for the effect of crossing the cutoff."
        )
    if bool((treatment == treated).all()):
        return "sharp"
    if bool(np.isin(treatment, (0.0, 1.0)).all()):
        return "binary"
    return "share" if bool(((treatment >= 0.0) & (treatment <= 1.0)).all()) else "dose"


def guard_outcome(columns: np.ndarray) -> None:
    """Refuse an outcome that is one number everywhere (raises DataError)."""
    if columns.size and bool((columns == columns.flat[0]).all()):
        raise DataError(
            f"outcome is constant: every quantile of every unit is {columns.flat[0]:g}. Nothing can be estimated from "
            "an outcome that does not vary."
        )


def guard_repeated_units(unit: np.ndarray, cluster: np.ndarray | None, labels: np.ndarray) -> None:
    """Refuse clusters that separate the appearances of a unit at several cutoffs (raises DataError)."""
    if cluster is None:
        return
    _, first, position = np.unique(unit, return_index=True, return_inverse=True)
    apart = np.flatnonzero(cluster != cluster[first][position])
    if apart.size:
        first_unit = labels[apart[np.argmin(unit[apart])]]
        raise DataError(
            f"unit {first_unit} is used at several cutoffs and stands in different clusters; a unit must "
            "form, or lie inside, one cluster."
        )


def guard_groups(cluster: np.ndarray | None, treated: np.ndarray, automatic: bool) -> None:
    """Refuse clusters from which no variance, or none on a side, can be had (raises DataError)."""
    if cluster is None:
        return
    if np.unique(cluster).size < 2:
        raise DataError(
            f"all {cluster.size} units lie in one of the clusters: no standard error exists. Use finer clusters, or "
            "none."
        )
    for side, own in (("right", treated), ("left", ~treated)):
        if automatic and np.unique(cluster[own]).size < 2:
            raise DataError(
                f"all units {side} of the cutoff lie in one of the clusters: the variance there, which the bandwidth "
                "needs, cannot be estimated. Use finer clusters, or give bandwidth=<number>."
            )


def guard_widths(h: np.ndarray, quantiles: np.ndarray, left_off: bool) -> None:
    """Refuse given bandwidths that are not one per quantile (raises OptionError)."""
    if h.ndim == 2 and h.shape[1] != quantiles.size:
        why = " after levels beyond what the units' draws can tell were left off" if left_off else ""
        raise OptionError(
            f"bandwidth has {h.shape[1]} numbers for {quantiles.size} quantiles in use{why}; give one per quantile, "
            "one number, or the tuple (left, right)."
        )


def warn_widths(h: np.ndarray, x: np.ndarray, treated: np.ndarray, units: str = "") -> None:
    """Warn of a window (narrowest and widest of h (2,) or (2, M)) with fewer than five units, or beyond the data.

    ``units`` names the set of units where there are several.
    """
    start = f"{units}: " if units else ""
    for side, own, widths in (("right", treated, h[0]), ("left", ~treated, h[1])):
        size, narrow, wide = np.abs(x[own]), float(np.min(widths)), float(np.max(widths))
        inside = int((size <= narrow).sum())
        if inside < LEAST_UNITS:
            warn(
                f"{start}the bandwidth {narrow:.6g} leaves {inside} units {side} of the cutoff (fewer than "
                f"{LEAST_UNITS}): the estimate rests on them alone.",
                BandwidthWarning,
            )
        if wide > size.max():
            warn(
                f"{start}the bandwidth {wide:.6g} is wider than the data {side} of the cutoff, which reach "
                f"{size.max():.6g}: the fit is global there, and units far from the cutoff shape the limit.",
                BandwidthWarning,
            )


def widened_text(widened: Sequence[Mapping[str, Any]], what: str = "curves") -> str:
    """What became of selected bandwidths too narrow for the estimate, in words; empty where none was."""
    return "; ".join(
        f"the bandwidth {row['from']:.6g} chosen for the {what} held too few distinct values of the running variable "
        f"{row['side']} of the cutoff and was widened to {row['to']:.6g}, the smallest that carries the polynomial"
        for row in widened
        if row["bandwidth"] == "h"
    )


def warn_widened(widened: Sequence[Mapping[str, Any]], what: str = "curves") -> None:
    """Warn of a selected bandwidth that was too narrow for the estimate (rows of ``BandwidthReport.widened``)."""
    text = widened_text(widened, what)
    if text:
        warn(f"{text}. It is no longer the one with the least mean squared error.", BandwidthWarning)


def warn_donut(donut: float, h: np.ndarray) -> None:
    """Say how far the fit extrapolates over units left out around the cutoff."""
    if donut > 0.0:
        narrow = float(np.min(h))
        warn(
            f"units nearer than {donut:g} to the cutoff are left out: the limits at the cutoff are extrapolated over "
            f"{donut / narrow:.0%} of the bandwidth {narrow:.6g}, on the strength of the polynomial alone.",
            BandwidthWarning,
        )


def warn_draws(n: int) -> None:
    """Warn of few draws."""
    if n < LEAST_DRAWS:
        warn(
            f"{n} draws (fewer than {LEAST_DRAWS}): bands and p-values are coarse and move with the seed; the default "
            "is 1999.",
            FewDrawsWarning,
        )


def guard_raw_images(covariates: Any) -> None:
    """Refuse embeddings and arrays where names of columns belong (raises OptionError)."""
    if isinstance(covariates, np.ndarray) or type(covariates).__name__ == "Embeddings":
        raise OptionError(
            f"covariates is a {type(covariates).__name__}; name columns of the data. Raw embeddings have more features "
            "than a window has units: reduce them first, for example to a few principal components, and add those as "
            "columns."
        )


def independent_covariates(matrix: np.ndarray, names: Sequence[str]) -> tuple[np.ndarray, tuple[str, ...]]:
    """Positions of covariates that the constant and the ones before them do not determine, and names of the others."""
    design = np.column_stack([np.ones(len(matrix)), matrix])
    found = independent_columns(design, np.ones(len(matrix)))
    left_out = tuple(names[j - 1] for j in found.dropped.tolist())
    if left_out:
        warn(
            f"covariates {', '.join(left_out)} are left out: constant, or determined by other covariates.",
            CollinearWarning,
        )
    kept = found.kept[found.kept > 0] - 1
    return np.sort(kept), left_out
