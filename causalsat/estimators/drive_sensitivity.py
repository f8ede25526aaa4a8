"""Plausibly exogenous instruments: what remains of an effect when instruments also move the outcome directly.

Model y = X b + Z eta + e (Conley, Hansen and Rossi 2012). The direct effect enters only through y - Z eta, so every
estimator and set is computed again on the same instruments.
"""

import itertools
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from causalsat.errors import OptionError, nearest, number
from causalsat.estimators.drive_equation import Equation, problem_of
from causalsat.estimators.drive_fit import solve_drive
from causalsat.estimators.drive_law import limit_law
from causalsat.estimators.drive_options import DriveChoices
from causalsat.estimators.k_class import comparator
from causalsat.inference.intervals import interval
from causalsat.inference.iv_rows import IvRows
from causalsat.inference.iv_sets import confidence_sets
from causalsat.public import public

if TYPE_CHECKING:
    import pandas as pd

_STEPS = 5
_MANY = 6
_FURTHEST = 4.0
_BISECTIONS = 18
METHODS = ("tsls", "drive", "ar")
_EMPTY = "empty at every direct effect of the box: the model is rejected"
_NO_INTERVAL = {
    "tsls": "TSLS has no covariance here",
    "drive": "at some direct effect of the box rho is not below the threshold, and DRIVE has no limit interval",
    "ar": "the Anderson-Rubin test does not exist, or cannot reject anything, under this covariance",
}


@public
@dataclass(frozen=True, eq=False)
class DriveSensitivity:
    """Intervals under direct effects of the instruments.

    Attributes
    ----------
    direct : dict of str to float
        Half-width of the box of direct effects by instrument, in standard deviations of the outcome per standard
        deviation of the instrument.
    union : dict of str to list
        Columns method, treatment, low, high, reason: the union of intervals over the box (the limit interval of DRIVE,
        hulls of the Anderson-Rubin set under the study's covariance); NaN with its reason where there is none.
    prior : dict of str to list
        Columns treatment, estimate, std_error, low, high of TSLS under a normal prior; empty without one.
    breakdown : dict of str to float
        Method to the smallest half-width, the same for all instruments, at which the union no longer excludes the
        null; infinite when four standard deviations are not enough, NaN for a method without an interval.
    null : float
        The value asked about.
    """

    direct: dict[str, float]
    union: dict[str, list[Any]]
    prior: dict[str, list[Any]]
    breakdown: dict[str, float]
    null: float

    def to_frame(self) -> "pd.DataFrame":
        """The union intervals as a frame."""
        import pandas as pd

        return pd.DataFrame(self.union)

    def summary(self) -> str:
        """One sentence per method."""
        lines = []
        for i, method in enumerate(self.union["method"]):
            found = f"[{self.union['low'][i]:.4g}, {self.union['high'][i]:.4g}] over all direct effects of the box"
            lines.append(f"{method} of {self.union['treatment'][i]}: {self.union['reason'][i] or found}.")
        for method, size in self.breakdown.items():
            if np.isnan(size):
                continue
            found = f"{size:.3g}" if np.isfinite(size) else f"more than {_FURTHEST:g}"
            lines.append(
                f"{method}: {self.null:g} enters the interval once an instrument may move the outcome by {found} "
                "standard deviations per standard deviation of its own."
            )
        return "\n".join(lines)


def sensitivity(
    equation: Equation,
    choices: DriveChoices,
    direct: float | Mapping[str, float] | None,
    prior: Mapping[str, tuple[float, float]] | None,
) -> DriveSensitivity:
    """Union of intervals over a box of direct effects, intervals under a prior, and breakdown sizes.

    Parameters
    ----------
    equation : Equation
        A fitted, identified equation; the breakdown concerns its first treatment.
    choices : DriveChoices
        Covariance, level and null.
    direct : float or mapping of instrument to float, optional
        Half-widths of the box in sd of y per sd of z; one number for all. None: 0.05.
    prior : mapping of instrument to (mean, sd), optional
        Independent normal priors of the direct effects in the same unit, for TSLS: b - D mu with variance
        V + D Psi D', D = (X'P_Z X)^{-1} X'Z, and the quantile of the TSLS row (t with clusters).

    Raises
    ------
    OptionError
        Unknown instrument, negative half-width, an equation without identification.

    References
    ----------
    Conley, Hansen and Rossi (2012), "Plausibly Exogenous".
    """
    rows = equation.rows
    if not equation.identified:
        raise OptionError("sensitivity needs at least as many instruments as treatments.")
    sizes = _sizes(rows, 0.05 if direct is None else direct)
    units = _units(rows)
    union = _union(rows, choices, equation.radius.rho, sizes, units)
    breakdown = {m: _breakdown(rows, choices, equation.radius.rho, units, m) for m in METHODS}
    return DriveSensitivity(
        direct={name: float(s) for name, s in zip(rows.instruments, sizes, strict=True)},
        union=union,
        prior={} if prior is None else _under_prior(rows, choices, prior, units),
        breakdown=breakdown,
        null=choices.null,
    )


def shifted(rows: IvRows, eta: np.ndarray) -> IvRows:
    """The rows with the direct effect ``eta`` (q,) taken out of the outcome."""
    return replace(rows, y=rows.y - rows.Z @ eta)


def _sizes(rows: IvRows, direct: float | Mapping[str, float]) -> np.ndarray:
    if not isinstance(direct, Mapping):
        return np.full(rows.q, number("direct", direct, 0.0, np.inf, open_ends=False))
    _known(rows, direct)
    return np.array(
        [number(f"direct[{n!r}]", direct.get(n, 0.0), 0.0, np.inf, open_ends=False) for n in rows.instruments]
    )


def _known(rows: IvRows, given: Mapping[str, Any]) -> None:
    for name in given:
        if name not in rows.instruments:
            listed = ", ".join(rows.instruments)
            raise OptionError(f"{name!r} is not an instrument; they are: {listed}.{nearest(name, rows.instruments)}")


def _units(rows: IvRows) -> np.ndarray:
    """(q,) sd of the outcome over sd of each instrument, net of what was partialled out."""
    sd_y = np.sqrt(np.mean(rows.weights * rows.y**2))
    return np.asarray(sd_y / np.sqrt(np.mean(rows.weights[:, None] * rows.Z**2, axis=0)))


def _grid(sizes: np.ndarray, move: np.ndarray) -> np.ndarray:
    """(g, q) points of the box: zero and a product grid for few instruments; for many faces' centres and corners.

    ``move`` (p, q) is what a direct effect takes off TSLS: the corners with its signs are where TSLS is extreme.
    """
    free = np.flatnonzero(sizes > 0.0)
    if not free.size:
        return np.zeros((1, sizes.size))
    levels = np.linspace(-1.0, 1.0, _STEPS if free.size <= 2 else 2)
    if free.size <= _MANY:
        points = np.array(list(itertools.product(levels, repeat=free.size)))
    else:
        faces, far = np.eye(free.size), np.where(move[:, free] < 0.0, -1.0, 1.0)
        points = np.vstack([faces, -faces, np.ones(free.size), -np.ones(free.size), far, -far])
    points = np.vstack([np.zeros(free.size), points])
    grid = np.zeros((points.shape[0], sizes.size))
    grid[:, free] = points * sizes[free][None, :]
    return grid


def _union(
    rows: IvRows, choices: DriveChoices, rho: float, sizes: np.ndarray, units: np.ndarray
) -> dict[str, list[Any]]:
    ends = {method: [np.full(rows.p, np.inf), np.full(rows.p, -np.inf)] for method in METHODS}
    for eta in _grid(sizes, _move(rows)) * units[None, :]:
        moved = shifted(rows, eta)
        for method in METHODS:
            low, high = _interval(method, moved, choices, rho)
            ends[method][0] = np.minimum(ends[method][0], low)
            ends[method][1] = np.maximum(ends[method][1], high)
    union: dict[str, list[Any]] = {"method": [], "treatment": [], "low": [], "high": [], "reason": []}
    for method, (low, high) in ends.items():
        for j, name in enumerate(rows.treatments):
            empty = low[j] > high[j]
            union["method"].append(method)
            union["treatment"].append(name)
            union["low"].append(np.nan if empty else float(low[j]))
            union["high"].append(np.nan if empty else float(high[j]))
            union["reason"].append(_EMPTY if empty else _NO_INTERVAL[method] if np.isnan(low[j]) else "")
    return union


def _interval(method: str, rows: IvRows, choices: DriveChoices, rho: float) -> tuple[np.ndarray, np.ndarray]:
    """(p,) ends of one method's interval, as in its row of the table; (inf, -inf) for an empty set, NaN for none."""
    nothing = np.full(rows.p, np.nan)
    if method == "tsls":
        found = comparator("tsls", rows, choices.covariance)
        if found.covariance is None:
            return nothing, nothing
        made = interval("normal", found.b, found.covariance.std_error, level=choices.level, df=found.df)
        return made.low, made.high
    if method == "drive":
        problem = problem_of(rows, choices)
        law = limit_law(problem, rho, choices.covariance, n_law=choices.fine.n_law, seed=choices.seed)
        if not law.valid:
            return nothing, nothing
        estimate = problem.to_raw(solve_drive(problem, rho).b)
        shifts = problem.to_raw(law.draws) / np.sqrt(rows.n)
        made = interval(
            "basic", estimate, shifts.std(axis=0, ddof=1), level=choices.level, draws=estimate[None, :] + shifts
        )
        return made.low, made.high
    found_sets = confidence_sets(
        rows, ("ar",), level=choices.level, sandwich=choices.covariance, ar_law=choices.fine.ar_law, null=choices.null
    )
    # The robust row follows the homoskedastic one, where there is one, and is the one that the covariance asks for.
    sets = {row.treatment: row.found for row in found_sets}
    found_here = [sets[name] for name in rows.treatments]
    ends = np.array(
        [(np.nan, np.nan) if s is None else s.hull() if s.pieces else (np.inf, -np.inf) for s in found_here]
    )
    return ends[:, 0], ends[:, 1]


def _move(rows: IvRows) -> np.ndarray:
    """(p, q) D = (X'P_Z X)^{-1} X'Z: TSLS moves by -D eta."""
    moments = rows.moments
    return np.asarray(np.linalg.solve(moments.XPX, moments.B.T @ moments.L.T))


def _under_prior(
    rows: IvRows, choices: DriveChoices, prior: Mapping[str, tuple[float, float]], units: np.ndarray
) -> dict[str, list[Any]]:
    _known(rows, prior)
    pairs = np.array([prior.get(name, (0.0, 0.0)) for name in rows.instruments], dtype=np.float64)
    mean, spread = pairs[:, 0] * units, pairs[:, 1] * units
    move = _move(rows)
    found = comparator("tsls", rows, choices.covariance)
    if found.covariance is None:
        raise OptionError(f"TSLS has no covariance here: {found.unavailable}")
    estimate = found.b - move @ mean
    error = np.sqrt(np.diag(found.covariance.matrix + (move * spread[None, :] ** 2) @ move.T))
    made = interval("normal", estimate, error, level=choices.level, df=found.df)
    return {
        "treatment": list(rows.treatments),
        "estimate": estimate.tolist(),
        "std_error": error.tolist(),
        "low": made.low.tolist(),
        "high": made.high.tolist(),
    }


def _breakdown(rows: IvRows, choices: DriveChoices, rho: float, units: np.ndarray, method: str) -> float:
    """Smallest common half-width at which the union stops excluding the null (bisection on nested boxes)."""
    inside = 0.0
    if np.isnan(_interval(method, rows, choices, rho)[0][0]):
        return float("nan")
    if _holds(rows, choices, rho, units, method, inside):
        return inside
    outside = _FURTHEST
    if not _holds(rows, choices, rho, units, method, outside):
        return float("inf")
    for _ in range(_BISECTIONS):
        middle = 0.5 * (inside + outside)
        if _holds(rows, choices, rho, units, method, middle):
            outside = middle
        else:
            inside = middle
    return outside


def _holds(rows: IvRows, choices: DriveChoices, rho: float, units: np.ndarray, method: str, size: float) -> bool:
    """Whether the union of intervals of the first treatment over this box contains the null or does not exist."""
    low, high = np.inf, -np.inf
    for eta in _grid(np.full(rows.q, size), _move(rows)) * units[None, :]:
        ends = _interval(method, shifted(rows, eta), choices, rho)
        low, high = np.minimum(low, ends[0][0]), np.maximum(high, ends[1][0])
        if not (low > choices.null or high < choices.null):
            return True
    return False
