"""What `image_ate` returns: the table, its checks, and what can be asked of the fit afterwards."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from causalsat.checks.result import CheckResult
from causalsat.effects.table import EffectTable
from causalsat.errors import OptionError
from causalsat.estimators.ate_design import AteDesign
from causalsat.estimators.ate_fit import CellFit, SetFit
from causalsat.estimators.ate_options import AteOptions
from causalsat.public import public


@public
@dataclass(frozen=True, repr=False)
class AteResult:
    """Effects adjusted four ways, their diagnostics, and the fit they came from.

    Attributes
    ----------
    table : EffectTable
        Rows "effect", "difference" and "shrinkage", indexed by treatment, adjust, method, estimand.
    checks : tuple of CheckResult
        Overlap, balance and assignment per treatment and set; leakage; images.
    design : AteDesign
        The study as arrays.
    options : AteOptions
        Every choice, resolved.
    fits : tuple of CellFit
        Nuisances and scores, one per deal of the folds.
    """

    table: EffectTable
    checks: tuple[CheckResult, ...]
    design: AteDesign
    options: AteOptions
    fits: tuple[CellFit, ...]

    def __repr__(self) -> str:
        return f"AteResult\n{self.table}"

    @property
    def meta(self) -> dict[str, Any]:
        """What the table's `meta` says."""
        return self.table.meta

    def summary(self) -> str:
        """The table, the assumptions it rests on, and every check that failed or cannot judge."""
        lines = [str(self.table), "", "Assumes: " + "; ".join(self.meta["assumptions"]) + "."]
        for check in self.checks:
            if check.passed is not True:
                lines.append(f"{'failed' if check.passed is False else 'open'}: {check.name}: {check.text}")
        lines.append(f"{sum(c.passed is True for c in self.checks)} of {len(self.checks)} checks passed.")
        return "\n".join(lines)

    def check(self, name: str) -> CheckResult:
        """The check of that name."""
        for found in self.checks:
            if found.name == name:
                return found
        raise OptionError(f"There is no check {name!r}; there are: {', '.join(c.name for c in self.checks)}.")

    def plot(self, ax: Any = None) -> Any:
        """Effects with their intervals; returns the axes."""
        from causalsat.effects.plots import plot_table

        return plot_table(self.table.where(term="effect"), ax=ax)

    def nuisances(self, adjust: str, treatment: str | None = None) -> SetFit:
        """Cross-fitted g0, g1, m and folds of one set (first deal of the folds), on the eligible rows."""
        return self.fits[0].sets[self._treatment(treatment), self._set(adjust)]

    def propensity(self, adjust: str, treatment: str | None = None) -> np.ndarray:
        """Propensities (n_input,) in the order of the user's table; NaN where a row was not used."""
        t = self._treatment(treatment)
        whole = np.full(self.design.study.n_input, np.nan)
        whole[self.design.study.rows[self.design.arms[t].rows]] = self.nuisances(adjust, treatment).nuisances.m
        return whole

    def side_by_side(self) -> Any:
        """One line per treatment, method and estimand: the sets as columns with SEs, then shrinkage.

        Returns
        -------
        pandas.DataFrame
            Columns ``treatment, method, estimand``, then ``<set>, <set>_se`` and ``shrinkage_<set>``.
        """
        import pandas as pd

        table = self.table
        lines: dict[tuple[str, str, str], dict[str, Any]] = {}
        for i in range(len(table)):
            method = table["method"][i]
            keys = [(table["treatment"][i], m, table["estimand"][i]) for m in self._methods_of(method)]
            for key in keys:
                line = lines.setdefault(key, dict(zip(("treatment", "method", "estimand"), key, strict=True)))
                adjust, term = table["adjust"][i], table["term"][i]
                if term == "effect":
                    line[adjust], line[f"{adjust}_se"] = table["estimate"][i], table["std_error"][i]
                elif term == "shrinkage":
                    line[f"shrinkage_{adjust}"] = table["estimate"][i]
        return pd.DataFrame(list(lines.values()))

    def bandwidth_sweep(self, cutoffs_km: Sequence[float] | None = None) -> EffectTable:
        """Standard errors under Conley cutoffs, with HC0 and cluster rows on top (needs coordinates)."""
        from causalsat.estimators.ate_after import bandwidth_sweep

        return bandwidth_sweep(self, cutoffs_km)

    def buffer_table(self, buffers_km: Sequence[float] = (0.0, 10.0, 25.0, 50.0)) -> EffectTable:
        """Every effect without the controls within d km of a treated row, for each d: index ``buffer_km``."""
        from causalsat.estimators.ate_buffer import buffer_table

        return buffer_table(self, buffers_km)

    def sensitivity(self, adjust: str = "both", treatment: str | None = None, **strength: Any) -> Any:
        """How strong an omitted confounder must be to change the conclusion; see `ate_after.sensitivity`."""
        from causalsat.estimators.ate_after import sensitivity

        return sensitivity(self, adjust, self._treatment(treatment), **strength)

    def directions(self, first: Sequence[str], second: Sequence[str], adjust: str = "image") -> EffectTable:
        """Canonical correlations between the image propensities of two groups of treatments."""
        from causalsat.estimators.ate_after import directions

        return directions(self, first, second, adjust)

    def _methods_of(self, method: str) -> tuple[str, ...]:
        return (method,) if method in self.options.methods else self.options.methods

    def _treatment(self, name: str | None) -> int:
        names = [arm.name for arm in self.design.arms]
        if name is None and len(names) == 1:
            return 0
        if name not in names:
            raise OptionError(f"treatment={name!r} is not one of {', '.join(names)}.")
        return names.index(name)

    def _set(self, adjust: str) -> str:
        fitted = sorted({a for _, a in self.fits[0].sets})
        if adjust not in fitted:
            raise OptionError(f"adjust={adjust!r} was not fitted; fitted sets: {', '.join(fitted) or 'none'}.")
        return adjust
