"""The coverage lab: cells of simulated studies with two-sided gates on coverage, standard errors, bias and size."""

import math
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from causalsat.errors import DataError, OptionError

GATE = 1e-3  # two-sided error of each gate: with fixed seeds a false alarm is met once, not at every run
Z_GATE = 3.2905267314918945  # normal quantile of the same error
SIZES = (0.01, 0.05, 0.10)
MOST_FAILED = 0.01
_RATIO_DRAWS = 400


@dataclass(frozen=True)
class Outcomes:
    """What R simulated studies returned about one effect; a failed study is NaN in all fields.

    Attributes
    ----------
    estimate, std_error, low, high, p_value : np.ndarray
        (R,) float64. ``p_value`` tests the true value. Without limits (NaN) a study covers when p > 1 - level.
    """

    estimate: np.ndarray
    std_error: np.ndarray
    low: np.ndarray
    high: np.ndarray
    p_value: np.ndarray


@dataclass(frozen=True)
class Cell:
    """One cell: a data-generating process, its truth, a method with its inference, and what R must detect.

    Attributes
    ----------
    name : str
        Unique name; it also keys the random numbers.
    run : callable
        ``run(seeds (R,) int) -> Outcomes``; every study uses its own seed only.
    truth : float
        The true value of the effect.
    R : int
        Number of studies.
    detects : str
        The defect that R was chosen to catch.
    level : float
        Nominal level.
    coverage : float, optional
        Value that finite-sample theory predicts, if it is not the level; ``derivation`` says how.
    rejection : mapping of float to float, optional
        Predicted rejection rates at 1, 5 and 10%, if not nominal.
    se_ratio : float, optional
        Predicted mean(se)/sd(estimate); None leaves it ungated (no standard error, or no finite variance).
    bias : float
        Known bias of the estimate, derived.
    derivation : str
        Where predicted values come from.
    must_fail : bool
        A cell of wrong inference: the lab passes it only if its coverage gate fails.
    """

    name: str
    run: Callable[[np.ndarray], Outcomes]
    truth: float
    R: int
    detects: str
    level: float = 0.95
    coverage: float | None = None
    rejection: Mapping[float, float] | None = None
    se_ratio: float | None = 1.0
    bias: float = 0.0
    derivation: str = ""
    must_fail: bool = False

    def __post_init__(self) -> None:
        if self.R < 100:
            raise OptionError(f"R={self.R} studies are too few for a coverage gate; use at least 100.")
        predicted = self.coverage is not None or self.rejection is not None or self.bias != 0.0
        if (predicted or self.se_ratio not in (None, 1.0)) and not self.derivation:
            raise OptionError(
                f'cell "{self.name}" predicts values other than the nominal ones; say how in derivation=.'
            )


@dataclass(frozen=True)
class Gate:
    """One gated number: passes when ``low <= value <= high``."""

    name: str
    value: float
    low: float
    high: float

    @property
    def passed(self) -> bool:
        """Whether the value lies between the limits."""
        return bool(self.low <= self.value <= self.high)


@dataclass(frozen=True)
class CellReport:
    """All gates of one cell."""

    cell: Cell
    gates: tuple[Gate, ...]
    n_failed: int
    coverage: float
    coverage_of_finished: float

    @property
    def passed(self) -> bool:
        """Every gate holds; for a cell that must fail, its coverage gate does not."""
        if self.cell.must_fail:
            return not next(g for g in self.gates if g.name == "coverage").passed
        return all(gate.passed for gate in self.gates)

    def text(self) -> str:
        """One line per gate that decides, for the message of a test."""
        lines = [f"{g.name} {g.value:.4f} in [{g.low:.4f}, {g.high:.4f}]: {g.passed}" for g in self.gates]
        return f"{self.cell.name} (R={self.cell.R}, failed {self.n_failed}): " + "; ".join(lines)


def study_seeds(seed: int, name: str, R: int) -> np.ndarray:
    """(R,) uint32 seeds of the studies of a cell: functions of (seed, cell, replication), so R can grow.

    Examples
    --------
    >>> bool((study_seeds(0, "a", 5)[:3] == study_seeds(0, "a", 3)).all())
    True
    """
    words = [np.random.SeedSequence([seed, zlib.crc32(name.encode()), r]).generate_state(1)[0] for r in range(R)]
    return np.array(words, dtype=np.uint32)


def binomial_gate(name: str, count: int, R: int, expected: float) -> Gate:
    """Exact binomial quantiles at two-sided error 1e-3, as rates.

    Examples
    --------
    >>> gate = binomial_gate("coverage", 190, 200, 0.95)
    >>> gate.passed, round(gate.low, 3), round(gate.high, 3)
    (True, 0.895, 0.99)
    """
    from scipy import stats

    low, high = stats.binom.ppf([GATE / 2.0, 1.0 - GATE / 2.0], R, expected)
    return Gate(name, count / R, float(low) / R, float(high) / R)


def run_cell(cell: Cell, *, seed: int = 0) -> CellReport:
    """Run one cell and gate coverage, failures, standard errors, bias and rejection of the truth.

    Parameters
    ----------
    cell : Cell
        What to run.
    seed : int
        Key of the whole lab.

    Returns
    -------
    CellReport
        Coverage counts failed studies as misses; ``coverage_of_finished`` leaves them out.

    Raises
    ------
    DataError
        ``cell.run`` returned arrays of another length than R.
    """
    out = cell.run(study_seeds(seed, cell.name, cell.R))
    if any(np.shape(a) != (cell.R,) for a in vars(out).values()):
        raise DataError(f'cell "{cell.name}" returned arrays of another length than R={cell.R}.')
    failed = ~np.isfinite(out.estimate) | ~np.isfinite(out.p_value)
    inside = (out.low <= cell.truth) & (cell.truth <= out.high)
    by_p = out.p_value > 1.0 - cell.level + 1e-12
    covered = np.where(np.isfinite(out.low) & np.isfinite(out.high), inside, by_p) & ~failed
    n_failed, finished = int(failed.sum()), int((~failed).sum())
    expected = cell.level if cell.coverage is None else cell.coverage
    gates = [
        binomial_gate("coverage", int(covered.sum()), cell.R, expected),
        Gate("failed", n_failed / cell.R, 0.0, MOST_FAILED),
        *_rejections(cell, out.p_value),
        *_moments(cell, out, ~failed, seed),
    ]
    share = float(covered.sum()) / finished if finished else math.nan
    return CellReport(cell, tuple(gates), n_failed, float(covered.mean()), share)


def _rejections(cell: Cell, p_value: np.ndarray) -> list[Gate]:
    gates = []
    for size in SIZES:
        expected = size if cell.rejection is None else cell.rejection[size]
        count = int((p_value <= size * (1.0 + 1e-9)).sum())
        gates.append(binomial_gate(f"reject_{round(100 * size)}", count, cell.R, expected))
    return gates


def _moments(cell: Cell, out: Outcomes, fine: np.ndarray, seed: int) -> list[Gate]:
    """Bias within 3.29 standard errors; mean(se)/sd within 3.29 bootstrap standard errors of its logarithm."""
    estimate, se = out.estimate[fine], out.std_error[fine]
    if estimate.size < 2:
        return []
    bias = float(estimate.mean()) - cell.truth - cell.bias
    room = Z_GATE * float(estimate.std(ddof=1)) / math.sqrt(estimate.size)
    gates = [Gate("bias", bias, -room, room)]
    if cell.se_ratio is None:
        return gates
    generator = np.random.Generator(np.random.Philox([seed, zlib.crc32(cell.name.encode())]))
    rows = generator.integers(0, estimate.size, (_RATIO_DRAWS, estimate.size))
    spread = np.log(se[rows].mean(axis=1) / estimate[rows].std(axis=1, ddof=1)).std(ddof=1)
    ratio = float(se.mean() / estimate.std(ddof=1))
    factor = math.exp(Z_GATE * float(spread))
    return [*gates, Gate("se_ratio", ratio, cell.se_ratio / factor, cell.se_ratio * factor)]


def report_columns(reports: Sequence[CellReport]) -> dict[str, list[Any]]:
    """Reports as columns of a table, one row per cell and gate: cell, R, gate, value, low, high, passed, and so on."""
    columns: dict[str, list[Any]] = {
        name: [] for name in ("cell", "R", "level", "detects", "gate", "value", "low", "high", "passed")
    }
    columns |= {name: [] for name in ("n_failed", "coverage_of_finished", "must_fail", "cell_passed", "derivation")}
    for report in reports:
        cell = report.cell
        for gate in report.gates:
            row = (cell.name, cell.R, cell.level, cell.detects, gate.name, gate.value, gate.low, gate.high, gate.passed)
            more = (report.n_failed, report.coverage_of_finished, cell.must_fail, report.passed, cell.derivation)
            for column, value in zip(columns.values(), row + more):
                column.append(value)
    return columns


def gather(studies: Sequence[tuple[float, float, float, float, float]]) -> Outcomes:
    """Outcomes from one (estimate, std_error, low, high, p_value) per study."""
    return Outcomes(*(np.array(column, dtype=np.float64) for column in zip(*studies)))


def each(study: Callable[[int], tuple[float, float, float, float, float]]) -> Callable[[np.ndarray], Outcomes]:
    """``run`` of a cell from a function of one seed."""

    def run(seeds: np.ndarray) -> Outcomes:
        return gather([study(int(seed)) for seed in seeds])

    return run
