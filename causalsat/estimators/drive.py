"""`causalsat.drive`: distributionally robust instrumental variables, with everything a referee asks of an IV."""

import time as clock
from collections.abc import Sequence
from typing import Any

from causalsat.errors import OptionError, UnusedWarning, collected_warnings, warn
from causalsat.estimators.drive_checks import drive_checks
from causalsat.estimators.drive_design import drive_designs
from causalsat.estimators.drive_equation import fit_equation
from causalsat.estimators.drive_options import DriveOptions, validated_choices
from causalsat.estimators.drive_preflight import checked_roles
from causalsat.estimators.drive_result import DriveResult
from causalsat.estimators.drive_table import build_table, study_facts
from causalsat.inference.options import Bootstrap, Sandwich
from causalsat.progress import Progress
from causalsat.study.folds import Folds
from causalsat.study.open import open_study


def drive(
    data: Any,
    *,
    outcome: str,
    treatment: str | Sequence[str],
    instruments: str | Sequence[str],
    covariates: str | Sequence[str] | None = None,
    rho: str | float = "theory",
    shrink_to: str = "zero",
    metric: str = "tsls",
    compare: str | Sequence[str] = ("ols", "tsls", "liml"),
    sets: str | Sequence[str] = ("ar", "clr"),
    joint: bool = True,
    scale: str = "unit",
    fixed_effects: str | Sequence[str] | None = None,
    embeddings: Any = None,
    embedding_key: str | None = None,
    embedding_control: str = "ridge",
    weights: str | None = None,
    cluster: str | Sequence[str] | None = None,
    coords: Sequence[str] | None = None,
    folds: Folds | None = None,
    level: float = 0.95,
    n_boot: int = 999,
    seed: int = 0,
    inference: Bootstrap | Sandwich | None = None,
    covariance: Sandwich | None = None,
    interval: str | Sequence[str] = ("limit", "recentred"),
    null: float = 0.0,
    options: DriveOptions = DriveOptions(),
    radius: None = None,
    progress: Progress = None,
) -> DriveResult:
    r"""Effect of a treatment by instruments, guarded against shifts of the projected data.

    With y = X b + C d + e, instruments Z and everything net of the covariates C, the estimate is

    .. math:: \hat b(\rho) = \arg\min_b \|P_Z (y - X b)\| / \sqrt n + \sqrt{\rho (1 + \|b\|^2)},

    the b with the smallest worst-case root mean squared error over all laws within a Wasserstein distance
    sqrt(rho) of the projected rows (Qu and Kwon 2024). At rho = 0 it is two-stage least squares; below a threshold
    that the result reports its limit is still b. It rests on relevance, exclusion and exogeneity of the instruments;
    where effects differ, it targets the same instrument-weighted average as TSLS. It does not identify the effect
    when instruments are invalid, and with valid strong instruments its mean squared error is not below TSLS's.

    Parameters
    ----------
    data : frame or path
        Any data frame or a path to CSV, Parquet, GeoParquet or GeoPackage; n rows.
    outcome : str
        Numeric column y; effects are in its unit per unit of treatment.
    treatment : str or sequence of str
        p columns that may be endogenous. Several share one equation (``joint=True``).
    instruments : str or sequence of str
        q >= p excluded instruments: columns, never raw embeddings.
    covariates : str or sequence of str, optional
        Exogenous columns, never penalised; a constant is added; text becomes dummies.
    rho : str or float
        Squared radius: "theory" (a share of the smallest eigenvalue, corrected for many weak instruments),
        "bootstrap" (score quantile), "cv" (environments of ``folds.by`` left out) or a number on ``scale``.
    shrink_to : str
        "zero" or "ols" (a k-class estimator whose kappa is chosen by rho).
    metric : str
        "tsls" or "gmm" (moments weighted by their robust variance).
    compare : str or sequence of str
        Any of "ols", "tsls", "liml", "fuller", "kclass", "anchor", "ridge_tsls".
    sets : str or sequence of str
        Any of "ar", "clr", "lm": confidence sets that hold with weak instruments; () for none.
    joint : bool
        False fits one equation per treatment and leaves the others out.
    scale : str
        "unit": outcome and treatments have standard deviation one where rho is measured; "raw": as they come.
    fixed_effects : str or sequence of str, optional
        Columns whose levels are absorbed.
    embeddings, embedding_key, embedding_control :
        Image embeddings as controls, partialled out of y, X and Z out of fold by "ridge" or "pca".
    weights : str, optional
        Sampling weights, positive.
    cluster : str or pair of str, optional
        Clusters of standard errors, resampling and folds; a pair for two-way standard errors (no bootstrap rows).
    coords : pair of str, optional
        Longitude and latitude, degrees WGS84, for Conley covariances and block bootstraps.
    folds : Folds, optional
        ``Folds(by=column)`` names the environments of rho="cv", which alone uses them.
    level : float
        Confidence level in (0, 1).
    n_boot : int
        Draws of the recentred bootstrap; 0 for none. Left out with a Sandwich or two cluster columns, which draw none.
    seed : int
        Same seed, same numbers, bit for bit.
    inference : Bootstrap or Sandwich, optional
        None: ``Bootstrap(n_boot, "cluster" if cluster else "iid")``. A Sandwich drops the bootstrap rows.
    covariance : Sandwich, optional
        Of Wald rows, limit law and diagnostics; None: "cluster" if cluster else "hc1".
    interval : str or sequence of str
        "limit" (simulated limit law) and "recentred" (basic bootstrap on recentred moments).
    null : float
        Value under the null hypothesis.
    options : DriveOptions
        Fine print.
    radius : None
        Not accepted: rho is the squared radius.
    progress : bool or callable, optional
        Progress of the bootstrap.

    Returns
    -------
    DriveResult
        ``.table`` (index method, treatment, interval), ``.checks``, ``.rho``, ``.rho_report``, ``.lam``, ``.path()``,
        ``.sets``, ``.first_stage``, ``.sensitivity()``, ``.scale_factors``, ``.plot(kind=)``.

    Raises
    ------
    OptionError
        An argument that is not allowed.
    IdentificationError
        Fewer instruments than treatments, or treatments that the instruments do not move.
    DataError
        Columns that cannot be used.

    References
    ----------
    Qu and Kwon (2024), "Distributionally Robust Instrumental Variables Estimation", arXiv 2410.15634.

    Examples
    --------
    >>> import causalsat as cs
    >>> from causalsat.simulate.iv import iv
    >>> data, truth = iv(n=500, q=4, concentration=200, seed=1)
    >>> result = cs.drive(data, outcome="y", treatment="x", instruments=["z1", "z2", "z3", "z4"], n_boot=199)
    >>> result.table.row(method="drive", interval="limit")["n_obs"]
    500
    """
    started = clock.perf_counter()
    if radius is not None:
        raise OptionError(
            f"radius={radius!r} is not an argument: rho is the squared radius of the ball, so write rho={radius!r}**2."
        )
    choices = validated_choices(
        rho=rho, shrink_to=shrink_to, metric=metric, compare=compare, sets=sets, joint=joint, scale=scale,
        embedding_control=embedding_control, level=level, n_boot=n_boot, seed=seed, inference=inference,
        covariance=covariance, interval=interval, null=null, options=options, cluster=cluster, folds=folds,
    )  # fmt: skip
    roles = checked_roles(
        choices, outcome=outcome, treatment=treatment, instruments=instruments, covariates=covariates,
        fixed_effects=fixed_effects, weights=weights, cluster=cluster, embeddings=embeddings,
        embedding_key=embedding_key,
    )  # fmt: skip
    with collected_warnings() as notes:
        if folds is not None and choices.folds is None:
            warn(f'folds={folds!r} names the environments of rho="cv", and rho={rho!r} uses none.', UnusedWarning)
        study = open_study(data, roles, coords=coords, embeddings=embeddings, embedding_key=embedding_key, verb="drive")
        designs = drive_designs(study, choices)
        equations = tuple(fit_equation(design, choices, progress) for design in designs)
        table = build_table(equations, choices, study_facts(study, equations))
        checks = drive_checks(equations, choices)
    table = table.with_meta(warnings=list(notes), seconds=round(clock.perf_counter() - started, 3))
    return DriveResult(table=table, checks=checks, equations=equations, choices=choices)
