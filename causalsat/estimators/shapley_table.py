"""The table of a decomposition: contributions, shares or bounds, the total, intervals and what is missing."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from causalsat.effects.table import EffectTable
from causalsat.errors import OptionError
from causalsat.estimators.shapley_bounds import Bounds, bound, box_of, inequalities
from causalsat.estimators.shapley_matrix import apply_to_draws, least_norm, shapley_matrix, with_total
from causalsat.estimators.shapley_values import TOTAL, Values, show
from causalsat.inference.intervals import interval
from causalsat.progress import Progress

_ZERO = 1e-12
_ROUNDING = 64.0 * float(np.finfo(np.float64).eps)
_EXACT = "the values came without draws, so they are taken as exact"
_INTERVAL_SET = "identified up to an interval"
_REFUSED = (
    "the identified set is covered by the outer quantiles of the draws of its ends; "
    "call group_shapley again for another level"
)


@dataclass(frozen=True)
class Request:
    """The options of one decomposition, checked."""

    missing: str
    low: Any
    high: Any
    structure: tuple[str, ...]
    shares: bool
    level: float
    interval: str
    seed: int
    progress: Progress

    def refuse_unused(self) -> None:
        """OptionError for a limit or a structure that no bounds would use."""
        given = [n for n, v in (("low", self.low), ("high", self.high)) if v is not None]
        given += ["structure"] if self.structure else []
        if given and self.missing != "bounds":
            raise OptionError(
                f'{" and ".join(given)} limit unknown values, which missing="{self.missing}" does not use; '
                'pass missing="bounds", or leave them out.'
            )


@dataclass
class _Rows:
    """Rows as they are laid down; a row's interval is given here because bounds need their own.

    ``size`` is the largest absolute value of a coalition: rounding is judged against it.
    """

    level: float
    interval: str
    b: int
    size: float
    group: list[str] = field(default_factory=list)
    term: list[str] = field(default_factory=list)
    estimate: list[float] = field(default_factory=list)
    std_error: list[float] = field(default_factory=list)
    low: list[float] = field(default_factory=list)
    high: list[float] = field(default_factory=list)
    p_value: list[float] = field(default_factory=list)
    draws: list[np.ndarray] = field(default_factory=list)
    why: dict[int, str] = field(default_factory=dict)

    def add(
        self,
        group: str,
        term: str,
        estimate: float,
        draws: np.ndarray | None,
        *,
        why: str = "",
        kind: str = "",
        conf: tuple[float, float] | None = None,
        unit: float = 1.0,
    ) -> None:
        """One row; ``why`` is the reason of whatever ends up NaN in it, ``unit`` what the values were divided by."""
        row = len(self.estimate)
        column = np.full(self.b, np.nan) if draws is None else draws
        estimate, column = _without_rounding(estimate, column, self.size / unit)
        error, ends, p, reason = self._uncertainty(estimate, column, kind or self.interval)
        if np.isnan(estimate) or np.isnan(error) or np.isnan(ends[0]):
            self.why[row] = why or reason
        low, high = ends if conf is None else conf
        self.group.append(group)
        self.term.append(term)
        self.estimate.append(estimate)
        self.std_error.append(error)
        self.low.append(low)
        self.high.append(high)
        self.p_value.append(p)
        self.draws.append(column)

    def _uncertainty(
        self, estimate: float, draws: np.ndarray, kind: str
    ) -> tuple[float, tuple[float, float], float, str]:
        fine = draws[np.isfinite(draws)]
        nothing = (np.nan, np.nan)
        if self.b == 0:
            return np.nan, nothing, np.nan, _EXACT
        if not np.isfinite(estimate) or fine.size < 2:
            return np.nan, nothing, np.nan, f"{fine.size} of {self.b} draws succeeded; at least 2 are needed"
        # Draws that agree to the last digit get exactly zero, which their rounded mean would spoil.
        error = 0.0 if fine.min() == fine.max() else float(fine.std(ddof=1))
        found = interval(kind, np.array([estimate]), np.array([error]), level=self.level, draws=draws[:, None])
        ends = (float(found.low[0]), float(found.high[0]))
        return error, ends, float(found.p_value[0]), found.unavailable.get(0, "")


def _without_rounding(estimate: float, draws: np.ndarray, size: float) -> tuple[float, np.ndarray]:
    """Draws that differ by rounding only as one number, which is the estimate where they agree with it.

    Sums of equal values in another order differ in their last digits; a standard error of 1e-15 and a p-value made of
    such digits would read as evidence.
    """
    fine = np.isfinite(draws)
    if not fine.any() or np.ptp(draws[fine]) > _ZERO * size:
        return estimate, draws
    middle = float(np.median(draws[fine]))
    if abs(middle - estimate) <= _ZERO * size:
        estimate = 0.0 if abs(estimate) <= _ROUNDING * size else estimate
        middle = estimate
    return estimate, np.where(fine, middle, np.nan)


def decomposition(values: Values, request: Request) -> EffectTable:
    """The effect table of a decomposition; see :func:`causalsat.estimators.group_shapley.group_shapley`."""
    m = len(values.groups)
    rows = _Rows(request.level, request.interval, values.n_draws, _size(values))
    facts = _facts(values, request)
    if request.missing == "bounds" and not values.known.all():
        box, rules = box_of(values, request.low, request.high), inequalities(m, request.structure)
        found = bound(values, with_total(shapley_matrix(m)), box, rules, request.progress)
        _bounded(rows, values, found, request)
        facts |= _bound_facts(request, exact=values.draws is None)
    else:
        if request.missing == "min_norm":
            fit = least_norm(m, values.known)
            weights = fit.weights
            facts |= _norm_facts(fit.rank, fit.unique, m)
        else:
            weights = shapley_matrix(m)
        _settled(rows, values, with_total(weights), request)
    return _table(rows, values, request, facts)


def _size(values: Values) -> float:
    """Largest absolute value of a coalition, in its estimate or in a draw."""
    size = float(np.nanmax(np.abs(values.point)))
    for draws in values.draws or []:
        if draws is not None and np.isfinite(draws).any():
            size = max(size, float(np.nanmax(np.abs(draws))))
    return size


def _settled(rows: _Rows, values: Values, weights: np.ndarray, request: Request) -> None:
    """Rows of contributions that the map determines, their shares and the total."""
    known = values.known
    level = float(values.point[0])
    phi = weights[:, known] @ (values.point[known] - level)
    draws = None if values.draws is None else apply_to_draws(weights, values.draws, level)
    for j, name in enumerate(values.groups):
        rows.add(name, "contribution", float(phi[j]), None if draws is None else draws[:, j])
    if request.shares:
        why = _no_share(rows, float(phi[-1]), None if draws is None else draws[:, -1])
        for j, name in enumerate(values.groups):
            if why:
                rows.add(name, "share", np.nan, None, why=why)
            else:
                part = None if draws is None else _ratio(draws, j)
                rows.add(name, "share", float(phi[j] / phi[-1]), part, unit=abs(float(phi[-1])))
    rows.add(TOTAL, "contribution", float(phi[-1]), None if draws is None else draws[:, -1])


def _ratio(draws: np.ndarray, j: int) -> np.ndarray:
    whole = draws[:, -1]
    return np.asarray(np.divide(draws[:, j], whole, out=np.full(whole.shape, np.nan), where=whole != 0.0))


def _no_share(rows: _Rows, total: float, draws: np.ndarray | None, largest: float = 0.0) -> str:
    """Why shares of the total make no sense; empty when they do. ``largest`` is the largest part to be shared."""
    if abs(total) <= _ZERO * max(rows.size, largest):
        return "the total change is zero, so it has no shares"
    if draws is None:
        return ""
    total, draws = _without_rounding(total, draws, rows.size)
    _, (low, high), _, reason = rows._uncertainty(total, draws, rows.interval)
    if np.isnan(low) and reason != "the standard error is zero":
        return f"the total change has no interval ({reason}), so nothing says that it differs from 0"
    if low <= 0.0 <= high:
        return "the interval of the total change contains 0"
    return ""


def _bounded(rows: _Rows, values: Values, found: Bounds, request: Request) -> None:
    """Rows of contributions known up to an interval, then shares, then the total."""
    total_known = bool(values.known[0] and values.known[-1])
    for j, name in enumerate(values.groups):
        _bound_rows(rows, name, found, j)
    total, drawn = found.lower[-1], None if found.lower_draws is None else found.lower_draws[:, -1]
    if request.shares and total_known:
        limits = np.abs(np.concatenate([found.lower, found.upper]))
        why = _no_share(rows, float(total), drawn, float(limits[np.isfinite(limits)].max()))
        for j, name in enumerate(values.groups):
            ends = sorted((found.lower[j] / total, found.upper[j] / total)) if not why else []
            text = why or f"{_INTERVAL_SET}, from {ends[0]:.6g} to {ends[1]:.6g}"
            rows.add(name, "share", np.nan, None, why=text)
    if total_known:
        rows.add(TOTAL, "contribution", float(total), drawn)
    else:
        _bound_rows(rows, TOTAL, found, len(values.groups))


def _bound_rows(rows: _Rows, name: str, found: Bounds, j: int) -> None:
    """Contribution (NaN, covered by the outer quantiles; exact values by the ends), its lower and its upper end."""
    ends, outer = [], []
    for side, (point, draws) in enumerate(((found.lower, found.lower_draws), (found.upper, found.upper_draws))):
        value = float(point[j])
        column = None if draws is None or np.isinf(value) else draws[:, j]
        _, limits, _, _ = rows._uncertainty(value, np.empty(0) if column is None else column, "percentile")
        outer.append(value if np.isinf(value) or rows.b == 0 else limits[side])
        ends.append((value, column))
    covered = (outer[0], outer[1])
    rows.add(name, "contribution", np.nan, None, why=_INTERVAL_SET, conf=covered)
    for term, (value, column) in zip(("contribution_lower", "contribution_upper"), ends):
        why = "nothing limits the missing values on this side; give low, high or a structure" if np.isinf(value) else ""
        rows.add(name, term, value, column, why=why, kind="percentile")


def _facts(values: Values, request: Request) -> dict[str, Any]:
    known, ends = values.known, (values.point[0], values.point[-1])
    absent = np.flatnonzero(~known)
    return {
        "estimator": "group_shapley",
        "estimand": "change of the value from A to B, split among groups by Shapley's rule",
        "assumptions": [
            "an accounting of a change, not mediation: nothing is said inside a group",
            "regrouping changes the answer (this is not the nested Owen value)",
            "each value is causal only as far as the estimate behind it",
        ],
        "groups": list(values.groups),
        "value_a": float(ends[0]) if np.isfinite(ends[0]) else None,
        "value_b": float(ends[1]) if np.isfinite(ends[1]) else None,
        "missing": request.missing,
        "n_coalitions": int(known.size),
        "n_known": int(known.sum()),
        "n_called": values.n_called,
        "missing_coalitions": [show(values.groups, int(s)) for s in absent[:32]],
        "n_boot": values.n_draws,
        "resampling": "draws of the values, one resample for all coalitions" if values.draws is not None else None,
        "seed": request.seed,
        "n_obs_note": "n_obs is 0: the decomposition reads values, not rows",
    }


def _bound_facts(request: Request, *, exact: bool) -> dict[str, Any]:
    covering = f"the identified set itself: {_EXACT}" if exact else "outer quantiles of the draws of its two ends"
    return {
        "interval_of_bounds": covering,
        "structure": list(request.structure),
        "bounds": "each end is sharp by itself; jointly the contributions lie in a polytope on the plane of their sum",
        "refused_intervals": {"basic": _REFUSED, "normal": _REFUSED},
    }


def _norm_facts(rank: int, unique: bool, m: int) -> dict[str, Any]:
    settled = (
        "the known values determine the fit" if unique else "the known values leave the fit open; least norm chose"
    )
    return {"rank": rank, "rank_needed": m - 1, "unique": unique, "completion": settled}


def _table(rows: _Rows, values: Values, request: Request, facts: dict[str, Any]) -> EffectTable:
    drawn = np.stack(rows.draws, axis=1) if values.draws is not None else None
    if drawn is not None:
        there = drawn[:, np.isfinite(drawn).any(axis=0)]
        facts["n_failed"] = int((~np.isfinite(there)).any(axis=1).sum())
    return EffectTable.build(
        {"group": rows.group},
        term=rows.term,
        estimate=rows.estimate,
        std_error=rows.std_error,
        n_obs=0,
        level=request.level,
        draws=drawn,
        interval=request.interval if drawn is not None else "none",
        conf=(rows.low, rows.high),
        p_value=rows.p_value,
        unavailable=rows.why,
        meta=facts,
    )
