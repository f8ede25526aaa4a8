"""Bootstrap draws of DRIVE and TSLS from moments: resampled rows, clusters or tiles, or multipliers."""

import functools
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from causalsat.errors import OptionError
from causalsat.estimators.drive_problem import DriveProblem
from causalsat.estimators.drive_spread import with_spread
from causalsat.inference.options import Bootstrap
from causalsat.inference.seam import Draws, bootstrap_draws, multiplier_draws
from causalsat.progress import Progress

Wanted = tuple[int, int | None, Progress]
Reselect = tuple[float, np.ndarray]
WIDEST_REFIT = 64
MOST_BYTES = 2**30
_ROWS = 1024
_WELL_CONDITIONED = 1e-6
_MANY_ROWS_PER_UNIT = 32


@dataclass(frozen=True)
class DriveMoments:
    """DRIVE and TSLS as functions of the weighted Gram matrix of [C Z X y]: 2p estimates per draw.

    The m sums are the upper triangle of the Gram of [C Z] by rows, the cross moments of [C Z] with [X y] by rows, for
    the target "ols" or rescaled columns the upper triangle of the Gram of [X y], and the total weight. A draw whose
    [C Z], or whose projected treatments, are collinear has status ``singular``.

    Attributes
    ----------
    m, q, p : int
        Covariates, instruments and treatments.
    target : str
        "zero" or "ols".
    held : bool
        The metric of the moments is the full sample's (metric="gmm") instead of the draw's (Z'Z/n)^{-1}.
    reselect : bool
        Choose the radius again in each draw.
    rescaled : bool
        Divide outcome and treatments by the draw's own standard deviations before solving (target "zero"); estimates
        are returned on the scale of the columns.
    """

    m: int
    q: int
    p: int
    target: str
    held: bool
    reselect: bool = False
    rescaled: bool = False

    def contributions(self, design: Any) -> np.ndarray:
        """(n, sums); the design is (D (n, m + q + p + 1), omega (n,))."""
        D, omega = design
        fixed, width = self.m + self.q, D.shape[1]
        last = range(fixed, width) if self.target == "ols" or self.rescaled else ()
        spans = [(i, i, fixed) for i in range(fixed)] + [(i, fixed, width) for i in range(fixed)]
        out = np.empty((omega.size, self.pairs()[0].size + 1))
        at = 0
        for i, start, stop in spans + [(i, i, width) for i in last]:
            np.multiply(D[:, i : i + 1], D[:, start:stop], out=out[:, at : at + stop - start])
            at += stop - start
        out[:, -1] = 1.0
        return out if np.all(omega == 1.0) else out * omega[:, None]

    def aggregated(self, design: Any, order: np.ndarray, starts: np.ndarray) -> np.ndarray:
        """(u, sums) over the rows ``order[starts[u]:starts[u + 1]]``: one small Gram matrix per unit."""
        D, omega = design
        flat = bool(np.all(omega == 1.0))
        stops = np.append(starts[1:], order.size)
        rows, cols = self.pairs()
        total = np.empty((starts.size, rows.size + 1))
        if order.size < _MANY_ROWS_PER_UNIT * starts.size:
            columns = np.ascontiguousarray((D[order] * np.sqrt(omega[order])[:, None]).T)
            for at, (i, j) in enumerate(zip(rows, cols)):
                total[:, at] = np.add.reduceat(columns[i] * columns[j], starts)
        else:
            for unit, (start, stop) in enumerate(zip(starts, stops)):
                inside = order[start:stop]
                part = D[inside]
                left = part if flat else part * omega[inside, None]
                total[unit, :-1] = (left.T @ part)[rows, cols]
        total[:, -1] = np.add.reduceat(omega[order], starts)
        return total

    def pairs(self) -> tuple[np.ndarray, np.ndarray]:
        """Columns of D whose products are summed."""
        fixed, width = self.m + self.q, self.m + self.q + self.p + 1
        rows, cols = np.triu_indices(fixed)
        across = np.meshgrid(np.arange(fixed), np.arange(fixed, width), indexing="ij")
        parts = [(rows, cols), (across[0].ravel(), across[1].ravel())]
        if self.target == "ols" or self.rescaled:
            last = np.triu_indices(self.p + 1)
            parts.append((last[0] + fixed, last[1] + fixed))
        return np.concatenate([r for r, _ in parts]), np.concatenate([c for _, c in parts])

    def solve(self, moments: Any, constants: Any) -> tuple[Any, Any]:
        """(2p,) DRIVE then TSLS from the totals.

        ``constants`` are (rho, centre (q,), cap, bias (p, p)): the centre is taken off Z'y/n; with ``reselect`` the
        radius is cap times the smallest eigenvalue of A less its bias, or zero.
        """
        import jax.numpy as jnp

        from causalsat.kernels.drive_root import SINGULAR, drive_root, ols_root, reduced
        from causalsat.kernels.replicates import Status

        rho, centre, cap, bias = constants
        p, just = self.p, self.q == self.p
        B, w, outer, spread, fine = self._moments(moments, centre)
        unit = spread[p] / spread[:p]
        B, w = B / spread[None, :p], w / spread[p]
        red = reduced(B, w, just)
        if self.reselect:
            rho = cap * jnp.maximum(jnp.linalg.eigvalsh(B.T @ B - bias)[0], 0.0)
        if self.target == "ols":
            root = ols_root(B, w, outer[:p, :p], outer[:p, p], outer[p, p], rho, just)
        else:
            root = drive_root(red, rho)
        fine &= (root.status != SINGULAR) & (jnp.min(red.a) > 1e-20 * jnp.max(red.a))
        return jnp.concatenate([root.b * unit, red.b_tsls * unit]), jnp.where(
            fine, int(Status.ok), int(Status.singular)
        )

    def _moments(self, total: Any, centre: Any) -> tuple[Any, Any, Any, Any, Any]:
        """B (q, p), w (q,), Gram of [X y] orthogonal to [C Z] (or empty), scales (p + 1,) of [X y], rank of [C Z] full.

        The factor of the Gram of [C Z] holds in its last rows the factor of Z'Z net of C.
        """
        import jax
        import jax.numpy as jnp

        from causalsat.kernels.replicates import full_rank_factor

        m, q, p = self.m, self.q, self.p
        fixed, mean = m + q, total / total[-1]
        square = _square(fixed)
        split = fixed * (fixed + 1) // 2
        gram = mean[square]
        across = mean[split : split + fixed * (p + 1)].reshape(fixed, p + 1)
        lower, scale, fine = full_rank_factor(gram)
        shift = jnp.concatenate([jnp.zeros(m, jnp.float64), centre])
        sides = jnp.concatenate([across, shift[:, None]], axis=1) / scale[:, None]
        half = jax.scipy.linalg.solve_triangular(lower, sides, lower=True)
        inside, moved = half[m:, : p + 1], half[m:, p + 1]
        outer, spread = jnp.zeros((0, 0), jnp.float64), jnp.ones(p + 1, jnp.float64)
        start = split + fixed * (p + 1)
        if self.target == "ols":
            outer = mean[start : start + (p + 1) * (p + 2) // 2][_square(p + 1)] - half[:, : p + 1].T @ half[:, : p + 1]
        elif self.rescaled:
            raw = mean[start : start + (p + 1) * (p + 2) // 2][jnp.diagonal(_square(p + 1))]
            spread = jnp.sqrt(raw - jnp.sum(half[:m, : p + 1] ** 2, axis=0))
        if self.held:
            turn = lower[m:, m:] * scale[m:, None]
            inside, moved = turn @ inside, turn @ moved
        return inside[:, :p], inside[:, p] - moved, outer, spread, fine


def recentred_draws(
    problem: DriveProblem,
    rho: float,
    bootstrap: Bootstrap,
    *,
    seed: int,
    first: int = 0,
    count: int | None = None,
    reselect: Reselect | None = None,
    progress: Progress = False,
) -> Draws:
    """Draws of DRIVE and TSLS whose moments are recentred at the TSLS estimate (Hall and Horowitz 1996).

    From each resample's Z'y/n the full sample's Z'e/n, e the TSLS residuals, is taken off, so that the moment
    condition holds exactly in the bootstrap world. Valid for strong instruments and a radius below the threshold, when
    the units of the scheme are independent. The radius and the scale of the columns are those of the full sample.

    What is held in the draws (controls with ``refit=False`` or in designs too wide, absorbed effects, images, and all
    of it with "multiplier") leaves residuals that are too small, multipliers and Bayesian weights of few clusters
    spread too little: the shifts are then multiplied as in :func:`~causalsat.estimators.drive_spread.with_spread`,
    which ``notes`` tell. The tails of few clusters are left to :func:`~causalsat.estimators.drive_spread.tail_factors`.

    Parameters
    ----------
    problem : DriveProblem
        The fitted problem. ``problem.rows.controls`` are partialled out again in each draw unless
        ``bootstrap.refit`` is False or the columns of [C Z X y] are more than 64.
    rho : float
        Squared radius.
    bootstrap : Bootstrap
        "iid", "cluster", "block" or "bayes" resample; "multiplier" perturbs only Z'e/n and keeps everything else.
        With metric="gmm" the weight matrix W is held at its full-sample value in every draw.
    seed : int
        The same seed gives the same bits for any number of draws before or after.
    first, count : int
        The draws wanted; all of ``bootstrap.n`` by default.
    reselect : tuple of float and np.ndarray, optional
        (cap, bias (p, p)): in each draw the radius is cap times the smallest eigenvalue of the draw's A less ``bias``
        (its many-instruments bias in the full sample, held), or zero. Not for "multiplier", which keeps A.
    progress : bool or callable, optional
        Progress bar.

    Returns
    -------
    Draws
        (b, 2p) on the solver's scale: DRIVE, then TSLS. Failed draws are rows of NaN, counted by status; ``refit`` is
        False where what was partialled out was held; ``notes`` have "held_factor" and "flags" where shifts were scaled.

    Raises
    ------
    OptionError
        ``reselect`` with the target "ols", whose threshold is another one.
    """
    if reselect is not None and problem.shrink_to == "ols":
        raise OptionError('reselect chooses the radius of shrink_to="zero" again; give it a fixed radius instead.')
    return _draws(problem, rho, bootstrap, seed, (first, count, progress), recentre=True, reselect=reselect)


def plain_draws(
    problem: DriveProblem,
    rho: float,
    bootstrap: Bootstrap,
    *,
    seed: int,
    first: int = 0,
    count: int | None = None,
    progress: Progress = False,
) -> Draws:
    """Draws as in :func:`recentred_draws` without recentring: for the pseudo-true value above the threshold.

    There the estimator is a smooth M-estimator, for which the plain basic bootstrap is valid. On unit scale each draw
    is scaled by its own standard deviations, on which a pseudo-true value depends at first order. Shifts, here from the
    estimates themselves, are scaled as in :func:`recentred_draws`. Not for "multiplier", which holds A: the strength of
    the instruments moves a pseudo-true value as much as the noise of the outcome does, or alone.
    """
    return _draws(problem, rho, bootstrap, seed, (first, count, progress), recentre=False)


def _draws(
    problem: DriveProblem,
    rho: float,
    bootstrap: Bootstrap,
    seed: int,
    wanted: Wanted,
    *,
    recentre: bool,
    reselect: Reselect | None = None,
) -> Draws:
    rows = problem.rows
    turned = rows.Z @ problem.root.T
    scores = (rows.weights * rows.residuals(problem.b_tsls))[:, None] * turned
    centre = scores.mean(axis=0)
    if bootstrap.scheme == "multiplier":
        found = _multiplier_draws(problem, rho, bootstrap, seed, wanted, scores - centre, recentre)
        return with_spread(found, problem, rho, 0, recentre=recentre)
    m = rows.controls.shape[1]
    refit = bootstrap.refit and m > 0 and m + rows.q + rows.p + 1 <= WIDEST_REFIT
    controls = _orthonormal(rows.controls, rows.weights) if refit else rows.controls[:, :0]
    columns = np.column_stack([controls, turned, rows.X, rows.y])
    held = problem.metric == "gmm"
    unit = problem.sd_y != 1.0 or bool(np.any(problem.sd_x != 1.0))
    # Near the effect the scales act at second order and are held; a pseudo-true value depends on them at first order.
    rescaled = unit and not recentre and problem.shrink_to == "zero"
    moments = DriveMoments(controls.shape[1], rows.q, rows.p, problem.shrink_to, held, reselect is not None, rescaled)
    cap, bias = (0.0, np.zeros((rows.p, rows.p))) if reselect is None else reselect
    constants = (np.float64(rho), centre if recentre else np.zeros_like(centre), np.float64(cap), bias)
    first, count, progress = wanted
    how: dict[str, Any] = {"moments": moments, "constants": constants}
    design: Any = (columns, rows.weights)
    each_row = bootstrap.scheme == "iid" or (bootstrap.scheme == "bayes" and rows.sampling.cluster is None)
    if each_row and rows.n * moments.pairs()[0].size * 8 > MOST_BYTES:
        design, how = (columns, rows.weights, constants), {"fit": _gram_fit(moments)}
    found = bootstrap_draws(
        design, bootstrap, rows.sampling, seed=seed, first=first, count=count, progress=progress, **how
    )
    found = replace(found, refit=found.refit and (refit or m == 0))
    return with_spread(found, problem, rho, controls.shape[1], recentre=recentre)


@functools.cache
def _gram_fit(moments: DriveMoments) -> Callable[..., Any]:
    """The same estimates from one Gram matrix per draw, when products of all columns by row would fill the memory."""
    import jax
    import jax.numpy as jnp

    rows, cols = moments.pairs()

    def fit(design: Any, weights: Any) -> Any:
        D, omega, constants = design
        w = weights * omega
        whole = D.shape[0] // _ROWS

        def add(block: Any, gram: Any) -> Any:
            part = jax.lax.dynamic_slice_in_dim(D, block * _ROWS, _ROWS)
            return gram + (part * jax.lax.dynamic_slice_in_dim(w, block * _ROWS, _ROWS)[:, None]).T @ part

        rest = D[whole * _ROWS :]
        gram = (rest * w[whole * _ROWS :][:, None]).T @ rest
        gram = jax.lax.fori_loop(0, whole, add, gram)
        return moments.solve(jnp.append(gram[rows, cols], jnp.sum(w)), constants)

    return fit


def _orthonormal(columns: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """(n, m) columns with the same span and weighted second moments equal to the identity.

    Only the conditioning of the sums depends on it: a Cholesky factor will do unless the columns are nearly collinear.
    """
    weighted = columns if np.all(weights == 1.0) else columns * np.sqrt(weights)[:, None]
    gram = weighted.T @ weighted
    size = np.sqrt(np.diag(gram))
    if np.linalg.eigvalsh(gram / np.outer(size, size))[0] > _WELL_CONDITIONED:
        triangular = np.linalg.cholesky(gram).T
    else:
        triangular = np.linalg.qr(weighted)[1]
    return np.asarray(columns @ np.linalg.inv(triangular) * np.sqrt(columns.shape[0]))


def _multiplier_draws(
    problem: DriveProblem,
    rho: float,
    bootstrap: Bootstrap,
    seed: int,
    wanted: Wanted,
    scores: np.ndarray,
    recentre: bool,
) -> Draws:
    from causalsat.kernels.precision import float64
    from causalsat.kernels.weights import TILE

    moments = problem.rows.moments
    start = problem.B @ problem.b_tsls if recentre else problem.w
    first, count, progress = wanted
    drawn = multiplier_draws(
        start, scores, bootstrap, problem.rows.sampling, seed=seed, first=first, count=count, progress=progress
    )
    # One shape whatever the number of draws: a single compilation, and the same bits in any chunk.
    whole = np.zeros((-(-len(drawn) // TILE) * TILE, problem.rows.q))
    whole[: len(drawn)] = drawn.values
    with float64():
        parts = (moments.XMX, moments.XMy, np.float64(moments.yMy), np.float64(rho))
        solve = _fixed_design(problem.shrink_to, problem.just_identified)
        tiles = [np.asarray(solve(problem.B, tile, *parts)) for tile in whole.reshape(-1, TILE, problem.rows.q)]
    values = np.concatenate(tiles)[: len(drawn)]
    return replace(drawn, values=values)


@functools.cache
def _fixed_design(target: str, just_identified: bool) -> Callable[..., Any]:
    import jax
    import jax.numpy as jnp

    from causalsat.kernels.drive_root import drive_root, ols_root, reduced

    def one(B: Any, w: Any, V: Any, v: Any, u: Any, rho: Any) -> Any:
        red = reduced(B, w, just_identified)
        root = ols_root(B, w, V, v, u, rho, just_identified) if target == "ols" else drive_root(red, rho)
        return jnp.concatenate([root.b, red.b_tsls])

    return jax.jit(jax.vmap(one, in_axes=(None, 0, None, None, None, None)))


@functools.cache
def _square(p: int) -> np.ndarray:
    """(p, p) position of each Gram entry in the packed upper triangle."""
    rows, cols = np.triu_indices(p)
    square = np.empty((p, p), dtype=np.int32)
    square[rows, cols] = square[cols, rows] = np.arange(rows.size)
    return square
