"""What `r3d` returns: tables, tests, bandwidths, draws, checks, and what can be asked of the fit afterwards."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from causalsat.checks.result import CheckResult
from causalsat.effects.table import EffectTable
from causalsat.errors import collected_warnings, one_of
from causalsat.estimators.r3d_estimate import R3dEstimate, R3dFailure, estimates
from causalsat.estimators.r3d_options import R3dChoices, changed_choices
from causalsat.estimators.r3d_table import average_quantiles, build_table
from causalsat.estimators.r3d_words import heading
from causalsat.public import public

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

KINDS = ("effect", "averages", "rd", "bandwidth", "density", "map")


@public
@dataclass(frozen=True, repr=False)
class R3dResult:
    """Effects on the distributions inside units at a cutoff, their diagnostics, and the fit.

    Attributes
    ----------
    table : EffectTable
        Index method, quantile (and cutoff); terms "laqte", functionals, "first_stage"; bands over all quantiles.
    checks : tuple of CheckResult
        Density, covariates, effective units, mass points, atoms; with checks="full" placebo cutoffs and sensitivity.
    estimates : tuple of R3dEstimate
        All units pooled, then each cutoff or segment.
    choices : R3dChoices
        Every choice, resolved.
    failed : tuple of R3dFailure
        Cutoffs or segments that could not be fitted, and why; their rows are NaN.

    With several cutoffs or segments the attributes ``draws`` and ``sets``, the checks and, unless told otherwise, the
    plots are those of all units pooled.
    """

    table: EffectTable
    checks: tuple[CheckResult, ...]
    estimates: tuple[R3dEstimate, ...]
    choices: R3dChoices
    failed: tuple[R3dFailure, ...] = ()

    def __repr__(self) -> str:
        return f"R3dResult\n{self.table}"

    @property
    def meta(self) -> dict[str, Any]:
        """What the table's `meta` says."""
        return self.table.meta

    @property
    def average_quantiles(self) -> EffectTable:
        """Average quantile functions right ("above") and left ("below") of the cutoff, with bands."""
        return average_quantiles(self.estimates, self.choices, self.failed)

    @property
    def tests(self) -> "pd.DataFrame":
        """Tests: statistic, critical value, p-value, levels in the supremum.

        With several cutoffs or segments a first column names the set of units, "pooled" first.
        """
        import pandas as pd

        names = ("name", "statistic", "critical_value", "p_value", "n_levels", "test_range", "unavailable")
        design = self.estimates[0].design
        first = (design.split,) if len(design.parts) > 1 else ()
        return pd.DataFrame(
            [
                dict.fromkeys(first, one.cutoff) | {n: getattr(t, n) for n in names}
                for one in self.estimates
                for t in one.inference.tests
            ],
            columns=[*first, *names],
        )

    @property
    def bandwidths(self) -> dict[str, Any]:
        """Bandwidths by set of units, with every step of their choice (empty for numbers of the user)."""
        found = {}
        for one in self.estimates:
            found[one.cutoff] = {
                "h": one.h.tolist(),
                "h_treatment": None if one.h_treatment is None else one.h_treatment.tolist(),
                "selection": {} if one.selected is None else one.selected.notes(),
                "selection_treatment": {} if one.selected_treatment is None else one.selected_treatment.notes(),
                "n_window": one.inference.n_window.tolist(),
                "n_effective": one.inference.n_effective.tolist(),
            }
        return found

    @property
    def draws(self) -> np.ndarray:
        """(B, M) draws of the pooled effects, centred at zero."""
        return self.estimates[0].inference.draws

    @property
    def sets(self) -> Any:
        """Anderson-Rubin sets of fuzzy designs (pooled; ``meta["anderson_rubin"]`` has all), None in sharp ones."""
        return self.estimates[0].inference.sets

    def refit(self, **changes: Any) -> "R3dResult":
        """The same units with another bandwidth, order, kernel, residuals, tests, level, draws, ...

        Parameters
        ----------
        **changes
            Arguments of `r3d` that leave the units and their quantiles as they are: ``bandwidth``,
            ``bandwidth_treatment``, ``estimator``, ``order``, ``kernel``, ``functionals``, ``thresholds``, ``tests``,
            ``test_range``, ``band``, ``critical``, ``residuals``, ``level``, ``inference``, ``n_boot``, ``seed``,
            ``compat``.

        Raises
        ------
        OptionError
            Another argument, or a value that `r3d` would refuse.
        """
        choices = changed_choices(self.choices, changes)
        with collected_warnings() as notes:
            found, failed = estimates(self.estimates[0].design, choices, False)
            table = build_table(found, choices, failed)
        return R3dResult(table.with_meta(warnings=list(notes)), (), found, choices, failed)

    def summary(self) -> str:
        """Tests and functionals first, the table, assumptions, and every check that failed or cannot judge."""
        assumed = "; ".join(self.meta["assumptions"])
        lines = [heading(self.estimates[0], self.choices), "", *self.meta["findings"], "", str(self.table), ""]
        lines.append(f"Assumes: {assumed}.")
        for check in self.checks:
            if check.passed is not True:
                lines.append(f"{'failed' if check.passed is False else 'open'}: {check.name}: {check.text}")
        passed, failed = (sum(c.passed is verdict for c in self.checks) for verdict in (True, False))
        lines.append(f"{passed} checks passed, {failed} failed, {len(self.checks) - passed - failed} cannot judge.")
        return "\n".join(lines)

    def check(self, name: str, **options: Any) -> CheckResult:
        """A check by name: one that was made, or one made now ("placebo_cutoffs", "bandwidth", "pre_period", ...).

        Checks are of all units pooled where there are several cutoffs or segments.
        """
        from causalsat.estimators.r3d_checks import later_check

        for found in self.checks:
            if found.name == name and not options:
                return found
        return later_check(self.estimates[0], self.choices, name, options)

    def plot(self, ax: "Axes | None" = None, kind: str = "effect", **options: Any) -> "Axes":
        """A figure; returns the axes.

        Parameters
        ----------
        ax : matplotlib Axes, optional
            None draws on a new figure.
        kind : str
            "effect", "averages", "rd" (``levels=(.1, .5, .9)``, ``bins=20``, ``equal_counts=False``), "bandwidth"
            (``levels=...``), "density", "map" (``border=``, its line: a geometry or a file, in EPSG:4326 unless it
            says otherwise). With several cutoffs or segments every kind takes ``cutoff=`` or ``segment=``, the label of
            one of them; without it, all units pooled are shown.
        """
        from causalsat.estimators import r3d_pictures

        one_of("kind", kind, KINDS)
        return r3d_pictures.draw(self, kind, ax, options)
