"""Sharp bounds on contributions when the values of some coalitions are unknown."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from causalsat.errors import NumericalError, OptionError, number, one_of
from causalsat.estimators.shapley_matrix import apply_to_draws
from causalsat.estimators.shapley_programs import Program
from causalsat.estimators.shapley_values import Values, by_coalition, show
from causalsat.progress import Progress

if TYPE_CHECKING:
    from scipy.sparse import csr_array

STRUCTURES = ("monotone", "supermodular", "submodular")


@dataclass(frozen=True)
class Bounds:
    """Ends of the identified intervals, one per row of the map; infinite where nothing limits them.

    Attributes
    ----------
    lower, upper : np.ndarray
        (rows,) float64.
    lower_draws, upper_draws : np.ndarray or None
        (b, rows) float64, NaN where a draw failed or leaves no completion that obeys the inequalities.
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
    for. With them two linear programs per row; draws reuse the solutions of earlier draws
    (:mod:`causalsat.estimators.shapley_programs` gives the cost). Each end is sharp by itself; the joint set is a
    polytope.

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
    program = Program.of(values, weights, box, rules)
    program.check(values)
    lower, upper = program.ends(values.point)
    if values.draws is None:
        return Bounds(lower, upper, None, None)
    lows, highs = program.ends_of_draws(values, np.isfinite(lower), np.isfinite(upper), progress)
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
