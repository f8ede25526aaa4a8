"""Estimators that depend on the data through sums, in the form that makes a bootstrap one matrix product."""

import functools
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np

from causalsat.errors import DataError


@runtime_checkable
class Moments(Protocol):
    """An estimator of k effects from m sums; instances are hashable (frozen dataclasses) and hold no data."""

    def contributions(self, design: Any) -> Any:
        """(n, m) contribution of every row (or (g, m) of every cluster, in the order of sorted labels)."""
        ...

    def solve(self, moments: Any) -> tuple[Any, Any]:
        """Estimates (k,) and status from weighted totals (m,); pure JAX."""
        ...


class ConstantsMoments(Protocol):
    """Moments whose solution also reads arrays that are fixed over draws (``bootstrap_draws(constants=...)``)."""

    def contributions(self, design: Any) -> Any:
        """As for :class:`Moments`."""
        ...

    def solve(self, moments: Any, constants: Any) -> tuple[Any, Any]:
        """Estimates (k,) and status from weighted totals (m,) and the constants; pure JAX."""
        ...


@runtime_checkable
class OwnError(Protocol):
    """Moments that can state a standard error inside each draw, for studentized intervals."""

    def own_error(self, weights: Any, contributions: Any, total: Any, estimates: Any) -> Any:
        """(k,) standard errors; a unit drawn w times counts as w units: sum of w S^2, not of (w S)^2."""
        ...


@runtime_checkable
class Aggregating(Protocol):
    """Moments with a cheaper way to sum contributions within units than summing rows of ``contributions``."""

    def aggregated(self, design: Any, order: np.ndarray, starts: np.ndarray) -> np.ndarray:
        """(u, m) sums over the rows ``order[starts[u]:starts[u + 1]]``."""
        ...


@dataclass(frozen=True)
class MeanMoments:
    """Weighted means and ratios: estimate_j = sum(w psi_j) / sum(w den_j).

    The design is ``(psi, den)`` with psi (n, k) and den (n, k) or (n, 1), float64. Weighted means have psi = omega y,
    den = omega; a difference of arm means is a contrast of two ratios. A draw whose denominators are all zero has
    status ``empty_arm``.

    Attributes
    ----------
    k : int
        Number of effects.

    Examples
    --------
    >>> import numpy as np
    >>> MeanMoments(1).contributions((np.ones((3, 1)), np.ones((3, 1)))).shape
    (3, 2)
    """

    k: int = 1

    def contributions(self, design: Any) -> np.ndarray:
        """(n, 2k): psi and den side by side."""
        psi, den = (np.asarray(a, dtype=np.float64) for a in design)
        if psi.ndim != 2 or psi.shape[1] != self.k:
            raise DataError(f"psi has shape {psi.shape}; (n, {self.k}) is needed.")
        return np.hstack([psi, np.broadcast_to(den, psi.shape)])

    def solve(self, moments: Any) -> tuple[Any, Any]:
        """Ratios of the totals."""
        import jax.numpy as jnp

        from causalsat.kernels.replicates import Status

        top, bottom = moments[: self.k], moments[self.k :]
        usable = bottom != 0.0
        status = jnp.where(jnp.any(usable), int(Status.ok), int(Status.empty_arm))
        return jnp.where(usable, top / jnp.where(usable, bottom, 1.0), jnp.nan), status

    def own_error(self, weights: Any, contributions: Any, total: Any, estimates: Any) -> Any:
        """sqrt(sum_c w_c (psi_c - theta den_c)^2) / |sum w den|, without a small-sample factor."""
        import jax.numpy as jnp

        scores = contributions[:, : self.k] - estimates[None, :] * contributions[:, self.k :]
        return jnp.sqrt(jnp.sum(weights[:, None] * scores**2, axis=0)) / jnp.abs(total[self.k :])


@dataclass(frozen=True)
class OlsMoments:
    """Ordinary (or weighted) least squares: beta = (sum w x x')^{-1} sum w x y.

    The design is ``(X, y)`` or ``(X, y, omega)`` with X (n, p), y (n,), omega (n,), float64. The m sums are the upper
    triangle of the Gram by rows, then the cross moment. A draw with collinear columns has status ``singular``.

    Attributes
    ----------
    p : int
        Columns of X.
    keep : tuple of int
        Positions of the coefficients to return; empty means all.

    Examples
    --------
    >>> import numpy as np
    >>> OlsMoments(2).contributions((np.ones((3, 2)), np.ones(3))).tolist()[0]
    [1.0, 1.0, 1.0, 1.0, 1.0]
    """

    p: int
    keep: tuple[int, ...] = ()

    def contributions(self, design: Any) -> np.ndarray:
        """(n, p(p + 1)/2 + p)."""
        columns, y = self._columns(design)
        rows, cols = _upper(self.p)
        return np.column_stack([columns[i] * columns[j] for i, j in zip(rows, cols)] + [c * y for c in columns])

    def aggregated(self, design: Any, order: np.ndarray, starts: np.ndarray) -> np.ndarray:
        """Sums within units, one product column at a time: memory stays (n,) instead of (n, m)."""
        columns, y = self._columns(design, order)
        rows, cols = _upper(self.p)
        pairs = [(columns[i], columns[j]) for i, j in zip(rows, cols)] + [(c, y) for c in columns]
        total = np.empty((starts.size, len(pairs)))
        product = np.empty(y.size)
        for m, (a, b) in enumerate(pairs):
            np.multiply(a, b, out=product)
            total[:, m] = np.add.reduceat(product, starts)
        return total

    def _columns(self, design: Any, order: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
        """(p, n) columns, each contiguous, and y, in the order asked for and scaled by root weights."""
        X, y = np.asarray(design[0], dtype=np.float64), np.asarray(design[1], dtype=np.float64)
        if X.ndim != 2 or X.shape[1] != self.p or y.shape != (X.shape[0],):
            raise DataError(f"X has shape {X.shape} and y {y.shape}; (n, {self.p}) and (n,) are needed.")
        if len(design) > 2:
            root = np.sqrt(np.asarray(design[2], dtype=np.float64))
            X, y = X * root[:, None], y * root
        if order is not None:
            X, y = X[order], y[order]
        return np.ascontiguousarray(X.T), y

    def solve(self, moments: Any) -> tuple[Any, Any]:
        """Coefficients of the weighted normal equations."""
        from causalsat.kernels.replicates import solve_gram

        gram, cross = self._unpack(moments)
        beta, status = solve_gram(gram, cross)
        return (beta[np.array(self.keep)] if self.keep else beta), status

    def own_error(self, weights: Any, contributions: Any, total: Any, estimates: Any) -> Any:
        """Cluster sandwich of the draw without a small-sample factor: sum_c w_c (e_j' G^{-1}(b_c - G_c beta))^2."""
        import jax.numpy as jnp

        gram, cross = self._unpack(total)
        # A draw whose solution failed has NaN estimates; its error must be NaN too, whatever the solver returns.
        inverse = jnp.linalg.inv(gram)
        beta = inverse @ cross
        grams, crosses = self._unpack(contributions)
        scores = crosses - jnp.sum(grams * beta[None, None, :], axis=2)
        moved = scores @ inverse
        moved = moved[:, np.array(self.keep)] if self.keep else moved
        error = jnp.sqrt(jnp.sum(weights[:, None] * moved**2, axis=0))
        return jnp.where(jnp.isfinite(estimates), error, jnp.nan)

    def _unpack(self, moments: Any) -> tuple[Any, Any]:
        return moments[..., _square(self.p)], moments[..., self.p * (self.p + 1) // 2 :]


@functools.cache
def _upper(p: int) -> tuple[np.ndarray, np.ndarray]:
    rows, cols = np.triu_indices(p)
    return rows, cols


@functools.cache
def _square(p: int) -> np.ndarray:
    """(p, p) position of each Gram entry in the packed upper triangle."""
    rows, cols = _upper(p)
    square = np.empty((p, p), dtype=np.int32)
    square[rows, cols] = square[cols, rows] = np.arange(rows.size)
    return square
