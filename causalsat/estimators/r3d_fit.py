"""Point estimates of `r3d`: limits of average quantile functions on both sides of a cutoff, made monotone."""

import functools
from dataclasses import dataclass
from typing import Any

import numpy as np

from causalsat.errors import DataError, SingularWindowError

KERNELS = ("triangular", "epanechnikov", "uniform")
ESTIMATORS = ("frechet", "pointwise")
_RCOND = 1e-10


@dataclass(frozen=True, eq=False)
class ColumnFit:
    """Local polynomials of K unit-level columns.

    Attributes
    ----------
    h : np.ndarray
        (2,) bandwidths right and left, or (2, K) one pair per column.
    order : int
        Degree of the polynomial.
    limits : np.ndarray
        (2, n) weights s of the limits from the right and from the left, or (2, K, n).
    leverage, weights : np.ndarray
        (n,) or (K, n): diagonal of the hat matrix, omega K(x / h).
    raw : np.ndarray
        (2, K) limits from the right and from the left.
    residuals : np.ndarray
        (n, K), zero outside the window.
    slopes : np.ndarray
        (c, K) slopes of the covariates.
    """

    h: np.ndarray
    order: int
    limits: np.ndarray
    leverage: np.ndarray
    weights: np.ndarray
    raw: np.ndarray
    residuals: np.ndarray
    slopes: np.ndarray

    @property
    def by_column(self) -> bool:
        """Whether every column has its own bandwidth."""
        return self.h.ndim == 2

    @property
    def n_effective(self) -> np.ndarray:
        """(2,) 1 / sum of squared weights, right and left (the median over columns)."""
        size = 1.0 / np.maximum((self.limits**2).sum(axis=-1), np.finfo(float).tiny)
        return np.asarray(size if size.ndim == 1 else np.median(size, axis=1))


@dataclass(frozen=True, eq=False)
class R3dFit:
    """Curves on both sides and their difference.

    Attributes
    ----------
    columns : ColumnFit
        Fit of the M quantile columns, then of k further unit-level columns.
    n_quantiles : int
        M.
    curves : np.ndarray
        (2, M) monotone average quantile functions right and left of the cutoff.
    tau : np.ndarray
        (M,) their difference.
    treatment : ColumnFit or None
        Fit of the treatment (K = 1), fuzzy designs.
    estimator, kernel : str
        How the curves were made.
    """

    columns: ColumnFit
    n_quantiles: int
    curves: np.ndarray
    tau: np.ndarray
    treatment: ColumnFit | None
    estimator: str
    kernel: str

    @property
    def first_stage(self) -> float:
        """Jump of the treatment; 1 in a sharp design."""
        return 1.0 if self.treatment is None else float(self.treatment.raw[0, 0] - self.treatment.raw[1, 0])

    @property
    def effect(self) -> np.ndarray:
        """(M,) jump of the curves per unit jump of the treatment."""
        return self.tau / self.first_stage

    @property
    def extra(self) -> np.ndarray:
        """(2, k) limits of the further columns."""
        return self.columns.raw[:, self.n_quantiles :]


def fit_columns(
    x: np.ndarray,
    right: np.ndarray,
    omega: np.ndarray,
    covariates: np.ndarray,
    columns: np.ndarray,
    h: np.ndarray,
    *,
    kernel: str = "triangular",
    order: int = 2,
) -> ColumnFit:
    """Limits of K columns at the cutoff from both sides.

    Each side has its own polynomial of ``order`` in x; covariates, centred at their kernel-weighted mean, have one
    slope for both sides (Calonico, Cattaneo, Farrell and Titiunik 2019).

    Parameters
    ----------
    x : np.ndarray
        (n,) running variable minus cutoff.
    right : np.ndarray
        (n,) bool, whether a unit counts as right of the cutoff.
    omega : np.ndarray
        (n,) unit weights.
    covariates : np.ndarray
        (n, c).
    columns : np.ndarray
        (n, K) outcomes.
    h : np.ndarray
        (2,) bandwidths right and left, or (2, K).
    kernel : str
        "triangular", "epanechnikov" or "uniform".
    order : int
        Degree.

    Raises
    ------
    SingularWindowError
        A side whose window holds too few distinct values of x.
    """
    import jax.numpy as jnp

    from causalsat.inference.schemes import bucket
    from causalsat.kernels.local_polynomial import Kernel
    from causalsat.kernels.precision import float64

    h = np.asarray(h, dtype=np.float64)
    check_window(x, right, omega, h, kernel, order)
    # Rows of weight zero pad to few sizes, so that subsets of the units share compiled code.
    n, more = len(x), bucket(len(x)) - len(x)
    with float64():
        arrays = [
            jnp.asarray(np.concatenate([a, np.zeros((more, *np.shape(a)[1:]))]), dtype=jnp.float64)
            for a in (x, right, omega, covariates, columns)
        ]
        fit = _program(order, h.ndim == 2)(jnp.int32(Kernel[kernel]), *arrays, jnp.asarray(h))
        limits, leverage, weights, raw, residuals, slopes, rcond = (np.asarray(a) for a in fit)
    limits, leverage, weights, residuals = limits[..., :n], leverage[..., :n], weights[..., :n], residuals[:n]
    worst = rcond.min(axis=0) if h.ndim == 2 else rcond
    for side in (0, 1):
        if not worst[side] > _RCOND:
            raise _singular(x, right, omega, h, side, order, "its columns are collinear up to rounding")
    return ColumnFit(h, order, limits, leverage, weights, raw, residuals, slopes)


def fit_curves(
    design: Any,
    h: np.ndarray,
    *,
    estimator: str = "frechet",
    kernel: str = "triangular",
    order: int = 2,
    h_treatment: np.ndarray | None = None,
    extra: np.ndarray | None = None,
) -> R3dFit:
    """Average quantile functions on both sides of the cutoff.

    "frechet" projects each raw curve on nondecreasing functions in L2 with cell weights (one bandwidth for all
    quantiles); "pointwise" rearranges it (Chernozhukov, Fernandez-Val and Galichon 2010).

    Parameters
    ----------
    design : R3dDesign
        Units as arrays.
    h : np.ndarray
        (2,) bandwidths right and left, or (2, M) for "pointwise".
    estimator, kernel, order
        As in `r3d`.
    h_treatment : np.ndarray, optional
        (2,) bandwidths of the treatment; None takes ``h`` (its median over quantiles).
    extra : np.ndarray, optional
        (n, k) further unit-level columns, fitted with the curve's bandwidth (the median over quantiles).
    """
    h = np.asarray(h, dtype=np.float64)
    m = design.Q.shape[1]
    common = np.median(h, axis=1) if h.ndim == 2 else h
    columns = design.Q if extra is None else np.column_stack([design.Q, extra])
    if h.ndim == 2 and columns.shape[1] > m:
        h = np.column_stack([h, np.repeat(common[:, None], columns.shape[1] - m, axis=1)])
    covariates = np.zeros((design.x.size, 0)) if design.covariates is None else design.covariates
    _refuse_determined(design, covariates, h, kernel, order)
    fit = fit_columns(design.x, design.treated, design.omega, covariates, columns, h, kernel=kernel, order=order)
    curves = monotone(fit.raw[:, :m], design.cells, estimator)
    treatment = None
    if design.treatment is not None:
        own = common if h_treatment is None else np.asarray(h_treatment, dtype=np.float64)
        _refuse_determined(design, covariates, own, kernel, order)
        treatment = fit_columns(
            design.x, design.treated, design.omega, covariates, design.treatment[:, None].astype(np.float64), own,
            kernel=kernel, order=order,
        )  # fmt: skip
        _refuse_no_first_stage(design.treatment[treatment.weights > 0.0], own)
    return R3dFit(fit, m, curves, curves[0] - curves[1], treatment, estimator, kernel)


def monotone(raw: np.ndarray, cells: np.ndarray, estimator: str) -> np.ndarray:
    """(..., M) curves projected ("frechet") or rearranged ("pointwise") with cell weights (M,)."""
    import jax.numpy as jnp

    from causalsat.kernels.precision import float64

    raw = np.asarray(raw, dtype=np.float64)
    with float64():
        flat = _monotone(estimator)(jnp.asarray(raw.reshape(-1, raw.shape[-1])), jnp.asarray(cells))
        return np.asarray(flat).reshape(raw.shape)


def check_window(x: np.ndarray, right: np.ndarray, omega: np.ndarray, h: np.ndarray, kernel: str, order: int) -> None:
    """Raise SingularWindowError where a side of a window holds too few distinct values of x."""
    for side in (0, 1):
        own = right if side == 0 else ~right
        narrow = float(np.min(h[side]))
        size = np.abs(x[own & (omega > 0.0)])
        inside = size <= narrow if kernel == "uniform" else size < narrow
        if np.unique(size[inside]).size <= order + 1:
            raise _singular(x, right, omega, h, side, order, f"it holds {np.unique(size[inside]).size} distinct values")


def _refuse_determined(design: Any, covariates: np.ndarray, h: np.ndarray, kernel: str, order: int) -> None:
    """Raise DataError where a window leaves a covariate nothing that the polynomials and other covariates lack."""
    if not covariates.shape[1]:
        return
    from causalsat.inference.independent import independent_columns

    right = np.asarray(design.treated, dtype=bool)
    for pair in np.unique(h.T, axis=0) if h.ndim == 2 else h[None, :]:
        u = np.abs(design.x) / np.where(right, pair[0], pair[1])
        inside = (u <= 1.0 if kernel == "uniform" else u < 1.0) & (design.omega > 0.0)
        powers = u[inside, None] ** np.arange(order + 1)[None, :]
        own = right[inside, None]
        columns = np.concatenate([powers * own, powers * ~own, covariates[inside]], axis=1)
        lost = independent_columns(columns, np.ones(len(columns))).dropped
        lost = lost[lost >= 2 * (order + 1)] - 2 * (order + 1)
        if lost.size:
            names = ", ".join(str(design.covariate_names[j]) for j in lost.tolist())
            raise DataError(
                f"covariates {names} are constant inside the window (bandwidths {pair[1]:.6g} left and {pair[0]:.6g} "
                f"right), or determined there by the polynomials of order {order} and the other covariates: no slope "
                "can be had. Leave them out, or widen the bandwidth."
            )


def _refuse_no_first_stage(treatment: np.ndarray, h: np.ndarray) -> None:
    """Raise DataError where the treatment is one number in its window."""
    if treatment.size and bool((treatment == treatment[0]).all()):
        raise DataError(
            f"the treatment is {treatment[0]:g} for all {treatment.size} units of its window (bandwidths {h[1]:.6g} "
            f"left and {h[0]:.6g} right): there is no first stage, so no effect per unit of treatment. Leave treatment "
            "out for the effect of crossing the cutoff, or give a wider bandwidth_treatment."
        )


def _singular(
    x: np.ndarray, right: np.ndarray, omega: np.ndarray, h: np.ndarray, side: int, order: int, why: str
) -> SingularWindowError:
    own = np.unique(np.abs(x[(right if side == 0 else ~right) & (omega > 0.0)]))
    need = order + 2
    # Kernels vanish at the edge of their window: the value needed last must lie inside it, after rounding too.
    least = "no bandwidth would do"
    if own.size >= need:
        value = float(own[need - 1]) * (1.0 + 1e-5)
        least = f"the least workable bandwidth is {value:.6g}"
        if value < np.min(h[side]):
            least = "nearly tied values of the running variable count as one, so a wider window is needed"
    return SingularWindowError(
        f"the window {('right', 'left')[side]} of the cutoff (bandwidth {float(np.min(h[side])):.6g}) cannot carry a "
        f"polynomial of order {order}: {why}, {need} are needed; {least}."
    )


@functools.cache
def _program(order: int, by_column: bool) -> Any:
    import jax
    import jax.numpy as jnp

    from causalsat.kernels.local_polynomial import fitted, joint_fit

    def one(code: Any, x: Any, right: Any, omega: Any, covariates: Any, columns: Any, h: Any) -> Any:
        fit = joint_fit(x, right, omega, covariates, h, kernel=code, order=order)
        beta, residuals = fitted(fit, columns)
        raw = jnp.stack([beta[0], beta[order + 1]])
        return fit.limits(order), fit.leverage, fit.weights, raw, residuals, beta[2 * order + 2 :], fit.rcond

    def column(code: Any, x: Any, right: Any, omega: Any, covariates: Any, columns: Any, h: Any) -> Any:
        def single(outcome: Any, pair: Any) -> Any:
            found = one(code, x, right, omega, covariates, outcome[:, None], pair)
            return found[0], found[1], found[2], found[3][:, 0], found[4][:, 0], found[5][:, 0], found[6]

        limits, leverage, weights, raw, residuals, slopes, rcond = jax.vmap(single)(columns.T, h.T)
        return jnp.swapaxes(limits, 0, 1), leverage, weights, raw.T, residuals.T, slopes.T, rcond

    return jax.jit(column if by_column else one)


@functools.cache
def _monotone(estimator: str) -> Any:
    import jax

    from causalsat.kernels.isotonic import isotonic, rearranged

    return jax.jit(jax.vmap(isotonic if estimator == "frechet" else rearranged, in_axes=(0, None)))
