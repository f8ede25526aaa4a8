"""Sharp bounds on contributions when the values of some coalitions are unknown."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from causalsat.errors import DataError, NumericalError, OptionError, number, one_of
from causalsat.estimators.shapley_matrix import apply_to_draws
from causalsat.estimators.shapley_values import Values, by_coalition, show
from causalsat.progress import Progress, progress_bar

if TYPE_CHECKING:
    from scipy.sparse import csr_array

STRUCTURES = ("monotone", "supermodular", "submodular")
_TOLERANCE = 1e-8
_INFEASIBLE = 2


@dataclass(frozen=True)
class Bounds:
    """Ends of the identified intervals, one per row of the map; infinite where nothing limits them.

    Attributes
    ----------
    lower, upper : np.ndarray
        (rows,) float64.
    lower_draws, upper_draws : np.ndarray or None
        (b, rows) float64, NaN where a draw failed or contradicts the inequalities.
    """

    lower: np.ndarray
    upper: np.ndarray
    lower_draws: np.ndarray | None
    upper_draws: np.ndarray | None


@dataclass(frozen=True)
class Box:
    """Limits (2^m,) on the scale of the values; infinite where none is given."""

    low: np.ndarray
    high: np.ndarray


@dataclass(frozen=True)
class Inequalities:
    """Rows ``matrix v <= 0``; ``names[kind, S, i, j]`` says which (j = -1 for monotone rows)."""

    matrix: "csr_array"
    names: list[tuple[str, np.ndarray]]

    def text(self, groups: tuple[str, ...], row: int) -> str:
        """One inequality in words."""
        for kind, triples in self.names:
            if row < triples.shape[0]:
                s, i, j = (int(v) for v in triples[row])
                return _words(groups, kind, s, i, j)
            row -= triples.shape[0]
        raise NumericalError(f"There is no inequality {row}.")


def _words(groups: tuple[str, ...], kind: str, s: int, i: int, j: int) -> str:
    if kind == "monotone":
        return f"monotone: v({show(groups, s)}) <= v({show(groups, s | 1 << i)})"
    sign = ">=" if kind == "supermodular" else "<="
    both = s | 1 << i | 1 << j
    return (
        f"{kind}: v({show(groups, both)}) + v({show(groups, s)}) {sign} "
        f"v({show(groups, s | 1 << i)}) + v({show(groups, s | 1 << j)})"
    )


def box_of(values: Values, low: Any, high: Any) -> Box:
    """The limits of unknown values: numbers for all of them, mappings for named coalitions, None for no limit."""
    box = Box(_limits(values, "low", low, -np.inf), _limits(values, "high", high, np.inf))
    crossed = np.flatnonzero((box.low > box.high) & ~values.known)
    if crossed.size:
        s = int(crossed[0])
        raise OptionError(
            f"low={box.low[s]:g} lies above high={box.high[s]:g} for {show(values.groups, s)}; exchange them."
        )
    return box


def _limits(values: Values, argument: str, given: Any, default: float) -> np.ndarray:
    limits = np.full(values.point.size, default)
    if given is None:
        return limits
    if not isinstance(given, Mapping):
        limits[:] = number(argument, given, -np.inf, np.inf)
        return limits
    for s, limit in by_coalition(values.groups, given, argument).items():
        limits[s] = number(f"{argument}[{show(values.groups, s)}]", limit, -np.inf, np.inf)
    return limits


def inequalities(m: int, structure: Sequence[str]) -> Inequalities | None:
    """The chosen families of inequalities as sparse rows; None when none is chosen.

    monotone ``v(S) <= v(S+j)``; supermodular ``v(S+i+j) + v(S) >= v(S+i) + v(S+j)``; submodular the reverse.
    """
    chosen = (structure,) if isinstance(structure, str) else tuple(structure)
    kinds = [one_of("structure", kind, STRUCTURES) for kind in dict.fromkeys(chosen)]
    if not kinds:
        return None
    from scipy import sparse

    parts, names = [], []
    for kind in kinds:
        triples = _triples(m, kind)
        if triples.shape[0]:
            parts.append(_rows(m, kind, triples))
            names.append((kind, triples))
    return Inequalities(sparse.csr_array(sparse.vstack(parts)), names) if parts else None


def _triples(m: int, kind: str) -> np.ndarray:
    """(rows, 3) whole numbers S, i, j of every inequality of a kind."""
    coalitions = np.arange(2**m)
    pairs = [(i, -1) for i in range(m)] if kind == "monotone" else [(i, j) for i in range(m) for j in range(i + 1, m)]
    found = []
    for i, j in pairs:
        taken = 1 << i | (1 << j if j >= 0 else 0)
        free = coalitions[(coalitions & taken) == 0]
        found.append(np.stack([free, np.full(free.size, i), np.full(free.size, j)], axis=1))
    return np.concatenate(found) if found else np.empty((0, 3), dtype=np.int64)


def _rows(m: int, kind: str, triples: np.ndarray) -> "csr_array":
    from scipy import sparse

    s, i, j = triples.T
    with_i = s | 1 << i
    if kind == "monotone":
        columns, signs = [s, with_i], [1.0, -1.0]
    else:
        with_j = s | 1 << j
        sign = 1.0 if kind == "supermodular" else -1.0
        columns, signs = [with_i, with_j, with_i | with_j, s], [sign, sign, -sign, -sign]
    n = triples.shape[0]
    place = np.tile(np.arange(n), len(columns))
    data = np.repeat(signs, n)
    return sparse.csr_array((data, (place, np.concatenate(columns))), shape=(n, 2**m))


def bound(
    values: Values, weights: np.ndarray, box: Box, rules: Inequalities | None, progress: Progress = None
) -> Bounds:
    """Smallest and largest ``weights v`` over the unknown values inside the box that obey the inequalities.

    Without inequalities the closed form: an unknown value sits at the end of its box that the sign of its weight asks
    for. With them two linear programs per row. Each end is sharp by itself; the joint set is a polytope.

    Parameters
    ----------
    values : Values
        The point and draws of the known coalitions.
    weights : np.ndarray
        (rows, 2^m) map whose rows sum to zero.
    box : Box
        Limits of the unknown values, on the scale of the values.
    rules : Inequalities or None
        Inequalities over all values.

    Raises
    ------
    DataError
        Known values and inequalities that contradict each other; a row of the conflict is named.
    """
    if rules is None:
        return _closed(values, weights, box)
    program = _Program.of(values, weights, box, rules)
    program.check(values)
    lower, upper = program.ends(values.point)
    if values.draws is None:
        return Bounds(lower, upper, None, None)
    b = values.n_draws
    lows, highs = np.full((b, weights.shape[0]), np.nan), np.full((b, weights.shape[0]), np.nan)
    known = np.flatnonzero(values.known)
    drawn = np.stack([np.asarray(values.draws[s]) for s in known], axis=1)
    bar = progress_bar(b, "bounds of draws", progress)
    try:
        for r in range(b):
            if np.isfinite(drawn[r]).all():
                point = np.full(values.point.size, np.nan)
                point[known] = drawn[r]
                lows[r], highs[r] = program.ends(point, np.isfinite(lower), np.isfinite(upper))
            bar.update()
    finally:
        bar.close()
    return Bounds(lower, upper, lows, highs)


def _closed(values: Values, weights: np.ndarray, box: Box) -> Bounds:
    known = values.known
    # Rows sum to zero, so any common level may be taken off first.
    level = float(values.point[known][0])
    fixed = weights[:, known] @ (values.point[known] - level)
    low, high = _extremes(weights[:, ~known], box.low[~known] - level, box.high[~known] - level)
    if values.draws is None:
        return Bounds(fixed + low, fixed + high, None, None)
    moved = apply_to_draws(weights, values.draws, level)
    return Bounds(fixed + low, fixed + high, _ended(moved, low), _ended(moved, high))


def _ended(moved: np.ndarray, end: np.ndarray) -> np.ndarray:
    """Draws of an end; NaN where the end is infinite, which no resample changes."""
    return moved + np.where(np.isfinite(end), end, np.nan)[None, :]


def _extremes(free: np.ndarray, low: np.ndarray, high: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(rows,) smallest and largest ``free x`` over the box; a zero weight ignores an infinite limit."""
    ends = np.zeros((2, free.shape[0]))
    for row, weight in enumerate(free):
        used = weight != 0.0
        at, w = np.where(weight[used] > 0.0, low[used], high[used]), weight[used]
        opposite = np.where(w > 0.0, high[used], low[used])
        ends[0, row], ends[1, row] = (w * at).sum(), (w * opposite).sum()
    return ends[0], ends[1]


@dataclass(frozen=True)
class _Program:
    """The linear programs of one pattern of missing values; only the right-hand side changes between draws."""

    known: np.ndarray
    weights: np.ndarray
    low: np.ndarray
    high: np.ndarray
    rules: Inequalities
    rows: np.ndarray
    of_known: "csr_array"
    of_unknown: "csr_array"

    @staticmethod
    def of(values: Values, weights: np.ndarray, box: Box, rules: Inequalities) -> "_Program":
        known = values.known
        unknown_part = rules.matrix[:, np.flatnonzero(~known)]
        rows = np.flatnonzero(np.diff(unknown_part.indptr))
        known_part = rules.matrix[rows][:, np.flatnonzero(known)]
        return _Program(known, weights, box.low[~known], box.high[~known], rules, rows, known_part, unknown_part[rows])

    def ends(
        self, point: np.ndarray, want_low: np.ndarray | None = None, want_high: np.ndarray | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """Smallest and largest of every row at these known values; NaN for rows not wanted or without a solution."""
        level, scale = self._units(point)
        fixed = self.weights[:, self.known] @ (point[self.known] - level)
        out = []
        for sign, wanted in ((1.0, want_low), (-1.0, want_high)):
            ends = np.full(self.weights.shape[0], np.nan)
            for row in range(ends.size):
                if wanted is None or wanted[row]:
                    ends[row] = fixed[row] + sign * scale * self._least(sign * self.weights[row, ~self.known], point)
            out.append(ends)
        return out[0], out[1]

    def check(self, values: Values) -> None:
        """Raise when no completion exists, naming a row of the conflict."""
        level, scale = self._units(values.point)
        centred = np.where(self.known, values.point - level, 0.0) / scale
        excess = self.rules.matrix @ centred
        touched = np.zeros(excess.size, dtype=bool)
        touched[self.rows] = True
        worst = int(np.argmax(np.where(touched, -np.inf, excess)))
        if not touched[worst] and excess[worst] > _TOLERANCE:
            self._refuse(values.groups, worst, float(excess[worst] * scale))
        slack = self._slack(values.point)
        if slack.size and slack.max() > _TOLERANCE:
            self._refuse(values.groups, int(self.rows[int(np.argmax(slack))]), float(slack.max() * scale))

    def _refuse(self, groups: tuple[str, ...], row: int, excess: float) -> None:
        raise DataError(
            "No completion of the missing values obeys the inequalities and the box; "
            f"{self.rules.text(groups, row)} would have to give way by {excess:.4g}. Drop that structure, or widen "
            "low and high."
        )

    def _units(self, point: np.ndarray) -> tuple[float, float]:
        """Centre and scale of the known values, so that the solver's absolute tolerances are relative ones."""
        seen = point[self.known]
        ends = np.concatenate([seen, self.low[np.isfinite(self.low)], self.high[np.isfinite(self.high)]])
        level = float(seen[0])
        scale = float(np.abs(ends - level).max())
        return level, scale if scale > 0.0 else 1.0

    def _solver_inputs(self, point: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Right-hand side and bounds (unknown, 2) in solver units."""
        level, scale = self._units(point)
        right = -(self.of_known @ ((point[self.known] - level) / scale))
        return right, np.stack([(self.low - level) / scale, (self.high - level) / scale], axis=1)

    def _least(self, cost: np.ndarray, point: np.ndarray) -> float:
        """Smallest ``cost x`` in solver units: -inf when unbounded, NaN when no completion exists."""
        from scipy.optimize import linprog

        size = float(np.abs(cost).max()) if cost.size else 0.0
        if size == 0.0:
            return 0.0
        right, box = self._solver_inputs(point)
        for presolve in (True, False):
            found = linprog(
                cost / size,
                A_ub=self.of_unknown,
                b_ub=right,
                bounds=box,
                method="highs",
                options={"presolve": presolve},
            )
            if found.status in (0, 3):
                break
        if found.status == 0:
            return float(found.fun) * size
        if found.status == 3:
            return -np.inf
        if found.status == _INFEASIBLE:
            return np.nan
        raise NumericalError(f"The linear program of a bound has no usable answer: {found.message}")

    def _slack(self, point: np.ndarray) -> np.ndarray:
        """How far each inequality must give way, the sum being as small as possible; all zero when feasible."""
        from scipy import sparse
        from scipy.optimize import linprog

        n, u = self.of_unknown.shape
        if n == 0:
            return np.empty(0)
        right, box = self._solver_inputs(point)
        widened = sparse.hstack([self.of_unknown, -sparse.eye_array(n)])
        limits = np.concatenate([box, np.stack([np.zeros(n), np.full(n, np.inf)], axis=1)])
        cost = np.concatenate([np.zeros(u), np.ones(n)])
        found = linprog(cost, A_ub=sparse.csr_array(widened), b_ub=right, bounds=limits, method="highs")
        if found.status != 0:
            raise NumericalError(f"The check for a completion has no usable answer: {found.message}")
        return np.asarray(found.x[u:])
