"""Bootstrap draws of `image_ate`: scores with fixed nuisances, or everything refitted, in each draw."""

from collections.abc import Callable
from typing import Any

import numpy as np

from causalsat.estimators.ate_design import AteDesign, AteOptions
from causalsat.estimators.ate_fit import CellFit, known, set_features
from causalsat.estimators.ate_rows import Row, derived_estimates
from causalsat.estimators.ate_scores import score
from causalsat.inference.options import Bootstrap
from causalsat.inference.resampling import Draws, bootstrap_draws, multiplier_draws
from causalsat.inference.sampling import Sampling
from causalsat.progress import Progress


def ate_draws(
    design: AteDesign,
    options: AteOptions,
    fit: CellFit,
    rows: tuple[Row, ...],
    influence: np.ndarray,
    estimate: np.ndarray,
    sampling: Sampling,
    progress: Progress,
) -> Draws:
    """Draws (b, k) of the rows of the table.

    The multiplier and dependent schemes perturb the influence functions; every other scheme reweights rows
    and solves the scores again, with nuisances held (``refit=False``) or cross-fitted again under the weights.
    """
    bootstrap = options.inference
    if bootstrap.scheme in ("multiplier", "dependent"):
        return multiplier_draws(estimate, influence, bootstrap, sampling, seed=options.seed)
    arrays = _design_arrays(design, options, fit, bootstrap)
    one_draw = _one_draw(design, options, fit, rows, bootstrap)
    return bootstrap_draws(arrays, bootstrap, sampling, seed=options.seed, fit=one_draw, progress=progress)


def _design_arrays(design: AteDesign, options: AteOptions, fit: CellFit, bootstrap: Bootstrap) -> dict[str, Any]:
    """Everything a draw needs as one tree of arrays; strings stay outside compiled code."""
    sets: dict[str, Any] = {}
    for (t, adjust), found in fit.sets.items():
        rows = design.arms[t].rows
        tree = {"keep": np.flatnonzero(found.keep)}
        if bootstrap.refit:
            tabular, image = set_features(design, adjust, rows)
            tree["tabular"], tree["image"], tree["known"] = tabular, image, known(design, rows)
        nuisances = found.nuisances
        tree["nuisances"] = np.stack([nuisances.g0, nuisances.g1, nuisances.m])
        sets[f"{t}/{adjust}"] = tree
    arms = {str(t): {"rows": arm.rows, "d": arm.d} for t, arm in enumerate(design.arms) if not arm.reason}
    return {"y": design.y, "weights": design.weights, "arms": arms, "sets": sets}


def _one_draw(
    design: AteDesign, options: AteOptions, fit: CellFit, rows: tuple[Row, ...], bootstrap: Bootstrap
) -> Callable[[Any, Any], Any]:
    import jax.numpy as jnp

    refits = _refitters(design, options, fit) if bootstrap.refit and not design.supplied else {}

    def one_draw(arrays: Any, weights: Any) -> Any:
        nuisances: dict[str, Any] = {}
        for key, tree in arrays["sets"].items():
            arm = arrays["arms"][key.split("/")[0]]
            w = (arrays["weights"] * weights)[arm["rows"]]
            nuisances[key] = refits[key](tree, arrays["y"][arm["rows"]], arm["d"], w) if key in refits else tree["nuisances"]
        theta = []
        for i, cell in enumerate(design.cells):
            if i in fit.unavailable:
                theta.append(jnp.full((), jnp.nan, jnp.float64))
                continue
            arm = arrays["arms"][str(cell.treatment)]
            key = f"{cell.treatment}/{cell.adjust}"
            keep = arrays["sets"][key]["keep"] if key in nuisances else jnp.arange(len(arm["d"]))
            w = (arrays["weights"] * weights)[arm["rows"]][keep]
            columns = tuple(nuisances[key][:, keep]) if key in nuisances else None
            y, d = arrays["y"][arm["rows"]][keep], arm["d"][keep]
            theta.append(score(cell, options, y, d, columns, w / jnp.mean(w))[0])
        return derived_estimates(rows, jnp.stack(theta), jnp.stack)

    return one_draw


def _refitters(design: AteDesign, options: AteOptions, fit: CellFit) -> dict[str, Callable[..., Any]]:
    """For every treatment and set, the cross-fitted nuisances (3, n_t) as a pure function of row weights."""
    import jax.numpy as jnp

    from causalsat.estimators.nuisances import nuisance_kernel

    def refitter(t: int, adjust: str) -> Callable[..., Any]:
        kernel = nuisance_kernel(
            *set_features(design, adjust, design.arms[t].rows),
            fold=fit.folds[t],
            treatment=design.arms[t].d,
            options=options.nuisance,
        )

        def refit(tree: Any, y: Any, d: Any, w: Any) -> Any:
            g0, g1, m, _ = kernel(y, d, w)
            return jnp.stack([g0, g1, m if tree["known"] is None else tree["known"]])

        return refit

    return {f"{t}/{adjust}": refitter(t, adjust) for t, adjust in fit.sets}
