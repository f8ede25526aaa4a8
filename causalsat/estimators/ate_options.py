"""Every choice of `image_ate` that is not data, validated before any data are touched."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from causalsat.errors import OptionError, count, number, one_of
from causalsat.estimators.nuisances import NuisanceOptions
from causalsat.inference.intervals import draws_needed
from causalsat.inference.options import Bootstrap, Sandwich
from causalsat.public import public
from causalsat.study.exposure import Exposure
from causalsat.study.folds import Folds

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
    least = draws_needed(options.level)
    if inference.n < least:
        raise OptionError(f"{inference.n} draws have no {options.level:.0%} interval; use at least {least} draws.")
