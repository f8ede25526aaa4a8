"""Every choice of `drive` that is not data, validated before any data are touched."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from causalsat.errors import OptionError, count, flag, nearest, number, one_of
from causalsat.estimators.ate_options import names_of
from causalsat.inference.intervals import draws_needed
from causalsat.inference.options import Bootstrap, Sandwich
from causalsat.public import public
from causalsat.study.folds import Folds

RULES = ("theory", "bootstrap", "cv")
TARGETS = ("zero", "ols")
METRICS = ("tsls", "gmm")
SCALES = ("unit", "raw")
COMPARATORS = ("ols", "tsls", "liml", "fuller", "kclass", "anchor", "ridge_tsls")
SETS = ("ar", "clr", "lm")
INTERVALS = ("limit", "recentred")
CONTROLS = ("ridge", "pca")
COVARIANCES = ("classical", "hc0", "hc1", "cluster", "twoway", "conley")
SCHEMES = ("iid", "cluster", "block", "bayes", "multiplier")
FLAGS = ("many_instruments", "sharp_cap", "one_se", "cv_clip", "reselect", "allow_underidentified")
DEFAULT_DRAWS = 999


@public
@dataclass(frozen=True)
class DriveOptions:
    """Fine print of `drive`.

    Attributes
    ----------
    cap : float
        Share of the smallest eigenvalue that rule "theory" takes, in (0, 1].
    many_instruments : bool
        Correct that eigenvalue for many weak instruments.
    sharp_cap : bool
        Use the plug-in threshold at the TSLS estimate instead of the uniform bound; noisier.
    above_threshold : str
        What a number for rho above the threshold does: "warn", "clip" or "error".
    score_k, score_alpha : float
        Factor and tail of rule "bootstrap" (the constants of the square-root lasso).
    cv_grid : tuple
        Smallest and largest rho in units of the smallest eigenvalue, and the number of points.
    cv_criterion : str
        "moment" or "prediction" on the environment left out.
    one_se, cv_clip : bool
        Take the largest rho within one standard error of the minimum; clip it at the cap.
    reselect : bool
        Choose rho again in every bootstrap draw: rule "theory" with shrink_to="zero" and no ``sharp_cap``, whose
        radius is a function of a draw's moments (its bias correction is held). Rule "bootstrap" needs the variance
        of the scores inside each draw, fourth moments of the rows, where the draws carry second moments only; the
        target "ols" takes its radius from another eigenproblem, which is not offered here. Both radii tend to
        constants, so that intervals at the chosen rho hold to first order. Rule "cv" has no such limit: its
        intervals are conditional on rho.
    near : float
        Share of the threshold above which the limit law is marked unreliable.
    n_law : int
        Draws of the limit law.
    dof : str
        "small" or "none" (n in the place of degrees of freedom).
    fuller, kappa, gamma, ridge : float
        Parameters of the comparators "fuller", "kclass", "anchor" and "ridge_tsls" (None: the implicit ridge of DRIVE).
    ar_law : str
        "chi2" or "f".
    allow_underidentified : bool
        Return point estimates without intervals when instruments are fewer than treatments.
    n_components : int, optional
        Principal components of the embedding (``embedding_control="pca"`` only).
    nuisance_folds : Folds
        Cross-fitting of the embedding controls.
    """

    cap: float = 0.5
    many_instruments: bool = True
    sharp_cap: bool = False
    above_threshold: str = "warn"
    score_k: float = 1.1
    score_alpha: float = 0.05
    cv_grid: tuple[float, float, int] = (1e-3, 4.0, 41)
    cv_criterion: str = "moment"
    one_se: bool = True
    cv_clip: bool = True
    reselect: bool = False
    near: float = 0.95
    n_law: int = 20_000
    dof: str = "small"
    fuller: float = 1.0
    kappa: float | None = None
    gamma: float = 5.0
    ridge: float | None = None
    ar_law: str = "chi2"
    allow_underidentified: bool = False
    n_components: int | None = None
    nuisance_folds: Folds = Folds(5)

    def __post_init__(self) -> None:
        number("DriveOptions.cap", self.cap, 0.0, 1.0, open_ends=False)
        number("DriveOptions.score_k", self.score_k, 0.0, 100.0)
        number("DriveOptions.score_alpha", self.score_alpha, 0.0, 1.0)
        number("DriveOptions.near", self.near, 0.0, 1.0)
        number("DriveOptions.fuller", self.fuller, 0.0, 100.0, open_ends=False)
        number("DriveOptions.gamma", self.gamma, 0.0, 1e12, open_ends=False)
        one_of("DriveOptions.above_threshold", self.above_threshold, ("warn", "clip", "error"))
        one_of("DriveOptions.cv_criterion", self.cv_criterion, ("moment", "prediction"))
        one_of("DriveOptions.dof", self.dof, ("small", "none"))
        one_of("DriveOptions.ar_law", self.ar_law, ("chi2", "f"))
        for name in FLAGS:
            object.__setattr__(self, name, flag(f"DriveOptions.{name}", getattr(self, name)))
        object.__setattr__(self, "n_law", count("DriveOptions.n_law", self.n_law, minimum=1000))
        object.__setattr__(self, "cv_grid", _grid(self.cv_grid))
        if self.ridge is not None:
            number("DriveOptions.ridge", self.ridge, 0.0, math.inf, open_ends=False)
        if self.kappa is not None:
            number("DriveOptions.kappa", self.kappa, -math.inf, math.inf)
        if self.n_components is not None:
            object.__setattr__(self, "n_components", count("DriveOptions.n_components", self.n_components, minimum=1))
        if not isinstance(self.nuisance_folds, Folds):
            raise OptionError(f"DriveOptions.nuisance_folds={self.nuisance_folds!r} must be a Folds(...).")


@dataclass(frozen=True)
class DriveChoices:
    """The arguments of one call of `drive`, validated and resolved; ``folds`` only where a rule uses them."""

    rho: str | float
    shrink_to: str
    metric: str
    compare: tuple[str, ...]
    sets: tuple[str, ...]
    joint: bool
    scale: str
    embedding_control: str
    level: float
    seed: int
    bootstrap: Bootstrap | None
    covariance: Sandwich
    intervals: tuple[str, ...]
    null: float
    folds: Folds | None
    fine: DriveOptions


def validated_choices(**given: Any) -> DriveChoices:
    """Check every option before any data are touched (raises OptionError)."""
    fine = given["options"]
    if not isinstance(fine, DriveOptions):
        raise OptionError(f"options={fine!r} must be a DriveOptions(...).")
    intervals = _several("interval", given["interval"], INTERVALS)
    if not intervals:
        raise OptionError(f"interval is empty; allowed: {', '.join(INTERVALS)}.")
    level = number("level", given["level"], 0.0, 1.0)
    covariance, bootstrap = chosen_uncertainty(
        given["inference"],
        given["covariance"],
        count("n_boot", given["n_boot"]),
        len(names_of(given["cluster"])),
        level,
    )
    if bootstrap is None and intervals == ("recentred",):
        raise OptionError(
            'interval="recentred" is made of bootstrap draws and none are asked for (n_boot=0, a Sandwich, or two '
            'cluster columns); use n_boot=999, inference=Bootstrap(...), or interval="limit".'
        )
    if bootstrap is None:
        intervals = tuple(i for i in intervals if i != "recentred")
    compare = _several("compare", given["compare"], COMPARATORS)
    _refuse_contradictions(fine, compare, given)
    return DriveChoices(
        rho=checked_rho(given["rho"]),
        shrink_to=one_of("shrink_to", given["shrink_to"], TARGETS),
        metric=one_of("metric", given["metric"], METRICS),
        compare=compare,
        sets=_several("sets", given["sets"], SETS),
        joint=flag("joint", given["joint"]),
        scale=one_of("scale", given["scale"], SCALES),
        embedding_control=one_of("embedding_control", given["embedding_control"], CONTROLS),
        level=level,
        seed=count("seed", given["seed"]),
        bootstrap=bootstrap,
        covariance=covariance,
        intervals=intervals,
        null=number("null", given["null"], -math.inf, math.inf),
        folds=_environments(given["rho"], given["folds"]),
        fine=fine,
    )


def _refuse_contradictions(fine: DriveOptions, compare: Sequence[str], given: dict[str, Any]) -> None:
    """Fine print that the other arguments need, or leave without a use."""
    if "kclass" in compare and fine.kappa is None:
        raise OptionError('compare names "kclass", which needs its kappa: options=DriveOptions(kappa=0.9).')
    if fine.reselect and (given["rho"] != "theory" or given["shrink_to"] != "zero" or fine.sharp_cap):
        raise OptionError(
            'DriveOptions(reselect=True) chooses the radius of rule "theory" again in each draw; it goes with '
            'rho="theory", shrink_to="zero" and sharp_cap=False only.'
        )
    if "ridge_tsls" in compare and fine.ridge is None and given["shrink_to"] == "ols":
        raise OptionError(
            'compare names "ridge_tsls" and shrink_to="ols" has no implicit ridge penalty; give one: '
            "options=DriveOptions(ridge=0.01)."
        )
    for name, method in (("kappa", "kclass"), ("ridge", "ridge_tsls")):
        value = getattr(fine, name)
        if value is not None and method not in compare:
            raise OptionError(
                f'DriveOptions({name}={value:g}) belongs to the comparator "{method}", and compare={list(compare)} '
                f"does not name it; add it, or leave {name} out."
            )
    if fine.n_components is not None and given["embedding_control"] != "pca":
        raise OptionError(
            f"DriveOptions(n_components={fine.n_components}) counts principal components, and "
            f'embedding_control={given["embedding_control"]!r} makes none; pass embedding_control="pca", or leave '
            "n_components out."
        )


def refuse_without_images(embeddings: Any, embedding_key: Any, choices: DriveChoices) -> None:
    """OptionError for an option about images where no images are given."""
    if embeddings is not None:
        return
    unused = None
    if choices.embedding_control != CONTROLS[0]:
        unused = f'embedding_control="{choices.embedding_control}"'
    elif embedding_key is not None:
        unused = f"embedding_key={embedding_key!r}"
    if unused is not None:
        raise OptionError(f"{unused} says how images enter, and embeddings= is not given; pass them, or leave it out.")


def checked_rho(rho: Any) -> str | float:
    """A rule or a squared radius."""
    if isinstance(rho, str):
        if rho not in RULES:
            raise OptionError(
                f'rho="{rho}" is not a rule; allowed: {", ".join(RULES)}, or a number >= 0, the squared radius of '
                f"the ball.{nearest(rho, RULES)}"
            )
        return rho
    return number("rho", rho, 0.0, math.inf, open_ends=False)


def chosen_uncertainty(
    inference: Any, covariance: Any, n_boot: int, n_ways: int, level: float
) -> tuple[Sandwich, Bootstrap | None]:
    """The covariance of Wald rows, limit law and diagnostics, and the bootstrap of the recentred rows (or none)."""
    if isinstance(inference, Sandwich):
        if covariance is not None and covariance != inference:
            raise OptionError(f"inference={inference!r} contradicts covariance={covariance!r}; give one of them.")
        _refuse_draws(n_boot, "inference=Sandwich(...) makes none", "write covariance=Sandwich(...) in its place")
        return _checked_sandwich(inference), None
    if n_ways > 2:
        raise OptionError(f"cluster names {n_ways} columns; one, or two for two-way standard errors.")
    if covariance is None:
        covariance = Sandwich(("hc1", "cluster", "twoway")[n_ways])
    if not isinstance(covariance, Sandwich):
        raise OptionError(f"covariance={covariance!r} must be a Sandwich(...) or None.")
    bootstrap = inference
    if bootstrap is None:
        if n_ways == 2:
            _refuse_draws(n_boot, "two cluster columns have none", "cluster by one column")
        if n_boot == 0 or n_ways == 2:
            return _checked_sandwich(covariance), None
        bootstrap = Bootstrap(n_boot, "cluster" if n_ways else "iid")
    if n_ways == 2:
        raise OptionError(f"cluster names two columns and inference={inference!r} resamples one; use a Sandwich.")
    if not isinstance(bootstrap, Bootstrap):
        raise OptionError(f"inference={inference!r} must be a Bootstrap(...), a Sandwich(...) or None.")
    if n_boot not in (DEFAULT_DRAWS, bootstrap.n):
        raise OptionError(f"n_boot={n_boot} contradicts inference=Bootstrap(n={bootstrap.n}); give one of them.")
    _check_bootstrap(bootstrap, level)
    return _checked_sandwich(covariance), bootstrap


def _refuse_draws(n_boot: int, why: str, instead: str) -> None:
    """OptionError for a number of draws that nobody would draw; the default may have been left as it is."""
    if n_boot not in (0, DEFAULT_DRAWS):
        raise OptionError(f"n_boot={n_boot} asks for bootstrap draws, and {why}; leave n_boot out, or {instead}.")


def _check_bootstrap(bootstrap: Bootstrap, level: float) -> None:
    if bootstrap.scheme not in SCHEMES:
        raise OptionError(
            f'Bootstrap(scheme="{bootstrap.scheme}") is not offered for drive; allowed: {", ".join(SCHEMES)}. '
            "No wild variant exists for a minimiser of a norm."
        )
    least = draws_needed(level)
    if bootstrap.n < least:
        raise OptionError(f"{bootstrap.n} draws have no {100.0 * level:g}% interval; use at least {least} draws.")


def _checked_sandwich(sandwich: Sandwich) -> Sandwich:
    if sandwich.kind not in COVARIANCES:
        raise OptionError(
            f'Sandwich(kind="{sandwich.kind}") is not defined for instrumental variables here; allowed: '
            f"{', '.join(COVARIANCES)}."
        )
    return sandwich


def _environments(rho: Any, folds: Any) -> Folds | None:
    if folds is not None and not isinstance(folds, Folds):
        raise OptionError(f"folds={folds!r} must be a Folds(by=...), or None.")
    if rho == "cv" and (folds is None or folds.by is None):
        raise OptionError(
            'rho="cv" leaves out one environment at a time and needs folds=Folds(by="region"), a column of regions, '
            "years or sensors; random folds hold the same environment on both sides and are not offered."
        )
    return folds if rho == "cv" else None


def _several(argument: str, value: str | Sequence[str] | None, allowed: Sequence[str]) -> tuple[str, ...]:
    values = () if value is None else (value,) if isinstance(value, str) else tuple(value)
    for item in values:
        one_of(argument, item, allowed)
    if len(set(values)) < len(values):
        raise OptionError(f"{argument}={list(values)} names something twice.")
    return values


def _grid(value: Any) -> tuple[float, float, int]:
    low, high, points = value if isinstance(value, Sequence) and len(value) == 3 else (None, None, None)
    if low is None or high is None or not 0.0 < float(low) < float(high):
        raise OptionError(f"DriveOptions.cv_grid={value!r} must be (smallest, largest, points) with 0 < smallest.")
    return float(low), float(high), count("DriveOptions.cv_grid points", points, minimum=3)
