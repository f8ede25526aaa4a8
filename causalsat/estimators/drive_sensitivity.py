"""Plausibly exogenous instruments: what remains of an effect when instruments also move the outcome directly.

Model y = X b + Z eta + e (Conley, Hansen and Rossi 2012). The direct effect enters only through y - Z eta. Over a box
of direct effects TSLS is extreme at corners, the Anderson-Rubin test is minimised at each effect, and the ends of
DRIVE are searched.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from causalsat.errors import OptionError, nearest, number
from causalsat.estimators.drive_equation import Equation
from causalsat.estimators.drive_options import DriveChoices
from causalsat.estimators.drive_sensitivity_ends import DriveEnds, shifted
from causalsat.estimators.drive_sensitivity_sets import (
    FURTHEST,
    BoxTest,
    DirectMoments,
    corner_ends,
    direct_moments,
    highest,
    smallest_box,
)
from causalsat.estimators.k_class import Estimate, comparator
from causalsat.inference.intervals import interval
from causalsat.inference.iv_covariance import tested_sandwich
from causalsat.inference.iv_rows import IvRows
from causalsat.inference.iv_sets import confidence_sets
from causalsat.public import public

if TYPE_CHECKING:
    import pandas as pd

METHODS = ("tsls", "drive", "ar")
_EMPTY = "empty at every direct effect of the box: the model is rejected"
_PASSED = "rho is then not below the threshold at some direct effect of the box"
_NO_LAW = "DRIVE then has no limit law at some direct effect of the box"
_NO_INTERVAL = {
    "tsls": "TSLS has no covariance here",
    "drive": "at some direct effect of the box rho is not below the threshold, and DRIVE has no limit interval",
    "ar": "the Anderson-Rubin test does not exist, or cannot reject anything, under this covariance",
}


class Ends(NamedTuple):
    """Ends of a union, the breakdown, and why there is no interval from there where the null never enters."""

    low: float
    high: float
    breakdown: float
    gone: str = ""


NOTHING = Ends(np.nan, np.nan, np.nan)


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
        Columns method, treatment, low, high, breakdown, reason, breakdown_reason: the ends of the union of intervals
        over the box (the limit interval of DRIVE, the hull of the Anderson-Rubin set under the study's covariance),
        NaN with its reason where there is none; and the smallest half-width, the same for all instruments, at which
        the union no longer excludes the null (for "ar", at which the test no longer rejects it): infinite when four
        standard deviations are not enough, NaN for a method without an interval. Where the null is excluded as long
        as there is an interval, it is the half-width from which there is none, and ``breakdown_reason`` says why.
    prior : dict of str to list
        Columns treatment, estimate, std_error, low, high of TSLS under a normal prior; empty without one.
    breakdown : dict of str to float
        Method to the breakdown of the first treatment, the one named in ``treatment``.
    null : float
        The value asked about, of each treatment's effect.
    treatment : str
        First treatment.
    """

    direct: dict[str, float]
    union: dict[str, list[Any]]
    prior: dict[str, list[Any]]
    breakdown: dict[str, float]
    null: float
    treatment: str = "x"

    def to_frame(self) -> "pd.DataFrame":
        """The union intervals and breakdowns as a frame."""
        import pandas as pd

        return pd.DataFrame(self.union)

    def summary(self) -> str:
        """One sentence per method and treatment on the union, one on the breakdown."""
        lines, after = [], []
        for i, method in enumerate(self.union["method"]):
            who = f"{method} of {self.union['treatment'][i]}"
            found = f"[{self.union['low'][i]:.4g}, {self.union['high'][i]:.4g}] over all direct effects of the box"
            lines.append(f"{who}: {self.union['reason'][i] or found}.")
            size = self.union["breakdown"][i]
            if not np.isnan(size):
                found = f"{size:.3g}" if np.isfinite(size) else f"more than {FURTHEST:g}"
                box = f"each instrument may move the outcome by up to {found} standard deviations per standard "
                box += "deviation of its own"
                why = self.union["breakdown_reason"][i]
                enters = f"{self.null:g} enters the interval once {box}."
                lost = f"there is no interval once {box}: {why}; every interval before excludes {self.null:g}."
                after.append(f"{who}: {lost if why else enters}")
        return "\n".join(lines + after)


def sensitivity(
    equation: Equation,
    choices: DriveChoices,
    direct: float | Mapping[str, float] | None,
    prior: Mapping[str, tuple[float, float]] | None,
) -> DriveSensitivity:
    """Union of intervals over a box of direct effects, intervals under a prior, and breakdown sizes.

    Assumes that instruments move the outcome directly by a fixed linear effect inside the box (or drawn from the
    prior) and are valid otherwise; TSLS and DRIVE assume strong instruments besides. DRIVE keeps its radius.

    Parameters
    ----------
    equation : Equation
        A fitted, identified equation.
    choices : DriveChoices
        Covariance, level and null.
    direct : float or mapping of instrument to float, optional
        Half-widths of the box in sd of y per sd of z; one number for all. None: 0.05.
    prior : mapping of instrument to (mean, sd), optional
        Independent normal priors of the direct effects in the same unit, for TSLS: b - D mu with variance
        V + D Psi D', D = (X'P_Z X)^{-1} X'Z, V the variance of TSLS of y - Z mu, and the quantile of the TSLS row (t
        with clusters).

    Raises
    ------
    OptionError
        Unknown instrument, negative half-width, a prior that is not a mean and a standard deviation per instrument, an
        equation without identification.

    References
    ----------
    Conley, Hansen and Rossi (2012), "Plausibly Exogenous".
    """
    rows = equation.rows
    if not equation.identified:
        raise OptionError("sensitivity needs at least as many instruments as treatments.")
    sizes = _sizes(rows, 0.05 if direct is None else direct)
    priors = None if prior is None else _priors(rows, prior)
    units, moments = _units(rows), direct_moments(rows, choices.covariance)
    found = comparator("tsls", rows, choices.covariance)
    columns = [
        *_tsls(moments, found, choices, sizes, units),
        *_drive(DriveEnds(moments, choices, equation.radius.rho, found.df), sizes, units),
        *_ar(moments, choices, sizes, units),
    ]
    union = _union(rows, columns)
    return DriveSensitivity(
        direct={name: float(s) for name, s in zip(rows.instruments, sizes, strict=True)},
        union=union,
        prior={} if priors is None else _under_prior(moments, choices, priors, units),
        breakdown={method: union["breakdown"][k * rows.p] for k, method in enumerate(METHODS)},
        null=choices.null,
        treatment=rows.treatments[0],
    )


def _sizes(rows: IvRows, direct: float | Mapping[str, float]) -> np.ndarray:
    if not isinstance(direct, Mapping):
        return np.full(rows.q, number("direct", direct, 0.0, np.inf, open_ends=False))
    _known(rows, "direct", direct)
    return np.array(
        [number(f"direct[{n!r}]", direct.get(n, 0.0), 0.0, np.inf, open_ends=False) for n in rows.instruments]
    )


def _priors(rows: IvRows, prior: Mapping[str, tuple[float, float]]) -> np.ndarray:
    """(q, 2) means and standard deviations."""
    wanted = 'is needed per instrument, as in prior={"z1": (0.0, 0.05)}'
    if not isinstance(prior, Mapping):
        raise OptionError(f"prior={prior!r} is not a mapping; a pair (mean, sd) {wanted}.")
    _known(rows, "prior", prior)
    found = np.zeros((rows.q, 2))
    for k, name in enumerate(rows.instruments):
        pair = prior.get(name, (0.0, 0.0))
        if not isinstance(pair, Sequence | np.ndarray) or isinstance(pair, str) or len(pair) != 2:
            raise OptionError(f"prior[{name!r}]={pair!r} is not a pair; a pair (mean, sd) {wanted}.")
        mean, spread = (v.item() if isinstance(v, np.generic) else v for v in pair)
        found[k, 0] = number(f"prior[{name!r}][0], the mean,", mean, -np.inf, np.inf)
        found[k, 1] = number(f"prior[{name!r}][1], the standard deviation,", spread, 0.0, np.inf, open_ends=False)
    return found


def _known(rows: IvRows, argument: str, given: Mapping[str, Any]) -> None:
    for name in given:
        if name not in rows.instruments:
            listed, near = ", ".join(rows.instruments), nearest(str(name), rows.instruments)
            raise OptionError(f"{argument}: {name!r} is not an instrument; they are: {listed}.{near}")


def _units(rows: IvRows) -> np.ndarray:
    """(q,) sd of the outcome over sd of each instrument, net of what was partialled out."""
    sd_y = np.sqrt(np.mean(rows.weights * rows.y**2))
    return np.asarray(sd_y / np.sqrt(np.mean(rows.weights[:, None] * rows.Z**2, axis=0)))


def _union(rows: IvRows, found: list[Ends]) -> dict[str, list[Any]]:
    """Columns of the union from what was found by method and treatment; low above high is an empty set."""
    names = ("method", "treatment", "low", "high", "breakdown", "reason", "breakdown_reason")
    union: dict[str, list[Any]] = {name: [] for name in names}
    for k, (low, high, size, gone) in enumerate(found):
        method, empty = METHODS[k // rows.p], low > high
        lost = bool(np.isnan(low) or np.isnan(high))
        union["method"].append(method)
        union["treatment"].append(rows.treatments[k % rows.p])
        union["low"].append(np.nan if empty or lost else float(low))
        union["high"].append(np.nan if empty or lost else float(high))
        union["breakdown"].append(float(size))
        union["reason"].append(_EMPTY if empty else _NO_INTERVAL[method] if lost else "")
        union["breakdown_reason"].append(gone)
    return union


def _tsls(
    moments: DirectMoments, found: Estimate, choices: DriveChoices, sizes: np.ndarray, units: np.ndarray
) -> list[Ends]:
    rows = moments.rows
    quantile = interval("normal", np.zeros(1), np.ones(1), level=choices.level, df=found.df).high[0]
    columns = []
    for j in range(rows.p):

        def outside(size: float, j: int = j) -> float:
            low, high = corner_ends(moments, size * units, quantile, j)
            return max(low - choices.null, choices.null - high)

        first = outside(0.0)
        size = smallest_box(outside) if first > 0.0 else np.nan if np.isnan(first) else 0.0
        columns.append(Ends(*corner_ends(moments, sizes * units, quantile, j), size))
    return columns


def _ar(moments: DirectMoments, choices: DriveChoices, sizes: np.ndarray, units: np.ndarray) -> list[Ends]:
    """Hull of the union, which contains the set without direct effects as the table has it, and the breakdown."""
    from scipy import special, stats

    rows, fine, alpha = moments.rows, choices.fine, 1.0 - choices.level
    used = tested_sandwich(choices.covariance, rows)
    if used != choices.covariance:
        moments = direct_moments(rows, used)
    classical = used.kind == "classical"
    df = rows.q - rows.p + 1 if classical else rows.q
    critical = float(special.chdtri(df, alpha))
    if classical and fine.ar_law == "f":
        critical = float(df * stats.f.isf(alpha, df, rows.d1))
    tables = confidence_sets(
        rows, ("ar",), level=choices.level, sandwich=choices.covariance, ar_law=fine.ar_law, null=choices.null
    )
    # The robust row follows the homoskedastic one, where there is one, and is the one that the covariance asks for.
    sets, columns = {row.treatment: row.found for row in tables}, []
    for j, name in enumerate(rows.treatments):
        table = sets[name]
        if table is None:
            columns.append(NOTHING)
            continue
        test = BoxTest(moments, j, critical)
        pieces = (*table.pieces, *(test.pieces(sizes * units) if sizes.any() else ()))
        low, high = min((a for a, _ in pieces), default=np.inf), max((b for _, b in pieces), default=-np.inf)
        size = 0.0
        if not table.contains(choices.null):
            size = smallest_box(partial(test.excess, choices.null, units))
        columns.append(Ends(low, high, size))
    return columns


def _drive(ends: DriveEnds, sizes: np.ndarray, units: np.ndarray) -> list[Ends]:
    """Ends of the union and breakdown of each treatment; none where rho passes the threshold inside the box."""
    moments, null = ends.moments, ends.choices.null
    table, limit = ends.ends(np.zeros(sizes.size)), np.inf
    if np.isnan(table).any():
        return [NOTHING] * moments.rows.p
    if not ends.below:
        limit = smallest_box(lambda t: 1.0 - highest(ends.reach, t * units, moments)[0])
    fits = ends.below or highest(ends.reach, sizes * units, moments)[0] < 1.0
    columns = []
    for j, (first, last) in enumerate(table.T):
        sides = [_furthest(ends, j, way, sizes * units) if fits else (np.nan, None) for way in (0, 1)]
        way = int(last < null)
        place = sides[way][1]
        near = [] if place is None or not sizes.any() else [place / sizes.max()]
        size, gone = 0.0, ""
        if first > null or last < null:
            size, gone = _drive_breakdown(ends, j, way, units, limit, near)
        columns.append(Ends(sides[0][0], sides[1][0], size, gone))
    return columns


def _drive_breakdown(
    ends: DriveEnds, j: int, way: int, units: np.ndarray, limit: float, near: list[np.ndarray]
) -> tuple[float, str]:
    """Smallest box whose union meets the null, or, with a reason, the one from which there is no interval."""
    null, met = ends.choices.null, []

    def gap(t: float) -> float:
        found, place = _furthest(ends, j, way, t * units, [t * one for one in near])
        near[:] = [place / t]
        left = null - found if way else found - null
        met.append(left <= 0.0)
        return left

    size = min(limit, smallest_box(gap, min(limit, FURTHEST)))
    if any(met) or not np.isfinite(size):
        return size, ""
    return size, _PASSED if np.isfinite(limit) else _NO_LAW


def _furthest(
    ends: DriveEnds, j: int, way: int, half: np.ndarray, near: Sequence[np.ndarray] = ()
) -> tuple[float, np.ndarray]:
    """Lowest (way 0) or highest (way 1) end of effect j over a box, and where: searched, then as in the table."""
    sign = 2.0 * way - 1.0

    def value(eta: np.ndarray) -> np.ndarray:
        return np.array([sign * ends.near(one)[way, j] for one in eta])

    places = highest(value, half, ends.moments, near)[1]
    found = sign * np.array([ends.ends(one)[way, j] for one in places])
    k = int(found.argmax())
    return float(sign * found[k]), places[k]


def _under_prior(
    moments: DirectMoments, choices: DriveChoices, pairs: np.ndarray, units: np.ndarray
) -> dict[str, list[Any]]:
    """TSLS at the mean direct effect, whose residuals make its variance, and the spread of the prior."""
    spread, move = pairs[:, 1] * units, moments.move
    found = comparator("tsls", shifted(moments.rows, pairs[:, 0] * units), choices.covariance)
    if found.covariance is None:
        raise OptionError(f"TSLS has no covariance here: {found.unavailable}")
    error = np.sqrt(np.diag(found.covariance.matrix + (move * spread[None, :] ** 2) @ move.T))
    made = interval("normal", found.b, error, level=choices.level, df=found.df)
    columns = {"estimate": found.b, "std_error": error, "low": made.low, "high": made.high}
    return {"treatment": list(moments.rows.treatments)} | {name: values.tolist() for name, values in columns.items()}
