"""One equation of `drive`: radius, estimate, law, draws, comparators, weak-instrument sets."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from causalsat.checks.iv_strength import FirstStage, first_stage
from causalsat.errors import (
    CausalsatWarning,
    FewClustersWarning,
    NumericalError,
    WeakInstrumentWarning,
    warn,
)
from causalsat.estimators.drive_design import DriveDesign
from causalsat.estimators.drive_draws import plain_draws, recentred_draws
from causalsat.estimators.drive_fit import DriveFit, solve_drive
from causalsat.estimators.drive_law import LimitLaw, limit_law
from causalsat.estimators.drive_options import DriveChoices
from causalsat.estimators.drive_problem import DriveProblem, drive_problem
from causalsat.estimators.drive_radius import RadiusReport, choose_radius
from causalsat.estimators.drive_threshold import corrected_strength
from causalsat.estimators.drive_words import resampling_note, sets_to_read
from causalsat.estimators.k_class import NEAR_ONE, Estimate, comparator
from causalsat.inference.iv_rows import IvRows
from causalsat.inference.iv_sets import SetRow, confidence_sets
from causalsat.inference.options import Bootstrap
from causalsat.inference.seam import Draws
from causalsat.progress import Progress

_TRUSTED_BIAS = 10
_FEW_CLUSTERS = 30
_UNSETTLED = "the instruments identify no effect: a point estimate without an interval"
_NO_POINT = "the instruments identify no effect, and this estimator rests on them alone"


@dataclass(frozen=True, eq=False)
class Equation:
    """A fitted equation.

    Attributes
    ----------
    design : DriveDesign
        The study as arrays, net of what was partialled out.
    problem : DriveProblem
        The moments on the scale of the radius.
    radius : RadiusReport
        The radius, its rule and its thresholds.
    fit : DriveFit
        DRIVE at that radius, on the solver's scale.
    law : LimitLaw or None
        Limit law, where it holds.
    draws : Draws or None
        Bootstrap draws (b, 2p): DRIVE, then TSLS, on the solver's scale; recentred below the threshold.
    comparators : tuple of Estimate
        The other estimators.
    sets : tuple of SetRow
        Confidence sets that do not need strong instruments.
    first_stage : FirstStage or None
        Strength of the instruments; None without identification.
    """

    design: DriveDesign
    problem: DriveProblem
    radius: RadiusReport
    fit: DriveFit
    law: LimitLaw | None
    draws: Draws | None
    comparators: tuple[Estimate, ...]
    sets: tuple[SetRow, ...]
    first_stage: FirstStage | None

    @property
    def rows(self) -> IvRows:
        """The rows in raw units."""
        return self.design.rows

    @property
    def identified(self) -> bool:
        """Whether the instruments determine the effect."""
        return self.design.identified

    @property
    def weak(self) -> bool:
        """Whether intervals around an estimate should not be trusted: weak by effective F, or an unbounded AR set."""
        return bool(weakness(self.first_stage, self.sets))


def fit_equation(design: DriveDesign, choices: DriveChoices, progress: Progress) -> Equation:
    """Everything `drive` computes for one equation."""
    rows = design.rows
    _warn_of_few_clusters(rows)
    problem = problem_of(rows, choices)
    radius = choose_radius(
        problem, choices.rho, choices.fine, choices.covariance, seed=choices.seed, environments=design.environments
    )
    fit = solve_drive(problem, radius.rho)
    identified = design.identified
    law, draws = None, None
    if identified and not radius.above:
        law = limit_law(problem, radius.rho, choices.covariance, n_law=choices.fine.n_law, seed=choices.seed)
    if identified and choices.bootstrap is not None and (radius.above or "recentred" in choices.intervals):
        draws = _draws(problem, radius, choices, progress)
    found = Equation(
        design=design,
        problem=problem,
        radius=radius,
        fit=fit,
        law=law,
        draws=draws,
        comparators=comparators(design, problem, fit, choices),
        sets=weak_sets(design, choices),
        first_stage=first_stage(rows, choices.covariance) if identified else None,
    )
    for text in weakness(found.first_stage, found.sets):
        warn(text, WeakInstrumentWarning)
    note = "" if draws is None else resampling_note(found, draws.scheme, choices.covariance.kind)
    if note:
        warn(f"{note}.", CausalsatWarning)
    return found


def _warn_of_few_clusters(rows: IvRows) -> None:
    ways = [codes for codes in (rows.sampling.cluster, rows.sampling.second) if codes is not None]
    fewest = min((int(np.unique(codes).size) for codes in ways), default=_FEW_CLUSTERS)
    if fewest < _FEW_CLUSTERS:
        warn(
            f"{fewest} clusters are few for drive (fewer than {_FEW_CLUSTERS}): its intervals and robust sets may be "
            "too short, and no wild bootstrap is offered for its rows. Take a finer cluster column where errors "
            "allow it.",
            FewClustersWarning,
        )


def _draws(problem: DriveProblem, radius: RadiusReport, choices: DriveChoices, progress: Progress) -> Draws:
    """Bootstrap draws: plain above the threshold, recentred below it, with rho chosen again in each on request."""
    bootstrap, fine = choices.bootstrap or Bootstrap(), choices.fine
    if radius.above:
        return plain_draws(problem, radius.rho, bootstrap, seed=choices.seed, progress=progress)
    reselect = None
    if fine.reselect:
        bias = np.zeros_like(problem.A)
        if fine.many_instruments:
            bias = problem.A - corrected_strength(problem, choices.covariance)
        reselect = (fine.cap, bias)
    return recentred_draws(problem, radius.rho, bootstrap, seed=choices.seed, reselect=reselect, progress=progress)


def problem_of(rows: IvRows, choices: DriveChoices) -> DriveProblem:
    """The problem on its scale; metric="gmm" weighs moments by their variance under the study's covariance."""
    return drive_problem(
        rows, scale=choices.scale, shrink_to=choices.shrink_to, metric=choices.metric, sandwich=choices.covariance
    )


def comparators(
    design: DriveDesign, problem: DriveProblem, fit: DriveFit, choices: DriveChoices
) -> tuple[Estimate, ...]:
    """The other estimators on the same rows; one that has no number here says why."""
    fine, rows = choices.fine, design.rows
    penalty = fit.lam if fine.ridge is None else fine.ridge
    found = []
    for method in choices.compare:
        if not design.identified and method in NEAR_ONE:
            found.append(_without_number(method, rows, _NO_POINT))
            continue
        try:
            made = comparator(
                method, rows, choices.covariance, fuller=fine.fuller, kappa=fine.kappa, gamma=fine.gamma,
                ridge=(penalty, problem), estimated_first_stage=True,
            )  # fmt: skip
        except NumericalError as error:
            made = _without_number(method, rows, str(error))
        if not design.identified:
            made = replace(made, covariance=None, unavailable=_UNSETTLED)
        found.append(made)
    return tuple(found)


def _without_number(method: str, rows: IvRows, why: str) -> Estimate:
    nothing = np.full(rows.p, np.nan)
    return Estimate(method, nothing, np.nan, np.full((rows.n, rows.p), np.nan), None, np.inf, why, {})


def weak_sets(design: DriveDesign, choices: DriveChoices) -> tuple[SetRow, ...]:
    """Sets that hold whatever the strength of the instruments, by treatment, those that allow for dependence first.

    AR is forced when an instrument comes from images.
    """
    methods = choices.sets
    if design.embedding_instruments and "ar" not in methods:
        methods = ("ar", *methods)
    if not methods:
        return ()
    found = confidence_sets(
        design.rows, methods, level=choices.level, sandwich=choices.covariance, ar_law=choices.fine.ar_law,
        null=choices.null,
    )  # fmt: skip
    place = {name: j for j, name in enumerate(design.rows.treatments)}
    return tuple(sorted(found, key=lambda row: (place[row.treatment], row.kind != "robust")))


def weakness(strength: FirstStage | None, sets: Sequence[SetRow]) -> list[str]:
    """Why the instruments count as weak; empty when they do not."""
    texts = []
    if strength is not None and strength.weak:
        texts.append(
            f"{_strength_words(strength)}: {sets_to_read(sets)}. Intervals around an estimate assume strong "
            "instruments."
        )
    robust = any(row.kind == "robust" for row in sets)
    for row in sets:
        ruling = row.method == "ar" and (row.kind == "robust" or not robust)
        if ruling and row.found is not None and np.isinf(row.found.hull()).any():
            texts.append(
                f"the Anderson-Rubin set of {row.treatment} is unbounded ({row.found.text}): the instruments do not "
                "settle the effect."
            )
            break
    return texts


def _strength_words(strength: FirstStage) -> str:
    """The number that calls the instruments weak, or why there is none."""
    if len(strength.treatments) > 1:
        rank = strength.kleibergen_paap.f
        found = "does not exist" if np.isnan(rank) else f"is {rank:.2f}"
        if strength.unequal:
            return f"the Kleibergen-Paap F {found} and should exceed ten"
        return (
            f"the smallest conditional F is {strength.sanderson_windmeijer.min():.2f} and the Kleibergen-Paap F "
            f"{found}; both should exceed ten"
        )
    if np.isnan(strength.f_effective):
        why = strength.unavailable.get("effective_f", "the variance of the first stage does not exist")
        return f"the effective F does not exist ({why}), so that nothing shows the instruments to be strong"
    needed = strength.effective_critical[_TRUSTED_BIAS]
    return (
        f"the effective F is {strength.f_effective:.2f}, not above {needed:.2f}, its critical value for a bias of "
        f"{_TRUSTED_BIAS} % of the worst case"
    )
