"""`causalsat.r3d`: regression discontinuity when every unit has a distribution."""

import time as clock
from collections.abc import Callable, Sequence
from typing import Any

from causalsat.errors import collected_warnings
from causalsat.estimators.r3d_checks import basic_checks, full_checks
from causalsat.estimators.r3d_design import open_design
from causalsat.estimators.r3d_estimate import estimates
from causalsat.estimators.r3d_options import validated_choices
from causalsat.estimators.r3d_result import R3dResult
from causalsat.estimators.r3d_table import build_table
from causalsat.inference.options import Bootstrap
from causalsat.progress import Progress


def r3d(
    data: Any,
    *,
    outcome: Any,
    running: str,
    unit: str | None = None,
    cutoff: float | str = 0.0,
    segments: str | None = None,
    treatment: str | None = None,
    covariates: str | Sequence[str] | None = None,
    weights: Any = None,
    count_weights: bool = False,
    unit_weights: str | None = None,
    cluster: str | None = None,
    coords: Sequence[str] | None = None,
    quantiles: Any = 99,
    estimator: str = "frechet",
    order: int = 2,
    kernel: str = "triangular",
    bandwidth: Any = "imse",
    bandwidth_treatment: Any = None,
    quantile_rule: str = "type7",
    small_sample: str | None = None,
    functionals: str | Callable[..., Any] | Sequence[Any] = ("mean",),
    thresholds: float | Sequence[float] = (),
    tests: str | Sequence[str] = ("nullity", "homogeneity"),
    test_range: Sequence[float] | None = None,
    band: str | None = "studentized",
    critical: str = "t",
    residuals: str = "hc2",
    donut: float = 0.0,
    tie: str = "treated",
    level: float = 0.95,
    inference: Bootstrap = Bootstrap(n=1999, scheme="multiplier"),
    n_boot: int | None = None,
    seed: int = 0,
    checks: str | None = "basic",
    compat: str | None = None,
    progress: Progress = None,
) -> R3dResult:
    r"""Effect on the whole distribution inside units at a cutoff.

    Units i have a running variable X_i and a distribution (pixels of night light, plants of a firm) with quantile
    function Q_i. The local average quantile treatment effect is

    .. math:: \tau(q) = \lim_{x \downarrow c} E[Q_i(q) | X_i = x] - \lim_{x \uparrow c} E[Q_i(q) | X_i = x],

    the difference of the quantile functions of the *average* distributions (Wasserstein barycentres) of units just
    right and left of the cutoff; fuzzy designs divide by the jump of the treatment (Van Dijcke 2025). It rests on
    continuity at the cutoff of the expected potential quantile functions, no sorting of units around it, and, if
    fuzzy, a jump of the treatment, monotonicity and exclusion. Units are independent (or clusters are) and the
    sampling error inside units is small.

    Parameters
    ----------
    data : frame, mapping or path
        (a) One row per draw, with columns constant inside a unit; (b) one row per unit with ``outcome`` a mapping of
        unit to draws or a list aligned with rows.
    outcome : str, mapping, list, array (n, k), QuantileMatrix or Histogram
        Draws of the outcome in any of the five shapes.
    running : str
        Running variable X, in any unit.
    unit : str, optional
        Column that names the unit; None makes every row a unit.
    cutoff : float or str, default 0.0
        Cutoff c, or a column of cutoffs: rows for each of them and for all units pooled, index ``cutoff``. Never the
        segments of a border, whose labels would be subtracted from the running variable.
    segments : str, optional
        Column of groups of units at the one ``cutoff``, such as the segments of `signed_distance`: rows for each of
        them and for all units pooled, index ``segment``. Effects that vary along a border show there.
    treatment : str, optional
        Treatment received, 0 to 1, for fuzzy designs.
    covariates : str or sequence of str, optional
        Unit-level, predetermined; one slope for both sides. What they explain is taken out of the outcome when a
        bandwidth is chosen too, where enough units tell their slopes (``meta["bandwidth"]["covariates"]``).
    weights : str or array, optional
        Weights of draws (coverage of pixels); with ``count_weights=True`` numbers of equal draws.
    count_weights : bool, default False
        See ``weights``.
    unit_weights : str, optional
        Weights of units; they change the estimand.
    cluster : str, optional
        Clusters of units.
    coords : pair of str, optional
        Longitude and latitude, degrees WGS84, for ``Bootstrap(scheme="block")`` and maps.
    quantiles : int or sequence of float, default 99
        m for k/(m + 1), or levels in (0, 1).
    estimator : str, default "frechet"
        "frechet" (one bandwidth, projection on quantile functions) or "pointwise" (rearrangement).
    order : int, default 2
        Degree of the local polynomial.
    kernel : str, default "triangular"
        "triangular", "epanechnikov" or "uniform".
    bandwidth : str, float, tuple, sequence or Bandwidth, default "imse"
        "imse", "mse" (pointwise), a number in the unit of X, (left, right), one number per quantile, or a rule. A
        chosen window grows to hold order + 3 distinct values of X a side, with a warning; a number is used as it is.
    bandwidth_treatment : as ``bandwidth``, optional
        Of the treatment; None: the scalar rule on it, or ``bandwidth`` when that is a number.
    quantile_rule : str, default "type7"
        Quantiles of a unit's draws: "type7", "type8", "type9".
    small_sample : str, optional
        "half" for the generalised jackknife.
    functionals : str, callable or sequence, default ("mean",)
        "mean", "variance", "sd", "iqr", "range(a,b)", "gini", "lorenz(p)", "share_top(p)", "share_bottom(p)",
        "exceed", "w2", with prefix "unit:" for the functional of the unit's own distribution. Intervals of
        "variance", "sd" and "w2" of averages cover less than they say where tails are long and units have few draws
        (lognormal, 1000 draws: .84, .85 and .77 at .95), since draws miss a part of the tail.
    thresholds : float or sequence of float, default ()
        Levels z of "exceed": the share of draws above z, a row "unit:exceed(z)" for each.
    tests : str or sequence of str, default ("nullity", "homogeneity")
        Any of "nullity", "homogeneity", "dominance", on ``test_range``.
    test_range : pair of float, optional
        Quantiles of the tests.
    band : str or None, default "studentized"
        "studentized" or "constant" uniform band.
    critical : str, default "t"
        "t" (effective degrees of freedom) or "normal".
    residuals : str, default "hc2"
        "hc2", "hc0", "hc1", "hc3"; with clusters the corresponding CR2, CR0, CR1, CR3.
    donut : float, default 0.0
        Units with |X - c| below it are left out.
    tie : str, default "treated"
        Where units exactly at the cutoff go: "treated", "control" or "drop".
    level : float, default 0.95
        Confidence level in (0, 1).
    inference : Bootstrap, default Bootstrap(n=1999, scheme="multiplier")
        Scheme "multiplier", "wild", "block", "cluster", "iid", "bayes". The last three fit again at the bandwidth in
        use; bands multiply their draws by the t factor as well, and stretch those of "bayes" to the standard errors.
        Bands of "iid" are long where degrees of freedom are few: nominal 95% cover 98% to 99% below 10. "block" takes
        the place of ``cluster``. A Bootstrap(...) without ``n`` makes 999 draws, its own default, not 1999.
    n_boot : int, optional
        Number of draws, in place of the default of ``inference``.
    seed : int, default 0
        Same seed, same numbers, bit for bit.
    checks : str or None, default "basic"
        "basic", "full" or None.
    compat : str, optional
        "R3D-0.1.0": the curves and the inference of the R package of that version, at a given bandwidth; it sets
        ``band``, ``critical`` and ``residuals``, and warns.
    progress : bool or callable, optional
        Progress of the draws.

    Returns
    -------
    R3dResult
        ``.table`` (index method, quantile; terms "laqte", functionals, "first_stage"), ``.average_quantiles``,
        ``.tests``, ``.bandwidths``, ``.draws``, ``.checks``, ``.refit()``, ``.check()``, ``.plot(kind=)``.

    Raises
    ------
    SingularWindowError
        A given bandwidth whose window cannot carry the polynomial; a selected one is widened instead.
    DataError, OptionError
        Data or options that cannot be used.

    References
    ----------
    Van Dijcke (2025), "Regression Discontinuity Design with Distribution-Valued Outcomes", arXiv 2504.03992.
    Calonico, Cattaneo and Titiunik (2014) for the bias correction by the order of the polynomial.

    Examples
    --------
    >>> import causalsat as cs
    >>> from causalsat.simulate.r3d import normal
    >>> data, truth = normal(n=200, n_draws=100, effect=2.0, seed=1)
    >>> result = cs.r3d(data, outcome="value", running="x", unit="unit", quantiles=9, n_boot=199)
    >>> len(result.table.where(term="laqte"))
    9

    Two segments of a border, and the mean of their effects with equal weights, where pooling weighs by density; rows
    of r3d hold t intervals of their own, so a contrast is told to use the normal law:

    >>> data["segment"] = data["unit"] % 2
    >>> split = cs.r3d(data, outcome="value", running="x", unit="unit", segments="segment", quantiles=9, n_boot=199)
    >>> means = split.table.where(term="mean")
    >>> means["segment"].tolist()
    ['pooled', '0', '1']
    >>> len(means.contrast("0.5 * b1 + 0.5 * b2", method="normal"))
    1
    """
    started = clock.perf_counter()
    choices = validated_choices(
        estimator=estimator, order=order, kernel=kernel, bandwidth=bandwidth, bandwidth_treatment=bandwidth_treatment,
        quantile_rule=quantile_rule, small_sample=small_sample, functionals=functionals, thresholds=thresholds,
        tests=tests, test_range=test_range, band=band, critical=critical, residuals=residuals, donut=donut, tie=tie,
        level=level, inference=inference, n_boot=n_boot, seed=seed, checks=checks, compat=compat,
    )  # fmt: skip
    with collected_warnings() as notes:
        design = open_design(
            data, outcome=outcome, running=running, unit=unit, cutoff=cutoff, segments=segments, treatment=treatment,
            covariates=covariates, weights=weights, unit_weights=unit_weights, cluster=cluster, coords=coords,
            quantiles=quantiles, quantile_rule=choices.quantile_rule, small_sample=choices.small_sample,
            donut=choices.donut, tie=choices.tie, count_weights=count_weights,
        )  # fmt: skip
        found, failed = estimates(design, choices, progress)
        table = build_table(found, choices, failed)
        made = basic_checks(found[0], choices) if choices.checks is not None else ()
        if choices.checks == "full":
            made = (*made, *full_checks(found[0], choices))
    table = table.with_meta(warnings=list(notes), seconds=round(clock.perf_counter() - started, 3))
    return R3dResult(table=table, checks=tuple(made), estimates=found, choices=choices, failed=failed)
