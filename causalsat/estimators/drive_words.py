"""What `drive` says in words: estimand, assumptions, and the sentence that reads the radius."""

from causalsat.estimators.drive_equation import Equation
from causalsat.estimators.drive_problem import DriveProblem

ASSUMPTIONS = (
    "relevance: the instruments move the treatment, given the covariates",
    "exclusion: the instruments move the outcome through the treatment alone",
    "exogeneity: the instruments are uncorrelated with what else moves the outcome, given the covariates",
    "linearity: where effects differ across units, TSLS and DRIVE target the same instrument-weighted average of them",
    "strong identification for every interval around an estimate; the sets (ar, clr, lm) do without it",
)
COMPLIERS = (
    "treatment and instrument are binary: with monotonicity the effect is the average over compliers, units whose "
    "treatment follows the instrument"
)
PERCENTILE_REASON = (
    "the draws are shifted by the shrinkage once more, so a percentile interval counts the bias twice (it covered "
    '.69 instead of .95 in a strong, valid design); the rows "limit" and "recentred" are the intervals of DRIVE.'
)
LIMIT_REASON = "above the threshold DRIVE tends to a pseudo-true value and its limit law at the effect does not exist"


def estimand_words(above: bool) -> dict[str, str]:
    """What the rows estimate."""
    words = {
        "effect": "change of the outcome per unit of treatment, an instrument-weighted average where effects differ"
    }
    if above:
        words["drive"] = "pseudo-true value"
    return words


def radius_sentence(equation: Equation, shrink_to: str) -> str:
    """One long sentence on what rho means here."""
    radius, rows, name = equation.radius, equation.rows, unshrunk(equation.problem)
    target = "zero" if shrink_to == "zero" else "OLS"
    if radius.rho == 0.0:
        return f"rho = 0 ({radius.text}): DRIVE is {name} here, and nothing is shrunk towards {target}."
    consequence = (
        "so its limit is a pseudo-true value and not the effect"
        if radius.above
        else "so its limit is the effect itself, with a shrinkage of the order of a standard error"
        if rows.q > rows.p
        else f"so with as many instruments as treatments it equals {name} exactly"
    )
    return (
        f"rho = {radius.rho:.4g} ({radius.text}) {_meaning(equation.problem, radius.rho)}, shrinks towards {target}, "
        f"and stands {_place(equation)}, {consequence}."
    )


def unshrunk(problem: DriveProblem) -> str:
    """What DRIVE is at rho = 0."""
    return "TSLS" if problem.metric == "tsls" else "two-step GMM"


def _meaning(problem: DriveProblem, rho: float) -> str:
    """The guarantee that a radius stands for; only rows in the TSLS metric have the reading of a ball of laws."""
    size = f"sqrt(rho) = {rho**0.5:.4g}"
    if problem.metric == "gmm":
        return f"weighs {size} times the penalty against moments in their robust metric (no ball around the rows)"
    if problem.shrink_to == "ols":
        return (
            "guards against every law of the projected rows within a Wasserstein distance of "
            f"{size}, measured in the noise that the instruments leave and hence free of units"
        )
    scaled = problem.sd_y != 1.0 or (problem.sd_x != 1.0).any()
    unit = "on the scale of unit standard deviations" if scaled else "on the raw scale"
    return f"guards against every law of the projected rows within a Wasserstein distance of {size} {unit}"


def _place(equation: Equation) -> str:
    radius = equation.radius
    if not equation.identified:
        return "above the threshold, which is zero without identification"
    if radius.rho_hat == float("inf"):
        return "below the threshold, which is infinite where the penalty is flat"
    side = "above" if radius.above else "below"
    return f"at {radius.ratio:.2f} times the threshold {radius.rho_hat:.4g}, {side} it"
