"""Diagnostics of an `r3d` estimate: what is always made, what a full report adds, what can be asked for later."""

import inspect
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from causalsat.checks.rd_checks import atoms_check, covariates_check, effective_n_check, mass_points_check
from causalsat.checks.rd_density import density_check
from causalsat.checks.rd_refits import (
    FACTORS,
    Refit,
    bandwidth_check,
    blocks_check,
    dates_check,
    placebo_check,
    pre_period_check,
    small_units_check,
)
from causalsat.checks.result import CheckResult
from causalsat.errors import DataError, NumericalError, OptionError, count, nearest, one_of
from causalsat.estimators.r3d_contributions import blocks_of
from causalsat.estimators.r3d_design import R3dDesign, open_design
from causalsat.estimators.r3d_estimate import R3dEstimate, estimate, refitted
from causalsat.estimators.r3d_fit import R3dFit, fit_columns
from causalsat.estimators.r3d_guards import widened_text
from causalsat.estimators.r3d_inference import infer
from causalsat.estimators.r3d_options import KERNELS, R3dChoices, finite_numbers
from causalsat.inference.options import Bootstrap

STRONG_FIRST_STAGE = 3.2
BASIC = ("density", "covariates", "effective_n", "mass_points", "atoms")
FULL = ("placebo_cutoffs", "bandwidth", "small_units")
LATER = ("pre_period", "blocks", "dates")
_BLOCKS_KM = (10.0, 25.0, 50.0, 100.0)
_FEWEST_BLOCKS = 15
_DRAWS = 999
_TAKEN = ("running", "unit", "cutoff", "covariates", "unit_weights", "cluster", "coords", "count_weights")


def basic_checks(found: R3dEstimate, choices: R3dChoices) -> tuple[CheckResult, ...]:
    """First stage of fuzzy designs, density, covariates and draws per unit, effective units, mass points, atoms."""
    names = [name for name in BASIC if name != "covariates" or columns_of(found)[0]]
    if found.inference.first_stage is not None:
        names.insert(0, "first_stage")
    return tuple(later_check(found, choices, name, {}) for name in names)


def full_checks(found: R3dEstimate, choices: R3dChoices) -> tuple[CheckResult, ...]:
    """Placebo cutoffs, bandwidths, kernels and orders, quantile rules; block sizes where there are places."""
    names = [name for name in FULL if name != "small_units" or found.design.draws is not None]
    if found.design.sampling.lonlat is not None:
        names.append("blocks")
    return tuple(later_check(found, choices, name, {}) for name in names)


def later_check(found: R3dEstimate, choices: R3dChoices, name: str, options: dict[str, Any]) -> CheckResult:
    """One check by name with its options.

    Raises
    ------
    OptionError
        Unknown name or option.
    """
    made: dict[str, Callable[..., CheckResult]] = {
        "first_stage": _first_stage,
        "density": _density,
        "covariates": _covariates,
        "effective_n": _effective_n,
        "mass_points": _mass_points,
        "atoms": _atoms,
        "placebo_cutoffs": _placebo,
        "bandwidth": _bandwidths,
        "small_units": _small_units,
        "pre_period": _pre_period,
        "blocks": _blocks,
        "dates": _dates,
    }
    if name not in made:
        raise OptionError(f"There is no check {name!r}; there are: {', '.join(made)}.{nearest(name, made)}")
    try:
        inspect.signature(made[name]).bind(found, choices, **options)
    except TypeError as error:
        raise OptionError(f"check({name!r}) does not take these options: {error}.") from error
    return made[name](found, choices, **options)


def columns_of(found: R3dEstimate) -> tuple[list[str], np.ndarray]:
    """Predetermined columns to test: covariates, and log draws per unit where it varies (pixels lost on one side)."""
    design = found.design
    names, columns = list(design.covariate_names), [design.covariates]
    counted = design.n_draws[found.window]
    if design.draws is not None and counted.size and np.ptp(counted) > 0:
        names.append("log draws per unit")
        columns.append(np.log(np.maximum(design.n_draws, 1))[:, None].astype(np.float64))
    return names, np.column_stack(columns)


def _first_stage(found: R3dEstimate, choices: R3dChoices) -> CheckResult:
    """Whether the jump of the treatment is large enough for intervals around a ratio."""
    stage = found.inference.first_stage
    if stage is None:
        return CheckResult("first_stage", None, np.nan, "The design is sharp: crossing the cutoff is the treatment.")
    if not stage.se[0] > 0.0:
        return CheckResult(
            "first_stage", None if stage.estimate[0] == 0.0 else True, np.inf,
            f"The treatment jumps by {stage.estimate[0]:.4g}, known exactly: in the window the side and the running "
            "variable determine it.",
        )  # fmt: skip
    ratio = float(abs(stage.estimate[0]) / stage.se[0])
    strong = ratio >= STRONG_FIRST_STAGE
    advice = (
        ""
        if strong
        else (
            " Intervals per unit of treatment may be far off: quote the Anderson-Rubin sets (result.sets), which hold "
            "however small the jump is."
        )
    )
    return CheckResult(
        "first_stage", bool(strong), ratio,
        f"The treatment jumps by {stage.estimate[0]:.4g} (s.e. {stage.se[0]:.4g}), {ratio:.2f} standard errors; "
        f"{STRONG_FIRST_STAGE:g} are asked for.{advice}",
    )  # fmt: skip


def _dependence(found: R3dEstimate, choices: R3dChoices) -> np.ndarray | None:
    """(n,) codes of the blocks or clusters that the estimate's errors are summed over, window or not; None: units."""
    sampling = found.design.sampling
    if choices.bootstrap.scheme == "block":
        return blocks_of(sampling.lonlat, choices.bootstrap, choices.seed)
    return sampling.cluster


def _density(found: R3dEstimate, choices: R3dChoices, h: Any = None, kernel: str = "triangular") -> CheckResult:
    one_of("kernel", kernel, KERNELS)
    design = found.design
    return density_check(
        design.x, design.treated, h=None if h is None else _both_widths(h), kernel=kernel,
        groups=_dependence(found, choices),
    )  # fmt: skip


def _both_widths(h: Any) -> tuple[float, float]:
    """Bandwidths left and right from one positive number, or two."""
    widths = np.atleast_1d(finite_numbers("h", h))
    if widths.size > 2 or not (widths > 0.0).all():
        raise OptionError(f"h={h!r} must be a positive number, or the positive numbers (left, right).")
    return float(widths[0]), float(widths[-1])


def _positive(argument: str, value: Any) -> list[float]:
    """One or several positive numbers."""
    numbers = np.atleast_1d(finite_numbers(argument, value))
    if not (numbers > 0.0).all():
        raise OptionError(f"{argument}={value!r} must be positive numbers.")
    return [float(number) for number in numbers]


def _covariates(found: R3dEstimate, choices: R3dChoices) -> CheckResult:
    """The estimate's own window, and its blocks or clusters, on each covariate, as outcomes."""
    design = found.design
    names, columns = columns_of(found)
    if not names:
        return CheckResult("covariates", None, np.nan, "No covariate was given and all units have the same size.")
    h = np.median(found.h, axis=1) if found.h.ndim == 2 else found.h
    bare = replace(
        design, covariates=np.zeros((design.n, 0)), covariate_names=(), treatment=None, Q=columns,
        quantiles=np.arange(1, columns.shape[1] + 1) / (columns.shape[1] + 1), cells=np.ones(columns.shape[1]),
        sampling=replace(design.sampling, cluster=_dependence(found, choices)),
    )  # fmt: skip
    fit = fit_columns(
        design.x, design.treated, design.omega, bare.covariates, columns, h, kernel=choices.kernel, order=choices.order
    )
    curves = fit.raw
    own = R3dFit(fit, columns.shape[1], curves, curves[0] - curves[1], None, "frechet", choices.kernel)
    quick = replace(choices, tests=(), band=None, bootstrap=Bootstrap(n=199, scheme="multiplier"), test_range=None)
    found_here = infer(bare, own, quick)
    df = float(np.nanmedian(found_here.curve.df))
    return covariates_check(names, own.tau, found_here.covariance, df=df)


def _effective_n(found: R3dEstimate, choices: R3dChoices) -> CheckResult:
    limits = found.fit.columns.limits
    largest = np.abs(limits).max(axis=-1)
    largest = np.median(largest, axis=1) if largest.ndim == 2 else largest
    h = np.median(found.h, axis=1) if found.h.ndim == 2 else found.h
    inference = found.inference
    df = float(np.nanmedian(inference.curve.df))
    return effective_n_check(inference.n_window, inference.n_effective, largest, df, h=h)


def _mass_points(found: R3dEstimate, choices: R3dChoices) -> CheckResult:
    return mass_points_check(found.design.x, found.design.treated, found.window)


def _atoms(found: R3dEstimate, choices: R3dChoices) -> CheckResult:
    return atoms_check(found.design.Q, found.design.quantiles, found.window)


def _quick(found: R3dEstimate, choices: R3dChoices, design: R3dDesign, **changes: Any) -> Refit:
    """One more run on some units, with the nullity test only."""
    changed: dict[str, Any] = {
        "tests": ("nullity",), "functionals": ("mean",), "thresholds": (), "band": None, "test_range": None,
        "bootstrap": replace(choices.bootstrap, n=min(choices.bootstrap.n, _DRAWS)),
    }  # fmt: skip
    again = estimate(design, replace(choices, **(changed | changes)), found.cutoff, False)
    inference, test = again.inference, again.inference.tests[0]
    mean = again.functionals[0]
    h = np.median(again.h, axis=1) if again.h.ndim == 2 else again.h
    return Refit(
        test.statistic, test.p_value, mean.estimate, mean.std_error, inference.n_effective, h,
        inference.curve.estimate, inference.curve.se,
    )  # fmt: skip


def _placebo(found: R3dEstimate, choices: R3dChoices) -> CheckResult:
    design = found.design

    def run(rows: np.ndarray, cutoff: float) -> Refit:
        moved = design.take(rows)
        x = moved.x - cutoff
        return _quick(found, choices, replace(moved, x=x, treated=x >= 0.0, treatment=None))

    return placebo_check(design.x, design.treated, run)


def _bandwidths(
    found: R3dEstimate, choices: R3dChoices, factors: Any = FACTORS, orders: int | Sequence[int] = (1, 2)
) -> CheckResult:
    factors = _positive("factors", factors)
    orders = [count("orders", order, maximum=4) for order in (orders if isinstance(orders, Iterable) else [orders])]

    def run(factor: float, kernel: str, order: int) -> Refit:
        own = None if found.h_treatment is None else found.h_treatment * factor
        return _quick(
            found, choices, found.design, bandwidth=found.h * factor, bandwidth_treatment=own, kernel=kernel,
            order=order,
        )  # fmt: skip

    widened = "" if found.selected is None else widened_text(found.selected.widened)
    return bandwidth_check(
        run, kernel=choices.kernel, order=choices.order, factors=factors, orders=orders, note=widened
    )  # fmt: skip


def _small_units(found: R3dEstimate, choices: R3dChoices) -> CheckResult:
    design = found.design
    if design.draws is None:
        raise DataError("small_units compares quantile rules on the units' draws; quantiles were given instead.")
    rules = {"type7": ("type7", None), "type9": ("type9", None), "half": ("type7", "half")}
    base = "half" if choices.small_sample == "half" else choices.quantile_rule
    rules.setdefault(base, (base, None))
    runs = {}
    for name, (rule, small) in rules.items():
        try:
            again = design.with_quantiles(rule, small)
        except (OptionError, NumericalError):
            continue
        runs[name] = _quick(found, choices, again, bandwidth=found.h, bandwidth_treatment=found.h_treatment)
    return small_units_check(runs, base, design.quantiles)


def _pre_period(
    found: R3dEstimate, choices: R3dChoices, data: Any = None, pre_outcome: Any = None, **arguments: Any
) -> CheckResult:
    """The same call, less the treatment, on an earlier outcome; ``data`` and its columns as in `r3d`."""
    if data is None or pre_outcome is None:
        raise OptionError(
            'check("pre_period", data=..., pre_outcome=...) needs the table and its column of the outcome before '
            "treatment; running, unit and the other columns are taken over unless given."
        )
    design = open_design(
        data, outcome=pre_outcome, quantiles=found.design.quantiles, quantile_rule=choices.quantile_rule,
        small_sample=choices.small_sample, donut=choices.donut, tie=choices.tie,
        **(_taken_over(found.design, pre_outcome, arguments) | arguments),
    )  # fmt: skip
    return pre_period_check(_quick(found, choices, design), str(pre_outcome))


def _taken_over(design: R3dDesign, pre_outcome: Any, given: dict[str, Any]) -> dict[str, Any]:
    """Arguments of the call that the run on an earlier outcome keeps: a table's columns, not arrays of draws."""
    names = design.names
    allowed = (*_TAKEN, "weights", "treatment")
    unknown = sorted(set(given) - set(allowed))
    if unknown:
        raise OptionError(
            f'check("pre_period") does not take {", ".join(unknown)}; it takes data, pre_outcome, {", ".join(allowed)}.'
        )
    taken = {name: names[name] for name in _TAKEN if names.get(name)}
    taken.setdefault("cutoff", float(design.cutoffs[0]))
    if names.get("weights") is None or "weights" in given:
        return taken
    if not (names["weights_column"] and isinstance(pre_outcome, str)):
        raise OptionError(
            'The draws of this estimate have weights; check("pre_period") needs those of the earlier draws: pass '
            "weights=..., in the shape of pre_outcome, or weights=None where they have none."
        )
    return taken | {"weights": names["weights_column"]}


def _blocks(found: R3dEstimate, choices: R3dChoices, block_km: Any = _BLOCKS_KM) -> CheckResult:
    """Standard errors with spatial blocks of growing size; sizes that leave few blocks cannot tell.

    Blocks take the place of clusters here.
    """
    sizes, errors = _positive("block_km", block_km), []
    free = replace(found, design=found.design.without_clusters())
    for size in sizes:
        bootstrap = Bootstrap(n=choices.bootstrap.n, scheme="block", block_km=float(size))
        try:
            again = refitted(
                free, choices, bandwidth=found.h, bandwidth_treatment=found.h_treatment, bootstrap=bootstrap,
                functionals=(), thresholds=(), tests=(),
            )  # fmt: skip
            few = again.inference.n_clusters < _FEWEST_BLOCKS
            errors.append(np.where(few, np.nan, again.inference.curve.se))
        except DataError:
            errors.append(np.full(found.design.quantiles.size, np.nan))
    return blocks_check(sizes, np.array(errors), found.inference.curve.se)


def _dates(
    found: R3dEstimate, choices: R3dChoices, dates: Any = None, treated_on: Any = None, expected: Any = None
) -> CheckResult:
    """Imagery dates by column against the date of treatment; arrays have one value per unit read."""
    if dates is None or treated_on is None or expected is None:
        raise OptionError('check("dates", dates=..., treated_on=..., expected=...) needs all three.')
    for argument, value in (("dates", dates), ("expected", expected)):
        if not isinstance(value, Mapping):
            raise OptionError(
                f"{argument} is a {type(value).__name__}; give mappings by name of image, for example "
                'dates={"lights": <one date per unit>}, expected={"lights": "after"}.'
            )
    aligned = {}
    for name, values in dates.items():
        aligned[name] = _by_unit(f"dates[{name!r}]", _days(f"dates[{name!r}]", values), found.design)
    start = _days("treated_on", treated_on)
    start = start if start.ndim == 0 else _by_unit("treated_on", start, found.design)
    return dates_check(aligned, start, found.design.treated, expected)


def _days(argument: str, values: Any) -> np.ndarray:
    """Dates to the day."""
    try:
        return np.asarray(values).astype("datetime64[D]")
    except (TypeError, ValueError) as error:
        raise DataError(f"{argument} cannot be read as dates ({error}); write them as 2020-06-30.") from error


def _by_unit(argument: str, values: Any, design: R3dDesign) -> np.ndarray:
    """(n,) values of the units in use, from one per unit read."""
    given = np.asarray(values)
    if given.shape != (design.n_input,):
        raise DataError(
            f"{argument} has shape {given.shape}, but {design.n_input} units were read; give one date per unit, in the "
            "order of the rows (of a long table: of the sorted labels of its units)."
        )
    return np.asarray(given[design.rows])
