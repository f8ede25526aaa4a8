"""What `drive` returns: the table, its checks, and what can be asked of the fit afterwards."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from causalsat.checks.iv_strength import FirstStage
from causalsat.checks.result import CheckResult
from causalsat.effects.table import EffectTable
from causalsat.errors import OptionError, number, one_of
from causalsat.estimators.drive_equation import Equation
from causalsat.estimators.drive_fit import DriveFit
from causalsat.estimators.drive_options import DriveChoices
from causalsat.estimators.drive_pick import equation_at
from causalsat.estimators.drive_radius import RadiusReport
from causalsat.estimators.drive_words import set_title, sets_to_read
from causalsat.inference.iv_sets import SetRow
from causalsat.public import public

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

    from causalsat.estimators.drive_sensitivity import DriveSensitivity

KINDS = ("table", "path", "strength", "sets")
_MADE_AGAIN = ("level", "interval", "supplied", "unavailable", "limit_unreliable", "resampling_note", "joint")


@public
@dataclass(frozen=True, repr=False)
class DriveResult:
    """Instrumental-variable effects, the sets that do without strong instruments, diagnostics, and the fit.

    Attributes
    ----------
    table : EffectTable
        Term "effect", index method, treatment, interval. Rows "drive" with intervals "limit" and "recentred"
        ("pseudo_true" above the threshold), comparators with "wald", sets with "homoskedastic" and "robust".
    checks : tuple of CheckResult
        Strength and validity of the instruments.
    equations : tuple of Equation
        One per equation: moments, radius, law, draws.
    choices : DriveChoices
        Every choice, resolved.
    """

    table: EffectTable
    checks: tuple[CheckResult, ...]
    equations: tuple[Equation, ...]
    choices: DriveChoices

    def __repr__(self) -> str:
        return f"DriveResult\n{self.table}"

    @property
    def meta(self) -> dict[str, Any]:
        """What the table's `meta` says."""
        return self.table.meta

    def equation(self, which: int | str) -> "DriveResult":
        """The part of the result that concerns one equation, when ``joint=False`` made several.

        Parameters
        ----------
        which : int or str
            Number of the equation, counted from 0, or the name of a treatment in it.

        Returns
        -------
        DriveResult
            Its rows of the table, its checks, its radius, first stage and scale factors.

        Raises
        ------
        OptionError
            No such equation.
        """
        found = equation_at(self.equations, which)
        if len(self.equations) == 1:
            return self
        last = f"[{found.rows.treatments[0]}]"
        checks = tuple(check for check in self.checks if check.name.endswith(last))
        return replace(self._rebuilt((found,), self.choices), checks=checks)

    @property
    def rho(self) -> float:
        """Squared radius of the first equation; ``result.equation("x2").rho`` is another's."""
        return self.rho_report.rho

    @property
    def rho_report(self) -> RadiusReport:
        """Radius, rule and thresholds of the first equation; see :meth:`equation` for another."""
        return self.equations[0].radius

    @property
    def fit(self) -> DriveFit:
        """DRIVE of the first equation on the solver's scale; see :meth:`equation` for another."""
        return self.equations[0].fit

    @property
    def lam(self) -> float:
        """Implicit ridge penalty of the first equation; see :meth:`equation` for another."""
        return self.fit.lam

    @property
    def sets(self) -> tuple[SetRow, ...]:
        """Weak-instrument sets of all equations, piece by piece."""
        return tuple(row for equation in self.equations for row in equation.sets)

    @property
    def first_stage(self) -> FirstStage | None:
        """Strength of the instruments in the first equation; see :meth:`equation` for another."""
        return self.equations[0].first_stage

    @property
    def scale_factors(self) -> dict[str, float]:
        """Standard deviation by which the outcome and every treatment were divided (1 under scale="raw")."""
        factors: dict[str, float] = {}
        for problem in (equation.problem for equation in self.equations):
            factors |= {problem.rows.outcome: problem.sd_y}
            factors |= {n: float(s) for n, s in zip(problem.rows.treatments, problem.sd_x, strict=True)}
        return factors

    def covariate_effects(self, equation: int | str = 0) -> dict[str, float]:
        """Coefficients of the covariates at the DRIVE estimate: regression of y - X b on C.

        ``equation`` is the number of an equation or the name of a treatment in it.
        """
        found = equation_at(self.equations, equation)
        return found.design.covariate_effects(found.problem.to_raw(found.fit.b))

    def path(self, rhos: Sequence[float] | None = None, equation: int | str = 0) -> "pd.DataFrame":
        """Coefficients along the radius.

        Parameters
        ----------
        rhos : sequence of float, optional
            Squared radii; None takes 0 and 121 values up to ten times the threshold.
        equation : int or str
            Number of the equation, counted from 0, or the name of a treatment in it.

        Returns
        -------
        pandas.DataFrame
            ``rho, rho_over_lambda_min, lam, s, t, above_threshold`` and one column per treatment, in the unit of the
            table.
        """
        from causalsat.estimators.drive_path import path_frame

        found = equation_at(self.equations, equation)
        return path_frame(found, None if rhos is None else np.asarray(rhos, dtype=np.float64))

    def with_level(self, level: float) -> "DriveResult":
        """The same fit with intervals and sets at another level, without new draws."""
        from causalsat.estimators.drive_equation import weak_sets

        choices = replace(self.choices, level=number("level", level, 0.0, 1.0))
        equations = tuple(replace(e, sets=weak_sets(e.design, choices)) for e in self.equations)
        return self._rebuilt(equations, choices)

    def _rebuilt(self, equations: tuple[Equation, ...], choices: DriveChoices) -> "DriveResult":
        """The table of these equations again, with the facts about the study that only the verb knows."""
        from causalsat.estimators.drive_table import build_table

        table = build_table(equations, choices, {})
        kept = {n: v for n, v in self.meta.items() if n not in table.meta and n not in _MADE_AGAIN}
        return replace(self, table=table.with_meta(**kept), equations=equations, choices=choices)

    def sensitivity(
        self,
        direct: float | Mapping[str, float] | None = None,
        prior: Mapping[str, tuple[float, float]] | None = None,
        equation: int | str = 0,
    ) -> "DriveSensitivity":
        """What remains when instruments may move the outcome directly; see `drive_sensitivity`.

        ``equation`` is the number of an equation or the name of a treatment in it.
        """
        from causalsat.estimators.drive_sensitivity import sensitivity

        return sensitivity(equation_at(self.equations, equation), self.choices, direct, prior)

    def summary(self) -> str:
        """What rho means, the table, the assumptions it rests on, and every check that failed or cannot judge."""
        lines = [c.text for c in self.checks if c.name.partition("[")[0] == "radius"]
        if self.meta.get("weak"):
            lines.append(f"The instruments are weak, so the sets stand first below: {sets_to_read(self.sets)}.")
        lines += ["", str(self.table), ""]
        for row in self.sets:
            words = f"none, {row.reason}" if row.found is None else row.found.text
            lines.append(f"{set_title(row)}: {words}")
        lines += [f"Note: {text}." for text in (*self.meta["flags"], self.meta.get("resampling_note", "")) if text]
        if "reading" in self.meta:
            lines.append(f"Reading: {self.meta['reading']}.")
        lines.append("Assumes: " + "; ".join(self.meta["assumptions"]) + ".")
        for check in self.checks:
            if check.passed is not True:
                text = "the sentence on rho above" if check.text in lines else check.text
                lines.append(f"{'failed' if check.passed is False else 'open'}: {check.name}: {text}")
        passed, failed = (sum(c.passed is verdict for c in self.checks) for verdict in (True, False))
        lines.append(f"{passed} checks passed, {failed} failed, {len(self.checks) - passed - failed} cannot judge.")
        return "\n".join(lines)

    def check(self, name: str) -> CheckResult:
        """The check of that name."""
        for found in self.checks:
            if found.name == name:
                return found
        raise OptionError(f"There is no check {name!r}; there are: {', '.join(c.name for c in self.checks)}.")

    def plot(self, ax: "Axes | None" = None, kind: str = "table", equation: int | str | None = None) -> "Axes":
        """A figure; returns the axes.

        Parameters
        ----------
        ax : matplotlib Axes, optional
            None draws on a new figure.
        kind : str
            "table": estimates and intervals; "path": coefficient against the radius with its thresholds; "strength":
            F statistics against critical values; "sets": intervals and sets, with gaps and arrows.
        equation : int or str, optional
            Number of the equation, counted from 0, or the name of a treatment, which "path" and "strength" then show
            alone. None: the first equation for "path" and "strength", all of them otherwise.
        """
        from causalsat.effects import iv_plots
        from causalsat.estimators.drive_path import path_picture, set_lines, strength_bars

        one_of("kind", kind, KINDS)
        if kind in ("path", "strength"):
            found = equation_at(self.equations, 0 if equation is None else equation)
            named = equation if isinstance(equation, str) else None
            if kind == "path":
                return iv_plots.plot_path(path_picture(found, self.choices, named), ax)
            return iv_plots.plot_strength(*strength_bars(found, 0 if named is None else named), ax)
        part = self if equation is None else self.equation(equation)
        if kind == "sets":
            return iv_plots.plot_sets(set_lines(part.table, part.sets), self.choices.null, ax)
        from causalsat.effects.plots import plot_table

        finite = np.flatnonzero(np.isfinite(part.table["estimate"]))
        return plot_table(part.table.take(finite), ax=ax)
