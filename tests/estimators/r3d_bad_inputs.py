"""Bad inputs of `r3d`, each with the message it must get."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

import causalsat as cs
from causalsat.errors import DataError, OptionError, SingularWindowError


@dataclass(frozen=True)
class BadInput:
    """One bad input: how to make it, which error, and what the message must say."""

    name: str
    make: Callable[[], object]
    error: type[Exception]
    match: str


def data(n: int = 80) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(7)
    x = rng.uniform(-1.0, 1.0, n)
    return {
        "x": x, "one": np.ones(n), "far": np.where(np.arange(n) == 4, np.inf, x), "negative": np.where(np.arange(n) == 9, -1.0, 1.0),
        "same": np.full(n, 2.0), "unit": np.arange(n), "w": rng.normal(size=n), "text": np.where(x > 0, "north", "south"),
        "y": rng.normal(size=n), "outside": (np.abs(x) > 0.8).astype(float), "bent": np.where(np.abs(x) < 0.8, x**2, x),
        "late": (x > 0.9).astype(float),
    }  # fmt: skip


def draws(n: int = 80, k: int = 60) -> np.ndarray:
    return np.random.default_rng(8).normal(size=(n, k))


def call(**changes) -> Callable[[], object]:
    options = {"outcome": draws(), "running": "x", "quantiles": 5, "n_boot": 199, "checks": None}
    return lambda: cs.r3d(data(), **(options | changes))


def long(**changes) -> Callable[[], object]:
    """One row per draw, where ``spoil`` replaces columns."""
    spoil = changes.pop("spoil", {})
    rows = {name: np.repeat(values, 4) for name, values in data().items()}
    rows["value"] = draws(80, 4).reshape(-1)
    return lambda: cs.r3d(
        {**rows, **spoil}, **({"outcome": "value", "running": "x", "unit": "unit", "checks": None} | changes)
    )


def spoiled(values: np.ndarray, row: int, value: float) -> np.ndarray:
    out = np.repeat(values, 4).astype(np.float64)
    out[row] = value
    return out


FALLING = np.sort(draws(80, 5), axis=1)
FALLING[3] = FALLING[3][::-1]
INFINITE = draws()
INFINITE[5, 2] = np.inf

CASES = [
    BadInput("r3d: column that is not there", call(running="xx"), DataError, "'xx' is not a column"),
    BadInput("r3d: misspelt kernel", call(kernel="triangle"), OptionError, 'Did you mean "triangular"'),
    BadInput("r3d: unknown estimator", call(estimator="simple"), OptionError, '"frechet", "pointwise"'),
    BadInput("r3d: a bandwidth for each quantile of one curve", call(bandwidth="mse"), OptionError, "imse"),
    BadInput(
        "r3d: unknown rule for the bandwidth", call(bandwidth="mserd"), OptionError, 'bandwidth="mserd" is not known'
    ),
    BadInput("r3d: negative bandwidth", call(bandwidth=-0.5), OptionError, "positive and finite"),
    BadInput("r3d: several bandwidths for one curve", call(bandwidth=[0.5, 0.6, 0.7]), OptionError, "frechet"),
    BadInput(
        "r3d: bandwidths that are not one per quantile",
        call(bandwidth=[0.5, 0.6, 0.7], estimator="pointwise"),
        OptionError,
        "3 numbers for 5 quantiles",
    ),
    BadInput(
        "r3d: bandwidth optimal for a higher order",
        call(bandwidth=cs.Bandwidth(order=2), order=1),
        OptionError,
        "above the order 1",
    ),
    BadInput("r3d: window too narrow", call(bandwidth=0.01), SingularWindowError, "least workable bandwidth is"),
    BadInput("r3d: cutoff outside the data", call(cutoff=5.0), DataError, "outside the running variable"),
    BadInput("r3d: constant running variable", call(running="same"), DataError, "constant"),
    BadInput("r3d: donut that takes a whole side", call(donut=2.0), DataError, "nearer than 2 were dropped"),
    BadInput("r3d: infinite running variable", call(running="far"), DataError, "infinite"),
    BadInput("r3d: infinite draw", call(outcome=INFINITE), DataError, "inf"),
    BadInput("r3d: constant outcome", call(outcome=np.ones((80, 60))), DataError, "outcome is constant"),
    BadInput("r3d: draws of fewer units than rows", call(outcome=draws(79)), DataError, "79"),
    BadInput(
        "r3d: quantile functions that fall",
        call(outcome=cs.QuantileMatrix(np.sort(draws(80, 5), axis=1), np.arange(1, 6) / 6), quantiles=[0.01, 0.5]),
        DataError,
        "outside the levels",
    ),
    BadInput(
        "r3d: a row of quantiles out of order",
        lambda: cs.r3d(data(), outcome=cs.QuantileMatrix(FALLING, np.arange(1, 6) / 6), running="x"),
        DataError,
        "decreas|nondecreasing|falls",
    ),
    BadInput("r3d: quantiles outside (0, 1)", call(quantiles=[0.1, 1.0]), OptionError, "quantiles"),
    BadInput("r3d: quantiles that do not rise", call(quantiles=[0.5, 0.1]), OptionError, "increas"),
    BadInput("r3d: treatment that nobody or everybody has", call(treatment="one"), DataError, "no first stage"),
    BadInput(
        "r3d: covariate without variation in the window",
        call(covariates=["w", "outside"], bandwidth=0.7),
        DataError,
        "covariates outside are constant inside the window",
    ),
    BadInput(
        "r3d: covariate that the polynomials determine in the window",
        call(covariates="bent", bandwidth=0.7),
        DataError,
        "covariates bent .* polynomials of order 2",
    ),
    BadInput(
        "r3d: treatment without variation in the window",
        call(treatment="late", bandwidth=0.7),
        DataError,
        "0 for all .* units of its window",
    ),
    BadInput("r3d: negative unit weights", call(unit_weights="negative"), DataError, "negative"),
    BadInput("r3d: one cluster", call(cluster="same"), DataError, "one of the clusters"),
    BadInput(
        "r3d: one cluster a side", call(cluster="text"), DataError, "right of the cutoff lie in one of the clusters"
    ),
    BadInput(
        "r3d: blocks without places",
        call(inference=cs.Bootstrap(199, "block", block_km=10.0)),
        OptionError,
        "needs coords",
    ),
    BadInput(
        "r3d: a scheme that r3d lacks",
        call(inference=cs.Bootstrap(199, "dependent", block_km=9.0)),
        OptionError,
        "dependent",
    ),
    BadInput("r3d: too few draws for the level", call(n_boot=10), OptionError, "at least 19"),
    BadInput("r3d: unknown test", call(tests=("nullity", "equality")), OptionError, "equality"),
    BadInput("r3d: test range without quantiles", call(test_range=(0.01, 0.02)), OptionError, "holds none of the 5"),
    BadInput("r3d: unknown functional", call(functionals="ginni"), OptionError, "gini"),
    BadInput("r3d: exceedance without a threshold", call(functionals="exceed"), OptionError, "thresholds"),
    BadInput("r3d: raw embeddings as covariates", call(covariates=np.zeros((80, 3))), OptionError, "reduce them first"),
    BadInput("r3d: compat without a bandwidth", call(compat="R3D-0.1.0"), OptionError, "bandwidth=<number>"),
    BadInput("r3d: compat with another version", call(compat="R3D-0.2.0", bandwidth=0.5), OptionError, "R3D-0.1.0"),
    BadInput(
        "r3d: running variable that varies inside a unit",
        long(spoil={"x": spoiled(data()["x"], 13, 0.123)}),
        DataError,
        "unit",
    ),
    BadInput("r3d: text outcome", long(outcome="text"), DataError, "text"),
    BadInput(
        "r3d: negative weight of a draw",
        long(weights="w"),
        DataError,
        "zero or positive",
    ),
]
