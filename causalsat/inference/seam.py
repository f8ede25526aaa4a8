"""The one place where estimates are made again under other weights: bootstrap draws of any estimator."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from causalsat.errors import BootstrapFailureWarning, DataError, OptionError, warn
from causalsat.inference.moments import Aggregating, ConstantsMoments, MeanMoments, Moments, OlsMoments, OwnError
from causalsat.inference.options import Bootstrap
from causalsat.inference.resampling import (
    counter_based,
    device_arrays,
    request,
    run_key,
    run_tiles,
    tiles,
    unit_weights,
)
from causalsat.inference.sampling import Sampling
from causalsat.inference.schemes import Plan, make_plan
from causalsat.progress import Progress, progress_bar

__all__ = ["Draws", "MeanMoments", "Moments", "OlsMoments", "bootstrap_draws", "multiplier_draws", "status_text"]

WARN_FAILED = 0.01
STATUS_TEXTS = {
    "ok": "the draw succeeded",
    "singular": "columns are collinear under the draw's weights",
    "no_treatment_variation": "the treatment does not vary in the draw",
    "empty_arm": "an arm has no rows with positive weight in the draw",
    "not_converged": "an iterative fit stopped before its tolerance",
    "nonfinite": "an estimate is not a finite number",
    "negative_variance": "a variance estimate is negative",
    "too_few_clusters": "too few clusters are left in the draw",
}


@dataclass(frozen=True)
class Draws:
    """Bootstrap draws of k effects.

    Attributes
    ----------
    values : np.ndarray
        (b, k) float64 in the units of the estimates; NaN where a draw failed.
    status : np.ndarray
        (b,) int32 codes (see :func:`status_text`); 0 is a success.
    n_failed : dict of str to int
        Failed draws by status name.
    scheme, law : str
        How weights were drawn; ``law`` is None for counts.
    refit : bool
        Whether everything was estimated again, or nuisances were held fixed.
    n_clusters : int or None
        Clusters resampled.
    std_error : np.ndarray or None
        (b, k) standard error inside each draw, for studentized intervals.
    first, seed : int
        Number of the first draw, and the seed.
    notes : dict
        Facts for ``meta``: enumeration, kernel of a dependent scheme.
    """

    values: np.ndarray
    status: np.ndarray
    n_failed: dict[str, int]
    scheme: str
    law: str | None = None
    refit: bool = True
    n_clusters: int | None = None
    std_error: np.ndarray | None = None
    first: int = 0
    seed: int = 0
    notes: dict[str, Any] = field(default_factory=dict)

    def __len__(self) -> int:
        return int(self.values.shape[0])


def status_text(code: int) -> str:
    """What a status code means, in words.

    Examples
    --------
    >>> status_text(1)
    "columns are collinear under the draw's weights"
    """
    from causalsat.kernels.replicates import Status

    return STATUS_TEXTS[Status(code).name]


def bootstrap_draws(
    design: Any,
    bootstrap: Bootstrap,
    sampling: Sampling,
    *,
    seed: int,
    fit: Callable[..., Any] | None = None,
    moments: Moments | ConstantsMoments | None = None,
    constants: Any = None,
    first: int = 0,
    count: int | None = None,
    strata: np.ndarray | None = None,
    std_error: bool = False,
    host: bool = False,
    progress: Progress = False,
) -> Draws:
    """Draws of an estimator under resampling weights.

    The bootstrap law of the estimate given the data stands for its sampling law; this holds for smooth functionals
    when the units of the scheme (rows, clusters, tiles) are independent (Efron 1979; Cameron, Gelbach & Miller 2008 on
    clusters; Lahiri 2003 on blocks; Rubin 1981 on Bayesian weights).

    Parameters
    ----------
    design : Any
        What ``fit`` or ``moments`` reads: arrays, or a tree of arrays.
    bootstrap : Bootstrap
        Scheme "iid", "cluster", "block" or "bayes" and the number of draws.
    sampling : Sampling
        What the rows are.
    seed : int
        The same seed gives bit-equal draws for any (first, count) and any number of threads.
    fit : callable, optional
        Pure ``fit(design, weights (n,)) -> (k,)`` or ``((k,), status)``. Pass the same function object again to
        reuse compiled code.
    moments : Moments, optional
        The shortcut for estimators made of sums: contributions are summed per unit first, so that the cost is one
        matrix product and one batched solve per 50 draws.
    constants : Any, optional
        Arrays (or a tree of them) passed on as ``moments.solve(total, constants)``: what stays fixed over draws but
        changes between calls, so that it does not become part of the compiled code.
    first, count : int
        The draws wanted; all of ``bootstrap.n`` by default.
    strata : np.ndarray, optional
        (n,) codes within which units are resampled.
    std_error : bool
        Also compute the draws' own standard errors (``moments`` that state them).
    host : bool
        Call ``fit`` with NumPy arrays outside compiled code (learners that are not JAX).
    progress : bool or callable, optional
        Progress bar.

    Returns
    -------
    Draws
        Failed draws stay as rows of NaN, counted by status; they are neither redrawn nor dropped.

    Raises
    ------
    OptionError
        Neither or both of ``fit`` and ``moments``; a scheme that belongs to :func:`multiplier_draws`.

    Warns
    -----
    BootstrapFailureWarning
        More than 1% of the draws failed.

    Examples
    --------
    >>> import numpy as np
    >>> y = np.arange(20.0)[:, None]
    >>> draws = bootstrap_draws((y, np.ones_like(y)), Bootstrap(n=99), Sampling(20), seed=0, moments=MeanMoments(1))
    >>> draws.values.shape, draws.n_failed
    ((99, 1), {})
    """
    from causalsat.kernels.precision import float64

    if (fit is None) == (moments is None):
        raise OptionError("give either fit=, a pure function of (design, weights), or moments=; not both, not neither.")
    if bootstrap.scheme in ("multiplier", "dependent", "wild"):
        other = "wild_draws" if bootstrap.scheme == "wild" else "multiplier_draws"
        raise OptionError(f'Bootstrap(scheme="{bootstrap.scheme}") perturbs scores, not rows: use {other}.')
    with float64(), counter_based():
        plan = make_plan(bootstrap, sampling, strata)
        first, number = request(bootstrap, plan, first, count)
        errors = None
        if moments is not None:
            values, status, errors = _moment_draws(
                design, plan, moments, constants, seed, first, number, std_error, progress
            )
        elif host:
            values, status = _host_draws(design, plan, fit, seed, first, number, progress)
        else:
            values, status = _fit_draws(design, plan, fit, seed, first, number, progress)
    return _draws(bootstrap, plan, values, status, errors, first, seed)


def _moment_draws(
    design: Any,
    plan: Plan,
    moments: Moments | ConstantsMoments,
    constants: Any,
    seed: int,
    first: int,
    number: int,
    with_error: bool,
    progress: Progress,
) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
    import jax
    import jax.numpy as jnp

    from causalsat.kernels.replicates import moment_tile

    if with_error and not isinstance(moments, OwnError):
        raise OptionError(f"{type(moments).__name__} states no standard error inside a draw (std_error=True).")
    sums = _unit_sums(design, plan, moments)
    columns, key, arrays = jnp.asarray(_padded(sums, plan.padded)), run_key(seed), device_arrays(plan)
    fixed = jax.tree.map(jnp.asarray, constants)
    chosen: dict[str, Any] = {"sampler": plan.sampler, "moments": moments, "with_error": with_error}

    def call(start: Any) -> Any:
        return moment_tile(key, start, arrays, columns, fixed, **chosen)

    values, status, errors = run_tiles(call, first, number, progress=progress)
    return values, status, errors if with_error else None


def _unit_sums(design: Any, plan: Plan, moments: Moments | ConstantsMoments) -> np.ndarray:
    """(u, m) contributions per resampling unit, summed over rows sorted by unit so that the order is fixed."""
    if not plan.rows_are_units and isinstance(moments, Aggregating):
        return moments.aggregated(design, *plan.sorted_rows())
    values = np.asarray(moments.contributions(design), dtype=np.float64)
    if values.ndim != 2 or values.shape[0] not in (plan.unit.size, plan.n_units):
        raise DataError(
            f"contributions have shape {values.shape}; {plan.unit.size} rows or {plan.n_units} units are needed."
        )
    if plan.rows_are_units or values.shape[0] != plan.unit.size:
        return values
    return unit_sums(values, plan)


def unit_sums(values: np.ndarray, plan: Plan) -> np.ndarray:
    """(u, m) sums of the rows of (n, m) within the plan's units."""
    if plan.rows_are_units:
        return values
    order, starts = plan.sorted_rows()
    return np.asarray(np.add.reduceat(values[order], starts, axis=0))


def _padded(values: np.ndarray, padded: int) -> np.ndarray:
    if padded == values.shape[0]:
        return values
    out = np.empty((padded, values.shape[1]))
    out[: values.shape[0]] = values
    out[values.shape[0] :] = 0.0
    return out


def _fit_draws(
    design: Any, plan: Plan, fit: Any, seed: int, first: int, number: int, progress: Progress
) -> tuple[np.ndarray, np.ndarray]:
    import jax
    import jax.numpy as jnp

    from causalsat.kernels.replicates import fit_tile

    tree, unit = jax.tree.map(jnp.asarray, design), jnp.asarray(plan.unit)
    key, arrays = run_key(seed), device_arrays(plan)

    def call(start: Any) -> Any:
        return fit_tile(key, start, arrays, unit, tree, sampler=plan.sampler, fit=fit)

    values, status = run_tiles(call, first, number, progress=progress)
    return values, status


def _host_draws(
    design: Any, plan: Plan, fit: Any, seed: int, first: int, number: int, progress: Progress
) -> tuple[np.ndarray, np.ndarray]:
    from causalsat.kernels.replicates import Status

    rows, codes = [], []
    bar = progress_bar(number, "bootstrap", progress)
    for start, wanted in tiles(first, number):
        block = unit_weights(plan, seed=seed, first=start + wanted.start, number=wanted.stop - wanted.start)
        for weights in block:
            answer = fit(design, weights[plan.unit])
            estimate, status = answer if isinstance(answer, tuple) else (answer, Status.ok)
            estimate = np.atleast_1d(np.asarray(estimate, dtype=np.float64))
            fine = np.isfinite(estimate)
            code = int(Status.nonfinite) if int(status) == Status.ok and not fine.any() else int(status)
            rows.append(np.where(fine & (code == Status.ok), estimate, np.nan))
            codes.append(code)
            bar.update()
    bar.close()
    return np.stack(rows), np.array(codes, dtype=np.int32)


def _draws(
    bootstrap: Bootstrap,
    plan: Plan,
    values: np.ndarray,
    status: np.ndarray,
    errors: np.ndarray | None,
    first: int,
    seed: int,
) -> Draws:
    from causalsat.kernels.replicates import Status

    # An effect without any finite draw has no estimate to fail; a gap in any other column is a failed draw.
    in_use = np.isfinite(values).any(axis=0)
    gap = ~np.isfinite(values[:, in_use]).all(axis=1)
    status = np.where((status == Status.ok) & gap, int(Status.nonfinite), status).astype(np.int32)
    n_failed = {Status(c).name: int((status == c).sum()) for c in np.unique(status) if c != Status.ok}
    failed = sum(n_failed.values())
    if failed > WARN_FAILED * status.size:
        reasons = "; ".join(f"{n} {name}: {STATUS_TEXTS[name]}" for name, n in n_failed.items())
        warn(
            f"{failed} of {status.size} bootstrap draws failed ({reasons}). They stay as missing draws; intervals are "
            'withheld above 10%. Try Bootstrap(scheme="bayes"), or fewer covariates.',
            BootstrapFailureWarning,
        )
    notes = dict(plan.notes)
    if plan.n_distinct is not None:
        notes["enumerated"] = plan.n_distinct
    refit = bootstrap.refit and plan.law is None
    return Draws(
        values, status, n_failed, plan.scheme, plan.law, refit, plan.n_clusters, errors, first, int(seed), notes
    )


def multiplier_draws(
    estimate: np.ndarray,
    influence: np.ndarray,
    bootstrap: Bootstrap,
    sampling: Sampling,
    *,
    seed: int,
    first: int = 0,
    count: int | None = None,
    progress: Progress = False,
) -> Draws:
    """One-step draws theta*_b = theta + (1/n) sum_c xi_cb S_c, with S_c the sums of influence values by unit.

    Nuisances are held fixed, which is valid to first order for orthogonal scores (Belloni, Chernozhukov & Kato 2015;
    Chernozhukov et al. 2018). Given the data the variance of a draw is exactly the
    cluster variance without a small-sample factor; for scheme "dependent" it is Conley's with the same kernel.

    Parameters
    ----------
    estimate : np.ndarray
        (k,) float64.
    influence : np.ndarray
        (n, k) float64, estimate - truth ~ mean(influence). A column of NaN gives NaN draws of that effect.
    bootstrap : Bootstrap
        Scheme "multiplier" (or "wild", the same weights with its default law) or "dependent".
    sampling : Sampling
        Clusters, places and periods of the rows.
    seed, first, count
        As in :func:`bootstrap_draws`.

    Returns
    -------
    Draws
        ``refit`` is False. Fewer than 12 clusters with law "rademacher": all 2^G draws, whatever ``bootstrap.n``.

    Examples
    --------
    >>> import numpy as np
    >>> phi = np.array([[1.0], [-1.0], [2.0], [-2.0]])
    >>> boot = Bootstrap(scheme="multiplier", law="rademacher")
    >>> multiplier_draws(np.zeros(1), phi, boot, Sampling(4), seed=0).values.shape
    (16, 1)
    """
    import jax.numpy as jnp

    from causalsat.kernels.precision import float64
    from causalsat.kernels.replicates import score_tile

    if bootstrap.scheme not in ("multiplier", "dependent", "wild"):
        raise OptionError(f'Bootstrap(scheme="{bootstrap.scheme}") resamples rows: use bootstrap_draws.')
    theta = np.asarray(estimate, dtype=np.float64).reshape(-1)
    phi = np.asarray(influence, dtype=np.float64)
    if phi.shape != (sampling.n, theta.size):
        raise DataError(f"influence has shape {phi.shape}; ({sampling.n}, {theta.size}) is needed.")
    with float64(), counter_based():
        plan = make_plan(bootstrap, sampling)
        first, number = request(bootstrap, plan, first, count)
        scores = jnp.asarray(_padded(unit_sums(phi, plan) / sampling.n, plan.padded))
        key, arrays = run_key(seed), device_arrays(plan)

        def call(start: Any) -> Any:
            return score_tile(key, start, arrays, scores, sampler=plan.sampler)

        (shifts,) = run_tiles(call, first, number, progress=progress)
    values = theta[None, :] + shifts
    return _draws(bootstrap, plan, values, np.zeros(number, dtype=np.int32), None, first, seed)
