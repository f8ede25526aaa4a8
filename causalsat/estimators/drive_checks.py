"""Checks of a `drive` fit: strength and validity of the instruments, the radius, the controls."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from causalsat.checks.iv_strength import strength_checks
from causalsat.checks.iv_validity import validity_checks
from causalsat.checks.result import CheckResult
from causalsat.estimators.drive_equation import Equation
from causalsat.estimators.drive_options import DriveChoices
from causalsat.estimators.drive_words import radius_sentence
from causalsat.inference.iv_sets import ar_test, lm_test


def drive_checks(equations: Sequence[Equation], choices: DriveChoices) -> tuple[CheckResult, ...]:
    """Every check of every equation; with several equations a name carries its treatment."""
    found: list[CheckResult] = []
    for equation in equations:
        checks = [radius_check(equation, choices)]
        if equation.identified:
            checks += strength_checks(equation.rows, choices.covariance, equation.first_stage)
            checks += validity_checks(equation.rows, choices.covariance)
            if equation.rows.p > 1:
                checks.append(joint_check(equation, choices))
        if len(equations) > 1:
            name = equation.rows.treatments[0]
            named = f"[{name}]"
            checks = [c if c.name.endswith(named) else replace(c, name=c.name + named) for c in checks]
        found += checks
    return tuple(found)


def joint_check(equation: Equation, choices: DriveChoices) -> CheckResult:
    """Tests, valid with weak instruments, that the effects of several treatments all equal the null."""
    rows, null = equation.rows, choices.null
    at = np.full(rows.p, null)
    tests = {"ar, homoskedastic": ar_test(rows, at, law=choices.fine.ar_law)}
    if choices.covariance.kind != "classical":
        tests["ar, robust"] = ar_test(rows, at, sandwich=choices.covariance)
    tests["lm, homoskedastic"] = lm_test(rows, at)
    words = [
        f"{name}: {t.law}" if np.isnan(t.statistic) else f"{name} {t.statistic:.4g}, {t.law} (p = {t.p_value:.4f})"
        for name, t in tests.items()
    ]
    text = (
        f"All effects ({', '.join(rows.treatments)}) equal {null:g}: {'; '.join(words)}. Neither answer is a failure."
    )
    return CheckResult(
        name="joint_null",
        passed=None,
        statistic=tests["ar, homoskedastic"].statistic,
        text=text,
        table={
            "test": list(tests),
            "statistic": [t.statistic for t in tests.values()],
            "df": [t.df for t in tests.values()],
            "p_value": [t.p_value for t in tests.values()],
        },
    )


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
