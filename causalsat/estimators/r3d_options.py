"""Every choice of `r3d` that is not data, validated before any data are touched."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np

from causalsat.errors import OptionError, count, nearest, number, one_of
from causalsat.inference.options import Bootstrap
from causalsat.public import public

ESTIMATORS = ("frechet", "pointwise")
KERNELS = ("triangular", "epanechnikov", "uniform")
RULES = ("imse", "mse")
QUANTILE_RULES = ("type7", "type8", "type9")
RESIDUALS = ("hc0", "hc1", "hc2", "hc3")
TESTS = ("nullity", "homogeneity", "dominance")
BANDS = ("studentized", "constant")
CRITICAL = ("t", "normal")
TIES = ("treated", "control", "drop")
CHECKS = ("basic", "full")
SCHEMES = ("multiplier", "wild", "block", "cluster", "iid", "bayes")
COMPAT = "R3D-0.1.0"
REFIT = (
    "bandwidth", "bandwidth_treatment", "estimator", "order", "kernel", "functionals", "thresholds", "tests",
    "test_range", "band", "critical", "residuals", "level", "inference", "n_boot", "seed", "compat",
)  # fmt: skip


@public
@dataclass(frozen=True)
class Bandwidth:
    """How a bandwidth is chosen from the data.

    Attributes
    ----------
    kind : str
        "imse" (one bandwidth for all quantiles) or "mse" (one per quantile, estimator "pointwise").
    order : int
        Degree s of the fit for which it is optimal; at most the order of the estimate.
    pilot : str
        "global" or "ladder" (with M = 1 and regularization 3 the ladder of rdrobust's mserd).
    regularization : float
        Multiples of the variance of the estimated curvature in the denominator.
    sides : str
        "common" or "two".
    coverage : bool
        Shrink to the rate that minimises coverage error.
    """

    kind: str = "imse"
    order: int = 1
    pilot: str = "global"
    regularization: float = 1.0
    sides: str = "common"
    coverage: bool = False

    def __post_init__(self) -> None:
        one_of("Bandwidth.kind", self.kind, RULES)
        object.__setattr__(self, "order", count("Bandwidth.order", self.order, maximum=4))
        one_of("Bandwidth.pilot", self.pilot, ("global", "ladder"))
        number("Bandwidth.regularization", self.regularization, 0.0, 1e6, open_ends=False)
        one_of("Bandwidth.sides", self.sides, ("common", "two"))


@dataclass(frozen=True)
class R3dChoices:
    """The arguments of one call of `r3d`, validated and resolved."""

    estimator: str
    order: int
    kernel: str
    bandwidth: Bandwidth | np.ndarray
    bandwidth_treatment: Bandwidth | np.ndarray | None
    quantile_rule: str
    small_sample: str | None
    functionals: tuple[str | Callable[..., Any], ...]
    thresholds: tuple[float, ...]
    tests: tuple[str, ...]
    test_range: tuple[float, float] | None
    band: str | None
    critical: str
    residuals: str
    donut: float
    tie: str
    level: float
    bootstrap: Bootstrap
    seed: int
    checks: str | None
    compat: str | None


def validated_choices(**given: Any) -> R3dChoices:
    """Check every option before any data are touched (raises OptionError)."""
    estimator = one_of("estimator", given["estimator"], ESTIMATORS)
    order = count("order", given["order"], maximum=4)
    compat = given["compat"]
    if compat is not None:
        one_of("compat", compat, (COMPAT,))
        given |= {"critical": "normal", "residuals": "hc0", "band": given["band"] and "constant"}
    bandwidth = resolved_bandwidth("bandwidth", given["bandwidth"], estimator, order)
    if compat is not None and isinstance(bandwidth, Bandwidth):
        raise OptionError(
            f'compat="{COMPAT}" reproduces the package\'s inference at a given bandwidth; its automatic ones are not '
            "equivariant to the units of the running variable. Write bandwidth=<number>."
        )
    own = given["bandwidth_treatment"]
    level = number("level", given["level"], 0.0, 1.0)
    test_range = given["test_range"]
    if test_range is not None:
        low, high = _pair("test_range", test_range)
        if not 0.0 <= low < high <= 1.0:
            raise OptionError(f"test_range={test_range!r} must be (low, high) with 0 <= low < high <= 1.")
        test_range = (low, high)
    band = given["band"]
    return R3dChoices(
        estimator=estimator,
        order=order,
        kernel=one_of("kernel", given["kernel"], KERNELS),
        bandwidth=bandwidth,
        bandwidth_treatment=None if own is None else resolved_bandwidth("bandwidth_treatment", own, "frechet", order),
        quantile_rule=one_of("quantile_rule", given["quantile_rule"], QUANTILE_RULES),
        small_sample=None
        if given["small_sample"] is None
        else one_of("small_sample", given["small_sample"], ("half",)),
        functionals=_functionals(given["functionals"]),
        thresholds=_thresholds(given["thresholds"]),
        tests=_several("tests", given["tests"], TESTS),
        test_range=test_range,
        band=None if band is None else one_of("band", band, BANDS),
        critical=one_of("critical", given["critical"], CRITICAL),
        residuals=one_of("residuals", given["residuals"], RESIDUALS),
        donut=number("donut", given["donut"], 0.0, math.inf, open_ends=False),
        tie=one_of("tie", given["tie"], TIES),
        level=level,
        bootstrap=chosen_bootstrap(given["inference"], given["n_boot"], level),
        seed=count("seed", given["seed"]),
        checks=None if given["checks"] is None else one_of("checks", given["checks"], CHECKS),
        compat=compat,
    )


def changed_choices(choices: R3dChoices, changes: Mapping[str, Any]) -> R3dChoices:
    """Choices of a refit of the same units, validated like those of a call (raises OptionError)."""
    unknown = sorted(set(changes) - set(REFIT))
    if unknown:
        raise OptionError(
            f"refit cannot change {', '.join(unknown)}; it takes {', '.join(REFIT)}. Call r3d again for other data or "
            "other quantiles of units."
        )
    current = {field.name: getattr(choices, field.name) for field in fields(choices)}
    bootstrap = current.pop("bootstrap")
    if changes.get("n_boot") is not None and "inference" not in changes:
        bootstrap = replace(bootstrap, n=1999)
    for name in ("bandwidth", "bandwidth_treatment"):
        value = current[name]
        if isinstance(value, np.ndarray):
            current[name] = (float(value[1]), float(value[0])) if value.ndim == 1 else value[0]
    return validated_choices(**{**current, "inference": bootstrap, "n_boot": None, **changes})


def resolved_bandwidth(argument: str, value: Any, estimator: str, order: int) -> Bandwidth | np.ndarray:
    """A rule, or numbers: (2,) right and left, or (2, M)."""
    if isinstance(value, str):
        if value not in RULES:
            raise OptionError(
                f'{argument}="{value}" is not known; allowed: "imse", "mse", a number, (left, right), an array with '
                f"one number per quantile, or a Bandwidth(...).{nearest(value, RULES)}"
            )
        # A named rule suits every order of the estimate; order 0 has no derivative of order 1 to be optimal for.
        value = Bandwidth(kind=value, order=min(Bandwidth.order, order))
    if isinstance(value, Bandwidth):
        if value.kind == "mse" and estimator == "frechet":
            raise OptionError(
                f'{argument}="mse" gives every quantile its own bandwidth, which estimator="frechet" cannot use: its '
                'curve is projected as a whole. Use bandwidth="imse", or estimator="pointwise".'
            )
        if value.order > order:
            raise OptionError(
                f"{argument} is optimal for order {value.order}, above the order {order} of the estimate. Use "
                f"Bandwidth(order={order}), or raise order."
            )
        return value
    numbers = _numbers(value)
    if not (np.isfinite(numbers).all() and (numbers > 0.0).all() and numbers.ndim <= 1 and numbers.size):
        raise OptionError(f"{argument}={value!r} must be positive and finite.")
    if numbers.ndim == 0:
        return np.full(2, float(numbers))
    if isinstance(value, tuple) and numbers.size == 2:
        return numbers[::-1].copy()
    if estimator == "frechet":
        raise OptionError(
            f'{argument} has {numbers.size} numbers; estimator="frechet" takes one, or the tuple (left, right).'
        )
    return np.stack([numbers, numbers])


def chosen_bootstrap(inference: Any, n_boot: Any, level: float) -> Bootstrap:
    """The resampling scheme, with enough draws for the level."""
    bootstrap = Bootstrap(n=1999, scheme="multiplier") if inference is None else inference
    if not isinstance(bootstrap, Bootstrap):
        raise OptionError(f"inference={inference!r} must be a Bootstrap(...).")
    if n_boot is not None:
        n = count("n_boot", n_boot, minimum=1)
        # A Bootstrap written without n holds the default of its class: no number that the caller chose.
        if inference is not None and inference.n not in (n, 1999, Bootstrap.n):
            raise OptionError(f"n_boot={n} contradicts inference=Bootstrap(n={inference.n}); give one of them.")
        bootstrap = Bootstrap(
            n, bootstrap.scheme, bootstrap.block_km, bootstrap.refit, bootstrap.law, bootstrap.strata,
            bootstrap.fold_policy,
        )  # fmt: skip
    if bootstrap.scheme not in SCHEMES:
        raise OptionError(
            f'Bootstrap(scheme="{bootstrap.scheme}") is not offered for r3d; allowed: {", ".join(SCHEMES)}.'
        )
    if math.ceil(level * (bootstrap.n + 1) - 1e-9) > bootstrap.n:
        least = math.ceil(level / (1.0 - level) - 1e-9)
        raise OptionError(f"{bootstrap.n} draws have no {level:.0%} band; use at least {least}.")
    return bootstrap


def _functionals(value: Any) -> tuple[Any, ...]:
    if value is None:
        return ()
    return (value,) if isinstance(value, str) or callable(value) else tuple(value)


def _thresholds(value: Any) -> tuple[float, ...]:
    numbers = np.atleast_1d(np.zeros(0) if value is None else _numbers(value))
    if numbers.ndim > 1 or not np.isfinite(numbers).all():
        raise OptionError(f"thresholds={value!r} must be finite numbers.")
    return tuple(float(z) for z in numbers)


def _numbers(value: Any) -> np.ndarray:
    """Numbers, NaN where the value is none."""
    try:
        return np.asarray(np.nan if isinstance(value, bool) else value, dtype=np.float64)
    except (TypeError, ValueError):
        return np.array(np.nan)


def finite_numbers(argument: str, value: Any) -> np.ndarray:
    """Finite numbers, one () or a list of them (k,) (raises OptionError)."""
    numbers = np.array(np.nan) if isinstance(value, str | Mapping | set) else _numbers(value)
    if numbers.ndim > 1 or not numbers.size or not np.isfinite(numbers).all():
        raise OptionError(f"{argument}={value!r} must be a number or a list of numbers.")
    return numbers


def _several(argument: str, value: str | Sequence[str] | None, allowed: Sequence[str]) -> tuple[str, ...]:
    values = () if value is None else (value,) if isinstance(value, str) else tuple(value)
    for item in values:
        one_of(argument, item, allowed)
    return tuple(dict.fromkeys(values))


def _pair(argument: str, value: Any) -> tuple[float, float]:
    numbers = np.array(np.nan) if isinstance(value, Mapping | set) else _numbers(value)
    if numbers.shape != (2,) or not np.isfinite(numbers).all():
        raise OptionError(f"{argument}={value!r} must be a pair of numbers.")
    return float(numbers[0]), float(numbers[1])
