"""The path of DRIVE over its radius, and what the plots of a result show."""

from typing import TYPE_CHECKING, Any

import numpy as np

from causalsat.effects.iv_plots import PathPicture, SetLine
from causalsat.effects.table import EffectTable
from causalsat.errors import OptionError
from causalsat.estimators.drive_equation import Equation
from causalsat.estimators.drive_fit import default_grid, solve_path
from causalsat.estimators.drive_law import limit_law
from causalsat.estimators.drive_options import DriveChoices
from causalsat.estimators.drive_words import unshrunk
from causalsat.inference.iv_sets import SetRow

if TYPE_CHECKING:
    import pandas as pd

_BAND_POINTS = 24
_BAND_DRAWS = 4000


def path_frame(equation: Equation, rhos: np.ndarray | None) -> "pd.DataFrame":
    """Radii, penalty, loss, size and coefficients in raw units along the path."""
    import pandas as pd

    problem, radius = equation.problem, equation.radius
    if rhos is None:
        rhos = default_grid(problem, radius.lambda_min, radius.rho_hat)
    if rhos.ndim != 1 or not (np.isfinite(rhos) & (rhos >= 0.0)).all():
        raise OptionError("rhos must be a sequence of finite numbers of at least 0, squared radii.")
    found = solve_path(problem, rhos)
    frame: dict[str, Any] = {
        "rho": rhos,
        "rho_over_lambda_min": rhos / radius.lambda_min if radius.lambda_min > 0.0 else np.full(rhos.size, np.nan),
        "lam": found.lam,
        "s": found.s,
        "t": found.t,
        "above_threshold": rhos > radius.rho_hat,
    }
    raw = problem.to_raw(found.b)
    return pd.DataFrame(frame | {name: raw[:, j] for j, name in enumerate(problem.rows.treatments)})


def path_picture(equation: Equation, choices: DriveChoices, treatment: int = 0) -> PathPicture:
    """The path of one treatment with a band from the limit law at points below the threshold."""
    if not equation.identified:
        raise OptionError("the equation is not identified: its path has no threshold to plot; read .path() instead.")
    frame, radius, problem = path_frame(equation, None), equation.radius, equation.problem
    shown = frame["rho"].to_numpy() > 0.0
    x, rho = frame["rho_over_lambda_min"].to_numpy()[shown], frame["rho"].to_numpy()[shown]
    name = problem.rows.treatments[treatment]
    low, high = _band(equation, choices, rho, frame[name].to_numpy()[shown], treatment)
    unit = radius.lambda_min
    moments = equation.rows.moments
    ols = np.linalg.lstsq(moments.XX, moments.Xy, rcond=None)[0]
    return PathPicture(
        x=x,
        estimate=frame[name].to_numpy()[shown],
        low=low,
        high=high,
        name=name,
        verticals={
            "cap": radius.cap / unit,
            "smallest eigenvalue": 1.0,
            "threshold": radius.rho_hat / unit,
            "chosen": radius.rho / unit,
        },
        horizontals={
            unshrunk(problem): float(problem.to_raw(problem.b_tsls)[treatment]), "OLS": float(ols[treatment]), "0": 0.0
        },
        threshold=radius.rho_hat / unit,
    )  # fmt: skip


def _band(
    equation: Equation, choices: DriveChoices, rho: np.ndarray, estimate: np.ndarray, j: int
) -> tuple[np.ndarray, np.ndarray]:
    """Ends of the limit-law interval by interpolation between a few radii; NaN above the threshold."""
    low, high = np.full(rho.size, np.nan), np.full(rho.size, np.nan)
    valid = np.flatnonzero(rho < choices.fine.near * equation.radius.rho_hat)
    if not valid.size or equation.rows.q < equation.rows.p:
        return low, high
    knots = np.unique(np.linspace(0, valid.size - 1, min(_BAND_POINTS, valid.size)).round().astype(int))
    tail = (1.0 - choices.level) / 2.0
    shifts = []
    for i in valid[knots]:
        law = limit_law(equation.problem, float(rho[i]), choices.covariance, n_law=_BAND_DRAWS, seed=choices.seed)
        draws = equation.problem.to_raw(law.draws)[:, j] / np.sqrt(equation.rows.n)
        shifts.append(np.quantile(draws, [1.0 - tail, tail]))
    ends = np.array(shifts)
    low[valid] = estimate[valid] - np.interp(valid, valid[knots], ends[:, 0])
    high[valid] = estimate[valid] - np.interp(valid, valid[knots], ends[:, 1])
    return low, high


def strength_bars(
    equation: Equation,
) -> tuple[list[tuple[str, float, float]], dict[str, tuple[np.ndarray, np.ndarray]]]:
    """F statistics with critical values, and partial residuals of the first treatment on each instrument."""
    strength, rows = equation.first_stage, equation.rows
    if strength is None:
        raise OptionError("the equation is not identified, so its instruments have no strength to plot.")
    bars: list[tuple[str, float, float]] = []
    for j, name in enumerate(rows.treatments):
        bars.append((f"classical F, {name}", float(strength.f_classical[j]), np.nan))
        bars.append((f"robust F, {name}", float(strength.f_robust[j]), np.nan))
        if rows.p > 1:
            bars.append((f"conditional F, {name}", float(strength.sanderson_windmeijer[j]), np.nan))
    if np.isfinite(strength.f_effective):
        bars.append(("effective F", strength.f_effective, strength.effective_critical[10]))
    bars.append(("Cragg-Donald F", strength.cragg_donald.f, np.nan))
    bars.append(("Kleibergen-Paap F", strength.kleibergen_paap.f, np.nan))
    root = np.sqrt(rows.weights)
    points = {}
    for k, name in enumerate(rows.instruments):
        others = np.delete(rows.Z, k, axis=1) * root[:, None]
        columns = np.column_stack([rows.Z[:, k], rows.X[:, 0]]) * root[:, None]
        if others.shape[1]:
            columns = columns - others @ np.linalg.lstsq(others, columns, rcond=None)[0]
        points[name] = (columns[:, 0], columns[:, 1])
    return bars, points


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
