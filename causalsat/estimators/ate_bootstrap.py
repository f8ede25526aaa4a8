"""Bootstrap draws of `image_ate`: scores with fixed nuisances, or everything refitted, in each draw."""

from collections.abc import Callable
from typing import Any

import numpy as np

from causalsat.estimators.ate_design import AteDesign
from causalsat.estimators.ate_fit import CellFit, set_features, training_rows
from causalsat.estimators.ate_options import AteOptions
from causalsat.estimators.ate_rows import Row, derived_estimates
from causalsat.estimators.ate_scores import score
from causalsat.estimators.nuisances import NuisanceKernel, nuisance_kernel
from causalsat.inference.options import Bootstrap
from causalsat.inference.sampling import Sampling
from causalsat.inference.seam import Draws, bootstrap_draws, multiplier_draws
from causalsat.progress import Progress


def ate_draws(
    design: AteDesign,
    options: AteOptions,
    fit: CellFit,
    rows: tuple[Row, ...],
    influence: np.ndarray,
    estimate: np.ndarray,
    bootstrap: Bootstrap,
    sampling: Sampling,
    progress: Progress,
) -> Draws:
    """Draws (b, k) of the rows of the table.

    The multiplier and dependent schemes perturb the influence functions; every other scheme reweights rows
    and solves the scores again, with nuisances held (``refit=False``) or cross-fitted again under the weights.
    """
    if bootstrap.scheme in ("multiplier", "dependent"):
        return multiplier_draws(estimate, influence, bootstrap, sampling, seed=options.seed, progress=progress)
    kernels = _refit_kernels(design, options, fit) if bootstrap.refit and not design.supplied else {}
    arrays = _design_arrays(design, fit, kernels)
    one_draw = _one_draw(design, options, fit, rows, kernels)
    strata = design.study.codes.get("strata")
    return bootstrap_draws(
        arrays, bootstrap, sampling, seed=options.seed, fit=one_draw, strata=strata, progress=progress
    )


def _refit_kernels(design: AteDesign, options: AteOptions, fit: CellFit) -> dict[str, NuisanceKernel]:
    """For every treatment and set, cross-fitting as a pure function of the row weights."""
    need = ("g0", "g1", "m") if design.known_propensity is None else ("g0", "g1")
    return {
        f"{t}/{adjust}": nuisance_kernel(
            *set_features(design, options, adjust, design.arms[t]),
            design.y[design.arms[t].rows],
            design.arms[t].d,
            fit.folds[t],
            options=options.nuisance,
            train=training_rows(design, options, design.arms[t], fit.folds[t]),
            need=need,
        )
        for t, adjust in fit.sets
    }


def _design_arrays(design: AteDesign, fit: CellFit, kernels: dict[str, NuisanceKernel]) -> dict[str, Any]:
    """Everything a draw needs as one tree of arrays; strings stay outside compiled code."""
    sets: dict[str, Any] = {}
    for (t, adjust), found in fit.sets.items():
        key, nuisances = f"{t}/{adjust}", found.nuisances
        sets[key] = {
            "keep": found.keep.astype(np.float64),
            "bound": np.float64(0.0 if found.trim is None else found.trim),
            "nuisances": np.stack([nuisances.g0, nuisances.g1, nuisances.m]),
            "kernel": kernels[key].design if key in kernels else (),
        }
    arms = {str(t): {"rows": arm.rows, "d": arm.d} for t, arm in enumerate(design.arms) if not arm.reason}
    return {"y": design.y, "weights": design.weights, "arms": arms, "sets": sets}


def _one_draw(
    design: AteDesign,
    options: AteOptions,
    fit: CellFit,
    rows: tuple[Row, ...],
    kernels: dict[str, NuisanceKernel],
) -> Callable[[Any, Any], Any]:
    import jax.numpy as jnp

    def nuisances_of(key: str, tree: Any, w: Any) -> tuple[Any, Any]:
        if key not in kernels:
            return tree["nuisances"], tree["keep"]
        g0, g1, m, status = kernels[key].apply(tree["kernel"], w)
        m = m if design.known_propensity is None else tree["nuisances"][2]
        return jnp.where(status == 0, jnp.stack([g0, g1, m]), jnp.nan), kept(tree, m)

    def kept(tree: Any, m: Any) -> Any:
        """Rows that a refitted propensity keeps under the trimming bound of the estimate, 0 or 1."""
        return ((m >= tree["bound"]) & (m <= 1.0 - tree["bound"])).astype(m.dtype)

    def one_draw(arrays: Any, weights: Any) -> Any:
        w = arrays["weights"] * weights
        arm_weights = {t: w[arm["rows"]] for t, arm in arrays["arms"].items()}
        found = {k: nuisances_of(k, tree, arm_weights[k.split("/")[0]]) for k, tree in arrays["sets"].items()}
        theta = []
        for i, cell in enumerate(design.cells):
            t, key = str(cell.treatment), f"{cell.treatment}/{cell.adjust}"
            if i in fit.unavailable:
                theta.append(jnp.full((), jnp.nan, jnp.float64))
                continue
            arm, own = arrays["arms"][t], arm_weights[t]
            y, d, columns = arrays["y"][arm["rows"]], arm["d"], None
            if key in found:
                columns, keep = tuple(found[key][0]), found[key][1]
                own = own * keep
            theta.append(score(cell, options, y, d, columns, own / jnp.mean(own))[0])
        return derived_estimates(rows, jnp.stack(theta), jnp.stack)

    return one_draw
