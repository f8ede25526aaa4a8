"""Resampling weights as a function of (seed, replicate): the same bits for any chunk, prefix or number of threads."""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from causalsat.errors import OptionError, count
from causalsat.inference.options import Bootstrap
from causalsat.inference.sampling import Sampling
from causalsat.inference.schemes import Plan, make_plan
from causalsat.progress import Progress, progress_bar

_SEED_LIMIT = 2**63


def run_key(seed: int) -> Any:
    """The threefry key of a run, whatever generator the user's JAX is set to."""
    import jax

    return jax.random.key(count("seed", seed, maximum=_SEED_LIMIT - 1), impl="threefry2x32")


def request(bootstrap: Bootstrap, plan: Plan, first: int, number: int | None) -> tuple[int, int]:
    """Checked (first, count): all draws of the run by default; enumerated schemes have a fixed number of draws."""
    total = bootstrap.n if plan.n_distinct is None else plan.n_distinct
    first = count("first", first, maximum=2**31)
    number = max(total - first, 0) if number is None else count("count", number, minimum=1)
    if number == 0 or (plan.n_distinct is not None and first + number > plan.n_distinct):
        raise OptionError(f"draws {first} to {first + number} were asked for; the scheme has {total}.")
    return first, number


def tiles(first: int, number: int) -> Iterator[tuple[int, slice]]:
    """First replicate of every tile that a request touches, and the part of the tile that it wants.

    Examples
    --------
    >>> list(tiles(45, 10))
    [(0, slice(45, 50, None)), (50, slice(0, 5, None))]
    """
    from causalsat.kernels.weights import TILE

    for start in range(first - first % TILE, first + number, TILE):
        yield start, slice(max(first - start, 0), min(first + number - start, TILE))


def run_tiles(
    call: Callable[[Any], Any], first: int, number: int, *, progress: Progress = False
) -> tuple[np.ndarray, ...]:
    """Concatenate what ``call(first replicate of the tile)`` returns over the tiles of a request, sliced to it."""
    import jax.numpy as jnp

    parts: list[tuple[np.ndarray, ...]] = []
    bar = progress_bar(number, "bootstrap", progress)
    for start, wanted in tiles(first, number):
        answer = call(jnp.uint32(start))
        answer = answer if isinstance(answer, tuple) else (answer,)
        parts.append(tuple(np.asarray(a)[wanted] for a in answer))
        bar.update(wanted.stop - wanted.start)
    bar.close()
    return tuple(np.concatenate(column) for column in zip(*parts))


def unit_weights(plan: Plan, *, seed: int, first: int, number: int, progress: Progress = False) -> np.ndarray:
    """(number, n_units) float64 weights of a plan's units."""
    from causalsat.kernels.precision import float64
    from causalsat.kernels.replicates import weights_only

    with float64(), counter_based():
        key, arrays = run_key(seed), device_arrays(plan)

        def call(start: Any) -> Any:
            return weights_only(key, start, arrays, sampler=plan.sampler)

        (weights,) = run_tiles(call, first, number, progress=progress)
    return weights[:, : plan.n_units].astype(np.float64)


def device_arrays(plan: Plan) -> tuple[Any, ...]:
    """The plan's arrays on the device, so that tiles do not copy them again."""
    import jax.numpy as jnp

    return tuple(jnp.asarray(a) for a in plan.arrays)


def counter_based() -> Any:
    """Words that depend on (key, position) alone: the property behind prefixes and buckets."""
    import jax

    return jax.threefry_partitionable(True)


def resampling_weights(
    bootstrap: Bootstrap,
    sampling: Sampling,
    *,
    seed: int = 0,
    first: int = 0,
    count: int | None = None,
    strata: np.ndarray | None = None,
) -> np.ndarray:
    """Weights of the rows in each bootstrap draw.

    Replicate b uses the key fold_in(key(seed), b). Counts (iid, cluster, block) and Bayesian weights have mean one;
    multipliers (multiplier, wild, dependent) have mean zero and variance one. Assumes that the units of the scheme
    (rows, clusters, tiles) are independent; the dependent scheme assumes no dependence beyond ``block_km``.

    Parameters
    ----------
    bootstrap : Bootstrap
        Scheme, law and number of draws.
    sampling : Sampling
        What the rows are.
    seed : int
        Non-negative whole number.
    first, count : int
        The draws wanted; any request returns the same rows as a longer one.
    strata : np.ndarray, optional
        (n,) codes within which units are resampled.

    Returns
    -------
    np.ndarray
        (count, n) float64.

    Examples
    --------
    >>> w = resampling_weights(Bootstrap(n=3), Sampling(10), seed=1)
    >>> w.shape, w.sum(axis=1).tolist()
    ((3, 10), [10.0, 10.0, 10.0])
    """
    from causalsat.kernels.precision import float64

    with float64():
        plan = make_plan(bootstrap, sampling, strata)
    first, number = request(bootstrap, plan, first, count)
    weights = unit_weights(plan, seed=seed, first=first, number=number)
    return weights if plan.rows_are_units else weights[:, plan.unit]
