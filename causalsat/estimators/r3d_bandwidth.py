"""Bandwidths of `r3d` chosen from the data: pilots, regularised curvature, one for all quantiles or one for each."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from causalsat.errors import DataError, one_of
from causalsat.estimators.r3d_options import KERNELS, RESIDUALS, Bandwidth
from causalsat.estimators.r3d_pilot import SIDES, Side, preliminary_bandwidth

_SHARE_OF_REACH = 0.95
_NOISE = 1e-24
_PER_COVARIATE = 10


@dataclass(frozen=True, eq=False)
class BandwidthReport:
    """A bandwidth and every step that led to it.

    Lengths are in the units of the running variable. Rows are right, left.

    Attributes
    ----------
    rule : Bandwidth
        What was asked for.
    kernel, residuals : str
        Kernel, and residual factor of the variances.
    h : np.ndarray
        (2,) one bandwidth for all quantiles, or (2, M).
    h_mse : np.ndarray
        The same before the coverage rule and before windows too thin for the estimate were widened.
    b : np.ndarray
        Pilot bandwidth of the derivative s + 1, shaped like ``h``.
    d : np.ndarray or None
        Pilot bandwidth of the derivative s + 2, "ladder" only.
    c : np.ndarray
        (2,) preliminary bandwidth of the variances.
    V, B, R : np.ndarray
        (2, M) variance, signed bias and regularisation in h^(2s+3) = sum w (V+ + V-) / sum w [(B+ - B-)^2 + rho (R+ +
        R-)]; the number of units is inside V.
    capped : tuple of str
        Which of c, d, b, h reached the largest |x|.
    widened : tuple of dict
        Windows that held too few distinct values and grew to the smallest that holds enough: bandwidth, side, from,
        to. Pilots c and b need s + 4 of them a side, ``h`` needs p + 3 for an estimate of order p, where a side has
        them.
    n_window : np.ndarray
        (2,) units with positive weight at ``h`` (the median over quantiles).
    n_effective : np.ndarray
        (2,) 1 / sum of squared weights of the limit at ``h``, at the rule's order.
    covariates : str
        What became of covariates: "none", "taken out" or "left in", with the reason.
    """

    rule: Bandwidth
    kernel: str
    residuals: str
    h: np.ndarray
    h_mse: np.ndarray
    b: np.ndarray
    d: np.ndarray | None
    c: np.ndarray
    V: np.ndarray
    B: np.ndarray
    R: np.ndarray
    capped: tuple[str, ...]
    widened: tuple[dict[str, Any], ...]
    n_window: np.ndarray
    n_effective: np.ndarray
    covariates: str

    @property
    def B2(self) -> np.ndarray:
        """Squared bias by quantile: (M,) of the jump, or (2, M) with sides "two"."""
        return np.asarray(self.B**2 if self.rule.sides == "two" else (self.B[0] - self.B[1]) ** 2)

    def notes(self) -> dict[str, Any]:
        """Everything as plain numbers, lists and text."""
        arrays = {name: getattr(self, name) for name in ("h", "h_mse", "b", "c", "V", "B", "R", "n_effective")}
        return {
            "kind": self.rule.kind,
            "order": self.rule.order,
            "pilot": self.rule.pilot,
            "regularization": self.rule.regularization,
            "sides": self.rule.sides,
            "coverage": self.rule.coverage,
            "kernel": self.kernel,
            "residuals": self.residuals,
            "covariates": self.covariates,
            **{name: value.tolist() for name, value in arrays.items()},
            "d": None if self.d is None else self.d.tolist(),
            "n_window": [int(n) for n in self.n_window],
            "capped": list(self.capped),
            "widened": [dict(row) for row in self.widened],
        }


def select_bandwidth(
    x: np.ndarray,
    right: np.ndarray,
    Q: np.ndarray,
    cells: np.ndarray,
    omega: np.ndarray,
    groups: np.ndarray | None,
    rule: Bandwidth,
    *,
    kernel: str = "triangular",
    residuals: str = "hc2",
    order: int | None = None,
    covariates: np.ndarray | None = None,
) -> BandwidthReport:
    """Bandwidth that minimises the estimated mean squared error of the jump.

    For the limit of a fit of order o in its derivative nu,
    h^(2o+3) = sum_j w_j (V+ + V-) / sum_j w_j [(B+ - B-)^2 + rho (R+ + R-)], with variances V from residuals of the
    fit at a preliminary bandwidth, biases B from the derivative o + 1 estimated at a pilot bandwidth, and R from its
    variance (Calonico, Cattaneo and Titiunik 2014; Imbens and Kalyanaraman 2012). Assumes that the mean of each
    quantile has s + 2 continuous derivatives in x on each side. No density is estimated.

    Parameters
    ----------
    x : np.ndarray
        (n,) running variable minus cutoff; the bandwidth has its units.
    right : np.ndarray
        (n,) bool, whether a unit counts as right of the cutoff.
    Q : np.ndarray
        (n, M) unit quantiles, or any unit-level columns.
    cells : np.ndarray
        (M,) weights of the columns.
    omega : np.ndarray
        (n,) unit weights; units of weight zero are left out.
    groups : np.ndarray or None
        (n,) cluster codes: contributions are summed within cluster and side.
    rule : Bandwidth
        Kind, order, pilot, regularisation, sides, coverage.
    kernel : str
        "triangular", "epanechnikov" or "uniform".
    residuals : str
        "hc0", "hc1", "hc2" or "hc3"; with clusters CR0, CR1, CR2 or CR3 of each side.
    order : int, optional
        Degree of the estimate, whose windows are widened where they cannot carry it; None takes the rule's.
    covariates : np.ndarray, optional
        (n, c) covariates of the estimate. Each regression for a variance also gives their slopes on its side, and
        covariates times slopes are taken out of the outcome there and in the regression for its bias (Calonico,
        Cattaneo, Farrell and Titiunik 2019); left in where a side's window of the variances has fewer than 10 units
        (or groups) per covariate, because slopes that fit the noise would make variances and bandwidth too small.

    Raises
    ------
    DataError
        Columns that are not finite.
    SingularWindowError
        A side with too few distinct values of x for the pilot regressions, or for the estimate at any bandwidth.
    NumericalError
        A pilot regression on nearly tied values of x.
    """
    one_of("kernel", kernel, KERNELS)
    one_of("residuals", residuals, RESIDUALS)
    search = _Search.over(x, right, Q, cells, omega, groups, rule, kernel, residuals, covariates)
    s = rule.order
    c = search.preliminary()
    told = search.settle_covariates(c)
    d = None
    if rule.pilot == "ladder":
        reach = search.widen("h_B of d", np.array([side.reach for side in search.sides]))
        d = search.stage("d", s + 2, s + 2, c, reach, 0.0)[0]
        b_from = search.widen("d", d)
    else:
        b_from = search.widen("h_B of b", search.reach_quantile())
    b = search.widen("b", search.stage("b", s + 1, s + 1, c, b_from, rule.regularization)[0])
    h_mse, v, bias, r = search.stage("h", s, 0, c, b, rule.regularization)
    shrink = search.n ** (-s / ((2.0 * s + 3.0) * (s + 3.0))) if rule.coverage else 1.0
    h = search.workable(h_mse * shrink, s if order is None else order)
    n_window, n_effective = search.sizes(h)
    return BandwidthReport(
        rule, kernel, residuals, h, h_mse, b, d, c, v, bias, r, tuple(search.capped), tuple(search.widened),
        n_window, n_effective, told,
    )  # fmt: skip


def treatment_bandwidth(
    x: np.ndarray,
    right: np.ndarray,
    treatment: np.ndarray,
    omega: np.ndarray,
    groups: np.ndarray | None,
    rule: Bandwidth,
    h: np.ndarray,
    *,
    kernel: str = "triangular",
    residuals: str = "hc2",
    order: int | None = None,
    covariates: np.ndarray | None = None,
) -> tuple[np.ndarray, BandwidthReport | None]:
    """Bandwidth of the treatment of a fuzzy design: the scalar rule on T, or ``h`` where T is constant on each side.

    Parameters
    ----------
    x, right, omega, groups, kernel, residuals, order, covariates
        As in `select_bandwidth`.
    treatment : np.ndarray
        (n,) treatment, 0/1 or a share.
    rule : Bandwidth
        Rule for T; its kind does not matter for one column.
    h : np.ndarray
        (2,) or (2, M) bandwidth of the outcome.

    Returns
    -------
    tuple
        (2,) bandwidths right and left (the median of ``h`` over quantiles where it is taken over), and the report of
        the rule or None.
    """
    right = np.asarray(right, dtype=bool)
    values = np.asarray(treatment, dtype=np.float64)
    used = np.asarray(omega) > 0.0
    if all(np.ptp(values[own & used]) == 0.0 for own in (right, ~right) if (own & used).any()):
        h = np.asarray(h, dtype=np.float64)
        return (np.median(h, axis=1) if h.ndim == 2 else h), None
    report = select_bandwidth(
        x, right, values[:, None], np.ones(1), omega, groups, rule, kernel=kernel, residuals=residuals, order=order,
        covariates=covariates,
    )  # fmt: skip
    return report.h.reshape(2, -1)[:, 0], report


@dataclass(eq=False)
class _Search:
    """Data of one search and what was capped or widened on its way."""

    sides: tuple[Side, Side]
    x: np.ndarray
    cells: np.ndarray
    rule: Bandwidth
    kernel: str
    scale: np.ndarray
    capped: list[str]
    widened: list[dict[str, Any]]

    @classmethod
    def over(
        cls, x: np.ndarray, right: np.ndarray, Q: np.ndarray, cells: np.ndarray, omega: np.ndarray,
        groups: np.ndarray | None, rule: Bandwidth, kernel: str, residuals: str, covariates: np.ndarray | None,
    ) -> "_Search":  # fmt: skip
        weights_given = omega
        used = np.asarray(omega, dtype=np.float64) > 0.0
        x, omega = np.asarray(x, dtype=np.float64)[used], np.asarray(omega, dtype=np.float64)[used]
        right = np.asarray(right, dtype=bool)[used]
        columns = np.asarray(Q, dtype=np.float64)[used]
        if not all(np.isfinite(np.asarray(a, dtype=np.float64)).all() for a in (columns, x, weights_given)):
            raise DataError(
                "a bandwidth needs finite running variable, weights and outcomes; some are NaN or infinite."
            )
        if columns.shape[0]:
            columns = columns - columns.mean(axis=0)[None, :]
        codes = None if groups is None else np.asarray(groups)[used]
        extra = None
        if covariates is not None and covariates.shape[1]:
            extra = np.asarray(covariates, dtype=np.float64)[used]
            extra = extra - extra.mean(axis=0)[None, :]
        sides = tuple(
            Side(
                name, x[own], columns[own], omega[own], None if codes is None else codes[own], kernel, residuals,
                None if extra is None else extra[own],
            )
            for name, own in zip(SIDES, (right, ~right), strict=True)
        )  # fmt: skip
        m = columns.shape[1]
        weights = np.ones(1) if m == 1 else np.asarray(cells, dtype=np.float64)
        return cls((sides[0], sides[1]), x, weights, rule, kernel, (columns**2).sum(axis=0), [], [])

    @property
    def n(self) -> int:
        """Units in use."""
        return int(self.x.size)

    @property
    def common(self) -> bool:
        """Whether both sides share their bandwidth."""
        return self.rule.sides == "common"

    def preliminary(self) -> np.ndarray:
        """(2,) bandwidth of the variances."""
        for side in self.sides:
            side.least(self.rule.order + 4)
        rule_of_thumb = preliminary_bandwidth(self.x, self.kernel)
        return self.widen("c", self.cap("c", np.full(2, rule_of_thumb)))

    def settle_covariates(self, c: np.ndarray) -> str:
        """Leave covariates in where few units tell their slopes; says what became of them."""
        if self.sides[0].covariates is None:
            return "none"
        need = _PER_COVARIATE * self.sides[0].covariates.shape[1]
        few = min(side.independent_in(float(h)) for side, h in zip(self.sides, c, strict=True))
        if few >= need:
            return "taken out"
        self.sides = (replace(self.sides[0], covariates=None), replace(self.sides[1], covariates=None))
        return f"left in: a side's window of the variances has {few} independent units, and {need} are asked for"

    def reach_quantile(self) -> np.ndarray:
        """(2,) the .95 quantile of |x| on each side."""
        return np.array([side.reach_quantile(_SHARE_OF_REACH) for side in self.sides])

    def cap(self, name: str, h: np.ndarray) -> np.ndarray:
        """Bandwidths no longer than the largest |x|: of both sides, or of each its own."""
        reach = np.array([side.reach for side in self.sides])
        limit = np.full(2, reach.max()) if self.common else reach
        limit = limit if h.ndim == 1 else limit[:, None]
        over = h > limit
        if over.any():
            self.capped.append(name)
        return np.where(over, np.broadcast_to(limit, h.shape), h)

    def widen(self, name: str, h: np.ndarray) -> np.ndarray:
        """Bandwidths that hold at least s + 4 distinct values of x on each side."""
        need = self.rule.order + 4
        common = self.common and not name.startswith("h_B")
        return self._widened(name, h, lambda side, one: side.held(one) >= need, lambda side: side.least(need), common)

    def workable(self, h: np.ndarray, order: int) -> np.ndarray:
        """Bandwidths whose windows carry the estimate's polynomial."""
        return self._widened(
            "h", h, lambda side, one: side.carries(one, order), lambda side: side.least_for(order), self.common
        )

    def _widened(
        self, name: str, h: np.ndarray, enough: Callable[[Side, float], bool], least: Callable[[Side], float],
        common: bool,
    ) -> np.ndarray:  # fmt: skip
        wide = h.copy()
        for at, side in enumerate(self.sides):
            values, code = np.unique(h[at], return_inverse=True)
            short = ~np.array([enough(side, float(one)) for one in values])[code.reshape(h[at].shape)]
            if not short.any():
                continue
            to = least(side)
            self.widened.append({"bandwidth": name, "side": side.name, "from": float(h[at].min()), "to": to})
            wide[at] = np.where(short, np.maximum(to, h[at]), h[at])
        return np.broadcast_to(wide.max(axis=0), wide.shape).copy() if common else wide

    def stage(
        self, name: str, order: int, nu: int, h_v: np.ndarray, h_b: np.ndarray, rho: float
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """Bandwidth of derivative ``nu`` of a fit of ``order``, with V, B and R (2, M)."""
        v, bias, r = (np.empty((2, self.cells.size)) for _ in range(3))
        gap = order + 1 - nu
        for at, every in enumerate(self.sides):
            side = every.net_of_covariates(float(h_v[at]), order)
            own = side.coefficient(float(h_v[at]), order, nu)
            theta, spread = self._derivative(side, order + 1, np.broadcast_to(h_b[at], (self.cells.size,)))
            v[at] = (2 * nu + 1) * h_v[at] * own.variance
            bias[at] = np.sqrt(2.0 * gap) * own.next_power * theta
            r[at] = 2.0 * gap * own.next_power**2 * spread
        return self.cap(name, self._solved(v, bias, r, rho, order)), v, bias, r

    def _derivative(self, side: Side, power: int, h: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        # A fit of order ``power`` by column at that column's own bandwidth: its last coefficient in raw units.
        theta, spread = np.empty(h.size), np.empty(h.size)
        for value in np.unique(h):
            chosen = np.flatnonzero(h == value)
            found = side.coefficient(float(value), power, power, chosen)
            theta[chosen] = found.value / value**power
            spread[chosen] = found.variance / value ** (2 * power)
        return theta, spread

    def _solved(self, v: np.ndarray, bias: np.ndarray, r: np.ndarray, rho: float, order: int) -> np.ndarray:
        if self.common:
            above, below = v.sum(axis=0)[None, :], ((bias[0] - bias[1]) ** 2 + rho * r.sum(axis=0))[None, :]
        else:
            above, below = v, bias**2 + rho * r
        scale = self.scale / self.n
        if self.rule.kind == "imse":
            above, below, scale = (np.atleast_2d(a) @ self.cells[:, None] for a in (above, below, scale[None, :]))
        reach = max(side.reach for side in self.sides)
        # Curvature below rounding: the bias is zero at every bandwidth, and the cap is the answer.
        flat = below * reach ** (2 * (order + 1)) <= _NOISE * scale
        ratio = above / np.where(flat, 1.0, below)
        h = np.where(flat, np.inf, ratio ** (1.0 / (2 * order + 3)))
        full = np.broadcast_to(h, (2, h.shape[1])).copy()
        return full[:, 0] if self.rule.kind == "imse" else full

    def sizes(self, h: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(2,) units with positive weight, and 1 / sum of squared weights."""
        middle = np.median(h, axis=1) if h.ndim == 2 else h
        pairs = [side.size(float(at), self.rule.order) for side, at in zip(self.sides, middle, strict=True)]
        return np.array([n for n, _ in pairs], dtype=np.int64), np.array([size for _, size in pairs])
