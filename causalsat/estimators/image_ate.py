"""`causalsat.image_ate`: the effect of a treatment when what the image shows moved both."""

import time as clock
from collections.abc import Mapping, Sequence
from typing import Any

from causalsat.errors import collected_warnings
from causalsat.estimators.ate_checks import ate_checks
from causalsat.estimators.ate_design import ate_design, roles_of
from causalsat.estimators.ate_fit import fit_cells
from causalsat.estimators.ate_guards import guard_columns, guard_images
from causalsat.estimators.ate_options import Eligibility, validated_options
from causalsat.estimators.ate_result import AteResult
from causalsat.estimators.ate_table import build_table, finished_meta
from causalsat.inference.options import Bootstrap, Sandwich
from causalsat.progress import Progress
from causalsat.study.exposure import Exposure
from causalsat.study.fold_units import fold_units
from causalsat.study.folds import Folds
from causalsat.study.open import open_study


def image_ate(
    data: Any,
    *,
    outcome: str,
    treatment: str | Sequence[str],
    covariates: str | Sequence[str] | None = None,
    embeddings: Any = None,
    embedding_key: str | None = None,
    weights: str | None = None,
    cluster: str | Sequence[str] | None = None,
    coords: Sequence[str] | None = None,
    unit: str | None = None,
    time: str | None = None,
    treatment_date: str | None = None,
    adjust: str | Sequence[str] = ("none", "tabular", "image", "both"),
    reference: str = "tabular",
    estimand: str | Sequence[str] = "ate",
    method: str | Sequence[str] = "aipw",
    form: str = "fitted",
    normalize: str | bool = False,
    known_propensity: str | float | None = None,
    clip: float = 0.01,
    trim: float | str | None = None,
    nuisances: Mapping[str, str] | None = None,
    base: Any = "ridge",
    base_outcome: Any = None,
    base_treatment: Any = None,
    compress: int | None = None,
    eligibility: Eligibility = Eligibility(),
    exposure: Exposure | None = None,
    allow: str | Sequence[str] = (),
    allow_post_treatment: bool = False,
    penalty_search: str = "screened",
    folds: Folds | None = Folds(n=5),
    inference: Sandwich | Bootstrap | None = None,
    n_boot: int = 0,
    small_sample: str = "auto",
    level: float = 0.95,
    seed: int = 0,
    progress: Progress = None,
) -> AteResult:
    r"""Effect of one or many binary treatments, adjusted for images, covariates, both or neither.

    Estimates the average effect over all rows ("ate"), over the treated ("att") or over the overlap of the two arms
    ("ato"), side by side for four adjustment sets: nothing, tabular covariates X, the image embedding M, and both.

    It rests on consistency, no interference between rows, overlap, imagery that shows the state *before* treatment,
    an embedding that keeps what confounds treatment and outcome, and ignorability given the set: with W the treatment,
    Y(w) the potential outcomes and S the adjustment set, Y(0), Y(1) independent of W given S (Jerzak, Johansson and
    Daoud 2023). With m(S) = P(W = 1 | S) and g_w(S) = E[Y | W = w, S], all cross-fitted, the default is the mean of

    .. math:: g_1 - g_0 + W (Y - g_1) / m - (1 - W)(Y - g_0) / (1 - m)

    (augmented inverse propensity weighting; Robins, Rotnitzky and Zhao 1994; Chernozhukov et al. 2018).

    Parameters
    ----------
    data : frame or path
        Any data frame (pandas, polars, GeoDataFrame, pyarrow, dict of arrays) or a path to CSV, Parquet, GeoParquet
        or GeoPackage; one row per unit of observation, n rows.
    outcome : str
        Numeric column Y; effects are in its unit.
    treatment : str or sequence of str
        Columns of 0 and 1; a missing value makes a row ineligible for that treatment. Many treatments share one table.
    covariates : str or sequence of str, optional
        Columns X measured before treatment; text becomes dummies; missing values are imputed by the mean of the
        training folds, with an indicator.
    embeddings : Embeddings, path or array (n, d), optional
        Image embeddings M; an array is aligned with the rows.
    embedding_key : str, optional
        Column that names each row's image; many rows may share one.
    weights : str, optional
        Sampling weights, non-negative; they are scaled to mean one.
    cluster : str or pair of str, optional
        Level at which treatment was assigned, for standard errors and folds; a pair for ``Sandwich("twoway")``.
        Default: the image, else the place, else the row.
    coords : pair of str, optional
        Longitude and latitude columns, degrees WGS84; a GeoDataFrame supplies its own.
    unit, time : str, optional
        Unit and period, for spatial covariances of panels.
    treatment_date : str, optional
        Column of dates; imagery of a row taken on or after it is an error.
    adjust : str or sequence of str
        Any of "none", "tabular", "image", "both"; sets whose role is absent are left out and named in ``meta``.
    reference : str
        "tabular" or "none": the set that ``difference`` and ``shrinkage`` rows compare with.
    estimand : str or sequence of str
        Any of "ate", "att", "ato".
    method : str or sequence of str
        "aipw" (default), "ipw" (Hajek weights) or "outcome" (mean of g_1 - g_0).
    form : str
        "fitted" or "orthogonal" overlap weights of the ATO. The fitted form targets the population weighted by the
        fitted overlap, given that fit; the orthogonal one targets the true overlap weights.
    normalize : bool or str
        False, "arm" (rescaled propensities) or "odds" (ATT).
    known_propensity : str or float, optional
        Propensities of a designed experiment: a column or one number inside (0, 1).
    clip : float
        Learned propensities are kept in [clip, 1 - clip]; the share clipped is reported.
    trim : float or "crump", optional
        Keep a <= m <= 1 - a; this changes the estimand, and the row says so.
    nuisances : mapping, optional
        Columns "g0", "g1", "m" predicted elsewhere, used instead of our learners; needs one adjustment set.
    base, base_outcome, base_treatment : str or scikit-learn estimator
        "ridge" (ridge and logistic ridge with nested penalties) or any regressor and classifier.
    compress : int, optional
        Number of principal components of the embedding, from all distinct images, blind to outcome and treatment.
    eligibility : Eligibility
        Which rows may be controls, and the least number of treated rows.
    exposure : Exposure, optional
        Treatment of the neighbours (needs ``coords``; with ``time``, of the same period): as covariates of "tabular"
        and "both" (at lag 0 the estimand becomes the effect at given exposure), or as an effect of its own.
    allow : str or sequence of str
        Covariates exempt from the leakage guard.
    allow_post_treatment : bool
        Report imagery dated after treatment instead of refusing it.
    penalty_search : str
        "screened" or "full" search of the propensity's penalty.
    folds : Folds or None
        Cross-fitting; images, clusters, identical and overlapping chips are never split. None: in sample.
    inference : Sandwich, Bootstrap or None
        None: cluster scores for AIPW (two-way for a pair of clusters), a cluster bootstrap that refits everything for
        "ipw" and "outcome". Refit bootstraps report basic intervals, fixed ones percentile intervals.
    n_boot : int
        Number of cluster draws: ``Bootstrap(n_boot, "cluster", refit=False)`` for AIPW, with ``refit=True`` for "ipw"
        and "outcome".
    small_sample : str
        "auto" (none), "none", "cluster" (G/(G-1)) or "crv1".
    level : float
        Confidence level in (0, 1).
    seed : int
        Seed of folds and draws: same seed, same numbers, bit for bit.
    progress : bool or callable, optional
        Progress of the bootstrap.

    Returns
    -------
    AteResult
        ``.table`` with one row per treatment, set, method and estimand (term "effect"), then "difference" and
        "shrinkage" rows ("direct", "spillover", "total" with exposure as an effect); ``.checks`` for overlap, balance,
        assignment and images; ``.side_by_side()``, ``.buffer_table()``, ``.sensitivity()``, ``.bandwidth_sweep()``,
        ``.directions()``, ``.plot()``.

    Raises
    ------
    OptionError
        An argument that is not allowed, or a combination whose uncertainty would be wrong.
    DataError
        Columns, images or folds that cannot be used (TreatmentLeakError, ImageSplitError, PostTreatmentImageryError).

    References
    ----------
    Jerzak, Johansson and Daoud (2023), "Integrating Earth Observation Data into Causal Inference", arXiv 2301.12985.
    Li, Morgan and Zaslavsky (2018) for the ATO. Crump, Hotz, Imbens and Mitnik (2009) for trimming.

    Examples
    --------
    >>> import causalsat as cs
    >>> from causalsat.simulate.tabular_image import tabular_image
    >>> data, images, truth = tabular_image(n=400, seed=1)
    >>> result = cs.image_ate(
    ...     data, outcome="y", treatment="w", covariates=["x1", "x2"], embeddings=images, embedding_key="image"
    ... )
    >>> result.table.row(adjust="both", term="effect")["n_obs"]
    400
    """
    started = clock.perf_counter()
    options = validated_options(
        adjust=adjust, reference=reference, estimand=estimand, method=method, form=form, normalize=normalize, clip=clip,
        trim=trim, base=base, base_outcome=base_outcome, base_treatment=base_treatment, compress=compress,
        eligibility=eligibility, exposure=exposure, allow=allow, allow_post_treatment=allow_post_treatment,
        penalty_search=penalty_search, folds=folds, inference=inference,
        n_boot=n_boot, small_sample=small_sample, level=level, seed=seed, cluster=cluster, unit=unit,
        nuisances=nuisances, known_propensity=known_propensity,
    )  # fmt: skip
    with collected_warnings() as notes:
        roles = roles_of(
            outcome=outcome, treatment=treatment, covariates=covariates, weights=weights, cluster=cluster, time=time,
            unit=unit, eligibility=eligibility, fold_by=None if folds is None else folds.by,
            strata=getattr(options.inference, "strata", None), nuisances=nuisances, known_propensity=known_propensity,
            treatment_date=treatment_date, exposure=options.exposure,
        )  # fmt: skip
        study = open_study(
            data, roles, coords=coords, embeddings=embeddings, embedding_key=embedding_key, verb="image_ate"
        )
        design = ate_design(study, options, known_propensity)
        leakage = guard_columns(design, options)
        split = folds if any(cell.adjust != "none" for cell in design.cells) else None
        units, labels = fold_units(study, folds=split, seed=options.seed)
        images = guard_images(design, options)
        fits = [fit_cells(design, options, units, labels, r) for r in range(1 if folds is None else folds.repeats)]
        table = build_table(design, options, fits, progress)
        checks = [c for c in (leakage, *images) if c is not None] + ate_checks(design, options, fits[0])
        table = finished_meta(table, notes, clock.perf_counter() - started)
    return AteResult(table=table, checks=tuple(checks), design=design, options=options, fits=tuple(fits))
