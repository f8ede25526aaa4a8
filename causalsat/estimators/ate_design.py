"""What `image_ate` estimates: roles, eligible rows per treatment, and the cells of the table."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from causalsat.errors import DataError, OptionError, number, one_of
from causalsat.estimators.ate_options import DIFFERENCE, NUISANCE_COLUMNS, AteOptions, Eligibility, names_of
from causalsat.inference.options import Bootstrap
from causalsat.study.exposure import Exposure
from causalsat.study.open import Role, Study


@dataclass(frozen=True)
class Cell:
    """One estimate of the table: a treatment, an adjustment set, a method and an estimand."""

    treatment: int
    adjust: str
    method: str
    estimand: str


@dataclass(frozen=True)
class Arms:
    """The rows of one treatment.

    Attributes
    ----------
    name : str
        Treatment column.
    rows : ndarray (n_t,) int64
        Positions in the study of the eligible rows.
    d : ndarray (n_t,) float64
        Treatment on those rows, 0 or 1.
    reason : str
        Why there is no estimate; empty when there is one.
    exposure : ndarray (n_t, r) float64, optional
        Treatment among the neighbours of those rows, ring by ring, when the call declares an exposure.
    exposure_names : tuple of str
        Names of those columns.
    """

    name: str
    rows: np.ndarray
    d: np.ndarray
    reason: str = ""
    exposure: np.ndarray | None = None
    exposure_names: tuple[str, ...] = ()


@dataclass(frozen=True)
class AteDesign:
    """The study as arrays with names, ready to fit."""

    study: Study
    arms: tuple[Arms, ...]
    cells: tuple[Cell, ...]
    y: np.ndarray
    weights: np.ndarray
    tabular: np.ndarray | None
    tabular_names: tuple[str, ...]
    image: np.ndarray | None
    known_propensity: np.ndarray | None
    supplied: Mapping[str, np.ndarray] = field(default_factory=dict)
    left_out: Mapping[str, str] = field(default_factory=dict)


def roles_of(
    *,
    outcome: str,
    treatment: str | Sequence[str],
    covariates: Any,
    weights: str | None,
    cluster: Any,
    time: str | None,
    unit: str | None,
    eligibility: Eligibility,
    fold_by: str | None,
    strata: str | None,
    nuisances: Mapping[str, str] | None,
    known_propensity: Any,
    treatment_date: str | None,
    exposure: Exposure | None,
) -> tuple[Role, ...]:
    """The roles that the door checks."""
    clusters = names_of(cluster)
    if len(clusters) > 2:
        raise OptionError(f"cluster={list(clusters)!r} names {len(clusters)} columns; one, or two for two-way.")
    roles = [
        Role("outcome", outcome, "numeric"),
        Role("treatment", names_of(treatment), "binary", many=True, missing="keep"),
    ]
    optional = [
        Role("covariates", names_of(covariates) or None, "design", many=True, missing="keep"),
        Role("weights", weights, "weights"),
        Role("cluster", clusters[0] if clusters else None, "codes", constant="allow"),
        Role("second cluster", clusters[1] if len(clusters) == 2 else None, "codes"),
        Role("time", time, "codes"),
        Role("unit", unit, "codes"),
        Role("fold group", fold_by, "codes"),
        Role("strata", strata, "codes", constant="allow"),
        Role("treatment_date", treatment_date, "date", missing="keep", constant="allow"),
        Role("exposure", None if exposure is None else exposure.source, "binary", missing="keep", constant="allow"),
        Role(
            "known_propensity",
            known_propensity if isinstance(known_propensity, str) else None,
            "numeric",
            constant="allow",
        ),
    ]
    optional += [Role(f"eligibility {c}", c, "codes", constant="allow") for c in eligibility.columns()]
    for key, column in (nuisances or {}).items():
        one_of("nuisances", key, NUISANCE_COLUMNS)
        optional.append(Role(f"nuisance {key}", column, "numeric", constant="allow"))
    return tuple(roles + [role for role in optional if role.columns is not None])


def treatment_arms(study: Study, eligibility: Eligibility) -> tuple[Arms, ...]:
    """Eligible rows of every treatment; a treatment without enough of them carries the reason."""
    arms = []
    for j, name in enumerate(study.names["treatment"]):
        column = study.numeric["treatment"][:, j]
        eligible = np.isfinite(column)
        for by in eligibility.columns():
            codes = study.codes[f"eligibility {by}"]
            occurs = np.unique(codes[column == 1.0])
            eligible &= np.isin(codes, occurs)
        rows = np.flatnonzero(eligible)
        d = column[rows]
        treated, controls = int((d == 1.0).sum()), int((d == 0.0).sum())
        reason = ""
        if treated < eligibility.min_treated:
            reason = f"{treated} treated rows, fewer than Eligibility(min_treated={eligibility.min_treated})"
        elif controls == 0:
            reason = "no eligible control rows"
        arms.append(Arms(name, rows, d, reason))
    if all(arm.reason for arm in arms):
        listed = "; ".join(f"{arm.name}: {arm.reason}" for arm in arms)
        raise DataError(f"No treatment can be estimated: {listed}. Lower min_treated or choose other treatments.")
    return tuple(arms)


def cells_of(
    options: AteOptions, n_treatments: int, available: Mapping[str, bool]
) -> tuple[tuple[Cell, ...], dict[str, str]]:
    """The cells to estimate, and the adjustment sets left out with the role they lack."""
    from causalsat.estimators.ate_exposure import spillover_cells

    needs = {"none": (), "tabular": ("covariates",), "image": ("embeddings",), "both": ("covariates", "embeddings")}
    left_out: dict[str, str] = {}
    sets = []
    for adjust in options.adjust:
        absent = [role for role in needs[adjust] if not available[role]]
        if absent:
            left_out[adjust] = f"no {' and no '.join(absent)} given"
        else:
            sets.append(adjust)
    if not sets:
        raise OptionError(
            f"adjust={list(options.adjust)} leaves nothing to estimate: "
            + "; ".join(f"{k}: {v}" for k, v in left_out.items())
            + "."
        )
    cells = [
        Cell(t, adjust, DIFFERENCE if adjust == "none" else method, estimand)
        for t in range(n_treatments)
        for estimand in options.estimands
        for method in (options.methods)
        for adjust in sets
    ]
    return (*dict.fromkeys(cells), *spillover_cells(options, n_treatments, sets)), left_out


def ate_design(study: Study, options: AteOptions, known_propensity: str | float | None) -> AteDesign:
    """Arrays with names: arms, cells, outcome, weights, covariates, embedding on the rows."""
    from causalsat.estimators.ate_exposure import exposed_arms, refuse_spillovers
    from causalsat.estimators.features import compressed

    arms = exposed_arms(treatment_arms(study, options.eligibility), study, options.exposure)
    adjusts_exposure = options.exposure is not None and options.exposure.role == "covariate"
    available = {
        "covariates": "covariates" in study.numeric or adjusts_exposure,
        "embeddings": study.embeddings is not None,
    }
    cells, left_out = cells_of(options, len(arms), available)
    image = None
    if study.embeddings is not None and study.image is not None:
        matrix = np.asarray(study.embeddings.matrix, dtype=np.float64)
        if options.compress is not None:
            matrix = compressed(matrix, options.compress)
        image = matrix[study.image]
    known = study.numeric.get("known_propensity")
    if known_propensity is not None and not isinstance(known_propensity, str):
        known = np.full(len(study.rows), number("known_propensity", known_propensity, 0.0, 1.0))
    if known is not None and not ((known > 0) & (known < 1)).all():
        raise DataError(f"known_propensity must lie inside (0, 1); it goes from {known.min():g} to {known.max():g}.")
    supplied = {c: study.numeric[f"nuisance {c}"] for c in NUISANCE_COLUMNS if f"nuisance {c}" in study.numeric}
    _check_supplied(supplied, options, cells)
    refuse_spillovers(options, known_propensity, supplied)
    weights = study.numeric.get("weights", np.ones(len(study.rows)))
    return AteDesign(
        study=study,
        arms=arms,
        cells=cells,
        y=study.numeric["outcome"],
        weights=weights / weights.mean(),
        tabular=study.numeric.get("covariates"),
        tabular_names=study.names.get("covariates", ()),
        image=image,
        known_propensity=known,
        supplied=supplied,
        left_out=left_out,
    )


def _check_supplied(supplied: Mapping[str, np.ndarray], options: AteOptions, cells: Sequence[Cell]) -> None:
    if not supplied:
        return
    sets = sorted({cell.adjust for cell in cells} - {"none"})
    if len(sets) != 1 or len({cell.treatment for cell in cells}) != 1:
        raise OptionError(f"nuisances= belong to one adjustment set and one treatment; this call fits {sets}.")
    absent = [c for c in NUISANCE_COLUMNS if c not in supplied and ("aipw" in options.methods or c == "m")]
    if absent:
        raise OptionError(f"nuisances= lacks {', '.join(absent)}; method {options.methods} needs g0, g1 and m.")
    if isinstance(options.inference, Bootstrap) and options.inference.refit:
        raise OptionError("nuisances= cannot be refitted in a bootstrap; use Sandwich(...) or refit=False.")
