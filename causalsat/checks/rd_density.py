"""Does the density of the running variable jump at the cutoff?"""

import math
from dataclasses import dataclass

import numpy as np

from causalsat.checks.result import CheckResult
from causalsat.errors import DataError, SingularWindowError

LEVEL = 0.05
ORDER = 3
_PRELIMINARY = {"triangular": 2.576, "epanechnikov": 2.34, "uniform": 1.843}
_RCOND = 1e-12
_SIDES = ("right", "left")


@dataclass(frozen=True, eq=False)
class DensityJump:
    """Density of the running variable on both sides of the cutoff; pairs are (right, left).

    Attributes
    ----------
    density, std_error : np.ndarray
        (2,) limits of the density, per unit of the running variable, and their standard errors.
    h : np.ndarray
        (2,) bandwidths.
    n_window : np.ndarray
        (2,) units inside the windows.
    n_distinct : int
        Distinct values of the running variable among all n units.
    n : int
        Units.
    statistic, p_value : float
        (right - left) over its standard error, and the two-sided p-value of the normal law.
    """

    density: np.ndarray
    std_error: np.ndarray
    h: np.ndarray
    n_window: np.ndarray
    n_distinct: int
    n: int
    statistic: float
    p_value: float


def density_jump(
    x: np.ndarray,
    right: np.ndarray,
    *,
    h: tuple[float, float] | None = None,
    kernel: str = "triangular",
    order: int = ORDER,
    groups: np.ndarray | None = None,
) -> DensityJump:
    """Jump of the density at zero, from local polynomials of the empirical distribution function.

    On each side the leave-one-out empirical distribution function F_j = #{l != j: x_l <= x_j} / (n - 1) of all units
    is regressed on a polynomial of ``order`` in x; the slope sum_j g_j F_j at zero estimates the density. Unit i moves
    it by sum_j g_j (1{x_i <= x_j} - F_j) / (n - 1); the variance of the jump is the sum of squared differences of both
    sides' moves. Under continuity, with independent units (or groups), the statistic is asymptotically normal: the
    order is one above the one the bandwidth is optimal for (Cattaneo, Jansson and Ma 2020).

    Parameters
    ----------
    x : np.ndarray
        (n,) float64 running variable less cutoff.
    right : np.ndarray
        (n,) bool, units that count as right of the cutoff.
    h : (float, float), optional
        Bandwidths left and right; None chooses each for the order below (see :func:`density_bandwidth`).
    kernel : str
        "triangular", "epanechnikov" or "uniform".
    order : int
        Degree, at least one.
    groups : np.ndarray, optional
        (n,) cluster codes.

    Raises
    ------
    SingularWindowError
        A side whose window holds too few distinct values.
    DataError
        Fewer than two units.
    """
    x, right = np.asarray(x, dtype=np.float64), np.asarray(right, dtype=bool)
    if x.size < 2 or right.all() or not right.any():
        raise DataError("the density check needs units on both sides of the cutoff.")
    sample = _Sample(x, right, kernel, groups)
    widths = (sample.bandwidth(0, order - 1), sample.bandwidth(1, order - 1)) if h is None else (h[1], h[0])
    density, moves, window = np.zeros(2), [], np.zeros(2, dtype=np.int64)
    for side in (0, 1):
        fit = sample.fit(side, widths[side], order)
        density[side] = fit.value(1)
        moves.append(fit.moves(1))
        window[side] = int((fit.weights > 0.0).sum())
    variance = sample.variance(moves[0] - moves[1])
    statistic = float(density[0] - density[1]) / math.sqrt(variance) if variance > 0.0 else math.nan
    std_error = np.sqrt([sample.variance(move) for move in moves])
    return DensityJump(
        density, std_error, np.array(widths, dtype=np.float64), window, int(np.unique(x).size), x.size, statistic,
        math.erfc(abs(statistic) / math.sqrt(2.0)),
    )  # fmt: skip


def density_bandwidth(
    x: np.ndarray, right: np.ndarray, *, kernel: str = "triangular", order: int = ORDER - 1
) -> tuple[float, float]:
    """Bandwidths left and right that minimise the mean squared error of the density at order ``order``, each alone.

    The slope of an order-o fit of the distribution function has bias h^o beta theta and variance V/h, with beta and V
    from the sample at a preliminary bandwidth C_K min(sd, IQR/1.349) n^(-1/5) and theta the coefficient of x^(o+1) of
    an order-(o+1) fit at a pilot bandwidth: h^(2o+1) = V / (2 o beta^2 (theta^2 + Var theta)). The pilot is chosen
    alike for theta, with the next coefficient from 95 % of the side's range.
    """
    sample = _Sample(np.asarray(x, dtype=np.float64), np.asarray(right, dtype=bool), kernel, None)
    return sample.bandwidth(1, order), sample.bandwidth(0, order)


def density_check(
    x: np.ndarray,
    right: np.ndarray,
    *,
    h: tuple[float, float] | None = None,
    kernel: str = "triangular",
    groups: np.ndarray | None = None,
) -> CheckResult:
    """Check "density": units do not bunch on one side of the cutoff.

    Parameters
    ----------
    x, right, h, kernel, groups
        As in :func:`density_jump`; ``h`` is (left, right).

    Returns
    -------
    CheckResult
        ``statistic``: the jump over its standard error. Passes when p >= .05; None when the running variable takes
        fewer distinct values than half its units, or a window is too thin. ``table``: one row per side.

    Examples
    --------
    >>> x = np.random.default_rng(0).uniform(-1, 1, 800)
    >>> density_check(x, x >= 0).passed
    True
    """
    try:
        found = density_jump(x, right, h=h, kernel=kernel, groups=groups)
    except SingularWindowError as error:
        return CheckResult("density", None, math.nan, f"The density check could not run: {error}")
    table = {
        "side": list(_SIDES),
        "density": found.density.tolist(),
        "std_error": found.std_error.tolist(),
        "h": found.h.tolist(),
        "n_window": found.n_window.tolist(),
    }
    if not math.isfinite(found.statistic):
        return CheckResult("density", None, math.nan, "The density has no standard error in these windows.", table)
    text = (
        f"The density of the running variable is {found.density[0]:.4g} right and {found.density[1]:.4g} left of the "
        f"cutoff (bandwidths {found.h[0]:.4g} and {found.h[1]:.4g}, {found.n_window[0]} and {found.n_window[1]} "
        f"units): jump over standard error {found.statistic:.3f}, p = {found.p_value:.4f}."
    )
    if found.n_distinct < 0.5 * found.n:
        text += (
            f" Not judged: {found.n} units share {found.n_distinct} distinct values, so the running variable has no "
            "density; see mass_points."
        )
        return CheckResult("density", None, found.statistic, text, table)
    passed = found.p_value >= LEVEL
    text += (
        " No sign of sorting; a small jump can go unseen."
        if passed
        else " Units bunch on one side: sorting around the cutoff, selective recording, or a border drawn with the "
        "units in mind. Find out which before reading the effects."
    )
    return CheckResult("density", passed, found.statistic, text, table)


@dataclass(frozen=True, eq=False)
class _Fit:
    """One side's polynomial of the distribution function, in u = x / h."""

    solve: np.ndarray
    weights: np.ndarray
    u: np.ndarray
    h: float
    sample: "_Sample"

    def row(self, nu: int) -> np.ndarray:
        """(n,) weights of the coefficient of x^nu."""
        return np.asarray(self.solve[nu] / self.h**nu)

    def value(self, nu: int) -> float:
        """Coefficient of x^nu."""
        return float(self.row(nu) @ self.sample.cdf)

    def moves(self, nu: int) -> np.ndarray:
        """(n,) what each unit adds to the error of the coefficient of x^nu."""
        g = self.row(nu)
        tail = np.append(np.cumsum(g[self.sample.order][::-1])[::-1], 0.0)
        return np.asarray((tail[self.sample.first] - float(g @ self.sample.cdf)) / (self.sample.n - 1))


class _Sample:
    """The running variable, its empirical distribution function, and fits on either side."""

    def __init__(self, x: np.ndarray, right: np.ndarray, kernel: str, groups: np.ndarray | None) -> None:
        self.x, self.kernel, self.n = x, kernel, x.size
        self.own = (right, ~right)
        self.order = np.argsort(x, kind="stable")
        ranked = x[self.order]
        self.first = np.searchsorted(ranked, x, side="left")
        self.cdf = (np.searchsorted(ranked, x, side="right") - 1.0) / (self.n - 1.0)
        self.groups = None if groups is None else np.unique(groups, return_inverse=True)[1]

    def variance(self, moves: np.ndarray) -> float:
        """Sum of squares of moves (n,), over groups where there are any."""
        summed = moves if self.groups is None else np.bincount(self.groups, weights=moves)
        return float(summed @ summed)

    def fit(self, side: int, h: float, order: int) -> _Fit:
        """Local polynomial of the distribution function on one side."""
        u = np.where(self.own[side], self.x / h, 2.0)
        weights = _kernel(u, self.kernel)
        found = np.unique(self.x[weights > 0.0]).size
        powers = u[:, None] ** np.arange(order + 1)[None, :]
        weighted = powers * weights[:, None]
        gram = powers.T @ weighted
        values = np.linalg.eigvalsh(gram)
        if found <= order + 1 or not values[0] > _RCOND * values[-1]:
            raise SingularWindowError(
                f"the density window {_SIDES[side]} of the cutoff (bandwidth {h:.6g}) holds {found} distinct values, "
                f"too few for a polynomial of order {order}; give a wider window."
            )
        return _Fit(np.linalg.solve(gram, weighted.T), weights, u, h, self)

    def bandwidth(self, side: int, order: int) -> float:
        """Bandwidth of one side for the density at ``order``."""
        size = np.sort(np.abs(self.x[self.own[side]]))
        spread = np.std(self.x, ddof=1)
        quarter = float(np.subtract(*np.percentile(self.x, [75, 25]))) / 1.349
        base = min(spread, quarter) if quarter > 0.0 else spread
        distinct = np.unique(size)
        if distinct.size < order + 5:
            raise SingularWindowError(
                f"the density window {_SIDES[side]} of the cutoff holds {distinct.size} distinct values; "
                f"{order + 5} are needed to choose its bandwidth. Give h=(left, right)."
            )
        least, most = float(distinct[order + 4]), float(distinct[-1])
        preliminary = _within(_PRELIMINARY[self.kernel] * base * self.n ** (-0.2), least, most)
        reach = _within(float(np.quantile(size, 0.95)), least, most)
        pilot = self._optimal(side, order + 1, order + 1, preliminary, reach)
        return _within(self._optimal(side, order, 1, preliminary, _within(pilot, least, most)), least, most)

    def _optimal(self, side: int, order: int, nu: int, h_variance: float, h_bias: float) -> float:
        """Bandwidth of least mean squared error for the coefficient of x^nu of an order-``order`` fit.

        Bias h^(o+1-nu) beta theta, variance V / h^(2 nu - 1), so that
        h^(2o+1) = (2 nu - 1) V / (2 (o + 1 - nu) beta^2 (theta^2 + Var theta)).
        """
        near, far = self.fit(side, h_variance, order), self.fit(side, h_bias, order + 1)
        v = h_variance ** (2 * nu - 1) * self.variance(near.moves(nu))
        beta = float(near.solve[nu] @ np.where(near.weights > 0.0, near.u, 0.0) ** (order + 1))
        theta2 = far.value(order + 1) ** 2 + self.variance(far.moves(order + 1))
        scale = 2.0 * (order + 1 - nu) * beta**2 * theta2
        return float(((2 * nu - 1) * v / scale) ** (1.0 / (2 * order + 1))) if scale > 0.0 else math.inf


def _within(value: float, least: float, most: float) -> float:
    return min(max(value, least), most)


def _kernel(u: np.ndarray, kernel: str) -> np.ndarray:
    size = np.abs(u)
    if kernel == "triangular":
        return np.asarray(np.maximum(1.0 - size, 0.0))
    if kernel == "epanechnikov":
        return np.asarray(0.75 * np.maximum(1.0 - size**2, 0.0))
    return np.where(size <= 1.0, 0.5, 0.0)
