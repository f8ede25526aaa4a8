"""The squared radius of DRIVE: by theory, by the score at the truth, by environments, or given, with its thresholds."""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from causalsat.errors import (
    AboveThresholdWarning,
    NearThresholdWarning,
    NumericalError,
    OptionError,
    number,
    one_of,
    warn,
)
from causalsat.estimators.drive_cv import CvCurve, cross_validate
from causalsat.estimators.drive_law import SCORE_STREAM, law_normals, variance_of_moments, variance_root
from causalsat.estimators.drive_options import RULES, DriveOptions
from causalsat.estimators.drive_problem import DriveProblem
from causalsat.estimators.drive_threshold import Thresholds, first_stage_factor, thresholds
from causalsat.inference.options import Sandwich

TOO_WEAK = "instruments too weak for any radius with a consistency guarantee"
_UNIDENTIFIED = "fewer instruments than treatments: no radius is consistent"
_NULL = 1e-12


@dataclass(frozen=True)
class RadiusReport:
    """A radius and its thresholds, on the solver's scale.

    Attributes
    ----------
    rho : float
        Squared radius in use.
    rule : str
        "theory", "bootstrap", "cv" or "given".
    bound_by : str
        What set it: "cap", "sharp cap", "weak instruments", "score", "curve", "grid end", "user" or "clip".
    lambda_min, lambda_min_corrected : float
        Uniform bound on the threshold from A, and from A net of its bias (the pencil (A, Sigma_vv) for the target
        "ols").
    rho_hat : float
        Plug-in threshold at the TSLS estimate.
    rho_ols : float
        Radius from which the target "ols" is reached; NaN for "zero".
    ratio : float
        rho / rho_hat.
    above, near : bool
        rho > rho_hat; or below it but above ``options.near`` times it, or clipped to that.
    cap : float
        The largest radius that rules take: rule "theory".
    score : dict
        Rule "bootstrap": quantile, rho_score, k, alpha, draws.
    cv : dict of str to list, or None
        Rule "cv": the curve, one entry per radius.
    flags : tuple of str
        What a reader must know.
    text : str
        A phrase for summaries.
    lambda_min_at_b : float
        Bound between ``lambda_min`` and ``rho_hat``: lambda_min (1 + 1/||b||^2) at TSLS.
    """

    rho: float
    rule: str
    bound_by: str
    lambda_min: float
    lambda_min_corrected: float
    rho_hat: float
    rho_ols: float
    ratio: float
    above: bool
    near: bool
    cap: float
    score: dict[str, float]
    cv: dict[str, list[Any]] | None
    flags: tuple[str, ...]
    text: str
    lambda_min_at_b: float


@dataclass(frozen=True)
class _Choice:
    """What a rule answers, before it is held against the thresholds."""

    rho: float
    bound_by: str
    text: str
    flags: tuple[str, ...] = ()
    score: dict[str, float] | None = None
    cv: dict[str, list[Any]] | None = None


def choose_radius(
    problem: DriveProblem,
    rule: str | float,
    options: DriveOptions,
    sandwich: Sandwich,
    *,
    seed: int,
    environments: tuple[np.ndarray, np.ndarray] | None = None,
) -> RadiusReport:
    """The squared radius by a rule or a number, with its thresholds.

    "theory" takes ``options.cap`` times the bias-corrected smallest eigenvalue of A, below every threshold whatever
    the effect. "bootstrap" takes the quantile of the score at the truth (square-root-lasso constants), never above
    that cap. "cv" leaves out one environment at a time. Intervals treat the radius as fixed; the first two rules tend
    to constants, the third has no such guarantee.

    Parameters
    ----------
    problem : DriveProblem
        Moments, target and metric.
    rule : str or float
        "theory", "bootstrap", "cv" or a squared radius on the problem's scale.
    options : DriveOptions
        ``cap``, ``many_instruments``, ``sharp_cap``, ``above_threshold``, ``score_k``, ``score_alpha``, ``cv_grid``,
        ``cv_criterion``, ``one_se``, ``cv_clip``, ``near`` and ``n_law`` (draws of the score).
    sandwich : Sandwich
        Covariance behind the correction and the score.
    seed : int
        Seed of the score's draws.
    environments : tuple of np.ndarray, optional
        Codes (n,) int and labels (g,) of the environments.

    Returns
    -------
    RadiusReport

    Raises
    ------
    OptionError
        An unknown rule, a negative number, a number above the threshold with ``above_threshold="error"``, or "cv"
        without environments.
    DataError
        Fewer than three usable environments.

    References
    ----------
    Qu & Kwon (2024), "Distributionally robust instrumental variables estimation"; Belloni, Chernozhukov & Wang (2011),
    "Square-root lasso".
    """
    bounds = thresholds(problem, sandwich, many_instruments=options.many_instruments)
    cap = _cap(problem, bounds, options)
    if isinstance(rule, str):
        one_of("rho", rule, RULES)
    if rule == "theory":
        choice = cap
    elif rule == "bootstrap":
        choice = _by_score(problem, cap, options, sandwich, seed)
    elif rule == "cv":
        choice = _by_environments(problem, cap, bounds, options, environments)
    else:
        choice = _given(float(number("rho", rule, 0.0, np.inf, open_ends=False)), cap, bounds, options)
    return _report(rule if isinstance(rule, str) else "given", choice, cap, bounds, options)


def _cap(problem: DriveProblem, bounds: Thresholds, options: DriveOptions) -> _Choice:
    """Rule "theory"."""
    smallest = bounds.lambda_min_corrected
    if problem.rows.q < problem.rows.p:
        return _Choice(0.0, "weak instruments", "fewer instruments than treatments", (_UNIDENTIFIED,))
    if smallest <= 0.0:
        text = f"the corrected smallest eigenvalue {smallest:.3g} is not positive"
        return _Choice(0.0, "weak instruments", text, (TOO_WEAK,))
    name = "smallest eigenvalue" if problem.shrink_to == "zero" else "smallest root of the first stage"
    name = f"corrected {name}" if options.many_instruments else name
    sharp = options.sharp_cap and np.isfinite(bounds.rho_hat_corrected)
    base, name = (bounds.rho_hat_corrected, "threshold at TSLS") if sharp else (smallest, name)
    if not np.isfinite(base):
        return _Choice(0.0, "cap", "the first stage has no noise, so OLS is TSLS")
    text = f"{options.cap:g} times the {name}, {base:.4g}"
    return _Choice(options.cap * base, "sharp cap" if sharp else "cap", text)


def _by_score(problem: DriveProblem, cap: _Choice, options: DriveOptions, sandwich: Sandwich, seed: int) -> _Choice:
    """Rule "bootstrap": k times the upper quantile of the loss gradient at the truth, never above the cap."""
    if cap.rho <= 0.0:
        return cap
    sizes = score_draws(problem, sandwich, n=options.n_law, seed=seed)
    # An order statistic, since interpolation between infinite sizes (no first-stage noise) is not a number.
    place = min(math.ceil((1.0 - options.score_alpha) * sizes.size), sizes.size) - 1
    quantile = float(np.partition(sizes, place)[place])
    found = (options.score_k * quantile) ** 2
    score = {
        "quantile": quantile,
        "rho_score": found,
        "k": options.score_k,
        "alpha": options.score_alpha,
        "draws": float(options.n_law),
    }
    if found >= cap.rho:
        text = f"the score asks for {found:.4g}; bound by {cap.text}"
        return _Choice(cap.rho, cap.bound_by, text, cap.flags, score)
    text = f"{options.score_k:g} times the {1.0 - options.score_alpha:.0%} quantile of the score, squared"
    return _Choice(found, "score", f"{text}; below the cap {cap.rho:.4g}", cap.flags, score)


def score_draws(problem: DriveProblem, sandwich: Sandwich, *, n: int, seed: int) -> np.ndarray:
    """(n,) draws of the size of the loss gradient at the truth, ||B'w||/||w|| with w the noise of the moments.

    Normal multipliers on centred scores z e, one per row or cluster, sum to a normal vector with the centred sandwich
    as its variance, so w is drawn from that law at once. The size does not depend on the noise level: with one
    treatment and homoskedastic errors its square over A is Beta(1/2, (q - 1)/2). For the target "ols" the norm of
    B'w is taken in Sigma_vv^{-1}; it is infinite where Sigma_vv has no inverse.

    Parameters
    ----------
    problem : DriveProblem
        Moments and target.
    sandwich : Sandwich
        Covariance of the scores.
    n, seed : int
        Number of draws and their seed; prefixes agree.

    Raises
    ------
    NumericalError
        The variance of the scores does not exist under this covariance.
    """
    root, notes = variance_root(variance_of_moments(problem, sandwich, centred=True))
    if "reason" in notes:
        raise NumericalError(f'rho="bootstrap" has no score: {notes["reason"]}. Use rho="theory".')
    noise = law_normals(n, problem.rows.q, seed, SCORE_STREAM) @ root
    slopes = noise @ problem.B
    if problem.shrink_to == "ols":
        unit = np.sqrt(np.diag(problem.A) + np.diag(problem.V))
        values, vectors = np.linalg.eigh(problem.V / np.outer(unit, unit) * first_stage_factor(problem))
        slopes = (slopes / unit[None, :]) @ vectors
        with np.errstate(divide="ignore"):
            slopes = slopes / np.sqrt(np.where(values > _NULL, values, 0.0))[None, :]
    return np.asarray(np.sqrt(np.sum(slopes**2, axis=1) / np.sum(noise**2, axis=1)))


def _by_environments(
    problem: DriveProblem,
    cap: _Choice,
    bounds: Thresholds,
    options: DriveOptions,
    environments: tuple[np.ndarray, np.ndarray] | None,
) -> _Choice:
    """Rule "cv": the curve over environments left out, its one-standard-error radius, clipped at the cap."""
    if environments is None:
        raise OptionError(
            'rho="cv" leaves out one environment at a time and needs folds=Folds(by="region"), a column of regions, '
            "years or sensors; random folds hold the same environment on both sides and are not offered."
        )
    unit = bounds.lambda_min_corrected if bounds.lambda_min_corrected > 0.0 else bounds.lambda_min
    if _UNIDENTIFIED in cap.flags or not (np.isfinite(unit) and unit > 0.0):
        return cap
    low, high, points = options.cv_grid
    curve = cross_validate(problem, unit * np.geomspace(low, high, points), environments, options.cv_criterion)
    at = curve.one_se if options.one_se else curve.minimum
    rho, bound_by, flags = float(curve.rho[at]), "curve", list(cap.flags)
    place = "largest radius within one standard error of the minimum" if options.one_se else "minimum"
    text = f"{place} of the {options.cv_criterion} curve over {len(curve.labels)} environments left out"
    if at == points - 1:
        bound_by = "grid end"
        flags.append("the curve is so flat that the rule ran to the end of its grid; weak instruments do that")
    if curve.skipped:
        flags.append(f"too few rows to be left out: {', '.join(map(str, curve.skipped))}")
    if options.cv_clip and rho > cap.rho:
        flags.append(f"cross-validation chose {rho:.4g} ({bound_by}) and was clipped at the cap {cap.rho:.4g}")
        rho, bound_by, text = cap.rho, cap.bound_by, f"{text}, clipped at {cap.text}"
    flags.append("the radius was cross-validated: intervals are conditional on it, without a guarantee")
    return _Choice(rho, bound_by, text, tuple(flags), cv=_curve_table(curve, unit))


def _curve_table(curve: CvCurve, unit: float) -> dict[str, list[Any]]:
    table: dict[str, list[Any]] = {
        "rho": curve.rho.tolist(),
        "rho_over_lambda_min": (curve.rho / unit).tolist(),
        "loss": curve.mean.tolist(),
        "std_error": curve.std_error.tolist(),
    }
    return table | {f"loss[{label}]": curve.loss[e].tolist() for e, label in enumerate(curve.labels)}


def _given(rho: float, cap: _Choice, bounds: Thresholds, options: DriveOptions) -> _Choice:
    """A number, held to ``options.above_threshold``."""
    if rho <= bounds.rho_hat or options.above_threshold == "warn":
        return _Choice(rho, "user", "as given", cap.flags)
    if options.above_threshold == "error":
        raise OptionError(
            f"rho={rho:g} is above {bounds.rho_hat:.6g}, the threshold at the TSLS estimate, beyond which the limit of "
            f'DRIVE is not the effect; give a smaller rho, rho="theory", or DriveOptions(above_threshold="warn").'
        )
    clipped = options.near * bounds.rho_hat
    note = f"rho={rho:g} was above the threshold {bounds.rho_hat:.4g} and was clipped to {options.near:g} times it"
    return _Choice(clipped, "clip", note, (note,))


def _report(rule: str, choice: _Choice, cap: _Choice, bounds: Thresholds, options: DriveOptions) -> RadiusReport:
    rho, limit = choice.rho, bounds.rho_hat
    above = rho > limit
    # A clipped radius stands at the edge of the band below the threshold, where the limit law is unreliable too.
    near = rho > 0.0 and not above and (choice.bound_by == "clip" or rho > options.near * limit * (1.0 + _NULL))
    beyond = rho > bounds.rho_ols
    past_ols = (f"rho is above {bounds.rho_ols:.4g}, from where DRIVE with this target is OLS",) if beyond else ()
    _warn_of_thresholds(rho, bounds, above=above, near=near, beyond=beyond)
    return RadiusReport(
        rho=rho,
        rule=rule,
        bound_by=choice.bound_by,
        lambda_min=bounds.lambda_min,
        lambda_min_corrected=bounds.lambda_min_corrected,
        rho_hat=limit,
        rho_ols=bounds.rho_ols,
        ratio=_ratio(rho, limit),
        above=above,
        near=near,
        cap=cap.rho,
        score=choice.score or {},
        cv=choice.cv,
        flags=choice.flags + bounds.flags + past_ols,
        text=choice.text,
        lambda_min_at_b=bounds.lambda_min_at_b,
    )


def _ratio(rho: float, limit: float) -> float:
    if rho == 0.0:
        return 0.0
    return rho / limit if limit > 0.0 else math.inf


def _warn_of_thresholds(rho: float, bounds: Thresholds, *, above: bool, near: bool, beyond: bool) -> None:
    limit = bounds.rho_hat
    if beyond:
        warn(
            f"rho={rho:.4g} is above {bounds.rho_ols:.4g}, the radius at which DRIVE shrunk towards OLS is OLS; the "
            "estimate is clipped to OLS.",
            AboveThresholdWarning,
        )
    if above:
        warn(
            f"rho={rho:.4g} is above {limit:.4g}, the threshold at the TSLS estimate: the limit of DRIVE is then a "
            'pseudo-true value and not the effect. A smaller rho, or rho="theory", stays below every threshold.',
            AboveThresholdWarning,
        )
    if near:
        warn(
            f"rho={rho:.4g} is {rho / limit:.3f} times {limit:.4g}, the threshold at the TSLS estimate: the limit law "
            "diverges there, so its interval is unreliable. A smaller rho avoids that.",
            NearThresholdWarning,
        )
