"""What `drive` says in words: estimand, assumptions, and the sentence that reads the radius."""

from causalsat.estimators.drive_equation import Equation

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
    radius, rows = equation.radius, equation.rows
    target = "zero" if shrink_to == "zero" else "OLS"
    unit = "on the scale of unit standard deviations" if equation.problem.sd_y != 1.0 else "on the raw scale"
    if radius.rho == 0.0:
        return f"rho = 0 ({radius.text}): DRIVE is TSLS here, and nothing is shrunk towards {target}."
    side = "above" if radius.above else "below"
    consequence = (
        "so its limit is a pseudo-true value and not the effect"
        if radius.above
        else "so its limit is the effect itself, with a shrinkage of the order of a standard error"
        if rows.q > rows.p
        else "so with as many instruments as treatments it equals TSLS exactly"
    )
    return (
        f"rho = {radius.rho:.4g} ({radius.text}) guards against every law of the projected rows within a Wasserstein "
        f"distance of sqrt(rho) = {radius.rho**0.5:.4g} {unit}, shrinks towards {target}, and stands at "
        f"{radius.ratio:.2f} times the threshold {radius.rho_hat:.4g}, {side} it, {consequence}."
    )
