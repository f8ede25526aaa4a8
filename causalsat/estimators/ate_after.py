"""Questions asked of a fitted `image_ate`: spatial standard errors, omitted confounders, directions of assignment."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from causalsat.effects.table import EffectTable
from causalsat.errors import OptionError, one_of
from causalsat.estimators.ate_design import Cell
from causalsat.estimators.ate_fit import score_rows
from causalsat.estimators.ate_uncertainty import cluster_codes, sampling_of, sandwich_of
from causalsat.inference import bandwidth as spatial
from causalsat.inference import sensitivity as omitted
from causalsat.inference.sampling import Sampling
from causalsat.public import public

if TYPE_CHECKING:
    from causalsat.estimators.ate_result import AteResult


def bandwidth_sweep(result: "AteResult", cutoffs_km: Sequence[float] | None) -> EffectTable:
    """Every effect row under HC0, cluster and Conley covariances of growing cutoff."""
    table = result.table.where(term="effect")
    sampling = sampling_of(result.design.study)
    if sampling.lonlat is None:
        raise OptionError("bandwidth_sweep needs coordinates: give coords=(longitude, latitude) or a GeoDataFrame.")
    finite = np.flatnonzero(np.isfinite(np.asarray(table["estimate"])))
    cutoffs = None if cutoffs_km is None else np.asarray(cutoffs_km, dtype=np.float64)
    influence = np.asarray(table.influence)[:, finite]
    swept = spatial.bandwidth_sweep(influence, sampling, cutoffs_km=cutoffs)
    pairs = [(entry, j) for j in range(len(finite)) for entry in range(len(swept.kind))]
    index = {name: [table[name][finite[j]] for _, j in pairs] for name in table.index_names}
    index |= {
        "covariance": [swept.kind[e] for e, _ in pairs],
        "cutoff_km": [float(swept.cutoff_km[e]) for e, _ in pairs],
        "kernel": [swept.kernel[e] for e, _ in pairs],
        "lag": [int(swept.lag[e]) for e, _ in pairs],
    }
    reasons = {i: swept.unavailable[p] for i, p in enumerate(pairs) if p in swept.unavailable}
    counts = {"pairs": swept.pairs.tolist(), "mean_neighbours": swept.mean_neighbours.tolist()}
    return EffectTable.build(
        index,
        term=["effect"] * len(pairs),
        estimate=[float(table["estimate"][finite[j]]) for _, j in pairs],
        std_error=[float(swept.std_error[e, j]) for e, j in pairs],
        n_obs=[int(table["n_obs"][finite[j]]) for _, j in pairs],
        level=result.options.level,
        unavailable=reasons,
        meta={"estimator": "image_ate", "assumptions": result.meta["assumptions"], "neighbours": counts},
    )


@public
@dataclass(frozen=True)
class AteSensitivity:
    """How strong omitted confounders would have to be (Chernozhukov, Cinelli, Newey, Sharma and Syrgkanis 2022).

    Attributes
    ----------
    table : EffectTable
        Lower and upper bound of the effect under the stated strength, term "lower" and "upper".
    robustness_value, robustness_value_level : float
        Common share (cf_y = cf_d, rho = 1) at which the bound, and its confidence limit, reach the null.
    benchmarks : dict
        What leaving out the whole image, or all covariates, would amount to: cf_y, cf_d, rho, change.
    text : str
        The same in words.
    """

    table: EffectTable
    robustness_value: float
    robustness_value_level: float
    benchmarks: dict[str, dict[str, float]]
    text: str


def sensitivity(
    result: "AteResult",
    adjust: str,
    treatment: int,
    *,
    estimand: str | None = None,
    cf_y: float = 0.03,
    cf_d: float = 0.03,
    rho: float = 1.0,
    null: float = 0.0,
) -> AteSensitivity:
    """Bounds of the ATE or ATT under omitted variables, in the deal of the folds with the median estimate.

    Parameters
    ----------
    result : AteResult
        The fit.
    adjust : str
        Adjustment set to defend.
    treatment : int
        Position of the treatment.
    estimand : str, optional
        "ate" or "att"; None takes the first one fitted.
    cf_y : float
        Share of the residual outcome variation that the omitted variables explain.
    cf_d : float
        Share of the variation of the Riesz representer that they add.
    rho : float
        Degree of adversity in [-1, 1].
    null : float
        Value of the effect to be defended against.

    Returns
    -------
    AteSensitivity
    """
    chosen = one_of("estimand", estimand or result.options.estimands[0], ("ate", "att"))
    long = _elements(result, treatment, adjust, chosen)
    rows = result.design.arms[treatment].rows
    whole = sampling_of(result.design.study)
    sampling = Sampling(
        n=len(rows),
        cluster=None if whole.cluster is None else np.unique(whole.cluster[rows], return_inverse=True)[1],
        second=None if whole.second is None else np.unique(whole.second[rows], return_inverse=True)[1],
        lonlat=None if whole.lonlat is None else whole.lonlat[rows],
        time=None if whole.time is None else whole.time[rows],
    )
    fit = omitted.sensitivity(long, sandwich=sandwich_of(result.options), sampling=sampling, level=result.options.level)
    found = omitted.bounds(fit, cf_y, cf_d, rho)
    value, value_level = omitted.robustness_value(fit, null)
    without = {"image": "tabular", "covariates": "image"} if adjust == "both" else {}
    benchmarks = {
        name: vars(
            omitted.benchmark(long, _elements(result, treatment, rest, chosen), float(result.design.y[rows].var()))
        )
        for name, rest in without.items()
        if (treatment, rest) in result.fits[0].sets
    }
    table = EffectTable.build(
        {"treatment": [result.design.arms[treatment].name] * 2, "adjust": [adjust] * 2, "estimand": [chosen] * 2},
        term=["lower", "upper"],
        estimate=[found.low, found.high],
        std_error=[found.std_error_low, found.std_error_high],
        n_obs=[len(rows)] * 2,
        level=result.options.level,
        meta={
            "estimator": "image_ate sensitivity",
            "assumptions": [f"omitted variables of strength cf_y={cf_y:g}, cf_d={cf_d:g}, rho={rho:g}"],
        },
    )
    return AteSensitivity(table, value, value_level, benchmarks, omitted.in_words(fit, null))


def _elements(result: "AteResult", treatment: int, adjust: str, estimand: str) -> Any:
    arm = result.design.arms[treatment]
    cell = Cell(treatment, adjust, "aipw", estimand)
    scored = []
    for deal in result.fits:
        fit = deal.sets[treatment, adjust]
        if not fit.keep.all():
            raise OptionError("sensitivity describes the untrimmed estimand; call image_ate without trim.")
        scored.append((*score_rows(result.design, result.options, cell, arm, fit), fit.nuisances))
    theta, phi, rows, n = sorted(scored, key=lambda one: one[0])[(len(scored) - 1) // 2]
    build = omitted.ate_elements if estimand == "ate" else omitted.att_elements
    weights = result.design.weights[rows]
    return build(theta, phi, result.design.y[rows], arm.d, n.g0, n.g1, n.m, weights)


def directions(result: "AteResult", first: Sequence[str], second: Sequence[str], adjust: str) -> EffectTable:
    """Canonical correlations between out-of-fold propensity logits of two groups of treatments, on common rows.

    The first correlation is biased up; its mean under permutation of clusters stands in ``meta``.

    Parameters
    ----------
    result : AteResult
        A fit of several treatments.
    first, second : sequence of str
        Treatments of the two groups (one funder's and another's, say).
    adjust : str
        Adjustment set whose propensities are compared.

    Returns
    -------
    EffectTable
        One row per canonical correlation, with a cluster-bootstrap interval (199 draws).
    """
    import jax.numpy as jnp

    from causalsat.inference.options import Bootstrap
    from causalsat.inference.seam import bootstrap_draws
    from causalsat.kernels.canonical import canonical_correlations
    from causalsat.kernels.precision import float64

    names = [arm.name for arm in result.design.arms]
    groups = [[names.index(one_of("treatment", name, names)) for name in group] for group in (first, second)]
    logits, rows = _common_logits(result, groups[0] + groups[1], adjust)
    a, b = logits[:, : len(groups[0])], logits[:, len(groups[0]) :]
    cluster = np.unique(cluster_codes(result.design.study)[rows], return_inverse=True)[1]
    sampling = Sampling(n=len(rows), cluster=cluster)

    def fit(arrays: Any, weights: Any) -> Any:
        return canonical_correlations(arrays[0], arrays[1], weights)

    with float64():
        point = np.asarray(canonical_correlations(jnp.asarray(a), jnp.asarray(b), jnp.ones(len(rows))))
        chance = _permuted(a, b, cluster, result.options.seed)
    draws = bootstrap_draws((a, b), Bootstrap(199, "cluster"), sampling, seed=result.options.seed, fit=fit)
    return EffectTable.build(
        {"direction": list(range(1, len(point) + 1))},
        term=["canonical correlation"] * len(point),
        estimate=point,
        std_error=np.nanstd(draws.values, axis=0, ddof=1),
        n_obs=[len(rows)] * len(point),
        level=result.options.level,
        draws=draws.values,
        interval="percentile",
        meta={
            "estimator": "canonical correlation of assignment",
            "assumptions": ["clusters are independent", "propensities are held as fitted"],
            "mean_under_permutation": chance.tolist(),
        },
    )


def _common_logits(result: "AteResult", treatments: Sequence[int], adjust: str) -> tuple[np.ndarray, np.ndarray]:
    arms = [result.design.arms[t] for t in treatments]
    rows = arms[0].rows
    for arm in arms[1:]:
        rows = np.intersect1d(rows, arm.rows)
    columns = []
    for t, arm in zip(treatments, arms, strict=True):
        if (t, adjust) not in result.fits[0].sets:
            raise OptionError(f"{arm.name} has no propensity for adjust={adjust!r}.")
        m = result.fits[0].sets[t, adjust].nuisances.m[np.searchsorted(arm.rows, rows)]
        columns.append(np.log(m / (1 - m)))
    return np.stack(columns, axis=1), rows


def _permuted(a: np.ndarray, b: np.ndarray, cluster: np.ndarray, seed: int, n: int = 99) -> np.ndarray:
    """Mean canonical correlations when cluster means of one side are shuffled."""
    import jax.numpy as jnp

    from causalsat.kernels.canonical import canonical_correlations

    rng = np.random.default_rng(seed)
    size = np.bincount(cluster).astype(np.float64)
    left, right = (np.stack([np.bincount(cluster, v) / size for v in m.T], axis=1) for m in (a, b))
    weights = jnp.asarray(size)
    shuffled = (jnp.asarray(right[rng.permutation(len(size))]) for _ in range(n))
    found = [canonical_correlations(jnp.asarray(left), other, weights) for other in shuffled]
    return np.asarray(np.mean(found, axis=0))
