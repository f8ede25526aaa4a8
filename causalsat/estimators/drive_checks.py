"""Checks of a `drive` fit: strength and validity of the instruments, the radius, the controls."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from causalsat.checks.iv_strength import strength_checks
from causalsat.checks.iv_tests import in_words
from causalsat.checks.iv_validity import validity_checks
from causalsat.checks.result import CheckResult
from causalsat.estimators.drive_equation import Equation
from causalsat.estimators.drive_options import DriveChoices
from causalsat.estimators.drive_words import radius_sentence
from causalsat.inference.iv_covariance import tested_sandwich
from causalsat.inference.iv_sets import ar_test, lm_test


def drive_checks(equations: Sequence[Equation], choices: DriveChoices) -> tuple[CheckResult, ...]:
    """Every check of every equation; with several equations a name carries its treatment."""
    found: list[CheckResult] = []
    for equation in equations:
        strength: list[CheckResult] = []
        validity: list[CheckResult] = []
        if equation.identified:
            strength = strength_checks(equation.rows, choices.covariance, equation.first_stage)
            validity = validity_checks(equation.rows, choices.covariance)
        checks = [radius_check(equation, choices, rejection(validity, choices)), *strength, *validity]
        if equation.rows.p > 1:
            checks.append(joint_check(equation, choices))
        if len(equations) > 1:
            name = equation.rows.treatments[0]
            named = f"[{name}]"
            checks = [c if c.name.endswith(named) else replace(c, name=c.name + named) for c in checks]
        found += checks
    return tuple(found)


def rejection(checks: Sequence[CheckResult], choices: DriveChoices) -> str:
    """The test that the over-identifying restrictions failed, under the study's covariance; "" when none did."""
    names = ("hansen", "sargan") if choices.covariance.kind == "classical" else ("hansen",)
    for check in checks:
        if check.name in names and check.passed is False:
            table = dict(zip(check.table["quantity"], check.table["value"], strict=True)) if check.table else {}
            return f"{check.name.title()} {check.statistic:.4g}, {in_words(float(table.get('p_value', np.nan)))}"
    return ""


def joint_check(equation: Equation, choices: DriveChoices) -> CheckResult:
    """Tests, valid with weak instruments or none, that the effects of several treatments all equal the null."""
    rows, null = equation.rows, choices.null
    at = np.full(rows.p, null)
    tests = {"ar, homoskedastic": ar_test(rows, at, law=choices.fine.ar_law)}
    sandwich = tested_sandwich(choices.covariance, rows)
    if sandwich.kind != "classical":
        tests = {"ar, robust": ar_test(rows, at, sandwich=sandwich)} | tests
    if equation.identified:
        tests["lm, homoskedastic"] = lm_test(rows, at)
    words = [
        f"{name}: {t.law}" if np.isnan(t.p_value) else f"{name} {t.statistic:.4g}, {t.law} ({in_words(t.p_value)})"
        for name, t in tests.items()
    ]
    text = (
        f"All effects ({', '.join(rows.treatments)}) equal {null:g}: {'; '.join(words)}. The homoskedastic tests hold "
        "for independent rows only. Neither answer is a failure."
    )
    return CheckResult(
        name="joint_null",
        passed=None,
        statistic=next(iter(tests.values())).statistic,
        text=text,
        table={
            "test": list(tests),
            "statistic": [t.statistic for t in tests.values()],
            "df": [t.df for t in tests.values()],
            "p_value": [t.p_value for t in tests.values()],
        },
    )


def radius_check(equation: Equation, choices: DriveChoices, rejected: str = "") -> CheckResult:
    """Whether rho stands clearly below the threshold up to which the limit is the effect, if instruments are valid.

    It cannot judge where the instruments contradict each other: ``rejected`` names the test, and no threshold is known
    then.
    """
    radius = equation.radius
    beyond = radius.above or radius.near
    return CheckResult(
        name="radius",
        passed=False if beyond else None if rejected and radius.rho > 0.0 else True,
        statistic=radius.ratio,
        text=radius_sentence(equation, choices.shrink_to, rejected=rejected),
        table={
            "quantity": ["rho", "cap", "smallest eigenvalue", "corrected", "threshold at TSLS"],
            "value": [radius.rho, radius.cap, radius.lambda_min, radius.lambda_min_corrected, radius.rho_hat],
        },
    )
