"""Standard errors, laws and draws of every row of an `image_ate` table, each on the rows that it rests on."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from causalsat.errors import BootstrapBiasWarning, DataError, warn
from causalsat.estimators.ate_design import AteDesign
from causalsat.estimators.ate_fit import CellFit
from causalsat.estimators.ate_options import AteOptions
from causalsat.estimators.ate_rows import Row, derived_estimates, derived_influence
from causalsat.inference.covariance import Covariance, influence_covariance
from causalsat.inference.options import Bootstrap, Sandwich
from causalsat.inference.sampling import Sampling
from causalsat.progress import Progress
from causalsat.study.open import Study

MAX_FAILED = 0.1
LARGE_BIAS = 0.25


@dataclass
class Uncertainty:
    """What is known of every row.

    Attributes
    ----------
    estimate, std_error : ndarray (k,)
        NaN where ``unavailable`` says why.
    covariance : ndarray (k, k)
        Its diagonal is ``std_error`` squared.
    influence : ndarray (n, k)
        Mean over the deals of the folds.
    df, factor, n_clusters : ndarray (k,)
        Law, small-sample factor and clusters (-1: none) of each row.
    unavailable : dict of int to str
        Row to reason.
    kind : str
        Covariance in use, or "bootstrap".
    draws : Draws or None
        Resampled estimates.
    notes : dict
        Facts for ``meta``.
    """

    estimate: np.ndarray
    std_error: np.ndarray
    covariance: np.ndarray
    influence: np.ndarray
    df: np.ndarray
    factor: np.ndarray
    n_clusters: np.ndarray
    unavailable: dict[int, str]
    kind: str
    draws: Any = None
    notes: dict[str, Any] = field(default_factory=dict)


def cluster_codes(study: Study) -> np.ndarray:
    """Cluster (n,) of each row: the cluster column, else the image, else the place, else the row itself."""
    found = study.codes.get("cluster", study.image)
    if found is not None:
        return np.asarray(found)
    if study.lonlat is not None:
        return np.asarray(np.unique(study.lonlat, axis=0, return_inverse=True)[1]).reshape(-1)
    return np.arange(len(study.rows))


def sampling_of(study: Study, rows: np.ndarray | None = None) -> Sampling:
    """What the rows are for the covariance; ``rows`` picks a part of the study."""
    part = np.arange(len(study.rows)) if rows is None else rows

    def codes(values: np.ndarray | None) -> np.ndarray | None:
        return None if values is None else np.unique(values[part], return_inverse=True)[1]

    return Sampling(
        n=len(part),
        cluster=codes(cluster_codes(study)),
        second=codes(study.codes.get("second cluster")),
        lonlat=None if study.lonlat is None else study.lonlat[part],
        time=study.codes["time"][part] if "time" in study.codes else None,
        unit=codes(study.codes.get("unit")),
    )


def sandwich_of(options: AteOptions) -> Sandwich:
    """The covariance asked for; cluster scores beside a bootstrap."""
    if isinstance(options.inference, Sandwich):
        chosen = options.inference
        return chosen if options.small_sample == "auto" else replace(chosen, small_sample=options.small_sample)
    return Sandwich("cluster", small_sample="none")


def quantify(
    design: AteDesign, options: AteOptions, fits: Sequence[CellFit], rows: tuple[Row, ...], progress: Progress
) -> Uncertainty:
    """Combine the deals of the folds, and find the uncertainty of every row.

    Deals are combined by ``theta = median theta_r`` and ``se² = median(se_r² + (theta_r - theta)²)``. A row is
    undefined as soon as one deal cannot estimate it.
    """
    per_deal = [_deal_rows(rows, fit) for fit in fits]
    estimate = np.median([e for e, _ in per_deal], axis=0)
    influence = np.mean([phi for _, phi in per_deal], axis=0)
    reasons = _reasons(rows, fits, options)
    influence[:, list(reasons)] = np.nan
    estimate[list(reasons)] = np.nan
    members = [fits[0].members[row.cell] for row in rows]
    sandwich = sandwich_of(options)
    found = row_covariances(influence, members, sandwich, design.study, several=len(design.arms) > 1)
    found.unavailable.update({i: r for i, r in reasons.items() if r})
    found.estimate, found.influence = estimate, influence
    if len(fits) > 1:
        deals = [row_covariances(p, members, sandwich, design.study, several=True).std_error for _, p in per_deal]
        spread = [se**2 + (e - estimate) ** 2 for se, (e, _) in zip(deals, per_deal, strict=True)]
        found.std_error = np.where(np.isfinite(found.std_error), np.sqrt(np.median(spread, axis=0)), np.nan)
        found.covariance = rescaled(found.covariance, found.std_error)
    if isinstance(options.inference, Bootstrap):
        _resample(design, options, fits, rows, per_deal, found, options.inference, progress)
    _withhold(rows, options, design, found)
    return found


def _deal_rows(rows: Sequence[Row], fit: CellFit) -> tuple[np.ndarray, np.ndarray]:
    with np.errstate(divide="ignore", invalid="ignore"):
        return derived_estimates(rows, fit.theta), derived_influence(rows, fit.theta, fit.influence)


def _reasons(rows: Sequence[Row], fits: Sequence[CellFit], options: AteOptions) -> dict[int, str]:
    """Rows without an estimate in some deal, and comparisons of sets that trim different rows."""
    reasons: dict[int, str] = {}
    for i, row in enumerate(rows):
        cells = [c for c in (row.cell, row.reference) if c >= 0]
        for fit in fits:
            for c in cells:
                if c in fit.unavailable:
                    reasons[i] = fit.unavailable[c]
            if i in reasons or len(cells) < 2 or options.trim is None:
                continue
            if not np.array_equal(fit.members[cells[0]], fit.members[cells[1]]):
                reasons[i] = 'trim keeps different rows for the two sets; compare them untrimmed, or by estimand="ato"'
    return reasons


def row_covariances(
    influence: np.ndarray, members: Sequence[np.ndarray], sandwich: Sandwich, study: Study, *, several: bool
) -> Uncertainty:
    """Covariance of influence columns (n, k), each on its own rows ``members``.

    Standard errors, factors, degrees of freedom and clusters come from the rows that a column rests on; covariances
    between columns on different rows have the correlation of the joint influence matrix. crv1 counts the two arm means
    as parameters. With ``several`` treatments a part that cannot carry a covariance is a reason, not an error.
    """
    n, k = influence.shape
    finite = np.isfinite(influence).all(axis=0)
    empty = np.full(k, np.nan)
    found = Uncertainty(
        empty.copy(), empty.copy(), np.full((k, k), np.nan), influence, np.full(k, np.inf), np.ones(k),
        np.full(k, -1), {}, sandwich.kind,
    )  # fmt: skip
    groups: dict[bytes, list[int]] = {}
    for i in np.flatnonzero(finite).tolist():
        groups.setdefault(members[i].tobytes(), []).append(i)
    for columns in groups.values():
        rows = members[columns[0]]
        part = influence[rows][:, columns] * (len(rows) / n)
        try:
            own = influence_covariance(part, sandwich, sampling_of(study, rows), n_parameters=2)
        except DataError as error:
            if not several:
                raise
            found.unavailable.update(dict.fromkeys(columns, str(error)))
            continue
        _place(found, own, columns)
    if len(groups) > 1:
        used = np.flatnonzero(np.isfinite(found.std_error))
        plain = replace(sandwich, small_sample="none")
        joint = influence_covariance(influence[:, used], plain, sampling_of(study), n_parameters=2)
        found.covariance[np.ix_(used, used)] = rescaled(joint.matrix, found.std_error[used])
    return found


def _place(found: Uncertainty, own: Covariance, columns: list[int]) -> None:
    found.covariance[np.ix_(columns, columns)] = own.matrix
    found.std_error[columns] = own.std_error
    found.df[columns], found.factor[columns] = own.df, own.factor
    found.n_clusters[columns] = -1 if own.n_clusters is None else own.n_clusters
    found.unavailable.update({columns[i]: reason for i, reason in own.unavailable.items()})
    found.kind = own.kind
    found.notes.update(own.notes)
    if own.cutoff_km is not None:
        found.notes["cutoff_km"] = own.cutoff_km


def rescaled(matrix: np.ndarray, std_error: np.ndarray) -> np.ndarray:
    """The same correlations with the variances of ``std_error``."""
    sd = np.sqrt(np.diag(matrix))
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = np.where(sd > 0, std_error / sd, 0.0)
    return np.where(np.isfinite(matrix), matrix, 0.0) * ratio[:, None] * ratio[None, :]


def _resample(
    design: AteDesign,
    options: AteOptions,
    fits: Sequence[CellFit],
    rows: tuple[Row, ...],
    per_deal: Sequence[tuple[np.ndarray, np.ndarray]],
    found: Uncertainty,
    bootstrap: Bootstrap,
    progress: Progress,
) -> None:
    """Draws of every deal under the same weights, combined by the median draw by draw; their standard errors."""
    from causalsat.estimators.ate_bootstrap import ate_draws

    sampling = sampling_of(design.study)
    sampled = [
        ate_draws(design, options, fit, rows, phi, theta, bootstrap, sampling, progress)
        for fit, (theta, phi) in zip(fits, per_deal, strict=True)
    ]
    values = np.median([s.values for s in sampled], axis=0)
    values[:, [i for i, r in found.unavailable.items() if np.isnan(found.estimate[i])]] = np.nan
    failed = {code: max(s.n_failed.get(code, 0) for s in sampled) for s in sampled for code in s.n_failed}
    found.draws, found.kind = replace(sampled[0], values=values, n_failed=failed), "bootstrap"
    found.df, found.factor = np.full(len(rows), np.inf), np.ones(len(rows))
    clusters = sampled[0].n_clusters
    found.n_clusters = np.full(len(rows), -1 if clusters is None else clusters)
    found.covariance, found.std_error = draw_covariance(values)
    share = 1 - np.isfinite(values).mean(axis=0)
    found.unavailable = {i: r for i, r in found.unavailable.items() if np.isnan(found.estimate[i])}
    for i in np.flatnonzero(np.isfinite(found.estimate) & ~(share <= MAX_FAILED)).tolist():
        found.std_error[i] = np.nan
        found.unavailable[i] = f"{share[i]:.0%} of the bootstrap draws have no estimate of this row; 10% may fail"
    found.covariance = rescaled(found.covariance, found.std_error)
    _judge_bias(rows, found, values)


def _judge_bias(rows: Sequence[Row], found: Uncertainty, values: np.ndarray) -> None:
    """Draws that centre away from the estimate say that resamples are harder to learn from than the data."""
    usable = np.isfinite(found.std_error) & (found.std_error > 0)
    bias = np.zeros(len(rows))
    bias[usable] = (np.nanmean(values[:, usable], axis=0) - found.estimate[usable]) / found.std_error[usable]
    found.notes["bootstrap_bias_in_se"] = [round(float(b), 4) for b in bias]
    worst = float(np.abs(bias[[row.term == "effect" for row in rows]]).max(initial=0.0))
    if worst > LARGE_BIAS:
        warn(
            f"the bootstrap draws centre {worst:.2f} standard errors away from the estimate: a resample holds fewer "
            "distinct rows, so penalised nuisances learn less from it. Basic intervals undo this shift, percentile "
            'intervals double it; AIPW with refit=False (method="aipw", n_boot=...) does not have it.',
            BootstrapBiasWarning,
        )


def draw_covariance(draws: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Pairwise covariance (k, k) of the draws and their standard deviations (k,); NaN with fewer than two draws."""
    seen = np.isfinite(draws)
    count = seen.sum(axis=0)
    mean = np.where(seen, draws, 0.0).sum(axis=0) / np.maximum(count, 1)
    centred = np.where(seen, draws - mean[None, :], 0.0)
    pairs = seen.astype(np.float64).T @ seen
    matrix = np.where(pairs > 1, centred.T @ centred / np.maximum(pairs - 1, 1), np.nan)
    return matrix, np.sqrt(np.diag(matrix))


def _withhold(rows: Sequence[Row], options: AteOptions, design: AteDesign, found: Uncertainty) -> None:
    """NaN with a reason where a number would mislead."""
    refit = isinstance(options.inference, Bootstrap) and options.inference.refit
    effect = {row.cell: i for i, row in enumerate(rows) if row.term == "effect"}
    for i, row in enumerate(rows):
        methods = {design.cells[c].method for c in (row.cell, row.reference) if c >= 0}
        if "outcome" in methods and not refit and np.isfinite(found.estimate[i]):
            found.std_error[i] = np.nan
            found.unavailable[i] = 'method="outcome" has no valid score; use inference=Bootstrap(refit=True)'
        if row.term == "shrinkage" and np.isfinite(found.estimate[i]):
            base = effect[row.reference]
            known = np.isfinite(found.std_error[base])
            if known and not abs(found.estimate[base]) >= 2 * found.std_error[base]:
                found.estimate[i] = found.std_error[i] = np.nan
                found.unavailable[i] = "the reference effect is below two standard errors: a share of it means little"
    found.covariance[~np.isfinite(found.std_error), :] = np.nan
    found.covariance[:, ~np.isfinite(found.std_error)] = np.nan
