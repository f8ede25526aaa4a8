"""What `image_ate` estimates: validated options, eligible rows per treatment, and the cells of the table."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from causalsat.errors import DataError, OptionError, count, number, one_of
from causalsat.estimators.nuisances import NuisanceOptions
from causalsat.inference.options import Bootstrap, Sandwich
from causalsat.public import public
from causalsat.study.exposure import Exposure
from causalsat.study.folds import Folds
from causalsat.study.open import Role, Study

ADJUST = ("none", "tabular", "image", "both")
ESTIMANDS = ("ate", "att", "ato")
METHODS = ("aipw", "ipw", "outcome")
FORMS = ("fitted", "orthogonal")
NUISANCE_COLUMNS = ("g0", "g1", "m")
DIFFERENCE = "difference_in_means"


@public
@dataclass(frozen=True)
class Eligibility:
    """Which rows may be controls of a treatment.

    Attributes
    ----------
    by : str or sequence of str, optional
        A row is eligible only where the treatment occurs at all within these columns' levels (the same
        countries, say). None: every row whose treatment is not missing.
    min_treated : int
        A treatment with fewer treated rows gets rows of NaN with the reason.
    """

    by: str | Sequence[str] | None = None
    min_treated: int = 20

    def __post_init__(self) -> None:
        object.__setattr__(self, "min_treated", count("Eligibility.min_treated", self.min_treated, minimum=1))

    def columns(self) -> tuple[str, ...]:
        """The column names of ``by`` as a tuple."""
        if self.by is None:
            return ()
        return (self.by,) if isinstance(self.by, str) else tuple(self.by)


@dataclass(frozen=True)
class AteOptions:
    """Every choice of `image_ate` that is not data, validated."""

    adjust: tuple[str, ...]
    reference: str
    estimands: tuple[str, ...]
    methods: tuple[str, ...]
    form: str
    normalize: str | bool
    trim: float | str | None
    compress: int | None
    eligibility: Eligibility
    folds: Folds | None
    inference: Sandwich | Bootstrap
    nuisance: NuisanceOptions
    small_sample: str
    level: float
    seed: int
    allow: tuple[str, ...] = ()
    allow_post_treatment: bool = False
    exposure: Exposure | None = None


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


def names_of(value: str | Sequence[str] | None) -> tuple[str, ...]:
    """A role's value as a tuple of column names."""
    if value is None:
        return ()
    return (value,) if isinstance(value, str) else tuple(value)


def several(argument: str, value: Any, allowed: Sequence[str]) -> tuple[str, ...]:
    """A name or a sequence of names, each allowed and none twice."""
    values = (value,) if isinstance(value, str) else tuple(value)
    if not values:
        raise OptionError(f"{argument} is empty; allowed: {', '.join(allowed)}.")
    for item in values:
        one_of(argument, item, allowed)
    if len(set(values)) < len(values):
        raise OptionError(f"{argument}={list(values)} names something twice.")
    return values


def validated_options(**given: Any) -> AteOptions:
    """Check every option before any data are touched (raises OptionError)."""
    methods = several("method", given["method"], METHODS)
    normalize = given["normalize"]
    if normalize is not False:
        one_of("normalize", normalize, ("arm", "odds"))
    estimands = several("estimand", given["estimand"], ESTIMANDS)
    if normalize == "odds" and set(estimands) != {"att"}:
        raise OptionError('normalize="odds" rescales the odds weights of the ATT; use it with estimand="att" alone.')
    if normalize == "arm" and given["form"] == "orthogonal" and "ato" in estimands:
        raise OptionError('normalize="arm" rescales inverse weights; the orthogonal ATO has none. Use form="fitted".')
    trim = given["trim"]
    if trim is not None and trim != "crump":
        trim = number("trim", trim, 0.0, 0.5)
    compress = given["compress"]
    base = given["base"]
    n_ways = len(names_of(given["cluster"]))
    nuisance = NuisanceOptions(
        outcome=given["base_outcome"] if given["base_outcome"] is not None else base,
        treatment=given["base_treatment"] if given["base_treatment"] is not None else base,
        clip=number("clip", given["clip"], 0.0, 0.5, open_ends=False),
        penalty_search=one_of("penalty_search", given["penalty_search"], ("screened", "full")),
    )
    options = AteOptions(
        adjust=several("adjust", given["adjust"], ADJUST),
        reference=one_of("reference", given["reference"], ("tabular", "none")),
        estimands=estimands,
        methods=methods,
        form=one_of("form", given["form"], FORMS),
        normalize=normalize,
        trim=trim,
        compress=None if compress is None else count("compress", compress, minimum=1),
        eligibility=given["eligibility"],
        folds=given["folds"],
        inference=chosen_inference(given["inference"], methods, count("n_boot", given["n_boot"]), n_ways),
        nuisance=nuisance,
        small_sample=one_of("small_sample", given["small_sample"], ("auto", "none", "cluster", "crv1")),
        level=number("level", given["level"], 0.0, 1.0),
        seed=count("seed", given["seed"]),
        allow=names_of(given["allow"]),
        allow_post_treatment=bool(given["allow_post_treatment"]),
        exposure=given["exposure"],
    )
    refuse_unsound(
        options,
        n_ways=n_ways,
        unit=given["unit"],
        given_m=given["nuisances"] if given["known_propensity"] is None else given["known_propensity"],
    )
    if options.exposure is not None and not isinstance(options.exposure, Exposure):
        raise OptionError(f"exposure={options.exposure!r} must be an Exposure(rings_km=(10, 25)), or None.")
    return options


def chosen_inference(inference: Any, methods: tuple[str, ...], n_boot: int, n_ways: int) -> Sandwich | Bootstrap:
    """The covariance or bootstrap to use: cluster scores for AIPW, a refit cluster bootstrap otherwise."""
    if inference is None:
        if methods == ("aipw",):
            if n_boot:
                return Bootstrap(n_boot, "cluster", refit=False)
            return Sandwich("twoway" if n_ways == 2 else "cluster")
        return Bootstrap(n_boot or 999, "cluster", refit=True)
    if isinstance(inference, Bootstrap):
        if n_boot and n_boot != inference.n:
            raise OptionError(f"n_boot={n_boot} contradicts inference=Bootstrap(n={inference.n}); give one of them.")
        return inference
    if isinstance(inference, Sandwich):
        if n_boot:
            raise OptionError(f"n_boot={n_boot} asks for a bootstrap and inference={inference!r} for a sandwich.")
        return inference
    raise OptionError(f"inference={inference!r} must be a Sandwich(...), a Bootstrap(...) or None.")


def refuse_unsound(options: AteOptions, *, n_ways: int, unit: Any, given_m: Any) -> None:
    """Combinations that would report a wrong uncertainty."""
    inference = options.inference
    if n_ways == 2 and not (isinstance(inference, Sandwich) and inference.kind == "twoway"):
        raise OptionError(
            f'cluster names two columns, which only Sandwich("twoway") uses; inference={inference!r} would ignore one. '
            "Name one cluster column, or leave inference and n_boot unset."
        )
    if isinstance(inference, Sandwich):
        if inference.lag and unit is None:
            raise OptionError(f"Sandwich(lag={inference.lag}) follows units over time: give unit= and time=.")
        return
    if options.small_sample not in ("auto", "none"):
        raise OptionError(f'small_sample="{options.small_sample}" scales a sandwich; a bootstrap has no such factor.')
    if options.trim is not None and not inference.refit and given_m is None:
        raise OptionError(
            f"trim={options.trim!r} by a learned propensity is not orthogonal to it: use Bootstrap(refit=True), a "
            "Sandwich (which holds the trimmed set), or a known propensity."
        )
    if inference.scheme == "wild":
        raise OptionError('inference=Bootstrap(scheme="wild") resamples regression residuals; image_ate has none.')
    if inference.fold_policy != "fixed":
        raise OptionError(f'Bootstrap(fold_policy="{inference.fold_policy}"): image_ate keeps its folds; use "fixed".')
    if inference.scheme in ("multiplier", "dependent") and inference.refit:
        raise OptionError(
            f'Bootstrap(scheme="{inference.scheme}") perturbs fixed scores; write refit=False, or choose "cluster".'
        )
    unsound = [m for m in options.methods if m != "aipw"]
    if not inference.refit and unsound:
        raise OptionError(
            f'method="{unsound[0]}" is not orthogonal to its nuisances, so refit=False would understate or overstate '
            'the uncertainty; use Bootstrap(refit=True) or method="aipw".'
        )
    learners = (options.nuisance.outcome, options.nuisance.treatment)
    if inference.refit and any(not isinstance(base, str) for base in learners):
        raise OptionError(
            "Bootstrap(refit=True) refits the built-in ridge learners; with another learner use refit=False and "
            'method="aipw", or base="ridge".'
        )


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
