"""Calls of `r3d` on one small design, shared by its tests."""

import functools

import numpy as np
import pandas as pd

import causalsat as cs
from causalsat.simulate.r3d import fuzzy

QUICK = {"quantiles": 5, "n_boot": 199, "checks": None}
LEVELS = np.arange(1, 6) / 6
EVERYTHING = {
    "functionals": ("mean", "iqr", "sd", "unit:sd", "w2"), "tests": ("nullity", "homogeneity", "dominance"),
}  # fmt: skip


def units(n=160, seed=0, k=60):
    """A frame of units and their draws (n, k): a location and a scale that jump."""
    g = np.random.default_rng(seed)
    x = g.uniform(-1, 1, n)
    w = g.normal(size=n)
    mean = 4 + x + x**2 + 0.5 * w + g.normal(size=n) + 1.5 * (x >= 0)
    scale = np.exp(0.2 * g.normal(size=n)) * (1 + 0.4 * (x >= 0))
    data = {
        "x": x, "w": w, "size": g.uniform(0.5, 2.0, n), "group": np.arange(n) % 40, "unit": np.arange(n),
        "lon": 30 + x + 0.01 * g.normal(size=n), "lat": g.uniform(0, 2, n),
    }  # fmt: skip
    return pd.DataFrame(data), mean[:, None] + scale[:, None] * g.normal(size=(n, k))


def one_number(values):
    """(n, 60) draws of units that hold one number each."""
    return np.repeat(values[:, None], 60, axis=1)


def ask(data, draws, **options):
    return cs.r3d(data, **({"outcome": draws, "running": "x", **QUICK} | options))


def curve(result):
    return result.table.where(term="laqte")


@functools.cache
def sharp_result():
    data, draws = units()
    return ask(data, draws, **EVERYTHING)


@functools.cache
def fuzzy_result():
    data, truth = fuzzy(n=500, n_draws=60, seed=3)
    return cs.r3d(data, outcome="value", running="x", unit="unit", treatment="treatment", bandwidth=0.8, **QUICK), truth
