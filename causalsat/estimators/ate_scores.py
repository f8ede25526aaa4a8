"""Which score answers which question: strings stop here, kernels take arrays."""

from typing import Any

from causalsat.estimators.ate_design import Cell
from causalsat.estimators.ate_options import AteOptions


def score(cell: Cell, options: AteOptions, y: Any, d: Any, nuisances: Any, w: Any) -> tuple[Any, Any]:
    """Estimate and influence values (n_t,) of one cell.

    Parameters
    ----------
    cell : Cell
        Adjustment set, method and estimand.
    options : AteOptions
        Form of the ATO and rescaling of the propensities.
    y, d, w : jax.Array (n_t,) float64
        Outcome, treatment, weights with mean one.
    nuisances : tuple of jax.Array or None
        g0, g1, m; None for the difference in means.

    Returns
    -------
    theta, phi : jax.Array
        With estimate - truth close to mean(phi); phi is NaN for ``method="outcome"``.
    """
    import jax.numpy as jnp

    from causalsat.kernels import effect_scores as k

    if nuisances is None:
        return k.difference_in_means(y, d, w)
    g0, g1, m = nuisances
    if cell.method == "ipw":
        return {"ate": k.ipw_ate, "att": k.ipw_att, "ato": k.ipw_ato}[cell.estimand](y, d, m, w)
    if cell.method == "outcome":
        theta = {"ate": k.outcome_ate, "att": k.outcome_att, "ato": k.outcome_ato}[cell.estimand](d, g0, g1, m, w)
        return theta, jnp.full_like(y, jnp.nan)
    if cell.estimand == "ato" and options.form == "orthogonal":
        return k.aipw_ato_orthogonal(y, d, g0, g1, m, w)
    rescaled = None
    if options.normalize == "arm":
        rescaled = k.rescale_arm(d, m, w)
    elif options.normalize == "odds":
        rescaled = k.rescale_odds(d, m, w)
    aipw = {"ate": k.aipw_ate, "att": k.aipw_att, "ato": k.aipw_ato_fitted}[cell.estimand]
    return aipw(y, d, g0, g1, m, w, rescaled=rescaled)
