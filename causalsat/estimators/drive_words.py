"""What `drive` says in words: estimand, assumptions, the sentence that reads the radius, what a reader must know."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from causalsat.estimators.drive_problem import DriveProblem
from causalsat.inference.iv_sets import SetRow

if TYPE_CHECKING:
    from causalsat.estimators.drive_design import DriveDesign
    from causalsat.estimators.drive_equation import Equation

ASSUMPTIONS = (
    "relevance: the instruments move the treatment, given the covariates",
    "exclusion: the instruments move the outcome through the treatment alone",
    "exogeneity: the instruments are uncorrelated with what else moves the outcome, given the covariates",
    "linearity: where effects differ across units, TSLS and DRIVE target the same instrument-weighted average of them",
    "strong identification for every interval around an estimate; the sets do without it: AR (robust) under the "
    "covariance of the standard errors, AR (homoskedastic), CLR and LM for independent rows of equal variance only",
)
EFFECT = "change of the outcome per unit of treatment, an instrument-weighted average where effects differ"
PSEUDO_TRUE = "pseudo-true value"
UNSETTLED = "no effect is identified; rho = 0 takes the shortest of the values that fit the moments equally well"
COMPLIERS = (
    "treatment and instrument are binary: with monotonicity the effect is the average over compliers, units whose "
    "treatment follows the instrument"
)
CELL_COMPLIERS = (
    "treatment and instrument are binary and the covariates have one parameter per cell: with monotonicity in the same "
    "direction in every cell the effect is an average over compliers, cells weighted by how much the instrument varies "
    "and moves the treatment in them"
)
NO_COMPLIERS = (
    "treatment and instrument are binary, but the covariates enter linearly: the effect is an average over compliers "
    "only if the mean of the instrument given the covariates is linear in them, as with one parameter per cell"
)
NO_SETS = 'no set that does without strong instruments stands here (sets=("ar",) asks for one)'
PERCENTILE_REASON = (
    "the draws are shifted by the shrinkage once more, so a percentile interval counts the bias twice (it covered "
    '.69 instead of .95 in a strong, valid design); the rows "limit" and "recentred" are the intervals of DRIVE.'
)
LIMIT_REASON = "above the threshold DRIVE tends to a pseudo-true value and its limit law at the effect does not exist"


def estimand_words(equations: Sequence["Equation"]) -> str | dict[str, str]:
    """What the rows of DRIVE estimate; by treatment where equations differ."""
    words = [
        PSEUDO_TRUE if e.radius.above else EFFECT if e.identified or e.radius.rho > 0.0 else UNSETTLED
        for e in equations
    ]
    if len(set(words)) == 1:
        return words[0]
    return {e.rows.treatments[0]: word for e, word in zip(equations, words, strict=True)}


def radius_sentence(equation: "Equation", shrink_to: str, *, rejected: str = "") -> str:
    """One long sentence on what rho means here; ``rejected`` are the words of a test that the instruments failed."""
    radius, name = equation.radius, unshrunk(equation.problem)
    target = "zero" if shrink_to == "zero" else "OLS"
    if radius.rho == 0.0:
        return f"rho = 0 ({radius.text}): DRIVE is {name} here, and nothing is shrunk towards {target}."
    return (
        f"rho = {radius.rho:.4g} ({radius.text}) {_meaning(equation.problem, radius.rho)}, shrinks towards {target}, "
        f"and stands {_place(equation)}, {_consequence(equation, name, target, rejected)}."
    )


def _consequence(equation: "Equation", name: str, target: str, rejected: str) -> str:
    """Where the estimate tends: to the effect only if the instruments are valid."""
    rows = equation.rows
    if equation.radius.above:
        return "so its limit is a pseudo-true value and not the effect"
    if rows.q == rows.p:
        return (
            f"so with as many instruments as treatments it equals {name} exactly, whose limit is the effect if the "
            "instruments are valid"
        )
    if rejected:
        return (
            f"but the instruments contradict each other ({rejected}): the limit of {name} is then not known to be the "
            f"effect, and at every rho above zero DRIVE tends to a version of that limit shrunk towards {target}, not "
            "to the effect"
        )
    return (
        f"so its limit is the limit of {name}, which is the effect if the instruments are valid, with a shrinkage of "
        "the order of a standard error"
    )


def sets_to_read(sets: Sequence[SetRow]) -> str:
    """Which sets hold here without strong instruments: the robust one, or all of them for independent rows."""
    found = [row for row in sets if row.found is not None]
    no_sets = "no set exists here, and its row says why" if sets else NO_SETS
    others = "the other sets hold for homoskedastic, independent rows only"
    if any(row.kind == "robust" for row in sets):
        if not any(row.kind == "robust" for row in found):
            return f"no set that allows for dependence between rows exists here; {others}" if found else no_sets
        text = (
            "read the AR (robust) set first, which holds under the covariance of the standard errors however weak the "
            "instruments are"
        )
        return f"{text}; {others}" if any(row.kind != "robust" for row in found) else text
    names = list(dict.fromkeys(row.method.upper() for row in found))
    if not names:
        return no_sets
    tail = "sets first, which hold" if len(names) > 1 else "set first, which holds"
    return f"read the {' and '.join(names)} {tail} for independent rows however weak the instruments are"


def complier_words(design: "DriveDesign") -> str:
    """What one binary treatment and one binary instrument, of any coding, let the effect be; "" for others.

    The treatment's values must be one unit apart, or the effect per unit is not that of taking the treatment.
    """
    study, kept = design.study, design.kept
    if len(study.names["treatment"]) != 1 or len(study.names["instruments"]) != 1:
        return ""
    values = [np.unique(study.numeric[role][kept]) for role in ("treatment", "instruments")]
    if any(v.size != 2 for v in values) or not np.isclose(values[0][1] - values[0][0], 1.0):
        return ""
    covariates = design.covariate_matrix
    constant_only = covariates.shape[1] <= 1 and not design.levels
    if design.images is None and constant_only:
        return COMPLIERS
    one_factor = len(design.levels) == 1 and not covariates.shape[1]
    if design.images is None and (one_factor or (not design.levels and _saturated(covariates))):
        return CELL_COMPLIERS
    return NO_COMPLIERS


def _saturated(covariates: np.ndarray) -> bool:
    """Whether independent columns (n, m) have one parameter per distinct row."""
    some = covariates[: 4 * covariates.shape[1] + 64]
    if np.unique(some, axis=0).shape[0] > covariates.shape[1]:
        return False
    return bool(np.unique(covariates, axis=0).shape[0] == covariates.shape[1])


def set_title(row: SetRow) -> str:
    """The name of a set with what it assumes."""
    kind = "robust" if row.kind == "robust" else f"{row.kind}, independent rows only"
    return f"{row.method.upper()} set of {row.treatment} ({kind})"


def resampling_note(equation: "Equation", scheme: str, covariance: str) -> str:
    """What to know when the draws and the covariance take different units for independent; "" when they agree."""
    clustered = equation.rows.sampling.cluster is not None
    by_cluster = scheme == "cluster" or (scheme in ("bayes", "multiplier") and clustered)
    drawn = "tiles" if scheme == "block" else "clusters" if by_cluster else "single rows"
    units = {"cluster": "clusters", "twoway": "clusters of two kinds", "conley": "tiles"}.get(covariance, "single rows")
    if drawn == units:
        return ""
    assumed = {"tiles": "neighbouring rows as dependent"}.get(units, f"{units} as independent")
    advice = {
        "tiles": 'inference=Bootstrap(n, "block", block_km=...) with the cutoff as the side of the blocks',
        "clusters": 'inference=Bootstrap(n, "cluster")',
    }.get(units, "a covariance for the same units")
    return (
        f'the draws of inference resample {drawn} (scheme "{scheme}"), while standard errors and limit law take '
        f'{assumed} (covariance "{covariance}"): the bootstrap rows do not allow for the same dependence. Use {advice}'
    )


def flags(equation: "Equation") -> list[str]:
    """What a reader must know about the radius, the weights of the moments, the limit law, the draws, the errors."""
    found = [*equation.radius.flags, *equation.problem.flags]
    if equation.law is not None:
        found += equation.law.flags
    if equation.draws is not None:
        found += equation.draws.notes.get("flags", ())
    for made in equation.comparators:
        if made.covariance is not None and made.covariance.notes.get("assumption"):
            found.append(str(made.covariance.notes["assumption"]))
    return list(dict.fromkeys(found))


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


def _place(equation: "Equation") -> str:
    radius = equation.radius
    if not equation.identified:
        return "above the threshold, which is zero without identification"
    if radius.rho_hat == float("inf"):
        return "below the threshold, which is infinite where the penalty is flat"
    side = "above" if radius.above else "below"
    return f"at {radius.ratio:.2f} times the threshold {radius.rho_hat:.4g}, {side} it"
