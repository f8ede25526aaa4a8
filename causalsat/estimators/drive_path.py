"""The path of DRIVE over its radius, and what the plots of a result show."""

from typing import TYPE_CHECKING, Any

import numpy as np

from causalsat.checks.iv_strength import RULE_OF_THUMB, FirstStage
from causalsat.effects.iv_plots import PathPicture, SetLine, StrengthBar
from causalsat.effects.table import EffectTable
from causalsat.errors import OptionError
from causalsat.estimators.drive_equation import Equation
from causalsat.estimators.drive_fit import DrivePath, default_grid, solve_path
from causalsat.estimators.drive_law import limit_law
from causalsat.estimators.drive_options import DriveChoices
from causalsat.estimators.drive_pick import treatment_at
from causalsat.estimators.drive_words import unshrunk
from causalsat.inference.iv_sets import SetRow

if TYPE_CHECKING:
    import pandas as pd

BIAS, SIZE = "Stock-Yogo, 10 % bias", "Stock-Yogo, 10 % size"
EFFECTIVE, TEN = "Montiel Olea-Pflueger, 10 % bias", "rule of thumb, ten"
_BAND_POINTS = 24
_BAND_DRAWS = 4000


def path_frame(equation: Equation, rhos: np.ndarray | None) -> "pd.DataFrame":
    """Radii, penalty, loss, size and coefficients in raw units along the path.

    A treatment that is called like one of the columns of the path stands in the column "treatment <name>".
    """
    import pandas as pd

    problem, radius = equation.problem, equation.radius
    rhos, found = _solved(equation, rhos)
    frame: dict[str, Any] = {
        "rho": rhos,
        "rho_over_lambda_min": rhos / radius.lambda_min if radius.lambda_min > 0.0 else np.full(rhos.size, np.nan),
        "lam": found.lam,
        "s": found.s,
        "t": found.t,
        "above_threshold": rhos > radius.rho_hat,
    }
    raw = problem.to_raw(found.b)
    names = _columns(problem.rows.treatments, tuple(frame))
    return pd.DataFrame(frame | {name: raw[:, j] for j, name in enumerate(names)})


def _columns(treatments: tuple[str, ...], own: tuple[str, ...]) -> list[str]:
    """One name per treatment that neither the path's own columns nor another treatment bears."""
    names: list[str] = []
    for j, treatment in enumerate(treatments):
        name, others = treatment, {*own, *names, *treatments[:j], *treatments[j + 1 :]}
        while name in others:
            name = f"treatment {name}"
        names.append(name)
    return names


def _solved(equation: Equation, rhos: np.ndarray | None) -> tuple[np.ndarray, DrivePath]:
    problem, radius = equation.problem, equation.radius
    if rhos is None:
        rhos = default_grid(problem, radius.lambda_min, radius.rho_hat)
    if rhos.ndim != 1 or not (np.isfinite(rhos) & (rhos >= 0.0)).all():
        raise OptionError("rhos must be a sequence of finite numbers of at least 0, squared radii.")
    return rhos, solve_path(problem, rhos)


def path_picture(
    equation: Equation, choices: DriveChoices, treatment: int | str | None = None
) -> tuple[PathPicture, ...]:
    """The path of every treatment, or of one, with a band from the limit law at points below the threshold."""
    if not equation.identified:
        raise OptionError("the equation is not identified: its path has no threshold to plot; read .path() instead.")
    radius, problem = equation.radius, equation.problem
    names = problem.rows.treatments
    shown = range(len(names)) if treatment is None else (treatment_at(names, treatment),)
    rhos, found = _solved(equation, None)
    rho, raw = rhos[rhos > 0.0], problem.to_raw(found.b)[rhos > 0.0]
    low, high = _band(equation, choices, rho, raw)
    unit, moments = radius.lambda_min, equation.rows.moments
    ols = np.linalg.lstsq(moments.XX, moments.Xy, rcond=None)[0]
    start = problem.to_raw(problem.b_tsls)
    verticals = {
        "cap": radius.cap / unit,
        "smallest eigenvalue": 1.0,
        "threshold": radius.rho_hat / unit,
        "chosen": radius.rho / unit,
    }
    return tuple(
        PathPicture(
            x=rho / unit,
            estimate=raw[:, j],
            low=low[:, j],
            high=high[:, j],
            name=names[j],
            verticals=verticals,
            horizontals={unshrunk(problem): float(start[j]), "OLS": float(ols[j]), "0": 0.0},
            threshold=radius.rho_hat / unit,
        )
        for j in shown
    )


def _band(
    equation: Equation, choices: DriveChoices, rho: np.ndarray, estimate: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """(r, p) ends of the limit-law interval by interpolation between a few radii; NaN above the threshold."""
    low, high = np.full(estimate.shape, np.nan), np.full(estimate.shape, np.nan)
    valid = np.flatnonzero(rho < choices.fine.near * equation.radius.rho_hat)
    if not valid.size or equation.rows.q < equation.rows.p:
        return low, high
    knots = np.unique(np.linspace(0, valid.size - 1, min(_BAND_POINTS, valid.size)).round().astype(int))
    tail = (1.0 - choices.level) / 2.0
    shifts = []
    for i in valid[knots]:
        law = limit_law(equation.problem, float(rho[i]), choices.covariance, n_law=_BAND_DRAWS, seed=choices.seed)
        draws = equation.problem.to_raw(law.draws) / np.sqrt(equation.rows.n)
        shifts.append(np.quantile(draws, [1.0 - tail, tail], axis=0))
    ends = np.array(shifts)
    for j in range(estimate.shape[1]):
        low[valid, j] = estimate[valid, j] - np.interp(valid, valid[knots], ends[:, 0, j])
        high[valid, j] = estimate[valid, j] - np.interp(valid, valid[knots], ends[:, 1, j])
    return low, high


def strength_bars(
    equation: Equation, treatment: int | str = 0
) -> tuple[list[StrengthBar], dict[str, tuple[np.ndarray, np.ndarray]], str]:
    """F statistics with critical values, partial residuals of a treatment on each instrument, and its name."""
    strength, rows = equation.first_stage, equation.rows
    if strength is None:
        raise OptionError("the equation is not identified, so its instruments have no strength to plot.")
    at = treatment_at(rows.treatments, treatment)
    bars = _single_bars(strength) if rows.p == 1 else _several_bars(strength)
    root = np.sqrt(rows.weights)
    points = {}
    for k, name in enumerate(rows.instruments):
        others = np.delete(rows.Z, k, axis=1) * root[:, None]
        columns = np.column_stack([rows.Z[:, k], rows.X[:, at]]) * root[:, None]
        if others.shape[1]:
            columns = columns - others @ np.linalg.lstsq(others, columns, rcond=None)[0]
        points[name] = (columns[:, 0], columns[:, 1])
    return bars, points, rows.treatments[at]


def _single_bars(strength: FirstStage) -> list[StrengthBar]:
    """One treatment: the classical F is the Cragg-Donald F, the robust F the Kleibergen-Paap F."""
    name, stock_yogo = strength.treatments[0], _stock_yogo(strength)
    return [
        StrengthBar(f"classical F, {name}", float(strength.f_classical[0]), stock_yogo),
        StrengthBar(f"robust F, {name}", float(strength.f_robust[0])),
        StrengthBar("effective F", strength.f_effective, _marks({EFFECTIVE: strength.effective_critical[10]})),
        StrengthBar("Cragg-Donald F", strength.cragg_donald.f, stock_yogo),
        StrengthBar("Kleibergen-Paap F", strength.kleibergen_paap.f),
    ]


def _several_bars(strength: FirstStage) -> list[StrengthBar]:
    """Several treatments: ten where weakness is judged by it; no classical F is with unequal weights."""
    ten = _marks({TEN: RULE_OF_THUMB})
    classical = () if strength.unequal else ten
    bars = []
    for j, name in enumerate(strength.treatments):
        bars.append(StrengthBar(f"classical F, {name}", float(strength.f_classical[j])))
        bars.append(StrengthBar(f"robust F, {name}", float(strength.f_robust[j])))
        bars.append(StrengthBar(f"conditional F, {name}", float(strength.sanderson_windmeijer[j]), classical))
    judge = _stock_yogo(strength) if np.isfinite(strength.kleibergen_paap.f) else _stock_yogo(strength) + classical
    bars.append(StrengthBar("Cragg-Donald F", strength.cragg_donald.f, judge))
    bars.append(StrengthBar("Kleibergen-Paap F", strength.kleibergen_paap.f, ten))
    return bars


def _stock_yogo(strength: FirstStage) -> tuple[tuple[str, float], ...]:
    """None with unequal weights, which the classical F takes for precisions."""
    if strength.unequal:
        return ()
    return _marks({BIAS: strength.stock_yogo_bias.values[10], SIZE: strength.stock_yogo_size.values[10]})


def _marks(values: dict[str, float]) -> tuple[tuple[str, float], ...]:
    return tuple((label, float(value)) for label, value in values.items() if np.isfinite(value))


def set_lines(table: EffectTable, sets: tuple[SetRow, ...]) -> list[SetLine]:
    """Every row of the table as a line: intervals in one piece, sets in theirs."""
    lines = []
    pieces = {(s.method, s.treatment, s.kind): s.found for s in sets if s.found is not None}
    for i in range(len(table)):
        key = (str(table["method"][i]), str(table["treatment"][i]), str(table["interval"][i]))
        label = " · ".join(key)
        low, high = float(table["conf_low"][i]), float(table["conf_high"][i])
        if key in pieces:
            lines.append(SetLine(label, np.nan, pieces[key].pieces, pieces[key].text))
        elif np.isfinite(low) and np.isfinite(high):
            lines.append(SetLine(label, float(table["estimate"][i]), ((low, high),)))
    return lines
