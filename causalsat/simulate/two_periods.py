"""Two periods whose mean effect differs because covariates, treatment intensity and outcomes all changed."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from causalsat.errors import count, number

GROUPS = ("mix", "dose", "model")


@dataclass(frozen=True)
class Period:
    """The law of one period: x ~ N(mean, 1), dose = level + slope x + noise, y = x + (gain + tilt x) dose + noise.

    Attributes
    ----------
    mean : float
        Mean of the covariate x.
    level, slope : float
        Treatment intensity at x = 0, and its change per unit of x.
    gain, tilt : float
        Effect of one unit of dose at x = 0, and its change per unit of x.
    """

    mean: float
    level: float
    slope: float
    gain: float
    tilt: float


FIRST = Period(mean=0.0, level=1.0, slope=0.2, gain=1.0, tilt=0.3)
SECOND = Period(mean=0.6, level=1.6, slope=0.5, gain=1.8, tilt=0.5)


def two_periods(
    n: int | tuple[int, int] = 600,
    clusters: int = 60,
    intraclass: float = 0.3,
    noise: float = 1.0,
    seed: int = 0,
) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray], dict[str, float]]:
    r"""Rows of two periods, sampled independently, and the true contributions to the change of the mean effect.

    The outcome is the mean effect of the dose that is given, E[(gain + tilt x)(level + slope x)], with x, the doses and
    the effects each from one of the two periods. For x ~ N(mu, 1) it is

    .. math:: gain \cdot level + (gain \cdot slope + tilt \cdot level) \mu + tilt \cdot slope (1 + \mu^2).

    Dose is exogenous given x. True contributions are averages of steps over the six orders of exchange.

    Parameters
    ----------
    n : int or (int, int)
        Rows per period.
    clusters : int
        Clusters per period, of equal size up to one row.
    intraclass : float
        Share of the variance of x and of both noises that the rows of a cluster have in common, in [0, 1].
    noise : float
        Standard deviation of the outcome's noise; that of the dose is 0.5.
    seed : int
        Seed of the generator.

    Returns
    -------
    (dict, dict, dict)
        First period and second period, arrays (n,) ``x``, ``dose``, ``y``, ``cluster``; and the truth: ``value_a``,
        ``value_b``, and the contributions of "mix", "dose" and "model".

    Raises
    ------
    OptionError
        Counts below one, shares outside [0, 1].

    Examples
    --------
    >>> a, b, truth = two_periods(n=300)
    >>> len(a["y"]), round(truth["value_b"] - truth["value_a"], 3)
    (300, 3.18)
    >>> round(truth["mix"] + truth["dose"] + truth["model"], 3)
    3.18
    """
    sizes = n if isinstance(n, tuple) else (n, n)
    shared = number("intraclass", intraclass, 0.0, 1.0, open_ends=False)
    generator = np.random.default_rng(seed)
    drawn = [
        _rows(law, count("n", size, 1), count("clusters", clusters, 1), shared, noise, generator)
        for law, size in zip((FIRST, SECOND), sizes)
    ]
    return drawn[0], drawn[1], _truth()


def mean_effect(mix: Period, dose: Period, model: Period) -> float:
    """E[(gain + tilt x)(level + slope x)] with x, the doses and the effects from the named periods."""
    mu = mix.mean
    linear = model.gain * dose.slope + model.tilt * dose.level
    return model.gain * dose.level + linear * mu + model.tilt * dose.slope * (1.0 + mu**2)


def _rows(
    law: Period, n: int, clusters: int, shared: float, noise: float, generator: np.random.Generator
) -> dict[str, np.ndarray]:
    cluster = np.arange(n) % clusters
    common, own = generator.normal(size=(3, clusters)), generator.normal(size=(3, n))
    z = np.sqrt(shared) * common[:, cluster] + np.sqrt(1.0 - shared) * own
    x = law.mean + z[0]
    dose = law.level + law.slope * x + 0.5 * z[1]
    y = x + (law.gain + law.tilt * x) * dose + noise * z[2]
    return {"x": x, "dose": dose, "y": y, "cluster": cluster}


def _truth() -> dict[str, float]:
    """Every order of exchange by hand, so that nothing rests on the rule that is being checked."""
    from itertools import permutations

    def value(at: Mapping[str, Period]) -> float:
        return mean_effect(at["mix"], at["dose"], at["model"])

    totals = dict.fromkeys(GROUPS, 0.0)
    orders = list(permutations(GROUPS))
    for order in orders:
        at = dict.fromkeys(GROUPS, FIRST)
        for name in order:
            before = value(at)
            at[name] = SECOND
            totals[name] += (value(at) - before) / len(orders)
    ends = {"value_a": mean_effect(FIRST, FIRST, FIRST), "value_b": mean_effect(SECOND, SECOND, SECOND)}
    return {**ends, **totals}
