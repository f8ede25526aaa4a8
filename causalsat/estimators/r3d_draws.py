"""Draws of the errors of all limits: one multiplier per cluster for all columns and both sides, or refits."""

from dataclasses import dataclass

import numpy as np

from causalsat.estimators.r3d_contributions import Contributions
from causalsat.inference.options import Bootstrap
from causalsat.inference.resampling import counter_based, run_key
from causalsat.inference.schemes import bucket

# Replicates are numbered below 2^31, so these streams meet none of their keys.
_SECOND, _SCALE, _SETS = 2**31 + 1, 2**31 + 2, 2**31 + 16
_RANK = 1e-6


@dataclass(frozen=True, eq=False)
class Multipliers:
    """Gaussian or other multipliers of g clusters.

    Gaussian draws of columns C come through the triangular factor R of a QR decomposition (diagonal > 0), because Xi C
    and N(0, I) R have the same law; it is unique, and used, when C has full column rank and fewer columns than
    clusters.

    Attributes
    ----------
    jump : np.ndarray
        (g, K) contributions to the jumps; columns that vanish are zero.
    plus : np.ndarray
        (g, K) contributions to the limits from the right.
    treatment : np.ndarray or None
        (g,) contributions to the jump of the treatment.
    law : str
        Law of the multipliers.
    n, seed : int
        Replicates and seed.
    first : int, optional
        Columns of the curve, the first ones; None: all.
    """

    jump: np.ndarray
    plus: np.ndarray
    treatment: np.ndarray | None
    law: str
    n: int
    seed: int
    first: int | None = None

    def jumps(self) -> tuple[np.ndarray, np.ndarray | None]:
        """(B, K) draws of the jumps and (B,) of the treatment's jump."""
        columns, live, lead = self._columns()
        own = columns[:, live]
        factor = self._leading(own, lead)
        out = np.zeros((self.n, columns.shape[1]))
        if factor is None:
            out[:, live] = self._drawn(own, None)
        elif factor.shape[0] == own.shape[1]:
            out[:, live] = self._drawn(factor, None)
        else:
            size = factor.shape[0]
            along, rest = _projected(factor, own[:, :size], own[:, size:])
            drawn = self._drawn(np.hstack([factor, along]), None)
            drawn[:, size:] += self._drawn(rest, _SECOND)
            out[:, live] = drawn
        at = self._curve_columns()
        of_jump = None if self.treatment is None else out[:, at]
        return (out if of_jump is None else np.delete(out, at, axis=1)), of_jump

    def right(self) -> np.ndarray:
        """(B, K) draws of the limits from the right, jointly with ``jumps``.

        Where the jumps came through a factor, the right limits are their projection on the same normals plus a rest:
        independent, or from the multipliers that drew the rest of the jumps.
        """
        columns, live, lead = self._columns()
        own = columns[:, live]
        factor = self._leading(own, lead)
        if factor is None:
            return self._drawn(self.plus, None)
        size = factor.shape[0]
        along, rest = _projected(factor, own[:, :size], self.plus)
        used = np.linalg.norm(rest, axis=0) > _RANK * np.maximum(np.linalg.norm(self.plus, axis=0), 1e-300)
        used |= size < own.shape[1]
        out = self._drawn(along, None)
        if used.any():
            again = self._factor(rest[:, used]) if size == own.shape[1] else None
            out[:, used] += self._drawn(rest[:, used] if again is None else again, _SECOND)
        return out

    def _curve_columns(self) -> int:
        return self.jump.shape[1] if self.first is None else self.first

    def _columns(self) -> tuple[np.ndarray, np.ndarray, int]:
        """Columns of the curve, of the treatment, then the others; which of them vary; how many of those lead."""
        at, columns = self._curve_columns(), self.jump
        if self.treatment is not None:
            columns = np.column_stack([columns[:, :at], self.treatment, columns[:, at:]])
            at += 1
        live = np.any(columns != 0.0, axis=0)
        return columns, live, int(live[:at].sum())

    def _leading(self, own: np.ndarray, lead: int) -> np.ndarray | None:
        """The factor of all columns, else of the ``lead`` first, else None."""
        factor = self._factor(own)
        return self._factor(own[:, :lead]) if factor is None and lead < own.shape[1] else factor

    def _factor(self, columns: np.ndarray) -> np.ndarray | None:
        """The triangular factor where it stands for the columns, else None."""
        g, k = columns.shape
        if self.law != "normal" or g <= k or k == 0:
            return None
        # R'R = C'C holds to rounding however close the columns are, and with it the law; the bound on the pivots keeps
        # R itself, so the draws, insensitive to the order of units.
        scale = np.linalg.norm(columns, axis=0)
        gram = columns.T @ columns / (scale[:, None] * scale[None, :])
        try:
            lower = np.linalg.cholesky(gram)
        except np.linalg.LinAlgError:
            return None
        if (np.diagonal(lower) < _RANK).any():
            return None
        return np.asarray(lower.T * scale[None, :])

    def _drawn(self, scores: np.ndarray, stream: int | None) -> np.ndarray:
        return multiplied(scores, self.law, self.n, self.seed, stream)


def _projected(factor: np.ndarray, own: np.ndarray, others: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Coefficients of other columns on the normals behind ``own`` = Q ``factor``, and what is left of them."""
    from scipy.linalg import solve_triangular

    along = solve_triangular(factor, own.T @ others, trans=1)
    return along, others - own @ solve_triangular(factor, along)


def multiplied(scores: np.ndarray, law: str, n: int, seed: int, stream: int | None = None) -> np.ndarray:
    """(n, K) sums of multipliers times the scores (u, K).

    Replicate b depends on (seed, stream, b) alone: the first draws of a longer run are the draws of a shorter one.
    """
    import jax
    import jax.numpy as jnp

    from causalsat.kernels import r3d_draws, weights
    from causalsat.kernels.precision import float64

    u, k = scores.shape
    if k == 0:
        return np.zeros((n, 0))
    with float64(), counter_based():
        key = run_key(seed) if stream is None else jax.random.fold_in(run_key(seed), stream)
        size = _padded(u)
        padded = jnp.asarray(np.vstack([scores, np.zeros((size - u, k))]))
        real = jnp.asarray((np.arange(size) < u).astype(np.float64))
        sampler = getattr(weights, law)
        parts = [
            np.asarray(r3d_draws.score_bundle(key, jnp.uint32(first), real, padded, sampler=sampler))
            for first in range(0, n, r3d_draws.BUNDLE)
        ]
    return np.concatenate(parts)[:n]


def _padded(u: int) -> int:
    """Rows of a compiled draw: powers of two up to 512, where compiling costs more than drawing, then even steps."""
    return max(64, 1 << (u - 1).bit_length()) if u <= 512 else bucket(u)


def chi_square_factors(df: np.ndarray, n: int, seed: int) -> np.ndarray:
    """(n, 1) or (n, K) factors sqrt(df / chi2_df): what turns normal draws into t draws.

    One uniform per replicate, its own stream, goes through the quantile function of every df, so that columns with
    equal df share the factor and columns with different ones move together.
    """
    import jax
    import jax.numpy as jnp
    from scipy import special

    from causalsat.kernels.precision import float64
    from causalsat.kernels.r3d_draws import BUNDLE, uniform_bundle

    with float64(), counter_based():
        key = jax.random.fold_in(run_key(seed), _SCALE)
        parts = [np.asarray(uniform_bundle(key, jnp.uint32(first))) for first in range(0, n, BUNDLE)]
    levels = np.concatenate(parts)[:n]
    fine = np.where(np.isfinite(df) & (df > 0.0), df, np.nan)
    if np.isnan(fine).all():
        return np.ones((n, 1))
    values, code = np.unique(np.round(fine, 9), return_inverse=True)
    half = 0.5 * values[~np.isnan(values)]
    factors = np.ones((n, values.size))
    factors[:, ~np.isnan(values)] = np.sqrt(half / special.gammaincinv(half[None, :], levels[:, None]))
    return factors if half.size == 1 and not np.isnan(fine).any() else factors[:, code.reshape(-1)]


def seed_of_set(seed: int, number: int) -> int:
    """Seed of one of several sets of units: the run's own for the first, else one keyed by (seed, number).

    The key of the run is folded with the number, and its words make the seed: neighbouring seeds of runs share no
    stream between their sets.

    Examples
    --------
    >>> seed_of_set(7, 0), seed_of_set(0, 1) == seed_of_set(1, 0)
    (7, False)
    """
    if number == 0:
        return seed
    import jax

    from causalsat.kernels.precision import float64

    with float64(), counter_based():
        words = np.asarray(jax.random.key_data(jax.random.fold_in(run_key(seed), _SETS + number))).tolist()
    # 53 bits: every such seed is a whole number in floating point too.
    return int(words[0] & 0x1FFFFF) << 32 | int(words[1])


def law_of(bootstrap: Bootstrap) -> str:
    """Law of the multipliers: normal, or Rademacher for "wild", unless one is named."""
    return bootstrap.law or ("rademacher" if bootstrap.scheme == "wild" else "normal")


def multipliers(
    C: Contributions, live: np.ndarray, moves: bool, bootstrap: Bootstrap, seed: int, first: int | None = None
) -> Multipliers:
    """Multipliers of contributions; columns outside ``live`` (K,), and a treatment that does not move, draw zeros."""
    treatment, jump = C.treatment if moves else None, np.where(live[None, :], C.jump, 0.0)
    return Multipliers(jump, C.plus, treatment, law_of(bootstrap), bootstrap.n, seed, first)
