"""The effect table: what every verb returns and everything downstream reads."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike

from causalsat.effects.carried import Carried
from causalsat.effects.statistic_names import COLUMN
from causalsat.errors import DataError, nearest
from causalsat.public import public

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

    from causalsat.inference.joint import Wald

CORE = ("term", "estimate", "std_error", "statistic", "p_value", "conf_low", "conf_high", "n_obs")
BANDS = ("band_low", "band_high")
ADJUSTED = "p_adjusted"
RESERVED = frozenset((*CORE, COLUMN, *BANDS, ADJUSTED))


@public
@dataclass(frozen=True, eq=False, repr=False)
class EffectTable:
    """Effects with their uncertainty, one row per effect; never changed after it is built.

    Letters: k rows (effects), b draws, n observations. Build one with :meth:`build`.

    Attributes
    ----------
    index_names : tuple of str
        Names of the index columns ("adjust", "quantile", ...), which together with ``term`` identify a row.
    columns : dict of str to array (k,)
        The index columns, then ``term, estimate, std_error, statistic, p_value, conf_low, conf_high, n_obs``, then
        ``statistic_name`` where not every statistic is a t ("chi2(3)"), then, after :meth:`joint`, ``band_low,
        band_high, p_adjusted``. Arrays are read-only; numbers are float64 in the unit of the outcome, ``n_obs`` int64.
    meta : dict
        Plain JSON-able facts: estimator, estimand, assumptions, level, interval, resampling, warnings, ... An
        undefined number is NaN and its reason stands in ``meta["unavailable"][str(row)][column]``.
    carried : Carried
        The arrays that travel along, read through :attr:`draws`, :attr:`influence`, :attr:`covariance`,
        :attr:`places`.

    Examples
    --------
    >>> from causalsat import EffectTable
    >>> table = EffectTable.build(
    ...     {"adjust": ["none", "image"]}, term="road", estimate=[1.5, 0.5], std_error=[0.2, 0.25],
    ...     covariance=[[0.04, 0.03], [0.03, 0.0625]], n_obs=400, meta={"estimator": "ate"},
    ... )
    >>> table.contrast("none - image").row()["estimate"]
    1.0
    """

    index_names: tuple[str, ...]
    columns: dict[str, np.ndarray]
    meta: dict[str, Any]
    carried: Carried

    @staticmethod
    def build(
        index: Mapping[str, Sequence[Any] | np.ndarray],
        *,
        term: str | Sequence[str] | np.ndarray,
        estimate: ArrayLike,
        std_error: ArrayLike,
        n_obs: ArrayLike,
        level: float = 0.95,
        df: ArrayLike | None = None,
        covariance: ArrayLike | None = None,
        draws: ArrayLike | None = None,
        influence: ArrayLike | None = None,
        interval: str = "normal",
        conf: tuple[ArrayLike, ArrayLike] | None = None,
        p_value: ArrayLike | None = None,
        statistic: ArrayLike | None = None,
        statistic_name: str | Sequence[str] | None = None,
        unavailable: Mapping[int, str] | None = None,
        places: ArrayLike | None = None,
        meta: Mapping[str, Any] | None = None,
        acceleration: ArrayLike | None = None,
        draw_std_error: ArrayLike | None = None,
        null: ArrayLike = 0.0,
    ) -> "EffectTable":
        """Validate everything, compute statistics, intervals and p-values, and freeze the table.

        Parameters
        ----------
        index : mapping of str to sequence (k,)
            Index columns in order: text, numbers or booleans.
        term : str or sequence (k,) of str
            What the row is the effect of.
        estimate, std_error : array-like (k,)
            In the unit of the outcome. NaN needs a reason in ``unavailable``.
        n_obs : int or array-like (k,)
            Rows that entered the estimate.
        level : float
            Level of the intervals, inside (0, 1).
        df : float or array-like (k,), optional
            Degrees of freedom of the t law; None or inf takes the normal law.
        covariance, draws, influence, places : array-like (k, k), (b, k), (n, k), (k, 2), optional
            Travel with the table; places are longitude and latitude in degrees.
        interval : str
            "normal", "percentile", "basic", "bca", "studentized"; any name when ``conf`` is given.
        conf, p_value : pair of array-like (k,), array-like (k,), optional
            Interval ends and p-values computed by the estimator itself (kept as given).
        statistic : array-like (k,), optional
            Test statistics when they are not (estimate - null) / std_error.
        statistic_name : str or sequence (k,) of str, optional
            What they are: "t" (the default) for that ratio, else with the law: "F(3, 90)", "chi2(3)".
        unavailable : mapping of int to str, optional
            Row number to the reason why its numbers are NaN.
        meta : mapping, optional
            Plain facts (``level``, ``interval``, ``unavailable`` are filled in). ``refused_intervals``: methods wrong
            for rows ("joint": bands) to the reason, or {"reason": text, "rows": {index column: [values]}} for some.
        acceleration, draw_std_error : array-like (k,), (b, k), optional
            For BCa and studentized intervals.
        null : float or array-like (k,)
            Value under the null hypothesis.

        Raises
        ------
        DataError
            Lengths that differ, two rows with one identity, a NaN without its reason, meta that JSON cannot hold.
        OptionError
            An unknown interval method or a level outside (0, 1).
        """
        from causalsat.effects.build import build

        return build(
            index, term=term, estimate=estimate, std_error=std_error, n_obs=n_obs, level=level, df=df,
            covariance=covariance, draws=draws, influence=influence, interval=interval, conf=conf, p_value=p_value,
            statistic=statistic, statistic_name=statistic_name, unavailable=unavailable, places=places, meta=meta,
            acceleration=acceleration, draw_std_error=draw_std_error, null=null,
        )  # fmt: skip

    def __len__(self) -> int:
        return int(self.columns["estimate"].shape[0])

    def __getitem__(self, name: str) -> np.ndarray:
        if name not in self.columns:
            listed = ", ".join(self.columns)
            raise DataError(f'The table has no column "{name}"; it has {listed}.{nearest(name, self.columns)}')
        return self.columns[name]

    def __eq__(self, other: object) -> bool:
        from causalsat.effects.storage import same_table

        return same_table(self, other) if isinstance(other, EffectTable) else NotImplemented

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        from causalsat.effects.render_text import short_text

        return short_text(self)

    def _repr_html_(self) -> str:
        from causalsat.effects.render_html import NOTEBOOK_STYLE

        return NOTEBOOK_STYLE + self.to_html()

    @property
    def draws(self) -> np.ndarray | None:
        """Resampled estimates, (b, k) float64; a failed draw is a row of NaN."""
        return self.carried.draws

    @property
    def influence(self) -> np.ndarray | None:
        """Influence values, (n, k) float64: estimate - truth is close to their mean."""
        return self.carried.influence

    @property
    def covariance(self) -> np.ndarray | None:
        """Covariance of the estimates, (k, k) float64; NaN where the covariance of two rows is not known."""
        return self.carried.covariance

    @property
    def places(self) -> np.ndarray | None:
        """Longitude and latitude of each row, (k, 2) float64, degrees WGS84."""
        return self.carried.places

    @property
    def level(self) -> float:
        """Level of the intervals."""
        return float(self.meta["level"])

    @property
    def labels(self) -> tuple[str, ...]:
        """One short unique name per row: the fewest index values (or term) that tell rows apart, joined by ":"."""
        from causalsat.effects.rows import row_labels

        return row_labels(self)

    def row(self, **index: Any) -> dict[str, Any]:
        """The one row whose columns have these values, as a plain dict (``table.row(adjust="image")``)."""
        from causalsat.effects.rows import one_row

        return one_row(self, index)

    def where(self, **index: Any) -> "EffectTable":
        """The rows whose columns have these values (a value or a list of them); draws and covariance follow."""
        from causalsat.effects.rows import matching_rows

        return self.take(matching_rows(self, index))

    def take(self, rows: ArrayLike) -> "EffectTable":
        """The rows at these positions, in this order; draws, influence and covariance follow."""
        from causalsat.effects.rows import take_rows

        return take_rows(self, rows)

    def with_index(self, **values: Any) -> "EffectTable":
        """A copy with further index columns in front, each a constant or one value per row."""
        from causalsat.effects.rows import add_index

        return add_index(self, values)

    def with_meta(self, **facts: Any) -> "EffectTable":
        """A copy with further facts in ``meta``."""
        from causalsat.effects.rows import add_meta

        return add_meta(self, facts)

    def interval(self, level: float | None = None, method: str | None = None) -> "EffectTable":
        """The same effects with intervals at another level or of another kind, without a refit.

        Parameters
        ----------
        level, method : float, str, optional
            None keeps those of the table; methods are "normal", "percentile", "basic", "bca", "studentized".
        """
        from causalsat.effects.uncertainty import another_interval

        return another_interval(self, level, method)

    def contrast(
        self, expression: str | Sequence[str], *, level: float | None = None, method: str | None = None
    ) -> "EffectTable":
        """Linear combinations of rows, with the covariance of the family and the draws carried through.

        ``estimate = L θ + c`` with variance ``L V L'`` (or the variance of the draws where V is not known).

        Parameters
        ----------
        expression : str or sequence of str
            ``"image - tabular"``, ``"b1 - b0"``, ``"0.5 * (a + b)"``: row labels (in backticks where they hold
            spaces or begin with a digit), ``b0, b1, ...`` for row numbers, numbers, ``+ - * / ( )``.
        level, method : optional
            As in :meth:`interval`.
        """
        from causalsat.effects.contrasts import contrast

        return contrast(self, expression, level, method)

    def joint(self, level: float | None = None, method: str | None = None, *, seed: int = 0) -> "EffectTable":
        """Simultaneous bands (``band_low, band_high``) and adjusted p-values (``p_adjusted``) over all rows.

        One family is the rows of this table; take a subset with :meth:`where` first. Rows that are NaN leave the
        family and are counted in ``meta["joint"]``.

        Parameters
        ----------
        level : float, optional
            None keeps the level of the table.
        method : str, optional
            "romano_wolf", "holm", "bh", "by" or "bonferroni"; None takes romano_wolf with draws, else holm.
        seed : int
            Seed of the sup-t quantile where it is simulated from the covariance.
        """
        from causalsat.effects.uncertainty import joint

        return joint(self, level, method, seed)

    def with_bands(self, low: ArrayLike, high: ArrayLike, *, critical: float, source: str) -> "EffectTable":
        """A copy with simultaneous bands (k,) that the estimator computed itself (NaN for rows outside of them)."""
        from causalsat.effects.uncertainty import with_bands

        return with_bands(self, np.asarray(low), np.asarray(high), critical, source)

    def wald(self, expression: str | Sequence[str] | None = None) -> "Wald":
        """Wald test that all rows (or all expressions, as in :meth:`contrast`) equal their null at once.

        Returns ``(chi2, df, p_value)``; df is the rank of the covariance.
        """
        from causalsat.effects.uncertainty import wald_test

        return wald_test(self, expression)

    @staticmethod
    def concat(tables: "Sequence[EffectTable]") -> "EffectTable":
        """Stack tables; see :func:`causalsat.effects.stack.concat` for what becomes of draws and covariance."""
        from causalsat.effects.stack import concat

        return concat(tables)

    def to_frame(self) -> "pd.DataFrame":
        """The columns as a pandas data frame."""
        from causalsat.effects.frames import to_frame

        return to_frame(self)

    def to_dict(self) -> dict[str, list[Any]]:
        """The columns as lists of equal length holding exact built-in Python values only (safe for R)."""
        from causalsat.effects.plain import plain_column

        return {name: plain_column(values) for name, values in self.columns.items()}

    def summary(self) -> str:
        """Every row as text, then assumptions, intervals, rows left out, missing numbers and warnings."""
        from causalsat.effects.render_text import full_text

        return full_text(self)

    def to_markdown(self) -> str:
        """A pipe table with its notes."""
        from causalsat.effects.render_text import markdown

        return markdown(self)

    def to_latex(
        self, *, caption: str | None = None, label: str | None = None, notes: bool = True, longtable: bool | None = None
    ) -> str:
        """A booktabs ``tabular`` with its notes; a ``table`` around it when there is a caption or a label.

        ``longtable`` breaks it across pages; None does so beyond 40 rows (``.where(quantile=[0.1, 0.9])`` takes some).
        """
        from causalsat.effects.render_latex import latex

        return latex(self, caption, label, notes, longtable)

    def to_html(self, *, caption: str | None = None, notes: bool = True) -> str:
        """A ``table`` element without style or script, then its notes; every text escaped."""
        from causalsat.effects.render_html import html_table

        return html_table(self, caption, notes)

    def to_csv(self, path: str | Path) -> Path:
        """UTF-8 CSV of the columns; floats in their shortest exact form, NaN as an empty cell."""
        from causalsat.effects.frames import to_csv

        return to_csv(self, path)

    def to_geoparquet(self, path: str | Path) -> Path:
        """GeoParquet (EPSG:4326 points) of a table whose rows have places."""
        from causalsat.effects.frames import to_geoparquet

        return to_geoparquet(self, path)

    def write(self, path: str | Path) -> Path:
        """Write everything to ``path`` (``.parquet``) and a JSON file beside it; :meth:`read` is its exact inverse."""
        from causalsat.effects.storage import write

        return write(self, path)

    @staticmethod
    def read(path: str | Path) -> "EffectTable":
        """Read a table that :meth:`write` made: bit-equal numbers, equal meta, draws, influence and covariance."""
        from causalsat.effects.storage import read

        return read(path)

    def plot(self, ax: "Axes | None" = None, kind: str = "coef") -> "Axes":
        """Intervals ("coef"), places on a map ("map"), or the steps of ``group_shapley`` ("waterfall")."""
        from causalsat.effects.plots import plot_table

        return plot_table(self, ax, kind)

    @property
    def __maketables_coef_table__(self) -> "pd.DataFrame":
        from causalsat.effects.frames import maketables_frame

        return maketables_frame(self)

    def __maketables_stat__(self, key: str) -> Any:
        from causalsat.effects.frames import maketables_stat

        return maketables_stat(self, key)

    @property
    def __maketables_depvar__(self) -> str:
        return str(self.meta.get("outcome", ""))

    @property
    def __maketables_vcov_info__(self) -> dict[str, Any]:
        from causalsat.effects.frames import std_error_kind

        return {"vcov_type": std_error_kind(self)}

    @property
    def __maketables_default_stat_keys__(self) -> list[str]:
        from causalsat.effects.frames import STAT_KEYS

        return list(STAT_KEYS)
