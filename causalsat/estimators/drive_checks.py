"""Checks of a `drive` fit: strength and validity of the instruments, the radius, the controls."""

from collections.abc import Sequence
from dataclasses import replace

from causalsat.checks.iv_strength import strength_checks
from causalsat.checks.iv_validity import validity_checks
from causalsat.checks.result import CheckResult
from causalsat.estimators.drive_equation import Equation
from causalsat.estimators.drive_options import DriveChoices
from causalsat.estimators.drive_words import radius_sentence


def drive_checks(equations: Sequence[Equation], choices: DriveChoices) -> tuple[CheckResult, ...]:
    """Every check of every equation; with several equations a name carries its treatment."""
    found: list[CheckResult] = []
    for equation in equations:
        checks = [radius_check(equation, choices)]
        if equation.identified:
            checks += strength_checks(equation.rows, choices.covariance, equation.first_stage)
            checks += validity_checks(equation.rows, choices.covariance)
        if len(equations) > 1:
            name = equation.rows.treatments[0]
            named = f"[{name}]"
            checks = [c if c.name.endswith(named) else replace(c, name=c.name + named) for c in checks]
        found += checks
    return tuple(found)


def radius_check(equation: Equation, choices: DriveChoices) -> CheckResult:
    """Whether rho stands clearly below the threshold up to which the limit is the effect."""
    radius = equation.radius
    return CheckResult(
        name="radius",
        passed=not (radius.above or radius.near),
        statistic=radius.ratio,
        text=radius_sentence(equation, choices.shrink_to),
        table={
            "quantity": ["rho", "cap", "smallest eigenvalue", "corrected", "threshold at TSLS"],
            "value": [radius.rho, radius.cap, radius.lambda_min, radius.lambda_min_corrected, radius.rho_hat],
        },
    )
